//! The table beneath [`WordCounts`](super::WordCounts): words to 64-bit counts in little memory.
//!
//! Three flat arrays and no allocation per word. The bytes of all words lie one behind the other in
//! an arena; an entry holds where its word ends and its count (16 bytes); a slot of the open
//! addressing table holds 32 bits of the word's hash and the number of its entry (8 bytes, at most
//! three quarters of them used). A word of 9 bytes costs about 40 bytes, where a map of owned
//! strings costs more than 100. A slot's place is taken from the 32 bits that it keeps, so that
//! growing reads the slots alone and never a word. Those are the low half of the hash; parts and the
//! stable order go by the high half. With the same bits, a part, or a table written in that order,
//! would crowd into one end of the next table and make its probing quadratic.
//!
//! Words are Zipf distributed, so a small direct-mapped cache stands before the table: a word of up
//! to 16 bytes is two machine words and a length, compared without touching slots or arena. It is
//! dropped when the counting ends; it holds nothing that the table lacks.

use crate::hash::fold;
use crate::{Error, Result};

/// Bytes that no UTF-8 text contains: xor with them never gives 0, which would swallow a factor.
const SEEDS: [u64; 3] = [
    0xFFC1_FEF9_FBC0_FDFF,
    0xC0FA_F5FF_FCFE_C1F7,
    0xF8FF_C1FD_FEC0_F6FB,
];
const FIRST_SLOTS_LOG2: u32 = 6;
/// 16 thousand words: more of them than fit the second-level cache don't pay.
const CACHE_LOG2: u32 = 14;
const INLINE: usize = 16;
/// Words that are sorted at a time.
const BUCKET_WORDS: usize = 512;

/// A word of at most 16 bytes as two machine words; with the length, one for one.
#[inline]
fn pack(word: &[u8]) -> (u64, u64) {
    if let (Some(first), Some(last)) = (word.first_chunk::<8>(), word.last_chunk::<8>()) {
        (u64::from_le_bytes(*first), u64::from_le_bytes(*last))
    } else if let (Some(first), Some(last)) = (word.first_chunk::<4>(), word.last_chunk::<4>()) {
        (
            u32::from_le_bytes(*first).into(),
            u32::from_le_bytes(*last).into(),
        )
    } else if let (Some(&first), Some(&last)) = (word.first(), word.last()) {
        (
            u64::from(first) << 8 | u64::from(word[word.len() / 2]),
            last.into(),
        )
    } else {
        (0, 0)
    }
}

#[inline]
fn hash_packed((low, high): (u64, u64), len: usize) -> u64 {
    fold(fold(low ^ SEEDS[0], high ^ SEEDS[1]), len as u64 ^ SEEDS[2])
}

/// The same in every process: partitions of a cluster rest on it.
#[inline]
fn hash(word: &[u8]) -> u64 {
    if word.len() <= INLINE {
        return hash_packed(pack(word), word.len());
    }
    let (blocks, _) = word.as_chunks::<INLINE>();
    let last = word.last_chunk::<INLINE>();
    let mut state = SEEDS[2];
    for block in blocks.iter().chain(last) {
        let (low, high) = pack(block);
        state = fold(low ^ SEEDS[0] ^ state, high ^ SEEDS[1]);
    }
    fold(state, word.len() as u64 ^ SEEDS[2])
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    end: u64,
    count: u64,
}

/// Low half of the hash above the number of the entry plus one; 0 is an empty slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Slot(u64);

impl Slot {
    const EMPTY: Self = Self(0);

    #[inline]
    fn new(hash: u64, entry: usize) -> Self {
        Self(hash << 32 | (entry as u64 + 1))
    }

    #[inline]
    fn entry(self) -> usize {
        (self.0 as u32 as usize).wrapping_sub(1)
    }

    #[inline]
    fn has_hash(self, hash: u64) -> bool {
        self.0 >> 32 == hash & 0xFFFF_FFFF
    }

