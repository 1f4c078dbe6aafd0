//! Where pieces start, 64 bytes at a time, without a branch per piece.
//!
//! Every byte gets the class of the character that it belongs to, one bit map per class and block of
//! 64 bytes ([`simd`](super::simd) for ASCII, [`Classes`] for the rest). A byte that is no white
//! space starts a piece where the byte before is of another class and no blank. White space starts
//! one at the start of its run, and at its last character when something follows (`\s+(?!\S)` leaves
//! it over). An apostrophe that starts a piece may be a contraction, which moves the start behind it.
//! All of that is a few shifts and masks per block, and `next` needs the following block's classes
//! for its last byte, so one block is classified ahead.

use super::classes::Classes;
use super::simd::{BLOCK, Simd};

/// Classes of a block; the bytes of a character all have its class.
#[derive(Clone, Copy, Debug, Default)]
struct Bits {
    letters: u64,
    numbers: u64,
    spaces: u64,
    blanks: u64,
    apostrophes: u64,
    /// First bytes of white space of two and of three bytes, and their other bytes.
    wide: [u64; 3],
}

/// What the characters of one block give to the next one.
#[derive(Clone, Copy, Debug, Default)]
struct Spill {
    letters: u64,
    numbers: u64,
    spaces: u64,
    bytes: u64,
}

/// Finds the starts of the pieces of a text.
pub(crate) struct Scanner<'t, S> {
    text: &'t [u8],
    simd: S,
    /// Where the block starts that `here` describes.
    base: usize,
    here: Bits,
    spill: Spill,
    /// Classes of the byte before the block, in bit 0.
    before: Bits,
    before_other: u64,
    /// Starts that a contraction at the end of the last block adds and takes away.
    added: u64,
    removed: u64,
}

impl<'t, S: Simd> Scanner<'t, S> {
    #[inline(always)]
    pub(crate) fn new(text: &'t str, simd: S) -> Self {
        let mut scanner = Self {
            text: text.as_bytes(),
            simd,
            base: 0,
            here: Bits::default(),
            spill: Spill::default(),
            before: Bits::default(),
            before_other: 0,
            added: 0,
            removed: 0,
        };
        scanner.here = scanner.classify(0);
        scanner
    }

    /// Classes of the block that starts at `base`. Beyond the text all is white space.
    #[inline(always)]
    fn classify(&mut self, base: usize) -> Bits {
        let rest = self.text.get(base..).unwrap_or_default();
        let (found, beyond) = match rest.first_chunk::<BLOCK>() {
            Some(block) => (self.simd.classify(block), 0),
            None if rest.is_empty() => (Default::default(), u64::MAX),
            None => {
                let mut block = [0; BLOCK];
                block[..rest.len()].copy_from_slice(rest);
                (self.simd.classify(&block), u64::MAX << rest.len())
            }
        };
        let mut bits = Bits {
            letters: found.letters,
            numbers: found.numbers,
            spaces: found.spaces | beyond,
            blanks: found.blanks,
            apostrophes: found.apostrophes,
            wide: [0; 3],
        };
        if found.high != 0 {
            self.add_characters(base, found.high, &mut bits);
        }
        bits
    }

    /// Adds the characters that are not ASCII.
    #[inline(never)]
    fn add_characters(&mut self, base: usize, high: u64, bits: &mut Bits) {
        let classes = Classes::get();
        let spill = std::mem::take(&mut self.spill);
        bits.letters |= spill.letters;
        bits.numbers |= spill.numbers;
        bits.spaces |= spill.spaces;
        bits.wide[2] = spill.spaces;
        let mut rest = high & !spill.bytes;
        while rest != 0 {
            let place = rest.trailing_zeros();
            let (code, len) = decode(self.text, base + place as usize);
            let (letter, number, space) = classes.bits(code);
            let ones = (1 << len) - 1;
            let now = ones << place;
            rest &= !now;
            bits.letters |= now & letter.wrapping_neg();
            bits.numbers |= now & number.wrapping_neg();
            if space != 0 {
                bits.spaces |= now;
                bits.wide[len as usize - 2] |= 1 << place;
                bits.wide[2] |= now & (now << 1);
            }
            if place + len > BLOCK as u32 {
                let later = ones >> (BLOCK as u32 - place);
                self.spill = Spill {
                    letters: later & letter.wrapping_neg(),
                    numbers: later & number.wrapping_neg(),
                    spaces: later & space.wrapping_neg(),
                    bytes: later,
                };
            }
        }
    }

