//! The sum of a token's three embeddings and its norm, in one pass over each row.

use crate::elements::{load_some, store_some};
use crate::kernel::{Kernel, ROWS_PER_BLOCK};
use crate::norm::{Affine, Saved, normalize};
use crate::parallel::{Shared, Team, execute};
use crate::simd::Simd;

/// A table (V, D) and the row that every token takes of it, (T,).
#[derive(Clone, Copy, Debug)]
pub struct Lookup<'a> {
    /// The table.
    pub table: &'a [f32],
    /// A row per token.
    pub ids: &'a [i64],
}

/// The norm of the sum of three embeddings, (T, D).
///
/// # Panics
///
/// If an id lies outside its table.
pub fn embeddings_forward(
    team: &dyn Team,
    lookups: [Lookup<'_>; 3],
    affine: Affine<'_>,
    out: &mut [f32],
    saved: Saved<'_>,
) {
    let width = affine.weight.len();
    let rows = saved.means.len();
    assert_eq!(affine.bias.len(), width);
    assert_eq!(out.len(), rows * width);
    assert_eq!(saved.sums.len(), out.len());
    assert_eq!(saved.inverse_deviations.len(), rows);
    for lookup in lookups {
        let known = 0..(lookup.table.len() / width) as i64;
        assert_eq!(lookup.ids.len(), rows);
        assert!(
            lookup.ids.iter().all(|id| known.contains(id)),
            "an id lies outside its table"
        );
    }
    let kernel = Forward {
        rows,
        width,
        lookups,
        affine,
        out: Shared::new(out),
        sums: Shared::new(saved.sums),
        means: Shared::new(saved.means),
        inverse_deviations: Shared::new(saved.inverse_deviations),
    };
    execute(team, &kernel);
}

struct Forward<'a> {
    rows: usize,
    width: usize,
    lookups: [Lookup<'a>; 3],
    affine: Affine<'a>,
    out: Shared<f32>,
    sums: Shared<f32>,
    means: Shared<f32>,
    inverse_deviations: Shared<f32>,
}

impl Kernel for Forward<'_> {
    fn num_tasks(&self) -> usize {
        self.rows.div_ceil(ROWS_PER_BLOCK)
    }

    #[inline(always)]
    unsafe fn run<S: Simd>(&self, task: usize, _: Option<usize>) {
        let first = task * ROWS_PER_BLOCK;
        for row in first..(first + ROWS_PER_BLOCK).min(self.rows) {
            // SAFETY: lengths and ids were checked; a row belongs to one task.
            unsafe {
                let sums = self.sums.at(row * self.width);
                let mut column = 0;
                while column < self.width {
                    let left = self.width - column;
                    let mut sum = S::splat(0.0);
                    for lookup in &self.lookups {
                        let line = lookup
                            .table
                            .as_ptr()
                            .add(lookup.ids[row] as usize * self.width);
                        sum = S::add(sum, load_some::<S, f32>(line.add(column), left));
                    }
                    store_some::<S, f32>(sums.add(column), sum, left);
                    column += S::LANES;
                }
                let out = self.out.at(row * self.width);
                let (mean, inverse) = normalize::<S>(sums, self.width, self.affine, out, None);
                *self.means.at(row) = mean;
                *self.inverse_deviations.at(row) = inverse;
            }
        }
    }
}
