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
/// * `labels`: (R,), each in 0..V.
/// * `losses`: (R,), written.
/// * `correct`: (R,), written: 1 where no score is higher than the label's.
///
/// # Panics
///
/// If a label is no column.
pub fn cross_entropy<E: Element>(
    team: &dyn Team,
    width: usize,
    logits: &mut [E],
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
    let columns = 0..width as i64;
    assert!(
        labels.iter().all(|label| columns.contains(label)),
        "a label is no column"
    );
    let kernel = CrossEntropy {
        rows,
        width,
        pitch,
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
    unsafe fn run<S: Simd>(&self, row: usize) {
        // SAFETY: lengths and labels were checked; a row belongs to one task.
        unsafe {
            let line = self.logits.at(row * self.pitch);
            let label = self.labels[row] as usize;
            let score = (*line.add(label)).widen();
            let highest = self.highest::<S>(line);
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
    #[inline(always)]
    unsafe fn highest<S: Simd>(&self, line: *const E) -> f32 {
        // SAFETY: see `run`.
        unsafe {
            let mut highest = [S::splat(f32::NEG_INFINITY); 4];
            let mut column = 0;
            while column + 4 * S::LANES <= self.width {
                for (i, best) in highest.iter_mut().enumerate() {
                    *best = S::max(*best, E::load::<S>(line.add(column + i * S::LANES)));
                }
                column += 4 * S::LANES;
            }
            let mut best = S::highest(S::max(
                S::max(highest[0], highest[1]),
                S::max(highest[2], highest[3]),
            ));
            while column < self.width {
                best = best.max((*line.add(column)).widen());
                column += 1;
            }
            best
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
