//! Exact GELU, x Φ(x), forward and backward.

use crate::elements::{Element, load_some, store_some};
use crate::kernel::{Kernel, ROWS_PER_BLOCK};
use crate::math::normal;
use crate::parallel::{Shared, Team, execute};
use crate::simd::Simd;

const PER_TASK: usize = 1 << 14;

/// GELU of every element.
pub fn gelu_forward<E: Element>(team: &dyn Team, values: &[E], out: &mut [E]) {
    assert_eq!(values.len(), out.len());
    execute(
        team,
        &Forward {
            values,
            out: Shared::new(out),
        },
    );
}

struct Forward<'a, E> {
    values: &'a [E],
    out: Shared<E>,
}

impl<E: Element> Kernel for Forward<'_, E> {
    fn num_tasks(&self) -> usize {
        self.values.len().div_ceil(PER_TASK)
    }

    #[inline(always)]
    unsafe fn run<S: Simd>(&self, task: usize) {
        let end = ((task + 1) * PER_TASK).min(self.values.len());
        let mut at = task * PER_TASK;
        while at < end {
            // SAFETY: both are as long; an element belongs to one task.
            unsafe {
                let x = load_some::<S, E>(self.values.as_ptr().add(at), end - at);
                let (below, _) = normal::<S>(x);
                store_some::<S, E>(self.out.at(at), S::mul(x, below), end - at);
            }
            at += S::LANES;
        }
    }
}

/// The gradient of GELU, written over the gradient of its output, and its sums over blocks of rows.
///
/// `values` and `grad` are (T, F), `partial_sums` is (blocks, F).
pub fn gelu_backward<E: Element>(
    team: &dyn Team,
    width: usize,
    values: &[E],
    grad: &mut [E],
    partial_sums: &mut [f32],
) {
    assert_eq!(values.len(), grad.len());
    assert_eq!(values.len() % width, 0);
    let rows = values.len() / width;
    assert_eq!(partial_sums.len(), rows.div_ceil(ROWS_PER_BLOCK) * width);
    let kernel = Backward {
        rows,
        width,
        values,
        grad: Shared::new(grad),
        partial_sums: Shared::new(partial_sums),
    };
    execute(team, &kernel);
}

struct Backward<'a, E> {
    rows: usize,
    width: usize,
    values: &'a [E],
    grad: Shared<E>,
    partial_sums: Shared<f32>,
}

impl<E: Element> Kernel for Backward<'_, E> {
    fn num_tasks(&self) -> usize {
        self.rows.div_ceil(ROWS_PER_BLOCK)
    }

    #[inline(always)]
    unsafe fn run<S: Simd>(&self, task: usize) {
        let first = task * ROWS_PER_BLOCK;
        let last = (first + ROWS_PER_BLOCK).min(self.rows);
        // SAFETY: lengths were checked; rows and a block of partial sums belong to one task.
        unsafe {
            let partial = self.partial_sums.at(task * self.width);
            std::ptr::write_bytes(partial, 0, self.width);
            for row in first..last {
                let mut column = 0;
                while column < self.width {
                    let left = self.width - column;
                    let at = row * self.width + column;
                    let x = load_some::<S, E>(self.values.as_ptr().add(at), left);
                    let (below, density) = normal::<S>(x);
                    let grad = load_some::<S, E>(self.grad.at(at), left);
                    let grad = S::mul(grad, S::fma(x, density, below));
                    store_some::<S, E>(self.grad.at(at), grad, left);
                    let place = partial.add(column);
                    let sum = S::add(grad, load_some::<S, f32>(place, left));
                    store_some::<S, f32>(place, sum, left);
                    column += S::LANES;
                }
            }
        }
    }
}
