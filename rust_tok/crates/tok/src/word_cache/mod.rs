//! Words that were met before, and their ids: a table that grows up to a limit.
//!
//! One probe answers for nearly every word: a line of 64 bytes holds two words of up to
//! [`SHORT`] bytes with their ids, so that nothing else is read and nothing is followed. Longer
//! words, and those of many ids, lie in a second table ([`long`]). A line and its neighbour are a pair, and what finds its own line full
//! stands in the other one, which only a probe that failed looks at. Where both are full, a new word
//! takes the second place of its line, and only at every eighth time the first: a stream of words that
//! never come again can't drive out the frequent ones, and a change of language still gets through.
//! While the table is smaller than its limit, it doubles when too many words came back that had to
//! go: words that never come again take no memory.
//!
//! What a table holds is what its model said for the same bytes, so that no result depends on
//! the table's state. [`WordCache::MAX_BYTES`] is its largest size, whatever passes through it;
//! each thread has one of its own, a copy of the one that the model filled with its vocabulary.

mod key;
mod long;
mod lost;

use std::sync::OnceLock;

pub use self::key::{Key, SHORT};
use self::long::LongWords;
use self::lost::Lost;
use crate::id::Id;
use crate::memory;

/// Lines of the first table at the beginning and at most, as powers of two.
const LINE_BITS: [u32; 2] = [16, 19];

/// A line of a table.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Place(u32);

/// Two words and their ids; the last lane is the number of ids, or `ELSEWHERE`.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
struct Line<I: Id> {
    keys: [Key; 2],
    values: [I::Lanes; 2],
}

impl<I: Id> Default for Line<I> {
    fn default() -> Self {
        Self {
            keys: [Key::VACANT; 2],
            values: Default::default(),
        }
    }
}

/// In place of the number of ids: they don't fit beside the word, and may be in the second table.
const ELSEWHERE: usize = 0xFF;

/// A table from words to ids. See the module.
#[derive(Debug)]
pub struct WordCache<I: Id> {
    /// The highest bits of a key's hash tell its line.
    lines: Box<[Line<I>]>,
    line_bits: u32,
    long: LongWords<I>,
    lost: Lost,
    /// Words that had to go since the table has its size.
    num_lost: usize,
}

impl<I: Id> Default for WordCache<I> {
    fn default() -> Self {
        Self {
            lines: memory::filled(Line::default(), 1 << LINE_BITS[0]),
            line_bits: LINE_BITS[0],
            long: LongWords::default(),
            lost: Lost::default(),
            num_lost: 0,
        }
    }
}

impl<I: Id> WordCache<I> {
    /// Most memory of a table.
    pub const MAX_BYTES: usize = (size_of::<Line<I>>() << LINE_BITS[1]) + LongWords::<I>::MAX_BYTES;

    /// A table with the short words of this one.
    pub fn with_its_short_words(&self) -> Self {
        Self {
            lines: memory::copied(&self.lines),
            line_bits: self.line_bits,
            long: LongWords::default(),
            lost: Lost::default(),
            num_lost: 0,
        }
    }

    /// Appends the ids of a word; asks `encode` to append those of one that isn't there.
    #[inline]
    pub fn append(&mut self, word: &[u8], ids: &mut Vec<I>, encode: impl FnOnce(&mut Vec<I>)) {
        let key = if word.len() <= SHORT {
            Key::at(word, 0, word.len())
        } else {
            Key::long(long::hash_of(word))
        };
        self.append_keyed(key, word, ids, encode);
    }

    /// The key of a word of more than [`SHORT`] bytes; has the processor fetch what is looked at first.
    #[inline(never)]
    pub(crate) fn long_key(&self, word: &[u8]) -> Key {
        let hash = long::hash_of(word);
        self.long.prefetch(hash);
        Key::long(hash)
    }

    /// [`append`](Self::append) for a word whose key is at hand.
    #[inline]
    pub fn append_keyed(
        &mut self,
        key: Key,
        word: &[u8],
        ids: &mut Vec<I>,
        encode: impl FnOnce(&mut Vec<I>),
    ) {
        let lines = self.lines();
        if !lines.push(key, lines.place(key), ids) {
            self.learn(key, word, ids, encode);
        }
    }