    /// The start of the next block, and a bit for every piece that starts in it.
    #[inline(always)]
    pub(crate) fn next(&mut self) -> Option<(usize, u64)> {
        let base = self.base;
        if base >= self.text.len() {
            return None;
        }
        let ahead = self.classify(base + BLOCK);
        let Bits {
            letters,
            numbers,
            spaces,
            blanks,
            apostrophes,
            wide,
        } = self.here;
        let others = !(letters | numbers | spaces);
        let before = self.before;
        let inside = letters & (letters << 1 | before.letters)
            | numbers & (numbers << 1 | before.numbers)
            | others & (others << 1 | self.before_other);
        let after_blank = blanks << 1 | before.blanks;
        // The n-th byte behind each is no white space.
        let behind = |n: u32| !spaces >> n | !ahead.spaces << (64 - n);
        let mut last = spaces & behind(1);
        if wide != [0; 3] {
            let [two, three, tails] = wide;
            last = last & !(two | three | tails) | two & behind(2) | three & behind(3);
        }
        let mut starts =
            !(spaces | inside | after_blank) | spaces & !(spaces << 1 | before.spaces) | last;
        starts = starts & !self.removed | self.added;
        (self.removed, self.added) = (0, 0);
        if apostrophes & starts != 0 {
            starts = self.contract(base, apostrophes & starts, starts);
        }
        self.before = Bits {
            letters: letters >> 63,
            numbers: numbers >> 63,
            spaces: spaces >> 63,
            blanks: blanks >> 63,
            ..Bits::default()
        };
        self.before_other = others >> 63;
        self.here = ahead;
        self.base = base + BLOCK;
        let left = self.text.len() - base;
        if left < BLOCK {
            starts &= !(u64::MAX << left);
        }
        Some((base, starts))
    }

    /// Moves the starts behind apostrophes that are contractions.
    #[cold]
    fn contract(&mut self, base: usize, mut candidates: u64, mut starts: u64) -> u64 {
        while candidates != 0 {
            let place = candidates.trailing_zeros();
            candidates &= candidates - 1;
            if let Some(len) = super::contraction(&self.text[base + place as usize..]) {
                let removed = 1u128 << (place + 1);
                let added = 1u128 << (place + len as u32);
                starts = starts & !(removed as u64) | added as u64;
                self.removed |= (removed >> 64) as u64;
                self.added |= (added >> 64) as u64;
            }
        }
        starts
    }
}

/// The code point at a place where a character of more than one byte starts, and its bytes.
#[inline(always)]
fn decode(text: &[u8], place: usize) -> (u32, u32) {
    let rest = text.get(place..).unwrap_or_default();
    let bytes = match rest.first_chunk::<4>() {
        Some(bytes) => *bytes,
        None => std::array::from_fn(|n| rest.get(n).copied().unwrap_or(0)),
    };
    let [first, low @ ..] = bytes.map(u32::from);
    let [second, third, fourth] = low.map(|byte| byte & 0x3F);
    if first < 0xE0 {
        ((first & 0x1F) << 6 | second, 2)
    } else if first < 0xF0 {
        ((first & 0xF) << 12 | second << 6 | third, 3)
    } else {
        ((first & 0x7) << 18 | second << 12 | third << 6 | fourth, 4)
    }
}
