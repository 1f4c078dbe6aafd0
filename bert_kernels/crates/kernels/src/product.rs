//! Small matrix products that stay in the cache.

use crate::simd::Simd;

/// Rows of a register tile: of every left matrix there are a multiple of it.
pub(crate) const TILE_ROWS: usize = 6;

/// What matrices hold: float32, or pairs of bfloat16 that are neighbours along the inner index.
pub(crate) trait Term: Copy {
    type Of<S: Simd>: Copy;

    /// # Safety
    ///
    /// The instruction set is there.
    unsafe fn splat<S: Simd>(self) -> Self::Of<S>;
    /// # Safety
    ///
    /// The instruction set is there, and a vector can be read.
    unsafe fn load<S: Simd>(p: *const Self) -> Self::Of<S>;
    /// a b + c
    ///
    /// # Safety
    ///
    /// The instruction set is there.
    unsafe fn fma<S: Simd>(a: Self::Of<S>, b: Self::Of<S>, c: S::F) -> S::F;
}

impl Term for f32 {
    type Of<S: Simd> = S::F;

    #[inline(always)]
    unsafe fn splat<S: Simd>(self) -> S::F {
        // SAFETY: as the caller promises.
        unsafe { S::splat(self) }
    }
    #[inline(always)]
    unsafe fn load<S: Simd>(p: *const Self) -> S::F {
        // SAFETY: as the caller promises.
        unsafe { S::load(p) }
    }
    #[inline(always)]
    unsafe fn fma<S: Simd>(a: S::F, b: S::F, c: S::F) -> S::F {
        // SAFETY: as the caller promises.
        unsafe { S::fma(a, b, c) }
    }
}

/// Two bfloat16, the first in the lower half.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(crate) struct Pair(u32);

impl Term for Pair {
    type Of<S: Simd> = S::I;

    #[inline(always)]
    unsafe fn splat<S: Simd>(self) -> S::I {
        // SAFETY: as the caller promises.
        unsafe { S::splat_int(self.0) }
    }
    #[inline(always)]
    unsafe fn load<S: Simd>(p: *const Self) -> S::I {
        // SAFETY: as the caller promises.
        unsafe { S::load_int(p.cast()) }
    }
    #[inline(always)]
    unsafe fn fma<S: Simd>(a: S::I, b: S::I, c: S::F) -> S::F {
        // SAFETY: as the caller promises.
        unsafe { S::fma_pairs(a, b, c) }
    }
}

/// A matrix that is read element by element.
#[derive(Clone, Copy)]
pub(crate) struct Left<T> {
    pub(crate) start: *const T,
    /// From one row to the next.
    pub(crate) row: usize,
    /// From one inner index to the next.
    pub(crate) inner: usize,
}

/// C = A B, or C += A B: A is (rows, inner), B (inner, columns) with rows `b_stride` apart; `inner`
/// counts terms.
///
/// # Safety
///
/// The instruction set is there; rows is a multiple of `TILE_ROWS` and columns of `LANES`; the
/// matrices can be read and C, with rows `c_stride` apart, can be written.
#[inline(always)]
pub(crate) unsafe fn product<S: Simd, T: Term, const ADD: bool>(
    rows: usize,
    inner: usize,
    columns: usize,
    a: Left<T>,
    b: *const T,
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
                strip::<S, T, 4, ADD>(rows, inner, a, b, b_stride, c, c_stride);
                column += 4 * S::LANES;
            } else if S::TILE >= 4 && left == 3 {
                strip::<S, T, 3, ADD>(rows, inner, a, b, b_stride, c, c_stride);
                column += 3 * S::LANES;
            } else if S::TILE >= 2 && left >= 2 {
                strip::<S, T, 2, ADD>(rows, inner, a, b, b_stride, c, c_stride);
                column += 2 * S::LANES;
            } else {
                strip::<S, T, 1, ADD>(rows, inner, a, b, b_stride, c, c_stride);
                column += S::LANES;
            }
        }
    }
}