    /// The lines, to look at until a word is learnt.
    #[inline(always)]
    pub(crate) fn lines(&self) -> Lines<'_, I> {
        Lines {
            lines: &self.lines,
            shift: 64 - self.line_bits,
        }
    }

    /// Appends the ids of a word that its line doesn't tell, if the tables have them. The key of a
    /// word that is longer than [`SHORT`] may have its hash.
    pub(crate) fn append_known(&mut self, key: Key, word: &[u8], ids: &mut Vec<I>) -> bool {
        match self.find(key) {
            None if !key.is_empty() => false,
            Some(lanes) if push_lanes(lanes, ids) => true,
            _ => self.append_known_long(word, ids),
        }
    }

    /// Appends the ids of a word that its line doesn't tell, and keeps them. The key of a word that
    /// is longer than [`SHORT`] may have its hash.
    #[cold]
    #[inline(never)]
    pub(crate) fn learn(
        &mut self,
        key: Key,
        word: &[u8],
        ids: &mut Vec<I>,
        encode: impl FnOnce(&mut Vec<I>),
    ) {
        match self.find(key) {
            None if !key.is_empty() => {}
            Some(lanes) if push_lanes(lanes, ids) => return,
            _ => {
                let hash = key.long_hash().unwrap_or_else(|| long::hash_of(word));
                return self.long.append(hash, word, ids, encode);
            }
        }
        let start = ids.len();
        encode(ids);
        let new = &ids[start..];
        let mut value = I::Lanes::default();
        let lanes = value.as_mut();
        let num_ids = if new.len() < I::NUM_LANES {
            lanes[..new.len()].copy_from_slice(new);
            new.len()
        } else {
            self.long.keep(word, new);
            ELSEWHERE
        };
        lanes[I::NUM_LANES - 1] = I::new(num_ids as u32);
        self.keep(key, value);
    }

    fn keep(&mut self, key: Key, value: I::Lanes) {
        if self.store(key, value) {
            return;
        }
        let num_back = self.lost.num_back_with(key.hash());
        if num_back > self.lines.len() / 16 && self.line_bits < LINE_BITS[1] {
            self.grow();
            self.store(key, value);
            return;
        }
        let Place(place) = self.lines().place(key);
        let line = &mut self.lines[place as usize];
        self.num_lost += 1;
        let place = usize::from(!self.num_lost.is_multiple_of(8));
        self.lost.note(line.keys[place].hash());
        (line.keys[place], line.values[place]) = (key, value);
    }

    /// The lines where a key may stand: its own one, and when that is full the other of the pair.
    fn lines_of(&self, key: Key) -> impl Iterator<Item = usize> + use<I> {
        let Place(place) = self.lines().place(key);
        let own = place as usize;
        let full = self.lines[own].keys[1] != Key::VACANT;
        [Some(own), full.then_some(own ^ 1)].into_iter().flatten()
    }

    /// The value of a key.
    fn find(&self, key: Key) -> Option<&I::Lanes> {
        if key.is_empty() {
            return None;
        }
        self.lines_of(key).find_map(|place| {
            let line = &self.lines[place];
            let slot = line.keys.iter().position(|&other| other == key)?;
            Some(&line.values[slot])
        })
    }

    /// Stores a key that isn't there, where there is room.
    fn store(&mut self, key: Key, value: I::Lanes) -> bool {
        self.lines_of(key).any(|place| {
            let line = &mut self.lines[place];
            let free = line.keys.iter().position(|&other| other == Key::VACANT);
            if let Some(slot) = free {
                (line.keys[slot], line.values[slot]) = (key, value);
            }
            free.is_some()
        })
    }

    /// Doubles the lines. One more bit of the hash tells which of two a word goes to.
    fn grow(&mut self) {
        self.line_bits += 1;
        (self.lost, self.num_lost) = Default::default();
        let old = std::mem::take(&mut self.lines);
        self.lines = memory::filled(Line::default(), 2 * old.len());
        for line in old {
            for (key, value) in line.keys.into_iter().zip(line.values) {
                if key != Key::VACANT {
                    self.store(key, value);
                }
            }
        }
    }

    /// [`append`](Self::append) for a word of more than [`SHORT`] bytes.
    pub fn append_long(&mut self, word: &[u8], ids: &mut Vec<I>, encode: impl FnOnce(&mut Vec<I>)) {
        self.long.append(long::hash_of(word), word, ids, encode);
    }

    /// Appends the ids of a word of more than [`SHORT`] bytes, or of one with many ids, if the
    /// table has them.
    pub fn append_known_long(&mut self, word: &[u8], ids: &mut Vec<I>) -> bool {
        self.long.append_known(word, ids)
    }
}

/// The lines of a table while it doesn't change.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lines<'c, I: Id> {
    lines: &'c [Line<I>],
    shift: u32,
}

impl<'c, I: Id> Lines<'c, I> {
    /// Where a key stands.
    #[inline(always)]
    pub(crate) fn place(self, key: Key) -> Place {
        Place((key.hash() >> self.shift) as u32)
    }

    /// Has the processor fetch a line: some words ahead, no time is lost by waiting for memory.
    #[inline(always)]
    pub(crate) fn prefetch(self, place: Place) {
        memory::prefetch(self.lines.as_ptr().wrapping_add(place.0 as usize));
    }

    /// Appends the ids of a word, if they are in its line.
    #[inline(always)]
    pub(crate) fn push(self, key: Key, place: Place, ids: &mut Vec<I>) -> bool {
        self.push_all(&[(key, place)], |&word| word, ids) == 1
    }

