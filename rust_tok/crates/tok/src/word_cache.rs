//! Words that were met before, and their ids: a table that grows up to a limit.
//!
//! One probe answers for nearly every word: a line of 64 bytes holds two words of up to
//! [`SHORT`] bytes with their ids, so that nothing else is read and nothing is followed. Longer
//! words, and those of many ids, lie in a second table of wider entries; what does not fit there
//! either is encoded each time. A line and its neighbour are a pair, and what finds its own line full
//! stands in the other one, which only a probe that failed looks at. Where both are full, a new word
//! takes the second place of its line, and only at every eighth time the first: a stream of words that
//! never come again can't drive out the frequent ones, and a change of language still gets through.
//! While the table is smaller than its limit, it doubles when too many words had to go.
//!
//! What a table holds is what its model said for the same bytes, so that no result depends on
//! the table's state. [`WordCache::MAX_BYTES`] is its largest size, whatever passes through it;
//! each thread has one of its own, a copy of the one that the model filled with its vocabulary.

use std::marker::PhantomData;
use std::sync::OnceLock;

use crate::hash::fold;
use crate::vocab::Id;

/// Longest word, in bytes, of the table that one probe answers from.
pub const SHORT: usize = 15;
/// Longest word, in bytes, that is kept at all.
pub const LONG: usize = 62;
/// Most ids of a word in the second table.
const LONG_IDS: usize = 16;

/// Lines of the first table at the beginning and at most, as powers of two.
const LINE_BITS: [u32; 2] = [16, 19];
/// Entries of the second table, as a power of two.
const LONG_BITS: u32 = 13;

/// A word of up to [`SHORT`] bytes: its bytes, zeros, and its length in the last byte.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Key(u128);

/// The bytes that a length keeps.
const MASKS: [u128; SHORT + 1] = {
    let mut masks = [0; SHORT + 1];
    let mut len = 1;
    while len <= SHORT {
        masks[len] = (1 << (8 * len)) - 1;
        len += 1;
    }
    masks
};

impl Key {
    /// The first `len` of these bytes; `len` is at most [`SHORT`].
    #[inline]
    pub fn padded(bytes: &[u8; 16], len: usize) -> Self {
        let len = len & SHORT;
        Self(u128::from_le_bytes(*bytes) & MASKS[len] | (len as u128) << 120)
    }

    /// The word `text[start..start + len]`; `None` when it is longer than [`SHORT`].
    #[inline]
    pub fn at(text: &[u8], start: usize, len: usize) -> Option<Self> {
        if len > SHORT {
            return None;
        }
        let behind = &text[start..];
        Some(match behind.first_chunk::<16>() {
            Some(bytes) => Self::padded(bytes, len),
            None => {
                let mut bytes = [0; 16];
                bytes[..len].copy_from_slice(&behind[..len]);
                Self::padded(&bytes, len)
            }
        })
    }

    /// The word whose first 15 bytes these are, with zeros for what is behind it; no word for one
    /// that is longer.
    #[inline(always)]
    pub(crate) fn of(low: u64, high: u64, len: usize) -> Self {
        let key = u128::from(low) | u128::from(high | (len as u64) << 56) << 64;
        Self(if len <= SHORT { key } else { 0 })
    }

    /// Length of the word.
    #[inline]
    pub fn len(self) -> usize {
        (self.0 >> 120) as usize
    }

    /// Whether it is the key of no word.
    #[inline]
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    #[inline]
    fn hash(self) -> u64 {
        const SALT: [u64; 2] = [0x9E37_79B9_7F4A_7C15, 0xD6E8_FEB8_6659_FD93];
        fold(self.0 as u64 ^ SALT[0], (self.0 >> 64) as u64 ^ SALT[1])
    }
}

/// A line of a table.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Place(u32);

/// Two words and their ids, packed.
#[derive(Clone, Copy, Debug, Default)]
#[repr(align(64))]
struct Line {
    keys: [Key; 2],
    values: [u128; 2],
}

/// A word of up to [`LONG`] bytes and its ids.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
struct LongEntry {
    word: [u8; LONG],
    len: u8,
    num_ids: u8,
    ids: [u32; LONG_IDS],
}

/// A table from words to ids. See the module.
#[derive(Clone, Debug)]
pub struct WordCache<I> {
    /// The highest bits of a key's hash tell its line.
    lines: Box<[Line]>,
    line_bits: u32,
    long: Box<[LongEntry]>,
    /// Words that had to go since the table has its size.
    num_lost: usize,
    ids: PhantomData<I>,
}

