//! Where blank lines end, 64 bytes looked at together.

use crate::pretokenize::byte_level::{BLOCK, Kernel, Level, Simd};

/// The places of the line ends that end a blank line, one of nothing but ASCII white space.
///
/// `begins_blank`: the text begins a line, or goes on with one that is blank so far.
pub(super) fn blank_line_ends(text: &[u8], begins_blank: bool) -> Vec<usize> {
    Level::detect().run(Find { text, begins_blank })
}

struct Find<'a> {
    text: &'a [u8],
    begins_blank: bool,
}

impl Kernel for Find<'_> {
    type Output = Vec<usize>;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> Vec<usize> {
        let (blocks, rest) = self.text.as_chunks();
        let mut last = [0; BLOCK];
        last[..rest.len()].copy_from_slice(rest);
        let mut found = Vec::new();
        let mut blank = u64::from(self.begins_blank);
        for (number, block) in blocks.iter().chain([&last]).enumerate() {
            let line_ends = simd.equal(block, b'\n');
            let spaces = simd.classify(block).spaces & !line_ends;
            // Added to the run of spaces that it begins, a line's first bit comes to stand behind it.
            let (moved, overflow) = (line_ends << 1 | blank).overflowing_add(spaces);
            let mut ends = moved & line_ends;
            blank = line_ends >> (BLOCK - 1) | u64::from(overflow);
            while ends != 0 {
                found.push(number * BLOCK + ends.trailing_zeros() as usize);
                ends &= ends - 1;
            }
        }
        found
    }
}
