//! The bytes of a text that may begin an end of a sentence, 64 looked at together.

use super::classes::{self, ASCII_ENDS};
use crate::pretokenize::byte_level::{BLOCK, Kernel, Level, Simd};

/// Blocks that are looked at in one go.
const BLOCKS: usize = 64;

/// Finds the next terminator or end of a line of a text.
pub(super) struct Candidates<'t> {
    bytes: &'t [u8],
    may_end: &'static [bool; 256],
    /// Where the first block begins.
    start: usize,
    /// Behind the last byte that was looked at.
    end: usize,
    /// By block, a bit for each byte.
    bits: [u64; BLOCKS],
}

impl<'t> Candidates<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        Self {
            bytes: text.as_bytes(),
            may_end: classes::may_end(),
            start: 0,
            end: 0,
            bits: [0; BLOCKS],
        }
    }

    /// The first character at or behind a byte, which begins one, that may end a sentence or a line.
    #[inline]
    pub(super) fn next(&mut self, mut at: usize) -> Option<usize> {
        while at < self.bytes.len() {
            if at >= self.end {
                self.look(at);
            }
            let within = at - self.start;
            let mut bits = self.bits[within / BLOCK] & u64::MAX << (within % BLOCK);
            let block = at - within % BLOCK;
            while bits != 0 {
                let place = block + bits.trailing_zeros() as usize;
                if self.may_end[usize::from(self.bytes[place])] {
                    return Some(place);
                }
                bits &= bits - 1;
            }
            at = block + BLOCK;
        }
        None
    }

    #[inline(never)]
    fn look(&mut self, at: usize) {
        let rest = &self.bytes[at..];
        let bytes = &rest[..rest.len().min(BLOCKS * BLOCK)];
        (self.start, self.end) = (at, at + bytes.len());
        Level::detect().run(Look {
            bytes,
            bits: &mut self.bits,
        });
    }
}

struct Look<'a> {
    bytes: &'a [u8],
    bits: &'a mut [u64; BLOCKS],
}

impl Kernel for Look<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let (blocks, rest) = self.bytes.as_chunks();
        let mut last = [0; BLOCK];
        last[..rest.len()].copy_from_slice(rest);
        for (bits, block) in self.bits.iter_mut().zip(blocks.iter().chain([&last])) {
            *bits = simd.leads(block);
            for byte in ASCII_ENDS {
                *bits |= simd.equal(block, byte);
            }
        }
    }
}
