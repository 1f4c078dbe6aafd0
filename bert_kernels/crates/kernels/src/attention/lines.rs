//! Rows of scores and of heads: exponentials, dropout, copies into and out of tiles.

use crate::dropout::kept;
use crate::elements::{Element, load_some, store_some};
use crate::math::exp;
use crate::simd::Simd;

/// A row of scores to exp(score - highest), zeros beyond its length; the highest, the sum.
#[inline(always)]
pub(super) unsafe fn exponentials<S: Simd>(
    line: *mut f32,
    length: usize,
    padded: usize,
) -> (f32, f32) {
    // SAFETY: the row has `padded` elements, a multiple of the lanes.
    unsafe {
        for beyond in length..padded {
            *line.add(beyond) = f32::NEG_INFINITY;
        }
        let mut highest = S::load(line);
        let mut column = S::LANES;
        while column < length {
            highest = S::max(highest, S::load(line.add(column)));
            column += S::LANES;
        }
        let highest = S::highest(highest);
        let shift = S::splat(highest);
        let mut sum = S::splat(0.0);
        let mut column = 0;
        while column < length {
            let x = exp::<S>(S::sub(S::load(line.add(column)), shift));
            S::store(line.add(column), x);
            column += S::LANES;
            if column > length {
                for beyond in length..column {
                    *line.add(beyond) = 0.0;
                }
                sum = S::add(sum, S::load(line.add(column - S::LANES)));
            } else {
                sum = S::add(sum, x);
            }
        }
        (highest, S::sum(sum))
    }
}

/// Writes zeros over the elements of a row that are dropped.
#[inline(always)]
pub(super) unsafe fn drop_columns<S: Simd>(
    line: *mut f32,
    padded: usize,
    bits: u32,
    columns: &[u32],
    limit: i16,
) {
    // SAFETY: the row and the column keys reach as far as `padded`, a multiple of the unit.
    unsafe {
        let row = S::splat_int(bits);
        let zero = S::splat(0.0);
        let mut column = 0;
        while column < padded {
            let (m, n) = kept::<S>(row, columns.as_ptr().add(column / 2), limit);
            let (at, next) = (line.add(column), line.add(column + S::LANES));
            S::store(at, S::select(m, S::load(at), zero));
            S::store(next, S::select(n, S::load(next), zero));
            column += 2 * S::LANES;
        }
    }
}

/// Rows of a head in a batch's matrix, and what is to be added to each of them.
#[derive(Clone, Copy)]
pub(super) struct HeadRows<'a, E> {
    pub(super) start: *const E,
    /// From one row to the next.
    pub(super) pitch: usize,
    /// As wide as the head.
    pub(super) bias: Option<&'a [f32]>,
}

impl<E> HeadRows<'_, E> {
    /// The rows from this one on, which lies inside of the matrix or at its end.
    pub(super) fn starting_at(self, row: usize) -> Self {
        let start = self.start.wrapping_add(row * self.pitch);
        Self { start, ..self }
    }
}

/// Copies (count, size) rows with their bias, multiplied, to rows of `width`; zeros in what is left
/// up to `rows`.
#[inline(always)]
pub(super) unsafe fn pack<S: Simd, E: Element>(
    from: HeadRows<'_, E>,
    count: usize,
    rows: usize,
    size: usize,
    factor: f32,
    to: *mut f32,
    width: usize,
) {
    // SAFETY: the caller's matrices are as large as it says; the width is a multiple of 16.
    unsafe {
        let factor = S::splat(factor);
        for row in 0..count {
            let mut column = 0;
            while column < width {
                let left = size.saturating_sub(column);
                let at = column.min(size);
                let mut x = load_some::<S, E>(from.start.add(row * from.pitch + at), left);
                if let Some(bias) = from.bias {
                    x = S::add(x, load_some::<S, f32>(bias.as_ptr().add(at), left));
                }
                S::store(to.add(row * width + column), S::mul(x, factor));
                column += S::LANES;
            }
        }
        if rows > count {
            std::ptr::write_bytes(to.add(count * width), 0, (rows - count) * width);
        }
    }
}

/// Writes packed (rows, width) rows as (width, rows).
#[inline(always)]
pub(super) unsafe fn transpose<S: Simd>(from: *const f32, rows: usize, width: usize, to: *mut f32) {
    let mut row = 0;
    while row < rows {
        let mut column = 0;
        while column < width {
            // SAFETY: the caller's matrices are as large as it says, both sides multiples of 16.
            unsafe {
                let block = from.add(row * width + column);
                S::transpose(block, width, to.add(column * rows + row), rows);
            }
            column += S::LANES;
        }
        row += S::LANES;
    }
}

/// Writes rows of `width` as (count, size) rows, multiplied.
#[inline(always)]
pub(super) unsafe fn unpack<S: Simd, E: Element>(
    from: *const f32,
    width: usize,
    count: usize,
    size: usize,
    factor: f32,
    to: *mut E,
    pitch: usize,
) {
    // SAFETY: the caller's matrices are as large as it says.
    unsafe {
        let factor = S::splat(factor);
        for row in 0..count {
            let mut column = 0;
            while column < size {
                let x = S::mul(S::load(from.add(row * width + column)), factor);
                store_some::<S, E>(to.add(row * pitch + column), x, size - column);
                column += S::LANES;
            }
        }
    }
}

#[inline(always)]
pub(super) unsafe fn dot<S: Simd, E: Element>(a: *const E, b: *const E, size: usize) -> f32 {
    // SAFETY: both have `size` elements.
    unsafe {
        let mut sum = S::splat(0.0);
        let mut column = 0;
        while column < size {
            let left = size - column;
            let x = load_some::<S, E>(a.add(column), left);
            sum = S::fma(x, load_some::<S, E>(b.add(column), left), sum);
            column += S::LANES;
        }
        S::sum(sum)
    }
}