    /// Where a slot belongs among `2^log2`.
    #[inline]
    fn home(self, log2: u32) -> usize {
        (self.0 >> (64 - log2)) as usize
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Cached {
    packed: (u64, u64),
    /// 0 is an unused place: the empty word is never cached.
    len: u32,
    entry: u32,
}

/// Counts of distinct words.
#[derive(Clone, Debug, Default)]
pub(crate) struct WordTable {
    bytes: Vec<u8>,
    entries: Vec<Entry>,
    slots: Vec<Slot>,
    cache: Vec<Cached>,
}

impl WordTable {
    /// Most distinct words that a table holds.
    pub(crate) const MOST_WORDS: usize = 3 << 30;

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Bytes of all words.
    pub(crate) fn num_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Heap memory in bytes.
    pub(crate) fn memory(&self) -> usize {
        self.bytes.capacity()
            + self.entries.capacity() * size_of::<Entry>()
            + self.slots.capacity() * size_of::<Slot>()
            + self.cache.capacity() * size_of::<Cached>()
    }

    /// The word and the count of one entry, in the order of first sight.
    #[inline]
    pub(crate) fn get(&self, entry: usize) -> (&[u8], u64) {
        let start = match entry {
            0 => 0,
            _ => self.entries[entry - 1].end as usize,
        };
        let Entry { end, count } = self.entries[entry];
        (&self.bytes[start..end as usize], count)
    }

    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = (&[u8], u64)> + Clone {
        (0..self.len()).map(|entry| self.get(entry))
    }

    /// The count of a word.
    pub(crate) fn count_of(&self, word: &[u8]) -> Option<u64> {
        if self.slots.is_empty() {
            return None;
        }
        let hash = hash(word);
        let mask = self.slots.len() - 1;
        let mut place = Slot::new(hash, 0).home(self.slots.len().ilog2());
        while self.slots[place] != Slot::EMPTY {
            let slot = self.slots[place];
            if slot.has_hash(hash) && self.get(slot.entry()).0 == word {
                return Some(self.entries[slot.entry()].count);
            }
            place = (place + 1) & mask;
        }
        None
    }

    /// The numbers of all entries in an order that depends on the words alone, never on how they
    /// came together: by the high half of the hash, then the word.
    pub(crate) fn in_stable_order(&self) -> Vec<u32> {
        let num_buckets = (self.len() / BUCKET_WORDS + 1).next_power_of_two();
        let mut starts = vec![0_usize; num_buckets + 1];
        for (word, _) in self.iter() {
            starts[Self::part_of(word, num_buckets) + 1] += 1;
        }
        for bucket in 0..num_buckets {
            starts[bucket + 1] += starts[bucket];
        }
        let mut next = starts.clone();
        let mut order = vec![0; self.len()];
        for (entry, (word, _)) in self.iter().enumerate() {
            let place = &mut next[Self::part_of(word, num_buckets)];
            order[*place] = entry as u32;
            *place += 1;
        }
        for bucket in starts.windows(2) {
            order[bucket[0]..bucket[1]].sort_by_cached_key(|&entry| {
                let word = self.get(entry as usize).0;
                (hash(word) >> 32, word)
            });
        }
        order
    }

    /// Which of `parts` parts a word belongs to; at most 2^32.
    pub(crate) fn part_of(word: &[u8], parts: usize) -> usize {
        (((hash(word) >> 32) * parts as u64) >> 32) as usize
    }

    /// Adds to the count of a word, by way of the cache of frequent ones.
    #[inline]
    pub(crate) fn add_hot(&mut self, word: &[u8], count: u64) -> Result<()> {
        if word.is_empty() || word.len() > INLINE {
            return self.add(word, count).map(drop);
        }
        if self.cache.is_empty() {
            self.cache = vec![Cached::default(); 1 << CACHE_LOG2];
        }
        let packed = pack(word);
        let hash = hash_packed(packed, word.len());
        let place = (hash >> (64 - CACHE_LOG2)) as usize;
        let cached = self.cache[place];
        let len = word.len() as u32;
        if cached.packed == packed && cached.len == len {
            self.entries[cached.entry as usize].count += count;
            return Ok(());
        }
        let entry = self.add_hashed(word, hash, count)? as u32;
        self.cache[place] = Cached { packed, len, entry };
        Ok(())
    }

    /// Adds to the count of a word; the number of its entry. The caller sees to it that the sum of
    /// all counts stays within 64 bits.
    pub(crate) fn add(&mut self, word: &[u8], count: u64) -> Result<usize> {
        self.add_hashed(word, hash(word), count)
    }

    fn add_hashed(&mut self, word: &[u8], hash: u64, count: u64) -> Result<usize> {
        if (self.entries.len() + 1) * 4 > self.slots.len() * 3 {
            self.grow()?;
        }
        let mask = self.slots.len() - 1;
        let mut place = Slot::new(hash, 0).home(self.slots.len().ilog2());
        loop {
            let slot = self.slots[place];
            if slot == Slot::EMPTY {
                let entry = self.entries.len();
                self.bytes.extend_from_slice(word);
                let end = self.bytes.len() as u64;
                self.entries.push(Entry { end, count });
                self.slots[place] = Slot::new(hash, entry);
                return Ok(entry);
            }
            if slot.has_hash(hash) && self.get(slot.entry()).0 == word {
                let entry = slot.entry();
                self.entries[entry].count += count;
                return Ok(entry);
            }
            place = (place + 1) & mask;
        }
    }

    fn grow(&mut self) -> Result<()> {
        let log2 = match self.slots.len() {
            0 => FIRST_SLOTS_LOG2,
            len => len.ilog2() + 1,
        };
        if log2 > 32 {
            return Err(Error::Argument(format!(
                "more than {} distinct words in one WordCounts; partition it, or prune rare words",
                Self::MOST_WORDS
            )));
        }
        let mut slots = vec![Slot::EMPTY; 1 << log2];
        let mask = slots.len() - 1;
        for &slot in self.slots.iter().filter(|&&slot| slot != Slot::EMPTY) {
            let mut place = slot.home(log2);
            while slots[place] != Slot::EMPTY {
                place = (place + 1) & mask;
            }
            slots[place] = slot;
        }
        self.slots = slots;
        Ok(())
    }

    /// Adds every count of the other table.
    pub(crate) fn merge(&mut self, other: &Self) -> Result<()> {
        for (word, count) in other.iter() {
            self.add(word, count)?;
        }
        Ok(())
    }

    /// Gives back what only the counting needed.
    pub(crate) fn cool(&mut self) {
        self.cache = Vec::new();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn agrees_with_a_hash_map(
            words in prop::collection::vec(("[a-cé]{0,40}", 1_u64..1 << 40), 0..400),
        ) {
            let mut table = WordTable::default();
            let mut expected: HashMap<Vec<u8>, u64> = HashMap::new();
            for (number, (word, count)) in words.iter().enumerate() {
                if number % 2 == 0 {
                    table.add(word.as_bytes(), *count)?;
                } else {
                    table.add_hot(word.as_bytes(), *count)?;
                }
                *expected.entry(word.clone().into_bytes()).or_default() += count;
            }
            let found: HashMap<Vec<u8>, u64> =
                table.iter().map(|(word, count)| (word.to_vec(), count)).collect();
            prop_assert_eq!(table.len(), expected.len());
            prop_assert_eq!(found, expected);
        }

        #[test]
        fn packing_tells_words_apart(
            (a, b) in (1..=INLINE).prop_flat_map(|len| {
                let word = || prop::collection::vec(b'a'..b'd', len);
                (word(), word())
            }),
        ) {
            prop_assert_eq!(pack(&a) == pack(&b), a == b);
        }
    }

    #[test]
    fn the_stable_order_is_that_of_the_words() -> Result<()> {
        let words: Vec<String> = (0..5_000).map(|number: u32| number.to_string()).collect();
        let in_order = |words: &mut dyn Iterator<Item = &String>| -> Result<Vec<Vec<u8>>> {
            let mut table = WordTable::default();
            for word in words {
                table.add(word.as_bytes(), 1)?;
            }
            let order = table.in_stable_order();
            Ok(order
                .iter()
                .map(|&entry| table.get(entry as usize).0.to_vec())
                .collect())
        };
        let forward = in_order(&mut words.iter())?;
        assert_eq!(in_order(&mut words.iter().rev())?, forward);
        assert_eq!(forward.len(), words.len());
        assert!(forward.is_sorted_by_key(|word| WordTable::part_of(word, 64)));
        Ok(())
    }

    #[test]
    fn short_words_are_packed_one_for_one() {
        let bytes = [b'a', b'b', b'c', 0xC3];
        for len in 1..=3_usize {
            let words: Vec<Vec<u8>> = (0..bytes.len().pow(len as u32))
                .map(|mut n| {
                    (0..len)
                        .map(|_| {
                            let byte = bytes[n % bytes.len()];
                            n /= bytes.len();
                            byte
                        })
                        .collect()
                })
                .collect();
            let mut packed: Vec<_> = words.iter().map(|word| pack(word)).collect();
            packed.sort_unstable();
            packed.dedup();
            assert_eq!(packed.len(), words.len());
        }
    }

    #[test]
    fn many_words_keep_their_counts_while_the_table_grows() -> Result<()> {
        let mut table = WordTable::default();
        for round in 0..2_u64 {
            for number in 0..200_000_u64 {
                table.add(number.to_string().as_bytes(), round + 1)?;
            }
        }
        assert_eq!(table.len(), 200_000);
        assert!(table.iter().all(|(_, count)| count == 3));
        Ok(())
    }
}
