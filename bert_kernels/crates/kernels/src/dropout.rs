//! Dropout bits as a hash of where an element stands; `bert.dropout` says how and is the reference.

use crate::elements::{load_some, store_some};
use crate::kernel::{Kernel, ROWS_PER_BLOCK};
use crate::parallel::{Shared, Team, execute};
use crate::simd::Simd;

/// What selects the bits of one site of one micro-shard, and how many elements it keeps.
#[derive(Clone, Copy, Debug)]
pub struct Dropout {
    /// Xored into row counters.
    pub row_key: u32,
    /// Xored into column-pair counters.
    pub column_key: u32,
    /// Elements whose 16 bits, as a signed number, lie below it are kept.
    pub limit: i16,
    /// The factor of kept elements.
    pub scale: f32,
}

impl Dropout {
    pub(crate) fn row(&self, counter: u32) -> u32 {
        mix32(counter ^ self.row_key)
    }

    /// The keys of the pairs of `num_columns` columns, with some more for a whole vector.
    pub(crate) fn columns(&self, num_columns: usize) -> Vec<u32> {
        let num_pairs = num_columns.div_ceil(2).next_multiple_of(16) as u32;
        (0..num_pairs)
            .map(|pair| mix32(pair ^ self.column_key))
            .collect()
    }
}

/// C. Wellons' "lowbias32".
fn mix32(mut x: u32) -> u32 {
    x ^= x >> 16;
    x = x.wrapping_mul(0x7FEB_352D);
    x ^= x >> 15;
    x = x.wrapping_mul(0x846C_A68B);
    x ^ (x >> 16)
}

/// Which elements of two neighbouring vectors of a row are kept.
///
/// # Safety
///
/// The instruction set is there; a vector can be read at `pairs`, the key of the first column.
#[inline(always)]
pub(crate) unsafe fn kept<S: Simd>(row: S::I, pairs: *const u32, limit: i16) -> (S::M, S::M) {
    // SAFETY: as the caller promises.
    unsafe {
        let mut x = S::add_int(row, S::load_int(pairs));
        x = S::xor_int(x, S::shift_right::<16>(x));
        x = S::mul_int(x, S::splat_int(0x7FEB_352D));
        x = S::xor_int(x, S::shift_right::<15>(x));
        x = S::mul_int(x, S::splat_int(0x846C_A68B));
        x = S::xor_int(x, S::shift_right::<16>(x));
        S::below(x, limit)
    }
}

/// Dropout of (T, D) values: kept ones are scaled, the others become 0.
pub fn drop(team: &dyn Team, values: &[f32], width: usize, dropout: Dropout, out: &mut [f32]) {
    assert_eq!(values.len() % width, 0);
    assert_eq!(values.len(), out.len());
    let columns = dropout.columns(width);
    execute(
        team,
        &Drop {
            values,
            width,
            dropout,
            columns,
            out: Shared::new(out),
        },
    );
}

struct Drop<'a> {
    values: &'a [f32],
    width: usize,
    dropout: Dropout,
    columns: Vec<u32>,
    out: Shared<f32>,
}

impl Kernel for Drop<'_> {
    fn num_tasks(&self) -> usize {
        (self.values.len() / self.width).div_ceil(ROWS_PER_BLOCK)
    }

    #[inline(always)]
    unsafe fn run<S: Simd>(&self, task: usize, _: Option<usize>) {
        let first = task * ROWS_PER_BLOCK;
        for row in first..(first + ROWS_PER_BLOCK).min(self.values.len() / self.width) {
            // SAFETY: lengths were checked; a row belongs to one task.
            unsafe {
                let scale = S::splat(self.dropout.scale);
                let bits = S::splat_int(self.dropout.row(row as u32));
                let mut column = 0;
                while column < self.width {
                    let pairs = self.columns.as_ptr().add(column / 2);
                    let (m, n) = kept::<S>(bits, pairs, self.dropout.limit);
                    for half in 0..2 {
                        let at = column + half * S::LANES;
                        if at >= self.width {
                            break;
                        }
                        let (left, place) = (self.width - at, row * self.width + at);
                        let x = load_some::<S, f32>(self.values.as_ptr().add(place), left);
                        let mask = if half == 0 { m } else { n };
                        let x = S::select(mask, S::mul(x, scale), S::splat(0.0));
                        store_some::<S, f32>(self.out.at(place), x, left);
                    }
                    column += 2 * S::LANES;
                }
            }
        }
    }
}
