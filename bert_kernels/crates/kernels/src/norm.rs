//! LayerNorm(residual + dropout(values)), forward and backward, in one pass over each row.

use crate::biased::Biased;
use crate::dropout::{Dropout, kept};
use crate::elements::{Bf16, Element, load_some, store_some};
use crate::kernel::{Kernel, ROWS_PER_BLOCK};
use crate::parallel::{Scratch, Shared, Team, execute};
use crate::simd::Simd;

/// A norm's weights.
#[derive(Clone, Copy, Debug)]
pub struct Affine<'a> {
    /// Factor, (D,).
    pub weight: &'a [f32],
    /// Summand, (D,).
    pub bias: &'a [f32],
    /// Added to the variance.
    pub epsilon: f32,
}

/// What the backward pass needs: (T, D) sums before the norm, (T,) means and inverse deviations.
#[derive(Debug)]
pub struct Saved<'a> {
    /// residual + dropout(values)
    pub sums: &'a mut [f32],
    /// Per row.
    pub means: &'a mut [f32],
    /// Per row.
    pub inverse_deviations: &'a mut [f32],
}

/// The norm of every row of residual + dropout(values), of values with their bias.
///
/// `out` is (T, D) float32; `out_low`, empty or (T, D), is the same rounded.
pub fn dropout_add_norm_forward<E: Element>(
    team: &dyn Team,
    values: Biased<'_, E>,
    residual: &[f32],
    affine: Affine<'_>,
    dropout: Option<Dropout>,
    out: &mut [f32],
    out_low: &mut [Bf16],
    saved: Saved<'_>,
) {
    let width = affine.weight.len();
    let rows = saved.means.len();
    assert_eq!(affine.bias.len(), width);
    assert_eq!(values.rows(width), rows);
    assert_eq!(residual.len(), rows * width);
    assert_eq!(out.len(), residual.len());
    assert!(out_low.is_empty() || out_low.len() == residual.len());
    assert_eq!(saved.sums.len(), residual.len());
    assert_eq!(saved.inverse_deviations.len(), rows);
    let kernel = Forward {
        rows,
        width,
        values,
        residual,
        affine,
        dropout,
        columns: dropout.map_or_else(Vec::new, |dropout| dropout.columns(width)),
        writes_low: !out_low.is_empty(),
        out: Shared::new(out),
        out_low: Shared::new(out_low),
        sums: Shared::new(saved.sums),
        means: Shared::new(saved.means),
        inverse_deviations: Shared::new(saved.inverse_deviations),
    };
    execute(team, &kernel);
}

struct Forward<'a, E> {
    rows: usize,
    width: usize,
    values: Biased<'a, E>,
    residual: &'a [f32],
    affine: Affine<'a>,
    dropout: Option<Dropout>,
    columns: Vec<u32>,
    writes_low: bool,
    out: Shared<f32>,
    out_low: Shared<Bf16>,
    sums: Shared<f32>,
    means: Shared<f32>,
    inverse_deviations: Shared<f32>,
}

impl<E: Element> Kernel for Forward<'_, E> {
    fn num_tasks(&self) -> usize {
        self.rows.div_ceil(ROWS_PER_BLOCK)
    }

    #[inline(always)]
    unsafe fn run<S: Simd>(&self, task: usize, _: Option<usize>) {
        let first = task * ROWS_PER_BLOCK;
        for row in first..(first + ROWS_PER_BLOCK).min(self.rows) {
            // SAFETY: lengths were checked; a row belongs to one task.
            unsafe {
                self.add::<S>(row);
                let out = self.out.at(row * self.width);
                let low = self.writes_low.then(|| self.out_low.at(row * self.width));
                let (mean, inverse) = normalize::<S>(
                    self.sums.at(row * self.width),
                    self.width,
                    self.affine,
                    out,
                    low,
                );
                *self.means.at(row) = mean;
                *self.inverse_deviations.at(row) = inverse;
            }
        }
    }
}

impl<E: Element> Forward<'_, E> {
    #[inline(always)]
    unsafe fn add<S: Simd>(&self, row: usize) {
        // SAFETY: lengths were checked; column keys reach as far as whole pairs of vectors.
        unsafe {
            let start = row * self.width;
            let residual = self.residual.as_ptr().add(start);
            let sums = self.sums.at(start);
            let zero = S::splat(0.0);
            let scale = S::splat(self.dropout.map_or(1.0, |dropout| dropout.scale));
            let bits = S::splat_int(self.dropout.map_or(0, |dropout| dropout.row(row as u32)));
            let mut column = 0;
            while column < self.width {
                let left = self.width - column;
                let mut x = self.values.load::<S>(start, column, left);
                let more = left > S::LANES;
                let mut y = if more {
                    let at = column + S::LANES;
                    self.values.load::<S>(start, at, left - S::LANES)
                } else {
                    zero
                };
                if let Some(dropout) = self.dropout {
                    let pairs = self.columns.as_ptr().add(column / 2);
                    let (m, n) = kept::<S>(bits, pairs, dropout.limit);
                    x = S::select(m, x, zero);
                    y = S::select(n, y, zero);
                }
                let r = load_some::<S, f32>(residual.add(column), left);
                store_some::<S, f32>(sums.add(column), S::fma(x, scale, r), left);
                if more {
                    let at = column + S::LANES;
                    let r = load_some::<S, f32>(residual.add(at), left - S::LANES);
                    store_some::<S, f32>(sums.add(at), S::fma(y, scale, r), left - S::LANES);
                }
                column += 2 * S::LANES;
            }
        }
    }
}