impl<I: Id> Default for WordCache<I> {
    fn default() -> Self {
        let empty = LongEntry {
            word: [0; LONG],
            len: 0,
            num_ids: 0,
            ids: [0; LONG_IDS],
        };
        Self {
            lines: vec![Line::default(); 1 << LINE_BITS[0]].into(),
            line_bits: LINE_BITS[0],
            long: vec![empty; 1 << LONG_BITS].into(),
            num_lost: 0,
            ids: PhantomData,
        }
    }
}

impl<I: Id> WordCache<I> {
    /// Most memory of a table.
    pub const MAX_BYTES: usize =
        (size_of::<Line>() << LINE_BITS[1]) + (size_of::<LongEntry>() << LONG_BITS);

    /// Appends the ids of a word; asks `encode` to append those of one that isn't there.
    #[inline]
    pub fn append(&mut self, word: &[u8], ids: &mut Vec<I>, encode: impl FnOnce(&mut Vec<I>)) {
        match Key::at(word, 0, word.len()) {
            Some(key) => self.append_short(key, word, ids, encode),
            None => self.append_long(word, ids, encode),
        }
    }

    /// [`append`](Self::append) for a word whose key is at hand.
    #[inline]
    pub fn append_short(
        &mut self,
        key: Key,
        word: &[u8],
        ids: &mut Vec<I>,
        encode: impl FnOnce(&mut Vec<I>),
    ) {
        if !self.push(key, self.place(key), ids) {
            self.learn(key, word, ids, encode);
        }
    }

    /// Where a key stands, until a word is learnt.
    #[inline(always)]
    pub(crate) fn place(&self, key: Key) -> Place {
        Place((key.hash() >> (64 - self.line_bits)) as u32)
    }

    /// Has the processor fetch what [`append_short`](Self::append_short) will look at: some
    /// words ahead, no time is lost by waiting for memory.
    #[inline]
    pub fn prefetch(&self, key: Key) {
        self.prefetch_line(self.place(key));
    }

    /// [`prefetch`](Self::prefetch) for a line that is at hand.
    #[inline(always)]
    pub(crate) fn prefetch_line(&self, place: Place) {
        #[cfg(all(target_arch = "x86_64", not(miri)))]
        {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            let line = &raw const self.lines[place.0 as usize];
            // SAFETY: a prefetch reads nothing that a program could see.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(line.cast()) };
        }
        #[cfg(not(all(target_arch = "x86_64", not(miri))))]
        let _ = place;
    }

    /// Appends the ids of a word, if they are in the line.
    #[inline(always)]
    pub(crate) fn push(&self, key: Key, place: Place, ids: &mut Vec<I>) -> bool {
        let line = &self.lines[place.0 as usize];
        let first = line.keys[0] == key;
        let value = if first {
            line.values[0]
        } else {
            line.values[1]
        };
        let known =
            (first | (line.keys[1] == key)) & (key != Key::default()) & (value != ELSEWHERE);
        if known {
            push_packed(value, ids);
        }
        known
    }

