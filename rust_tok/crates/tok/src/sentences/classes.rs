//! The Sentence_Break class of every code point.
//!
//! `examples/sentence_classes.rs` writes `classes.bin` and describes its form.

use std::collections::HashMap;
use std::sync::LazyLock;

/// Sentence_Break, with Extend and Format as one: no rule tells them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub(super) enum Class {
    Other,
    Extend,
    Sp,
    Lower,
    Upper,
    OLetter,
    Numeric,
    ATerm,
    SContinue,
    STerm,
    Close,
    Cr,
    Lf,
    Sep,
}

impl Class {
    const ALL: [Self; 14] = [
        Self::Other,
        Self::Extend,
        Self::Sp,
        Self::Lower,
        Self::Upper,
        Self::OLetter,
        Self::Numeric,
        Self::ATerm,
        Self::SContinue,
        Self::STerm,
        Self::Close,
        Self::Cr,
        Self::Lf,
        Self::Sep,
    ];

    #[inline]
    pub(super) fn of(c: char) -> Self {
        let code = c as usize;
        if let Some(&class) = ASCII.get(code) {
            return class;
        }
        let block = usize::from(TABLE.index[code >> BLOCK_BITS]) << BLOCK_BITS;
        TABLE.blocks[block | (code & (BLOCK - 1))]
    }

    const fn of_ascii(byte: u8) -> Self {
        match byte {
            b'\t' | 0x0B | 0x0C | b' ' => Self::Sp,
            b'a'..=b'z' => Self::Lower,
            b'A'..=b'Z' => Self::Upper,
            b'0'..=b'9' => Self::Numeric,
            b'.' => Self::ATerm,
            b',' | b'-' | b':' | b';' => Self::SContinue,
            b'!' | b'?' => Self::STerm,
            b'"' | b'\'' | b'(' | b')' | b'[' | b']' | b'{' | b'}' => Self::Close,
            b'\r' => Self::Cr,
            b'\n' => Self::Lf,
            _ => Self::Other,
        }
    }

    pub(super) fn ends_paragraph(self) -> bool {
        matches!(self, Self::Cr | Self::Lf | Self::Sep)
    }

    pub(super) fn ends_sentence(self) -> bool {
        matches!(self, Self::ATerm | Self::STerm)
    }

    fn matters(self) -> bool {
        self.ends_paragraph() || self.ends_sentence()
    }
}

/// The ASCII characters that may end a sentence or a paragraph.
pub(super) const ASCII_ENDS: [u8; 5] = *b"\n\r.!?";

/// By its first byte, whether a character may end a sentence or a paragraph.
pub(super) fn may_end() -> &'static [bool; 256] {
    &TABLE.may_end
}

/// Most of most texts, without a way through the large table.
const ASCII: [Class; 128] = {
    let mut classes = [Class::Other; 128];
    let mut code = 0;
    while code < classes.len() {
        classes[code] = Class::of_ascii(code as u8);
        code += 1;
    }
    classes
};

const BLOCK_BITS: usize = 7;
const BLOCK: usize = 1 << BLOCK_BITS;

struct Table {
    index: Vec<u16>,
    blocks: Vec<Class>,
    may_end: [bool; 256],
}

static TABLE: LazyLock<Table> = LazyLock::new(|| {
    let classes = expand(include_bytes!("classes.bin"));
    let mut numbers = HashMap::new();
    let mut index = Vec::new();
    let mut blocks = Vec::new();
    for block in classes.chunks(BLOCK) {
        let new_number = numbers.len() as u16;
        let number = *numbers.entry(block).or_insert(new_number);
        if number == new_number {
            blocks.extend_from_slice(block);
        }
        index.push(number);
    }
    Table {
        index,
        blocks,
        may_end: may_end_of(&classes),
    }
});

fn expand(runs: &[u8]) -> Vec<Class> {
    const CODES: usize = 0x11_0000;
    let (runs, _) = runs.as_chunks::<4>();
    let start = |run: &[u8; 4]| u32::from_le_bytes([run[0], run[1], run[2], 0]) as usize;
    let ends = runs.iter().skip(1).map(start).chain([CODES]);
    let mut classes = Vec::with_capacity(CODES);
    for (run, end) in runs.iter().zip(ends) {
        classes.resize(end, Class::ALL[usize::from(run[3])]);
    }
    classes
}

fn may_end_of(classes: &[Class]) -> [bool; 256] {
    let mut may_end = [false; 256];
    for (code, _) in classes
        .iter()
        .enumerate()
        .filter(|(_, class)| class.matters())
    {
        let c = char::from_u32(code as u32).unwrap_or('\0');
        may_end[usize::from(c.encode_utf8(&mut [0; 4]).as_bytes()[0])] = true;
    }
    may_end
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ascii_is_as_in_the_table() {
        assert_eq!(ASCII, TABLE.blocks[..ASCII.len()]);
    }

    #[test]
    fn ascii_ends_are_those_of_the_table() {
        let found: Vec<_> = (0..0x80).filter(|&b| may_end()[usize::from(b)]).collect();
        let mut expected = ASCII_ENDS;
        expected.sort_unstable();
        assert_eq!(found, expected);
    }
}