/// Writes a row's norm; its mean and inverse deviation.
///
/// # Safety
///
/// The instruction set is there, the row and the outputs have `width` elements.
#[inline(always)]
pub(crate) unsafe fn normalize<S: Simd>(
    sums: *const f32,
    width: usize,
    affine: Affine<'_>,
    out: *mut f32,
    low: Option<*mut Bf16>,
) -> (f32, f32) {
    // SAFETY: as the caller promises.
    unsafe {
        let mut total = S::splat(0.0);
        let mut column = 0;
        while column < width {
            total = S::add(total, load_some::<S, f32>(sums.add(column), width - column));
            column += S::LANES;
        }
        let mean = S::sum(total) / width as f32;
        let shift = S::splat(mean);
        let mut squares = S::splat(0.0);
        column = 0;
        while column + S::LANES <= width {
            let x = S::sub(S::load(sums.add(column)), shift);
            squares = S::fma(x, x, squares);
            column += S::LANES;
        }
        let mut sum = S::sum(squares);
        while column < width {
            let x = *sums.add(column) - mean;
            sum += x * x;
            column += 1;
        }
        let inverse = 1.0 / (sum / width as f32 + affine.epsilon).sqrt();
        let factor = S::splat(inverse);
        column = 0;
        while column < width {
            let left = width - column;
            let x = S::sub(load_some::<S, f32>(sums.add(column), left), shift);
            let weight = load_some::<S, f32>(affine.weight.as_ptr().add(column), left);
            let bias = load_some::<S, f32>(affine.bias.as_ptr().add(column), left);
            let y = S::fma(S::mul(x, factor), weight, bias);
            store_some::<S, f32>(out.add(column), y, left);
            if let Some(low) = low {
                store_some::<S, Bf16>(low.add(column), y, left);
            }
            column += S::LANES;
        }
        (mean, inverse)
    }
}

/// Gradients that a norm's backward pass writes.
#[derive(Debug)]
pub struct Gradients<'a, E> {
    /// (T, D), of the residual.
    pub residual: &'a mut [f32],
    /// (T, D), of the values; empty where there are none.
    pub values: &'a mut [E],
    /// Per block of rows: the sums of the gradients of weight, bias and values, (blocks, 3, D).
    pub partial_sums: &'a mut [f32],
}

/// The gradient of `dropout_add_norm_forward`.
///
/// `grad` is (T, D) float32; `grad_low`, empty or (T, D), is added to it.
pub fn dropout_add_norm_backward<E: Element>(
    team: &dyn Team,
    grad: &[f32],
    grad_low: &[E],
    saved: Saved<'_>,
    weight: &[f32],
    dropout: Option<Dropout>,
    gradients: Gradients<'_, E>,
) {
    let width = weight.len();
    let rows = saved.means.len();
    assert_eq!(grad.len(), rows * width);
    assert!(grad_low.is_empty() || grad_low.len() == grad.len());
    assert_eq!(saved.sums.len(), grad.len());
    assert_eq!(saved.inverse_deviations.len(), rows);
    assert_eq!(gradients.residual.len(), grad.len());
    assert!(gradients.values.is_empty() || gradients.values.len() == grad.len());
    let num_blocks = rows.div_ceil(ROWS_PER_BLOCK);
    assert_eq!(gradients.partial_sums.len(), num_blocks * 3 * width);
    let kernel = Backward {
        rows,
        width,
        grad,
        grad_low,
        sums: saved.sums,
        means: saved.means,
        inverse_deviations: saved.inverse_deviations,
        weight,
        dropout,
        columns: dropout.map_or_else(Vec::new, |dropout| dropout.columns(width)),
        writes_values: !gradients.values.is_empty(),
        residual: Shared::new(gradients.residual),
        values: Shared::new(gradients.values),
        partial_sums: Shared::new(gradients.partial_sums),
    };
    execute(team, &kernel);
}

struct Backward<'a, E> {
    rows: usize,
    width: usize,
    grad: &'a [f32],
    grad_low: &'a [E],
    sums: &'a [f32],
    means: &'a [f32],
    inverse_deviations: &'a [f32],
    weight: &'a [f32],
    dropout: Option<Dropout>,
    columns: Vec<u32>,
    writes_values: bool,
    residual: Shared<f32>,
    values: Shared<E>,
    partial_sums: Shared<f32>,
}