    /// Appends the ids of a word that its line doesn't tell, and keeps them. The key of a word that
    /// is longer than [`SHORT`] is the default.
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
            None if key != Key::default() => {}
            None | Some(ELSEWHERE) => return self.append_long(word, ids, encode),
            Some(value) => return push_packed(value, ids),
        }
        let start = ids.len();
        encode(ids);
        let new = &ids[start..];
        let value = pack(new).unwrap_or(ELSEWHERE);
        if value == ELSEWHERE {
            self.keep_long(word, new);
        }
        self.keep(key, value);
    }

    fn keep(&mut self, key: Key, value: u128) {
        if self.store(key, value) {
            return;
        }
        if self.num_lost > self.lines.len() / 16 && self.line_bits < LINE_BITS[1] {
            self.grow();
            self.store(key, value);
            return;
        }
        self.num_lost += 1;
        let Place(place) = self.place(key);
        let line = &mut self.lines[place as usize];
        let place = usize::from(!self.num_lost.is_multiple_of(8));
        (line.keys[place], line.values[place]) = (key, value);
    }

    /// The lines where a key may stand: its own one, and when that is full the other of the pair.
    fn lines_of(&self, key: Key) -> impl Iterator<Item = usize> + use<I> {
        let Place(place) = self.place(key);
        let own = place as usize;
        let full = self.lines[own].keys[1] != Key::default();
        [Some(own), full.then_some(own ^ 1)].into_iter().flatten()
    }

    /// The value of a key.
    fn find(&self, key: Key) -> Option<u128> {
        if key == Key::default() {
            return None;
        }
        self.lines_of(key).find_map(|place| {
            let line = &self.lines[place];
            let slot = line.keys.iter().position(|&other| other == key)?;
            Some(line.values[slot])
        })
    }

    /// Stores a key that isn't there, where there is room.
    fn store(&mut self, key: Key, value: u128) -> bool {
        self.lines_of(key).any(|place| {
            let line = &mut self.lines[place];
            let free = line.keys.iter().position(|&other| other == Key::default());
            if let Some(slot) = free {
                (line.keys[slot], line.values[slot]) = (key, value);
            }
            free.is_some()
        })
    }

    /// Doubles the lines. One more bit of the hash tells which of two a word goes to.
    fn grow(&mut self) {
        self.line_bits += 1;
        self.num_lost = 0;
        let old = std::mem::take(&mut self.lines);
        self.lines = vec![Line::default(); 2 * old.len()].into();
        for line in old {
            for (key, value) in line.keys.into_iter().zip(line.values) {
                if key != Key::default() {
                    self.store(key, value);
                }
            }
        }
    }

    fn append_long(&mut self, word: &[u8], ids: &mut Vec<I>, encode: impl FnOnce(&mut Vec<I>)) {
        if word.len() > LONG {
            return encode(ids);
        }
        let (bytes, place) = long_place(word);
        let entry = &self.long[place];
        if usize::from(entry.len) == word.len() && entry.word == bytes {
            let known = &entry.ids[..usize::from(entry.num_ids)];
            ids.extend(known.iter().map(|&id| I::new(id)));
            return;
        }
        let start = ids.len();
        encode(ids);
        self.keep_long(word, &ids[start..]);
    }

    fn keep_long(&mut self, word: &[u8], new: &[I]) {
        if word.len() <= LONG && new.len() <= LONG_IDS {
            let (bytes, place) = long_place(word);
            let entry = &mut self.long[place];
            (entry.word, entry.len) = (bytes, word.len() as u8);
            entry.num_ids = new.len() as u8;
            for (stored, id) in entry.ids.iter_mut().zip(new) {
                *stored = id.get();
            }
        }
    }
}

/// The word as the second table keeps it, at most [`LONG`] bytes, and its place there.
fn long_place(word: &[u8]) -> ([u8; LONG], usize) {
    let mut bytes = [0; LONG];
    bytes[..word.len()].copy_from_slice(word);
    let hash = hash_long(&bytes, word.len());
    (bytes, (hash >> (64 - LONG_BITS)) as usize)
}

fn hash_long(word: &[u8; LONG], len: usize) -> u64 {
    word.chunks(8).fold(len as u64, |hash, chunk| {
        let mut bytes = [0; 8];
        bytes[..chunk.len()].copy_from_slice(chunk);
        fold(hash ^ u64::from_le_bytes(bytes), 0x9E37_79B9_7F4A_7C15)
    })
}

/// A table for each width of ids, made when it is first asked for.
#[derive(Debug, Default)]
pub struct WordCaches {
    pub(crate) narrow: OnceLock<Box<WordCache<u16>>>,
    pub(crate) wide: OnceLock<Box<WordCache<u32>>>,
}

/// Ids side by side, their number in the last byte; `None` when they are too many.
#[inline]
fn pack<I: Id>(ids: &[I]) -> Option<u128> {
    let bits = 8 * size_of::<I>() as u32;
    if ids.len() >= I::NUM_LANES {
        return None;
    }
    let lanes = ids.iter().rev();
    let packed = lanes.fold(0, |packed, id| packed << bits | u128::from(id.get()));
    Some(packed | (ids.len() as u128) << 120)
}

/// Value of a word whose ids don't fit beside it: they may be in the second table.
const ELSEWHERE: u128 = u128::MAX;

/// Appends what [`pack`] made: all lanes in one store, then the length without the excess.
#[inline]
fn push_packed<I: Id>(value: u128, ids: &mut Vec<I>) {
    let num_ids = (value >> 120) as usize;
    let end = ids.len() + num_ids;
    ids.extend_from_slice(I::lanes(value).as_ref());
    ids.truncate(end);
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
    fn keys_tell_zeros_from_the_end() {
        let text = b"a\0\0bcdefghijklmnopqr";
        let keys: Vec<_> = (0..=SHORT).map(|len| Key::at(text, 0, len)).collect();
        for (len, key) in keys.iter().enumerate() {
            assert_eq!(*key, Key::at(&text[..len], 0, len));
            assert!(!keys[..len].contains(key));
        }
        assert_eq!(Key::at(text, 0, SHORT + 1), None);
    }
}
