//! Long words, and those of many ids.
//!
//! A stretch of Chinese without a comma, or a line of one character repeated, is one word for
//! byte-level BPE: of any length, and each needs its ids written out. So words and ids lie one
//! after the other in two generations. What is new, or is found in the old one, goes to the young
//! one; when that is full, it becomes the old one, and what the old one held is forgotten. The bytes
//! that a generation may hold begin low and double when too many words came back that had been
//! forgotten. A word that alone has more is encoded each time.

use super::lost::Lost;
use crate::hash::fold;
use crate::id::Id;
use crate::memory;

/// Bytes of words and ids that a generation holds, at first and at most.
const BYTES: [usize; 2] = [4 << 20, 12 << 20];
/// Words of a generation, at most, and the places of its table, twice as many.
const MAX_WORDS: usize = 1 << 17;
/// Places of the table of a generation that holds anything.
const MIN_PLACES: usize = 1 << 10;

/// A table from long words to ids. See the module.
#[derive(Debug)]
pub(super) struct LongWords<I> {
    young: Generation<I>,
    old: Generation<I>,
    max_bytes: usize,
    lost: Lost,
}

/// Words and ids, one after the other, and where each is.
#[derive(Debug)]
struct Generation<I> {
    /// By hash, with linear probing; half of the places are free.
    places: Vec<Entry>,
    num_words: usize,
    text: Vec<u8>,
    ids: Vec<I>,
}

/// A word in a generation; the default is none.
#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    /// Never zero.
    hash: u64,
    text: u32,
    len: u32,
    ids: u32,
    num_ids: u32,
}

impl<I: Id> Default for LongWords<I> {
    fn default() -> Self {
        Self {
            young: Generation::default(),
            old: Generation::default(),
            max_bytes: BYTES[0],
            lost: Lost::default(),
        }
    }
}

impl<I> Default for Generation<I> {
    fn default() -> Self {
        Self {
            places: Vec::new(),
            num_words: 0,
            text: Vec::new(),
            ids: Vec::new(),
        }
    }
}

impl<I: Id> LongWords<I> {
    /// Most memory of both generations: what they hold, and their tables. A vector that grows has
    /// up to twice the room that it needs.
    pub(super) const MAX_BYTES: usize = 2 * (2 * BYTES[1] + 2 * MAX_WORDS * size_of::<Entry>());

    /// Has the processor fetch what a word is looked for in first.
    #[inline]
    pub(super) fn prefetch(&self, hash: u64) {
        for generation in [&self.young, &self.old] {
            if let Some(entry) = generation.places.get(generation.first_place(hash)) {
                memory::prefetch(entry);
            }
        }
    }

    /// Appends the ids of a word with this [`hash_of`]; asks `encode` to append those of one that isn't
    /// there.
    pub(super) fn append(
        &mut self,
        hash: u64,
        word: &[u8],
        ids: &mut Vec<I>,
        encode: impl FnOnce(&mut Vec<I>),
    ) {
        if self.find(hash, word, ids) {
            return;
        }
        let start = ids.len();
        encode(ids);
        self.keep_new(hash, word, &ids[start..]);
    }

    /// Appends the ids of a word, if they are there.
    #[inline(never)]
    pub(super) fn append_known(&mut self, word: &[u8], ids: &mut Vec<I>) -> bool {
        self.find(hash_of(word), word, ids)
    }

    /// Keeps a word, once: it may be here still when the table of short words has lost it.
    pub(super) fn keep(&mut self, word: &[u8], ids: &[I]) {
        let hash = hash_of(word);
        if self.young.find(hash, word).is_none() {
            self.keep_new(hash, word, ids);
        }
    }

    fn find(&mut self, hash: u64, word: &[u8], ids: &mut Vec<I>) -> bool {
        if let Some(known) = self.young.find(hash, word) {
            ids.extend_from_slice(known);
            return true;
        }
        let Some(known) = self.old.find(hash, word) else {
            return false;
        };
        ids.extend_from_slice(known);
        let start = ids.len() - known.len();
        self.keep_young(hash, word, &ids[start..]);
        true
    }

    #[inline(never)]
    fn keep_new(&mut self, hash: u64, word: &[u8], ids: &[I]) {
        let num_back = self.lost.num_back_with(hash);
        if num_back > self.young.num_words / 4 && self.max_bytes < BYTES[1] {
            self.max_bytes = (2 * self.max_bytes).min(BYTES[1]);
            self.lost = Lost::default();
        }
        self.keep_young(hash, word, ids);
    }

    fn keep_young(&mut self, hash: u64, word: &[u8], ids: &[I]) {
        let bytes = word.len() + size_of_val(ids);
        if bytes > self.max_bytes {
            return;
        }
        if self.young.num_bytes() + bytes > self.max_bytes || self.young.num_words == MAX_WORDS {
            for entry in self.old.places.iter().filter(|entry| entry.hash != 0) {
                self.lost.note(entry.hash);
            }
            std::mem::swap(&mut self.young, &mut self.old);
            self.young.clear();
        }
        self.young.insert(hash, word, ids);
    }
}

impl<I: Id> Generation<I> {
    fn num_bytes(&self) -> usize {
        self.text.len() + size_of_val(self.ids.as_slice())
    }

