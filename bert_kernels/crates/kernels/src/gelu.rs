//! Exact GELU, x Φ(x), forward and backward.

use crate::biased::Biased;
use crate::elements::{Element, load_some, store_some};
use crate::kernel::{Kernel, ROWS_PER_BLOCK};
use crate::math::normal;
use crate::parallel::{Shared, Team, execute};
use crate::simd::Simd;

/// Elements of a task of the forward pass, about.
const PER_TASK: usize = 1 << 14;

/// GELU of every element of (T, F) rows and their bias.
pub fn gelu_forward<E: Element>(
    team: &dyn Team,
    width: usize,
    product: Biased<'_, E>,
    out: &mut [E],
) {
    assert_eq!(product.values.len(), out.len());
    let kernel = Forward {
        rows: product.rows(width),
        width,
        product,
        out: Shared::new(out),
    };
    execute(team, &kernel);
}

struct Forward<'a, E> {
    rows: usize,
    width: usize,
    product: Biased<'a, E>,
    out: Shared<E>,
}

impl<E> Forward<'_, E> {
    fn rows_per_task(&self) -> usize {
        (PER_TASK / self.width).max(1)
    }
}

impl<E: Element> Kernel for Forward<'_, E> {
    fn num_tasks(&self) -> usize {
        self.rows.div_ceil(self.rows_per_task())
    }

    #[inline(always)]
    unsafe fn run<S: Simd>(&self, task: usize, _: Option<usize>) {
        let first = task * self.rows_per_task();
        let last = (first + self.rows_per_task()).min(self.rows);
        for row in first..last {
            let start = row * self.width;
            let mut column = 0;
            while column < self.width {
                let left = self.width - column;
                // SAFETY: lengths were checked; a row belongs to one task.
                unsafe {
                    let x = self.product.load::<S>(start, column, left);
                    let (below, _) = normal::<S>(x);
                    store_some::<S, E>(self.out.at(start + column), S::mul(x, below), left);
                }
                column += S::LANES;
            }
        }
    }
}

/// The gradient of GELU, written over the gradient of its output, and its sums over blocks of rows;
/// `out` becomes what the forward pass gave, which needn't be kept for the backward pass then.
///
/// `product`, what the forward pass was given, `grad` and `out` are (T, F), `partial_sums` is
/// (blocks, F).
pub fn gelu_backward<E: Element>(
    team: &dyn Team,
    width: usize,
    product: Biased<'_, E>,
    grad: &mut [E],
    out: &mut [E],
    partial_sums: &mut [f32],
) {
    assert_eq!(product.values.len(), grad.len());
    assert_eq!(out.len(), grad.len());
    let rows = product.rows(width);
    assert_eq!(partial_sums.len(), rows.div_ceil(ROWS_PER_BLOCK) * width);
    let kernel = Backward {
        rows,
        width,
        product,
        grad: Shared::new(grad),
        out: Shared::new(out),
        partial_sums: Shared::new(partial_sums),
    };
    execute(team, &kernel);
}

struct Backward<'a, E> {
    rows: usize,
    width: usize,
    product: Biased<'a, E>,
    grad: Shared<E>,
    out: Shared<E>,
    partial_sums: Shared<f32>,
}

impl<E: Element> Kernel for Backward<'_, E> {
    fn num_tasks(&self) -> usize {
        self.rows.div_ceil(ROWS_PER_BLOCK)
    }

    #[inline(always)]
    unsafe fn run<S: Simd>(&self, task: usize, _: Option<usize>) {
        let first = task * ROWS_PER_BLOCK;
        let last = (first + ROWS_PER_BLOCK).min(self.rows);
        // SAFETY: lengths were checked; rows and a block of partial sums belong to one task.
        unsafe {
            let partial = self.partial_sums.at(task * self.width);
            std::ptr::write_bytes(partial, 0, self.width);
            for row in first..last {
                let start = row * self.width;
                let mut column = 0;
                while column < self.width {
                    let left = self.width - column;
                    let at = start + column;
                    let x = self.product.load::<S>(start, column, left);
                    let (below, density) = normal::<S>(x);
                    let grad = load_some::<S, E>(self.grad.at(at), left);
                    let grad = S::mul(grad, S::fma(x, density, below));
                    store_some::<S, E>(self.grad.at(at), grad, left);
                    store_some::<S, E>(self.out.at(at), S::mul(x, below), left);
                    let place = partial.add(column);
                    let sum = S::add(grad, load_some::<S, f32>(place, left));
                    store_some::<S, f32>(place, sum, left);
                    column += S::LANES;
                }
            }
        }
    }
}
