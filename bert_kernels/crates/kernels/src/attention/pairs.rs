//! Matrices of pairs of bfloat16, neighbours along the index that a product sums over.

use crate::elements::{Element, load_some};
use crate::product::Pair;
use crate::simd::Simd;

/// Whether products of this format run on pairs.
#[inline(always)]
pub(super) fn fit<S: Simd, E: Element>(head_size: usize) -> bool {
    S::MULTIPLIES_PAIRS && E::IS_BF16 && head_size.is_multiple_of(2)
}

/// Pairs of a row over a head, in whole vectors.
#[inline(always)]
pub(super) fn row_pairs(head_size: usize) -> usize {
    (head_size / 2).next_multiple_of(16)
}

/// Copies (count, size) bfloat16 rows to rows of pairs along the head; rows up to `rows` are 0.
#[inline(always)]
pub(super) unsafe fn pack<E: Element>(
    from: *const E,
    pitch: usize,
    count: usize,
    rows: usize,
    size: usize,
    to: *mut Pair,
) {
    let width = row_pairs(size);
    // SAFETY: the caller's matrices are as large as it says; a pair is as large as two elements.
    unsafe {
        for row in 0..count {
            let to = to.add(row * width);
            std::ptr::copy_nonoverlapping(from.add(row * pitch), to.cast(), size);
            std::ptr::write_bytes(to.add(size / 2), 0, width - size / 2);
        }
        if rows > count {
            std::ptr::write_bytes(to.add(count * width), 0, (rows - count) * width);
        }
    }
}

/// Turns (count, size) bfloat16 rows into pairs of neighbouring rows, (rows / 2, width).
///
/// `width` is a multiple of 16, `rows` of 2; what lies outside the given rows is 0.
#[inline(always)]
pub(super) unsafe fn zip<S: Simd, E: Element>(
    from: *const E,
    pitch: usize,
    count: usize,
    rows: usize,
    size: usize,
    to: *mut Pair,
    width: usize,
) {
    // SAFETY: the caller's matrices are as large as it says.
    unsafe {
        let zero = S::splat(0.0);
        for row in (0..count).step_by(2) {
            let mut column = 0;
            while column < width {
                let left = size.saturating_sub(column);
                let at = from.add(row * pitch + column.min(size));
                let first = load_some::<S, E>(at, left);
                let second = if row + 1 < count {
                    load_some::<S, E>(at.add(pitch), left)
                } else {
                    zero
                };
                S::store_pairs(to.add(row / 2 * width + column).cast(), first, second);
                column += S::LANES;
            }
        }
        let done = count.div_ceil(2);
        std::ptr::write_bytes(to.add(done * width), 0, (rows / 2 - done) * width);
    }
}
