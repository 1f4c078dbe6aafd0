//! AdamW over a flat buffer in one pass, with the factor of clipping.

use crate::elements::{load_some, store_some};
use crate::kernel::Kernel;
use crate::parallel::{Shared, Team, execute};
use crate::simd::Simd;

const PER_TASK: usize = 1 << 14;

/// Loshchilov and Hutter 2019, algorithm 2, for one step.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    /// Of this step.
    pub learning_rate: f32,
    /// Decay of the first moment.
    pub beta1: f32,
    /// Decay of the second moment.
    pub beta2: f32,
    /// Added to the denominator.
    pub epsilon: f32,
    /// Times the learning rate: what weights lose.
    pub weight_decay: f32,
    /// Updates so far, this one included.
    pub count: u32,
    /// What gradients are multiplied with.
    pub gradient_factor: f32,
}

/// Updates values and moments in place.
pub fn adamw(
    team: &dyn Team,
    step: Step,
    gradient: &[f32],
    values: &mut [f32],
    exp_avg: &mut [f32],
    exp_avg_sq: &mut [f32],
) {
    assert_eq!(values.len(), gradient.len());
    assert_eq!(exp_avg.len(), gradient.len());
    assert_eq!(exp_avg_sq.len(), gradient.len());
    let power = |beta: f32| 1.0 - f64::from(beta).powi(step.count.cast_signed());
    let kernel = AdamW {
        step,
        step_size: (f64::from(step.learning_rate) / power(step.beta1)) as f32,
        inverse_root: (1.0 / power(step.beta2).sqrt()) as f32,
        gradient,
        values: Shared::new(values),
        exp_avg: Shared::new(exp_avg),
        exp_avg_sq: Shared::new(exp_avg_sq),
    };
    execute(team, &kernel);
}

struct AdamW<'a> {
    step: Step,
    step_size: f32,
    inverse_root: f32,
    gradient: &'a [f32],
    values: Shared<f32>,
    exp_avg: Shared<f32>,
    exp_avg_sq: Shared<f32>,
}

impl Kernel for AdamW<'_> {
    fn num_tasks(&self) -> usize {
        self.gradient.len().div_ceil(PER_TASK)
    }

    #[inline(always)]
    unsafe fn run<S: Simd>(&self, task: usize, _: Option<usize>) {
        let end = ((task + 1) * PER_TASK).min(self.gradient.len());
        let mut at = task * PER_TASK;
        let step = &self.step;
        // SAFETY: all are as long; an element belongs to one task.
        unsafe {
            let factor = S::splat(step.gradient_factor);
            let shrink = S::splat(1.0 - step.learning_rate * step.weight_decay);
            let rest1 = S::splat(1.0 - step.beta1);
            let (beta2, rest2) = (S::splat(step.beta2), S::splat(1.0 - step.beta2));
            let step_size = S::splat(-self.step_size);
            let inverse_root = S::splat(self.inverse_root);
            let epsilon = S::splat(step.epsilon);
            while at < end {
                let left = end - at;
                let gradient = load_some::<S, f32>(self.gradient.as_ptr().add(at), left);
                let gradient = S::mul(gradient, factor);
                let first = load_some::<S, f32>(self.exp_avg.at(at), left);
                let first = S::fma(S::sub(gradient, first), rest1, first);
                let second = load_some::<S, f32>(self.exp_avg_sq.at(at), left);
                let square = S::mul(S::mul(gradient, gradient), rest2);
                let second = S::fma(second, beta2, square);
                let root = S::fma(S::sqrt(second), inverse_root, epsilon);
                let value = S::mul(load_some::<S, f32>(self.values.at(at), left), shrink);
                let value = S::fma(step_size, S::div(first, root), value);
                store_some::<S, f32>(self.exp_avg.at(at), first, left);
                store_some::<S, f32>(self.exp_avg_sq.at(at), second, left);
                store_some::<S, f32>(self.values.at(at), value, left);
                at += S::LANES;
            }
        }
    }
}