    /// Appends the ids of words up to the first one whose line doesn't have them, and returns the
    /// number of words.
    #[inline(always)]
    pub(crate) fn push_all<W>(
        self,
        words: &[W],
        place: impl Fn(&W) -> (Key, Place),
        ids: &mut Vec<I>,
    ) -> usize {
        ids.reserve(words.len() * I::NUM_LANES);
        // The number of ids is kept in a register: the vector's length, in memory, would make each
        // word wait for the store of the one before.
        let room = ids.spare_capacity_mut().as_mut_ptr().cast::<I>();
        let (mut num_ids, mut num_words) = (0, 0);
        for word in words {
            let (key, place) = place(word);
            let Some((lanes, num_new)) = self.lanes(key, place) else {
                break;
            };
            // SAFETY: there is room for all lanes of all words, and each word before this one has
            // moved the place by at most so many.
            unsafe { room.add(num_ids).cast::<I::Lanes>().write_unaligned(*lanes) };
            num_ids += num_new;
            num_words += 1;
        }
        // SAFETY: each word's lanes were written behind the ids of those before, and at least as many
        // lanes as it has ids.
        unsafe { ids.set_len(ids.len() + num_ids) };
        num_words
    }

    /// All lanes of a word and the number of its ids, at most that of the lanes, if they are in its
    /// line.
    #[inline(always)]
    fn lanes(self, key: Key, Place(place): Place) -> Option<(&'c I::Lanes, usize)> {
        let line = &self.lines[place as usize];
        // Which of the two it is is chance: no branch.
        let slot = usize::from(line.keys[0] != key);
        let lanes = &line.values[slot];
        let num_ids = lanes.as_ref()[I::NUM_LANES - 1].get() as usize;
        let known = (line.keys[slot] == key) & (num_ids != ELSEWHERE);
        known.then_some((lanes, num_ids % I::NUM_LANES))
    }
}

/// A table for each width of ids, made when it is first asked for.
#[derive(Debug, Default)]
pub struct WordCaches {
    narrow: OnceLock<Box<WordCache<u16>>>,
    wide: OnceLock<Box<WordCache<u32>>>,
}

/// An id of a width that [`WordCaches`] has a table for.
pub trait CachedId: Id {
    /// The table of words with ids of this width.
    fn cache(caches: &WordCaches) -> &OnceLock<Box<WordCache<Self>>>;
    /// The same, to change it.
    fn cache_mut(caches: &mut WordCaches) -> &mut OnceLock<Box<WordCache<Self>>>;
}

impl CachedId for u16 {
    fn cache(caches: &WordCaches) -> &OnceLock<Box<WordCache<Self>>> {
        &caches.narrow
    }

    fn cache_mut(caches: &mut WordCaches) -> &mut OnceLock<Box<WordCache<Self>>> {
        &mut caches.narrow
    }
}

impl CachedId for u32 {
    fn cache(caches: &WordCaches) -> &OnceLock<Box<WordCache<Self>>> {
        &caches.wide
    }

    fn cache_mut(caches: &mut WordCaches) -> &mut OnceLock<Box<WordCache<Self>>> {
        &mut caches.wide
    }
}

/// Appends the ids of a value; false if they are elsewhere.
fn push_lanes<I: Id>(lanes: &I::Lanes, ids: &mut Vec<I>) -> bool {
    let lanes = lanes.as_ref();
    let num_ids = lanes[I::NUM_LANES - 1].get() as usize;
    if num_ids == ELSEWHERE {
        return false;
    }
    ids.extend_from_slice(&lanes[..num_ids]);
    true
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A model of its own: as many ids as the word's sum of bytes says.
    fn encode<I: Id>(word: &[u8], ids: &mut Vec<I>) {
        let sum: u32 = word.iter().map(|&byte| u32::from(byte)).sum();
        ids.extend((0..sum % 19).map(|n| I::new((sum * 31 + n * 7) % 60_000)));
    }

    fn same_as_the_model<I: Id + PartialEq>(words: &[Vec<u8>]) {
        let mut cache = WordCache::default();
        let (mut found, mut expected) = (Vec::<I>::new(), Vec::new());
        for word in words {
            cache.append(word, &mut found, |ids| encode(word, ids));
            encode(word, &mut expected);
        }
        assert_eq!(found, expected);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 2 } else { 64 }))]

        #[test]
        fn a_cache_says_what_the_model_says(
            words in prop::collection::vec(prop::collection::vec(0u8..3, 0..80), 0..300),
        ) {
            same_as_the_model::<u16>(&words);
            same_as_the_model::<u32>(&words);
        }
    }

    #[test]
    fn a_table_grows_for_words_that_come_back_only() {
        let stream = |numbers: std::ops::Range<u32>, cache: &mut WordCache<u16>| {
            let mut ids = Vec::new();
            for number in numbers {
                ids.clear();
                cache.append(&number.to_le_bytes(), &mut ids, |ids| ids.push(1));
            }
            cache.line_bits
        };
        let mut cache = WordCache::default();
        assert_eq!(stream(0..1_000_000, &mut cache), LINE_BITS[0]);
        for _ in 0..4 {
            stream(0..200_000, &mut cache);
        }
        assert!(cache.line_bits > LINE_BITS[0]);
    }
}
