//! The Unicode tables of the pinned `tokenizers`, as its behaviour shows them.
//!
//! `tools/unicode_tables.py` writes the files beside this one and describes their form; a test in
//! `tests/rust_tok` probes every code point again. Newer tables would be wrong here: the ids of
//! rare text would differ from the ones the published models were trained with.

use std::sync::LazyLock;

pub(crate) mod normal_form;

pub use normal_form::{Form, normalize_into};

/// Properties of a code point, in the order of `FLAGS` in `tools/unicode_tables.py`.
pub mod flag {
    /// `char::is_whitespace`: splits BERT words.
    pub const WHITE_SPACE: u16 = 1 << 0;
    /// Dropped by `clean_text`.
    pub const REMOVED: u16 = 1 << 1;
    /// Replaced by a space by `clean_text`.
    pub const BLANK: u16 = 1 << 2;
    /// Padded by `handle_chinese_chars`.
    pub const IDEOGRAPH: u16 = 1 << 3;
    /// Dropped by the BERT normalizer's `strip_accents`.
    pub const NONSPACING: u16 = 1 << 4;
    /// A word of its own in the BERT pre-tokenizer.
    pub const BERT_PUNCTUATION: u16 = 1 << 5;
    /// `\p{L}` of the byte-level split.
    pub const LETTER: u16 = 1 << 6;
    /// `\p{N}` of the byte-level split.
    pub const NUMBER: u16 = 1 << 7;
    /// `\s` of the byte-level split.
    pub const SPLIT_SPACE: u16 = 1 << 8;
    /// `\w` at the sides of an added token with `single_word`.
    pub const WORD: u16 = 1 << 9;
    /// `\s` beside an added token with `lstrip` or `rstrip`.
    pub const STRIPPED: u16 = 1 << 10;
    /// Dropped by the `StripAccents` normalizer.
    pub const MARK: u16 = 1 << 11;
}

/// What the tables say of one code point.
#[derive(Clone, Copy, Debug)]
pub struct Record {
    /// Bits of [`flag`].
    pub flags: u16,
    /// Place among the combining marks that canonical ordering moves; 0 for all else.
    pub rank: u8,
    lower: Mapping,
    canonical: Mapping,
    compatible: Mapping,
}

/// A slice of the pool; an empty one means the code point itself.
#[derive(Clone, Copy, Debug)]
struct Mapping {
    start: u32,
    len: u8,
}

impl Mapping {
    fn parse(bytes: [u8; 4]) -> Self {
        let [a, b, c, len] = bytes;
        Self {
            start: u32::from_le_bytes([a, b, c, 0]),
            len,
        }
    }

    fn text(self) -> Option<&'static str> {
        let start = self.start as usize;
        match self.len {
            0 => None,
            len => POOL.get(start..start + usize::from(len)),
        }
    }
}

impl Record {
    /// True when any of the bits is set.
    #[inline]
    pub fn is(&self, flags: u16) -> bool {
        self.flags & flags != 0
    }

    /// The lowercase, where it is another text than the character itself.
    pub fn lower(&self) -> Option<&'static str> {
        self.lower.text()
    }

    /// The full canonical decomposition, where there is one (Hangul apart).
    pub fn canonical(&self) -> Option<&'static str> {
        self.canonical.text()
    }

    /// The full compatibility decomposition, where there is one (Hangul apart).
    pub fn compatible(&self) -> Option<&'static str> {
        self.compatible.text()
    }
}

const BLOCK_BITS: usize = 6;
static POOL: &str = include_str!("pool.txt");

struct Tables {
    index: Box<[u16]>,
    blocks: Box<[u16]>,
    records: Box<[Record]>,
    compositions: Box<[(char, char, char)]>,
}

static TABLES: LazyLock<Tables> = LazyLock::new(|| Tables {
    index: u16s(include_bytes!("index.bin")),
    blocks: u16s(include_bytes!("blocks.bin")),
    records: include_bytes!("records.bin")
        .as_chunks::<16>()
        .0
        .iter()
        .map(|r| Record {
            flags: u16::from_le_bytes([r[0], r[1]]),
            rank: r[2],
            lower: Mapping::parse([r[4], r[5], r[6], r[7]]),
            canonical: Mapping::parse([r[8], r[9], r[10], r[11]]),
            compatible: Mapping::parse([r[12], r[13], r[14], r[15]]),
        })
        .collect(),
    compositions: include_bytes!("compose.bin")
        .as_chunks::<12>()
        .0
        .iter()
        .filter_map(|r| {
            Some((
                char_at([r[0], r[1], r[2], r[3]])?,
                char_at([r[4], r[5], r[6], r[7]])?,
                char_at([r[8], r[9], r[10], r[11]])?,
            ))
        })
        .collect(),
});

fn u16s(bytes: &[u8]) -> Box<[u16]> {
    let (pairs, _) = bytes.as_chunks::<2>();
    pairs.iter().map(|pair| u16::from_le_bytes(*pair)).collect()
}

fn char_at(bytes: [u8; 4]) -> Option<char> {
    char::from_u32(u32::from_le_bytes(bytes))
}

/// The record of a character.
#[inline]
pub fn record(c: char) -> &'static Record {
    &TABLES.records[record_number(c)]
}

/// The place of a character's record: characters of one record differ in nothing but themselves
/// (and Hangul syllables in their decompositions).
#[inline]
pub(crate) fn record_number(c: char) -> usize {
    let tables = &*TABLES;
    let code = c as usize;
    let block = usize::from(tables.index[code >> BLOCK_BITS]) << BLOCK_BITS;
    usize::from(tables.blocks[block | (code & ((1 << BLOCK_BITS) - 1))])
}

/// Number of records.
pub(crate) fn num_records() -> usize {
    TABLES.records.len()
}

/// True when any of the bits is set for the character.
#[inline]
pub fn is(c: char, flags: u16) -> bool {
    record(c).is(flags)
}

/// The primary composite of two characters, Hangul included.
pub fn compose(first: char, second: char) -> Option<char> {
    normal_form::compose_hangul(first, second).or_else(|| {
        let table = &TABLES.compositions;
        let found = table.binary_search_by_key(&(first, second), |&(a, b, _)| (a, b));
        found.ok().map(|position| table[position].2)
    })
}
