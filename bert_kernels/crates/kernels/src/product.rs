//! Small matrix products that stay in the cache.

use crate::simd::Simd;

/// Rows of a register tile: of every left matrix there are a multiple of it.
pub(crate) const TILE_ROWS: usize = 6;

/// A matrix that is read element by element.
#[derive(Clone, Copy)]
pub(crate) struct Left {
    pub(crate) start: *const f32,
    /// From one row to the next.
    pub(crate) row: usize,
    /// From one inner index to the next.
    pub(crate) inner: usize,
}

/// C = A B, or C += A B: A is (rows, inner), B (inner, columns) with rows `b_stride` apart.
///
/// # Safety
///
/// The instruction set is there; rows is a multiple of `TILE_ROWS` and columns of `LANES`; the
/// matrices can be read and C, with rows `c_stride` apart, can be written.
#[inline(always)]
pub(crate) unsafe fn product<S: Simd, const ADD: bool>(
    rows: usize,
    inner: usize,
    columns: usize,
    a: Left,
    b: *const f32,
    b_stride: usize,
    c: *mut f32,
    c_stride: usize,
) {
    let mut column = 0;
    while column < columns {
        let left = (columns - column) / S::LANES;
        // SAFETY: as the caller promises; a tile lies inside the columns that are left.
        unsafe {
            let (b, c) = (b.add(column), c.add(column));
            if S::TILE >= 4 && left >= 4 {
                strip::<S, 4, ADD>(rows, inner, a, b, b_stride, c, c_stride);
                column += 4 * S::LANES;
            } else if S::TILE >= 4 && left == 3 {
                strip::<S, 3, ADD>(rows, inner, a, b, b_stride, c, c_stride);
                column += 3 * S::LANES;
            } else if S::TILE >= 2 && left >= 2 {
                strip::<S, 2, ADD>(rows, inner, a, b, b_stride, c, c_stride);
                column += 2 * S::LANES;
            } else {
                strip::<S, 1, ADD>(rows, inner, a, b, b_stride, c, c_stride);
                column += S::LANES;
            }
        }
    }
}

/// The same for W vectors of columns.
#[inline(always)]
unsafe fn strip<S: Simd, const W: usize, const ADD: bool>(
    rows: usize,
    inner: usize,
    a: Left,
    b: *const f32,
    b_stride: usize,
    c: *mut f32,
    c_stride: usize,
) {
    let mut row = 0;
    while row < rows {
        // SAFETY: as the caller promises.
        unsafe {
            let mut sums = [[S::splat(0.0); W]; TILE_ROWS];
            let first = a.start.add(row * a.row);
            for k in 0..inner {
                let mut right = [S::splat(0.0); W];
                for w in 0..W {
                    right[w] = S::load(b.add(k * b_stride + w * S::LANES));
                }
                for r in 0..TILE_ROWS {
                    let factor = S::splat(*first.add(r * a.row + k * a.inner));
                    for w in 0..W {
                        sums[r][w] = S::fma(factor, right[w], sums[r][w]);
                    }
                }
            }
            for r in 0..TILE_ROWS {
                for w in 0..W {
                    let place = c.add((row + r) * c_stride + w * S::LANES);
                    if ADD {
                        S::store(place, S::add(S::load(place), sums[r][w]));
                    } else {
                        S::store(place, sums[r][w]);
                    }
                }
            }
        }
        row += TILE_ROWS;
    }
}