/// The same for W vectors of columns.
#[inline(always)]
unsafe fn strip<S: Simd, T: Term, const W: usize, const ADD: bool>(
    rows: usize,
    inner: usize,
    a: Left<T>,
    b: *const T,
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
                let right: [T::Of<S>; W] =
                    std::array::from_fn(|w| T::load::<S>(b.add(k * b_stride + w * S::LANES)));
                for r in 0..TILE_ROWS {
                    let factor = (*first.add(r * a.row + k * a.inner)).splat::<S>();
                    for w in 0..W {
                        sums[r][w] = T::fma::<S>(factor, right[w], sums[r][w]);
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

#[cfg(test)]
mod tests {
    use super::{Left, Pair, TILE_ROWS, product};
    use crate::instruction_set::InstructionSet;
    use crate::kernel::Kernel;
    use crate::parallel::{Alone, Shared, execute};
    use crate::simd::Simd;

    const ROWS: usize = 2 * TILE_ROWS;
    const INNER: usize = 10;
    const COLUMNS: usize = 7 * 16;

    struct Multiply<'a> {
        left: &'a [f32],
        right: &'a [f32],
        out: Shared<f32>,
    }

    impl Kernel for Multiply<'_> {
        fn num_tasks(&self) -> usize {
            1
        }

        #[inline(always)]
        unsafe fn run<S: Simd>(&self, _: usize, _: Option<usize>) {
            let mut left = vec![0_u32; INNER / 2 * ROWS.next_multiple_of(16)];
            let mut right = vec![0_u32; INNER / 2 * COLUMNS];
            let pitch = ROWS.next_multiple_of(16);
            // SAFETY: matrices are as large as their sizes say, rows whole vectors.
            unsafe {
                for pair in 0..INNER / 2 {
                    for (from, to, width) in [
                        (self.left, &mut left, pitch),
                        (self.right, &mut right, COLUMNS),
                    ] {
                        for column in (0..width).step_by(S::LANES) {
                            let first = from.as_ptr().add(2 * pair * width + column);
                            let second = S::load(first.add(width));
                            let to = to.as_mut_ptr().add(pair * width + column);
                            S::store_pairs(to, S::load(first), second);
                        }
                    }
                }
                let left = Left {
                    start: left.as_ptr().cast::<Pair>(),
                    row: 1,
                    inner: pitch,
                };
                let (right, out) = (right.as_ptr().cast::<Pair>(), self.out.at(0));
                let pairs = INNER / 2;
                product::<S, Pair, false>(ROWS, pairs, COLUMNS, left, right, COLUMNS, out, COLUMNS);
                product::<S, Pair, true>(ROWS, pairs, COLUMNS, left, right, COLUMNS, out, COLUMNS);
            }
        }
    }

    #[test]
    fn products_of_pairs_are_those_of_their_numbers() {
        let pitch = ROWS.next_multiple_of(16);
        // Small whole numbers: exact in bfloat16, and so are their sums in float32.
        let number = |i: usize| (i * 7 % 33) as f32 - 16.0;
        let left: Vec<f32> = (0..INNER * pitch).map(number).collect();
        let right: Vec<f32> = (0..INNER * COLUMNS).map(|i| number(i + 5)).collect();
        for set in InstructionSet::ALL.into_iter().filter(|set| set.choose()) {
            let mut out = vec![0.0; ROWS * COLUMNS];
            let kernel = Multiply {
                left: &left,
                right: &right,
                out: Shared::new(&mut out),
            };
            execute(&Alone, &kernel);
            for (place, &found) in out.iter().enumerate() {
                let (row, column) = (place / COLUMNS, place % COLUMNS);
                let wanted: f32 = (0..INNER)
                    .map(|k| left[k * pitch + row] * right[k * COLUMNS + column])
                    .sum();
                assert_eq!(found, 2.0 * wanted, "{set:?}, row {row}, column {column}");
            }
        }
    }
}