    fn clear(&mut self) {
        self.places.fill(Entry::default());
        self.num_words = 0;
        self.text.clear();
        self.ids.clear();
    }

    fn find(&self, hash: u64, word: &[u8]) -> Option<&[I]> {
        if self.places.is_empty() {
            return None;
        }
        let mut place = self.first_place(hash);
        loop {
            let entry = &self.places[place];
            if entry.hash == 0 {
                return None;
            }
            if entry.hash == hash && self.text_of(entry) == word {
                return Some(&self.ids[entry.ids as usize..][..entry.num_ids as usize]);
            }
            place = (place + 1) & (self.places.len() - 1);
        }
    }

    fn insert(&mut self, hash: u64, word: &[u8], ids: &[I]) {
        if self.places.len() < 2 * (self.num_words + 1) {
            self.double_places();
        }
        let entry = Entry {
            hash,
            text: self.text.len() as u32,
            len: word.len() as u32,
            ids: self.ids.len() as u32,
            num_ids: ids.len() as u32,
        };
        self.text.extend_from_slice(word);
        self.ids.extend_from_slice(ids);
        self.num_words += 1;
        self.place(entry);
    }

    fn place(&mut self, entry: Entry) {
        let mut place = self.first_place(entry.hash);
        while self.places[place].hash != 0 {
            place = (place + 1) & (self.places.len() - 1);
        }
        self.places[place] = entry;
    }

    fn double_places(&mut self) {
        let num_places = (2 * self.places.len()).max(MIN_PLACES);
        let old = std::mem::replace(&mut self.places, vec![Entry::default(); num_places]);
        for entry in old.into_iter().filter(|entry| entry.hash != 0) {
            self.place(entry);
        }
    }

    /// None of a table without places.
    fn first_place(&self, hash: u64) -> usize {
        (hash >> 32) as usize & self.places.len().wrapping_sub(1)
    }

    fn text_of(&self, entry: &Entry) -> &[u8] {
        &self.text[entry.text as usize..][..entry.len as usize]
    }
}

/// Of the bytes and the length; never zero. Two lanes, since a product takes its time.
pub(super) fn hash_of(word: &[u8]) -> u64 {
    const SALT: [u64; 2] = [0x9E37_79B9_7F4A_7C15, 0xD6E8_FEB8_6659_FD93];
    let (blocks, rest) = word.as_chunks::<16>();
    let mut last = [0; 16];
    last[..rest.len()].copy_from_slice(rest);
    let hash = blocks
        .iter()
        .chain([&last])
        .fold(word.len() as u64, |hash, block| {
            let (halves, _) = block.as_chunks::<8>();
            let [low, high] = [0, 1].map(|half| u64::from_le_bytes(halves[half]));
            fold(hash ^ low ^ SALT[0], high ^ SALT[1])
        });
    hash.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(number: usize, len: usize) -> Vec<u8> {
        let mut word = number.to_le_bytes().to_vec();
        word.resize(len, b'x');
        word
    }

    /// How many of the words had to be encoded.
    fn encoded(words: &mut LongWords<u16>, numbers: std::ops::Range<usize>, len: usize) -> usize {
        let mut num_encoded = 0;
        for number in numbers {
            let mut ids = vec![7];
            let word = word(number, len);
            words.append(hash_of(&word), &word, &mut ids, |ids| {
                num_encoded += 1;
                ids.extend([number as u16, (number >> 16) as u16]);
            });
            assert_eq!(ids, [7, number as u16, (number >> 16) as u16]);
        }
        num_encoded
    }

    #[test]
    fn a_word_is_encoded_once_while_there_is_room() {
        let mut words = LongWords::default();
        assert_eq!(encoded(&mut words, 0..1000, 40), 1000);
        assert_eq!(encoded(&mut words, 0..1000, 40), 0);
        // The same bytes with a zero more are another word.
        assert_eq!(encoded(&mut words, 0..10, 41), 10);
    }

    #[test]
    fn a_word_is_kept_once() {
        let mut words = LongWords::<u16>::default();
        for _ in 0..3 {
            words.keep(b"word", &[1, 2]);
        }
        assert_eq!(words.young.num_words, 1);
    }

    #[test]
    fn words_that_never_come_again_take_little_memory() {
        let mut words = LongWords::default();
        assert_eq!(encoded(&mut words, 0..300_000, 50), 300_000);
        assert_eq!(words.max_bytes, BYTES[0]);
    }

    #[test]
    fn room_is_made_for_words_that_come_back() {
        let mut words = LongWords::default();
        for _ in 0..6 {
            encoded(&mut words, 0..100_000, 100);
        }
        assert_eq!(words.max_bytes, BYTES[1]);
        assert!(encoded(&mut words, 0..100_000, 100) < 1000);
    }

    #[test]
    fn words_of_a_megabyte_are_kept_and_larger_ones_encoded_each_time() {
        let mut words = LongWords::default();
        assert_eq!(encoded(&mut words, 0..3, 1 << 20), 3);
        assert_eq!(encoded(&mut words, 0..3, 1 << 20), 0);
        for _ in 0..2 {
            assert_eq!(encoded(&mut words, 0..2, 13 << 20), 2);
        }
    }
}