impl<E: Element> Kernel for Backward<'_, E> {
    fn num_tasks(&self) -> usize {
        self.rows.div_ceil(ROWS_PER_BLOCK)
    }

    #[inline(always)]
    unsafe fn run<S: Simd>(&self, task: usize, _: Option<usize>) {
        let first = task * ROWS_PER_BLOCK;
        let mut scratch = Scratch::take(2 * self.width.next_multiple_of(16));
        // SAFETY: lengths were checked; a row and a block of partial sums belong to one task.
        unsafe {
            let grads = scratch.start();
            let normed = grads.add(self.width.next_multiple_of(16));
            let partial = self.partial_sums.at(task * 3 * self.width);
            std::ptr::write_bytes(partial, 0, 3 * self.width);
            for row in first..(first + ROWS_PER_BLOCK).min(self.rows) {
                let (mean_grad, mean_product) = self.first_pass::<S>(row, grads, normed, partial);
                self.second_pass::<S>(row, grads, normed, mean_grad, mean_product, partial);
            }
        }
    }
}

impl<E: Element> Backward<'_, E> {
    /// Weighted gradients and normed values of a row into scratch memory; the means of the former
    /// and of the product of both.
    #[inline(always)]
    unsafe fn first_pass<S: Simd>(
        &self,
        row: usize,
        grads: *mut f32,
        normed: *mut f32,
        partial: *mut f32,
    ) -> (f32, f32) {
        // SAFETY: see `run`.
        unsafe {
            let start = row * self.width;
            let shift = S::splat(self.means[row]);
            let factor = S::splat(self.inverse_deviations[row]);
            let mut total = S::splat(0.0);
            let mut products = S::splat(0.0);
            let mut column = 0;
            while column < self.width {
                let left = self.width - column;
                let at = start + column;
                let mut grad = load_some::<S, f32>(self.grad.as_ptr().add(at), left);
                if !self.grad_low.is_empty() {
                    grad = S::add(
                        grad,
                        load_some::<S, E>(self.grad_low.as_ptr().add(at), left),
                    );
                }
                let x = S::sub(load_some::<S, f32>(self.sums.as_ptr().add(at), left), shift);
                let x = S::mul(x, factor);
                let of_weight = partial.add(column);
                let of_bias = partial.add(self.width + column);
                let sum = S::fma(grad, x, load_some::<S, f32>(of_weight, left));
                store_some::<S, f32>(of_weight, sum, left);
                let sum = S::add(grad, load_some::<S, f32>(of_bias, left));
                store_some::<S, f32>(of_bias, sum, left);
                let weight = load_some::<S, f32>(self.weight.as_ptr().add(column), left);
                // Beyond the row the weight is 0, so nothing there enters the sums.
                let weighted = S::mul(grad, weight);
                total = S::add(total, weighted);
                products = S::fma(weighted, x, products);
                S::store(grads.add(column), weighted);
                S::store(normed.add(column), x);
                column += S::LANES;
            }
            let width = self.width as f32;
            (S::sum(total) / width, S::sum(products) / width)
        }
    }

    #[inline(always)]
    unsafe fn second_pass<S: Simd>(
        &self,
        row: usize,
        grads: *const f32,
        normed: *const f32,
        mean_grad: f32,
        mean_product: f32,
        partial: *mut f32,
    ) {
        // SAFETY: see `run`.
        unsafe {
            let factor = S::splat(self.inverse_deviations[row]);
            let shift = S::splat(mean_grad);
            let slope = S::splat(-mean_product);
            let bits = S::splat_int(self.dropout.map_or(0, |dropout| dropout.row(row as u32)));
            let mut column = 0;
            while column < self.width {
                let masks = self.dropout.map(|dropout| {
                    kept::<S>(bits, self.columns.as_ptr().add(column / 2), dropout.limit)
                });
                for half in 0..2 {
                    let at = column + half * S::LANES;
                    if at >= self.width {
                        break;
                    }
                    let x = S::sub(S::load(grads.add(at)), shift);
                    let x = S::mul(S::fma(S::load(normed.add(at)), slope, x), factor);
                    let mask = masks.map(|(m, n)| if half == 0 { m } else { n });
                    self.write::<S>(row, at, x, mask, partial);
                }
                column += 2 * S::LANES;
            }
        }
    }

    #[inline(always)]
    unsafe fn write<S: Simd>(
        &self,
        row: usize,
        column: usize,
        grad: S::F,
        mask: Option<S::M>,
        partial: *mut f32,
    ) {
        // SAFETY: see `run`.
        unsafe {
            let left = self.width - column;
            let at = row * self.width + column;
            store_some::<S, f32>(self.residual.at(at), grad, left);
            if !self.writes_values {
                return;
            }
            let mut grad = grad;
            if let Some(mask) = mask {
                let scale = self.dropout.map_or(1.0, |dropout| dropout.scale);
                grad = S::select(mask, S::mul(grad, S::splat(scale)), S::splat(0.0));
            }
            store_some::<S, E>(self.values.at(at), grad, left);
            let of_values = partial.add(2 * self.width + column);
            let sum = S::add(grad, load_some::<S, f32>(of_values, left));
            store_some::<S, f32>(of_values, sum, left);
        }
    }
}
