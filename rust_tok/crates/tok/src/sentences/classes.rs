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
        let block = usize::from(TABLE.index[code >> BLOCK_BITS]) << BLOCK_BITS;
        TABLE.blocks[block | (code & (BLOCK - 1))]
    }

    pub(super) fn ends_paragraph(self) -> bool {
        matches!(self, Self::Cr | Self::Lf | Self::Sep)
    }

    pub(super) fn ends_sentence(self) -> bool {
        matches!(self, Self::ATerm | Self::STerm)
    }

    /// Classes that end or begin something, where a scan for sentences has to look.
    fn matters(self) -> bool {
        self.ends_paragraph() || self.ends_sentence()
    }
}

/// What the first byte of a character says to a scan for the next end of a sentence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Lead {
    /// Passed over: one byte, and no end.
    Dull,
    /// A terminator or a line's end in ASCII.
    Matters,
    /// A character of two bytes or more that may be one.
    Wide,
}

/// By first byte.
pub(super) fn leads() -> &'static [Lead; 256] {
    &TABLE.leads
}

const BLOCK_BITS: usize = 7;
const BLOCK: usize = 1 << BLOCK_BITS;

struct Table {
    index: Vec<u16>,
    blocks: Vec<Class>,
    leads: [Lead; 256],
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
        leads: leads_of(&classes),
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

fn leads_of(classes: &[Class]) -> [Lead; 256] {
    let mut leads = [Lead::Dull; 256];
    for (code, _) in classes
        .iter()
        .enumerate()
        .filter(|(_, class)| class.matters())
    {
        let c = char::from_u32(code as u32).unwrap_or('\0');
        let mut buffer = [0; 4];
        match c.encode_utf8(&mut buffer).as_bytes() {
            [byte] => leads[usize::from(*byte)] = Lead::Matters,
            [byte, ..] => leads[usize::from(*byte)] = Lead::Wide,
            [] => {}
        }
    }
    leads
}
