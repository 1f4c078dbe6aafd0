//! Where pieces start, 64 bytes at a time, without a branch per piece.
//!
//! Every byte gets the class of the character that it belongs to, one bit map per class and block of
//! 64 bytes ([`simd`](super::simd) for ASCII, [`Classes`] for the rest). A byte that is no white
//! space starts a piece where the byte before is of another class and no blank. White space starts
//! one at the start of its run, and at its last character when something follows (`\s+(?!\S)` leaves
//! it over). An apostrophe that starts a piece may be a contraction, which moves the start behind it.
//! All of that is a few shifts and masks per block, and `next` needs the following block's classes
//! for its last byte, so one block is classified ahead.

use super::classes::{BLOCK_BITS, Block, Classes};
use super::simd::{BLOCK, Low6, Simd};

/// Classes of a block; the bytes of a character all have its class.
#[derive(Clone, Copy, Debug, Default)]
struct Bits {
    letters: u64,
    numbers: u64,
    spaces: u64,
    blanks: u64,
    apostrophes: u64,
    wide: Wide,
}

/// White space of several bytes.
#[derive(Clone, Copy, Debug, Default)]
struct Wide {
    /// First bytes of two.
    two: u64,
    /// First bytes of three.
    three: u64,
    /// Bytes behind the first ones.
    tails: u64,
}

impl Bits {
    /// With the characters of the same block that are not ASCII.
    #[inline(always)]
    fn with(self, more: Self) -> Self {
        Self {
            letters: self.letters | more.letters,
            numbers: self.numbers | more.numbers,
            spaces: self.spaces | more.spaces,
            wide: Wide {
                two: self.wide.two | more.wide.two,
                three: self.wide.three | more.wide.three,
                tails: self.wide.tails | more.wide.tails,
            },
            ..self
        }
    }

    /// With white space of `len` bytes: all of its bytes, and the first ones.
    #[inline(always)]
    fn with_spaces(mut self, all: u64, first: u64, len: u32) -> Self {
        self.spaces |= all;
        if len == 2 {
            self.wide.two |= first;
        } else {
            self.wide.three |= first;
        }
        self.wide.tails |= all & !first;
        self
    }
}

/// The first bytes of characters of two and of three bytes, by their lowest six bits.
const FIRST_OF_TWO: Low6 = 0xFFFF_FFFF;
const FIRST_OF_THREE: Low6 = 0xFFFF << 32;

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
        let mut padded = [0; BLOCK];
        let (block, beyond) = match rest.first_chunk::<BLOCK>() {
            Some(block) => (block, 0),
            None => {
                padded[..rest.len()].copy_from_slice(rest);
                (&padded, u64::MAX << rest.len())
            }
        };
        let found = self.simd.classify(block);
        let mut bits = Bits {
            letters: found.letters,
            numbers: found.numbers,
            spaces: found.spaces | beyond,
            blanks: found.blanks,
            apostrophes: found.apostrophes,
            wide: Wide::default(),
        };
        if found.high == 0 {
            return bits;
        }
        let spill = std::mem::take(&mut self.spill);
        bits.letters |= spill.letters;
        bits.numbers |= spill.numbers;
        bits.spaces |= spill.spaces;
        bits.wide.tails = spill.spaces;
        let (more, spill) = self.characters(base, block, found.high & !spill.bytes);
        self.spill = spill;
        bits.with(more)
    }

    /// Classes of the characters that are not ASCII, whose bytes are `rest`: first all whose first byte
    /// tells that they are letters, then the others, all those of a block of 64 code points at once.
    #[inline(always)]
    fn characters(&self, base: usize, block: &[u8; BLOCK], mut rest: u64) -> (Bits, Spill) {
        let classes = Classes::get();
        let mut bits = Bits::default();
        let is_lead = rest & self.simd.leads(block);
        let two = self.simd.within(block, classes.letter_leads & FIRST_OF_TWO) & is_lead;
        let three = self
            .simd
            .within(block, classes.letter_leads & FIRST_OF_THREE)
            & is_lead;
        bits.letters = two | two << 1 | three | three << 1 | three << 2;
        rest &= !bits.letters;
        let mut spill = Spill::default();
        spill.letters = (two | three) >> 63 | three >> 62;
        spill.bytes = spill.letters;
        while rest != 0 {
            let place = rest.trailing_zeros();
            let (code, len) = decode(self.text, base + place as usize);
            let class = classes.block(code >> BLOCK_BITS);
            if place + len > BLOCK as u32 {
                let (more, spill) = at_the_end(place, len, code, class);
                return (bits.with(more), spill);
            }
            let mut last = rest;
            for n in 0..len - 1 {
                let byte = block[(place + n) as usize % BLOCK];
                last &= self.simd.equal(block, byte) << (len - 1 - n);
            }
            let spread = |last: u64| {
                let two = last | last >> 1;
                two | two >> (len - 2)
            };
            rest &= !spread(last);
            let within = |set: Low6| self.simd.within(block, set) & last;
            bits.letters |= spread(within(class.letters));
            bits.numbers |= spread(within(class.numbers));
            if class.spaces != 0 {
                let last = within(class.spaces);
                bits = bits.with_spaces(spread(last), last >> (len - 1), len);
            }
        }
        (bits, spill)
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
        let Wide { two, three, tails } = wide;
        if two | three | tails != 0 {
            last = last & !(two | three | tails) | two & behind(2) | three & behind(3);
        }
        let mut starts =
            !(spaces | inside | after_blank) | spaces & !(spaces << 1 | before.spaces) | last;
        starts = starts & !self.removed | self.added;
        (self.removed, self.added) = (0, 0);
        if apostrophes & starts != 0 {
            (starts, self.added, self.removed) =
                contract(&self.text[base..], apostrophes & starts, starts);
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
}

/// Moves the starts behind apostrophes that are contractions. Returns the starts of this block, and
/// those that are added to the next one and taken from it.
#[cold]
fn contract(text: &[u8], mut candidates: u64, mut starts: u64) -> (u64, u64, u64) {
    let (mut all_added, mut all_removed) = (0, 0);
    while candidates != 0 {
        let place = candidates.trailing_zeros();
        candidates &= candidates - 1;
        if let Some(len) = super::contraction(&text[place as usize..]) {
            let removed = 1u128 << (place + 1);
            let added = 1u128 << (place + len as u32);
            starts = starts & !(removed as u64) | added as u64;
            all_removed |= (removed >> 64) as u64;
            all_added |= (added >> 64) as u64;
        }
    }
    (starts, all_added, all_removed)
}

/// A character that goes on in the next block.
#[inline(always)]
fn at_the_end(place: u32, len: u32, code: u32, class: Block) -> (Bits, Spill) {
    let low = code & ((1 << BLOCK_BITS) - 1);
    let is = |set: Low6| (set >> low & 1).wrapping_neg();
    let ones = (1 << len) - 1;
    let (now, later) = (ones << place, ones >> (BLOCK as u32 - place));
    let mut bits = Bits {
        letters: now & is(class.letters),
        numbers: now & is(class.numbers),
        ..Bits::default()
    };
    if is(class.spaces) != 0 {
        bits = bits.with_spaces(now, 1 << place, len);
    }
    let spill = Spill {
        letters: later & is(class.letters),
        numbers: later & is(class.numbers),
        spaces: later & is(class.spaces),
        bytes: later,
    };
    (bits, spill)
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
