//! The four classes of the byte-level split, for every code point, as bit maps.

use std::sync::LazyLock;

use super::simd::Low6;
use crate::unicode::{self, flag};

/// What a character is to the split.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// `\p{L}`
    Letter,
    /// `\p{N}`
    Number,
    /// `\s`
    Space,
    /// All else.
    Other,
}

/// 64 code points, which in UTF-8 differ in the lowest six bits of their last byte only: bit n is the
/// code point n of the block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Block {
    pub(crate) letters: u64,
    pub(crate) numbers: u64,
    pub(crate) spaces: u64,
}

pub(crate) const BLOCK_BITS: u32 = 6;
const NUM_BLOCKS: usize = 0x11_0000 >> BLOCK_BITS;

/// Classes of all code points: 24 bytes per distinct block of 64, and 2 bytes per block to find it.
pub(crate) struct Classes {
    index: Box<[u16; NUM_BLOCKS]>,
    blocks: Vec<Block>,
    /// By the lowest six bits of it, the first bytes of two and three that only letters have.
    pub(crate) letter_leads: Low6,
}

impl Classes {
    /// Made from the tables of [`unicode`] at first use.
    pub(crate) fn get() -> &'static Self {
        static CLASSES: LazyLock<Classes> = LazyLock::new(Classes::new);
        &CLASSES
    }

    fn new() -> Self {
        let mut index = Box::new([0; NUM_BLOCKS]);
        let mut blocks: Vec<Block> = Vec::new();
        let mut seen = std::collections::HashMap::new();
        for (number, slot) in index.iter_mut().enumerate() {
            let mut block = Block::default();
            for low in 0..1 << BLOCK_BITS {
                let code = (number as u32) << BLOCK_BITS | low;
                let Some(c) = char::from_u32(code) else {
                    continue;
                };
                let bit = 1 << low;
                match class_of(c) {
                    Class::Letter => block.letters |= bit,
                    Class::Number => block.numbers |= bit,
                    Class::Space => block.spaces |= bit,
                    Class::Other => {}
                }
            }
            *slot = *seen.entry(block).or_insert_with(|| {
                blocks.push(block);
                (blocks.len() - 1) as u16
            });
        }
        let mut classes = Self {
            index,
            blocks,
            letter_leads: 0,
        };
        let letters = |number: u32| classes.block(number).letters == u64::MAX;
        let two = (0xC2..=0xDF_u32).filter(|lead| letters(lead & 0x1F));
        let three = (0xE1..=0xEF_u32).filter(|lead| {
            let first = (lead & 0xF) << 6;
            (first..first + 64).all(letters)
        });
        classes.letter_leads = (two.chain(three)).fold(0, |leads, lead| leads | 1 << (lead & 0x3F));
        classes
    }

    /// The 64 code points from `64 * number` on.
    #[inline(always)]
    pub(crate) fn block(&self, number: u32) -> Block {
        let place = self.index.get(number as usize).copied().unwrap_or(0);
        let block = self.blocks.get(usize::from(place));
        block.copied().unwrap_or_default()
    }
}

/// The class as the tables of [`unicode`] give it.
pub(crate) fn class_of(c: char) -> Class {
    let found = unicode::record(c);
    if found.is(flag::LETTER) {
        Class::Letter
    } else if found.is(flag::NUMBER) {
        Class::Number
    } else if found.is(flag::SPLIT_SPACE) {
        Class::Space
    } else {
        Class::Other
    }
}
