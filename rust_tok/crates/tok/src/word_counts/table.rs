//! The table beneath [`WordCounts`](super::WordCounts): words to 64-bit counts in little memory.
//!
//! Three flat arrays and no allocation per word. The bytes of all words lie one behind the other in
//! an arena; an entry holds where its word ends and its count (16 bytes); a slot of the open
//! addressing table holds 32 bits of the word's hash and the number of its entry (8 bytes, at most
//! three quarters of them used). A word of 9 bytes costs about 40 bytes, where a map of owned
//! strings costs more than 100. A slot's place is taken from the top bits of the 32 it keeps, so
//! that growing reads the slots alone and never a word.
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
const CACHE_LOG2: u32 = 12;
const INLINE: usize = 16;

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

/// 32 bits of the hash above the number of the entry plus one; 0 is an empty slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Slot(u64);

impl Slot {
    const EMPTY: Self = Self(0);

    #[inline]
    fn new(hash: u64, entry: usize) -> Self {
        Self(hash & !0xFFFF_FFFF | (entry as u64 + 1))
    }

    #[inline]
    fn entry(self) -> usize {
        (self.0 as u32 as usize).wrapping_sub(1)
    }

    #[inline]
    fn has_hash(self, hash: u64) -> bool {
        self.0 >> 32 == hash >> 32
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

    /// The numbers of all entries with the hash of their word, sorted by it: an order that depends
    /// on the words alone, never on how they came together.
    pub(crate) fn in_hash_order(&self) -> Vec<(u64, u32)> {
        use rayon::slice::ParallelSliceMut;
        let mut order: Vec<(u64, u32)> = self
            .iter()
            .enumerate()
            .map(|(entry, (word, _))| (hash(word), entry as u32))
            .collect();
        order.par_sort_unstable_by(|a, b| {
            (a.0.cmp(&b.0)).then_with(|| self.get(a.1 as usize).0.cmp(self.get(b.1 as usize).0))
        });
        order
    }

    /// Which of `parts` parts a word belongs to.
    pub(crate) fn part_of(word: &[u8], parts: usize) -> usize {
        (u128::from(hash(word)) * parts as u128 >> 64) as usize
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
        // The low bits: the table's own places come from the high ones.
        let place = hash as usize & ((1 << CACHE_LOG2) - 1);
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
        let mut place = (hash >> (64 - self.slots.len().ilog2())) as usize;
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
            let mut place = (slot.0 >> (64 - log2)) as usize;
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
                    table.add(word.as_bytes(), *count).unwrap();
                } else {
                    table.add_hot(word.as_bytes(), *count).unwrap();
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
    fn many_words_keep_their_counts_while_the_table_grows() {
        let mut table = WordTable::default();
        for round in 0..2_u64 {
            for number in 0..200_000_u64 {
                table.add(number.to_string().as_bytes(), round + 1).unwrap();
            }
        }
        assert_eq!(table.len(), 200_000);
        assert!(table.iter().all(|(_, count)| count == 3));
    }
}
