//! Cross-entropy of rows of logits, which become their own gradient.

use crate::elements::{Element, load_some, store_some};
use crate::kernel::Kernel;
use crate::math::exp;
use crate::parallel::{Shared, Team, execute};
use crate::simd::Simd;

/// Writes softmax - onehot over every row of logits.
///
/// # Arguments
///
/// * `width`: V.
/// * `logits`: (R, pitch), of which the first V columns of each row count.
/// * `bias`: (V,), added to each row of logits first, if there is one.
/// * `labels`: (R,), each in 0..V.
/// * `losses`: (R,), written.
/// * `correct`: (R,), written: 1 where no score is higher than the label's.
///
/// # Panics
///
/// If a label is no column, or the bias is of another width.
pub fn cross_entropy<E: Element>(
    team: &dyn Team,
    width: usize,
    logits: &mut [E],
    bias: Option<&[f32]>,
    labels: &[i64],
    losses: &mut [f32],
    correct: &mut [i64],
) {
    let rows = labels.len();
    assert_eq!(losses.len(), rows);
    assert_eq!(correct.len(), rows);
    if rows == 0 {
        return;
    }
    assert_eq!(logits.len() % rows, 0);
    let pitch = logits.len() / rows;
    assert!(width <= pitch);
    assert!(bias.is_none_or(|bias| bias.len() == width));
    let columns = 0..width as i64;
    assert!(
        labels.iter().all(|label| columns.contains(label)),
        "a label is no column"
    );
    let kernel = CrossEntropy {
        rows,
        width,
        pitch,
        bias,
        labels,
        logits: Shared::new(logits),
        losses: Shared::new(losses),
        correct: Shared::new(correct),
    };
    execute(team, &kernel);
}

struct CrossEntropy<'a, E> {
    rows: usize,
    width: usize,
    pitch: usize,
    bias: Option<&'a [f32]>,
    labels: &'a [i64],
    logits: Shared<E>,
    losses: Shared<f32>,
    correct: Shared<i64>,
}

impl<E: Element> Kernel for CrossEntropy<'_, E> {
    fn num_tasks(&self) -> usize {
        self.rows
    }

    #[inline(always)]
    unsafe fn run<S: Simd>(&self, row: usize, _: Option<usize>) {
        // SAFETY: lengths and labels were checked; a row belongs to one task.
        unsafe {
            let line = self.logits.at(row * self.pitch);
            let label = self.labels[row] as usize;
            let highest = self.add_bias_and_find_highest::<S>(line);
            let score = (*line.add(label)).widen();
            let sum = self.sum_of_exponentials::<S>(line, highest);
            let log_sum = highest + sum.ln();
            *self.losses.at(row) = log_sum - score;
            *self.correct.at(row) = i64::from(score >= highest);
            let shift = S::splat(log_sum);
            let mut column = 0;
            while column < self.width {
                let left = self.width - column;
                let x = load_some::<S, E>(line.add(column), left);
                store_some::<S, E>(line.add(column), exp::<S>(S::sub(x, shift)), left);
                column += S::LANES;
            }
            // In full precision: rounding the probability first would lose 1 - p where p is near 1.
            let mut buffer = [0.0_f32; 16];
            buffer[0] = score - log_sum;
            S::store(buffer.as_mut_ptr(), exp::<S>(S::load(buffer.as_ptr())));
            buffer[0] -= 1.0;
            store_some::<S, E>(line.add(label), S::load(buffer.as_ptr()), 1);
        }
    }
}

impl<E: Element> CrossEntropy<'_, E> {
    /// Logits are in memory here and in a cache afterwards, so the sums are written back for the
    /// passes to come.
    #[inline(always)]
    unsafe fn add_bias_and_find_highest<S: Simd>(&self, line: *mut E) -> f32 {
        // SAFETY: see `run`.
        unsafe {
            let mut highest = [S::splat(f32::NEG_INFINITY); 4];
            let mut column = 0;
            while column + 4 * S::LANES <= self.width {
                for (i, best) in highest.iter_mut().enumerate() {
                    *best = S::max(*best, self.add_bias::<S>(line, column + i * S::LANES));
                }
                column += 4 * S::LANES;
            }
            let mut best = S::highest(S::max(
                S::max(highest[0], highest[1]),
                S::max(highest[2], highest[3]),
            ));
            while column < self.width {
                best = best.max(self.add_one_bias::<S>(line, column));
                column += 1;
            }
            best
        }
    }

    /// Logits with their bias, as they are now in memory.
    #[inline(always)]
    unsafe fn add_bias<S: Simd>(&self, line: *mut E, column: usize) -> S::F {
        // SAFETY: see `run`; a whole vector of columns is left.
        unsafe {
            let place = line.add(column);
            let x = E::load::<S>(place);
            let Some(bias) = self.bias else { return x };
            let sum = S::add(x, S::load(bias.as_ptr().add(column)));
            E::store::<S>(place, sum);
            // The highest score must be one of those that later passes see, which are rounded.
            if E::IS_BF16 { E::load::<S>(place) } else { sum }
        }
    }

    #[inline(always)]
    unsafe fn add_one_bias<S: Simd>(&self, line: *mut E, column: usize) -> f32 {
        // SAFETY: see `run`; one column is left.
        unsafe {
            let place = line.add(column);
            if let Some(bias) = self.bias {
                let x = load_some::<S, E>(place, 1);
                store_some::<S, E>(place, S::add(x, S::splat(bias[column])), 1);
            }
            (*place).widen()
        }
    }

    #[inline(always)]
    unsafe fn sum_of_exponentials<S: Simd>(&self, line: *const E, highest: f32) -> f32 {
        // SAFETY: see `run`.
        unsafe {
            let shift = S::splat(highest);
            let mut sums = [S::splat(0.0); 2];
            let mut column = 0;
            while column + 2 * S::LANES <= self.width {
                for (i, sum) in sums.iter_mut().enumerate() {
                    let x = E::load::<S>(line.add(column + i * S::LANES));
                    *sum = S::add(*sum, exp::<S>(S::sub(x, shift)));
                }
                column += 2 * S::LANES;
            }
            let mut sum = S::sum(S::add(sums[0], sums[1]));
            while column < self.width {
                sum += ((*line.add(column)).widen() - highest).exp();
                column += 1;
            }
            sum
        }
    }
}
