//! Functions of vectors, to float32 precision.

use crate::simd::Simd;

const LOG2_E: f32 = std::f32::consts::LOG2_E;
// ln 2 in two parts, the first with so few bits that a small multiple of it is exact.
const LN_2_HIGH: f32 = 0.693_359_4;
const LN_2_LOW: f32 = -2.121_944_4e-4;
const LOWEST_EXPONENT: f32 = -87.0;
const HIGHEST_EXPONENT: f32 = 88.0;
const TAYLOR: [f32; 8] = [
    1.0 / 5040.0,
    1.0 / 720.0,
    1.0 / 120.0,
    1.0 / 24.0,
    1.0 / 6.0,
    0.5,
    1.0,
    1.0,
];

/// e^x, x clamped to [-87, 88]; NaN stays NaN.
///
/// With x = n ln 2 + r, |r| ≤ ln 2 / 2, the Taylor polynomial of degree 7 is off by 5e-9.
///
/// # Safety
///
/// The CPU has the instruction set.
#[inline(always)]
pub(crate) unsafe fn exp<S: Simd>(x: S::F) -> S::F {
    // SAFETY: as the caller promises.
    unsafe {
        let x = S::min(
            S::splat(HIGHEST_EXPONENT),
            S::max(S::splat(LOWEST_EXPONENT), x),
        );
        let n = S::round(S::mul(x, S::splat(LOG2_E)));
        let r = S::fma(n, S::splat(-LN_2_HIGH), x);
        let r = S::fma(n, S::splat(-LN_2_LOW), r);
        let mut sum = S::splat(TAYLOR[0]);
        let mut i = 1;
        while i < TAYLOR.len() {
            sum = S::fma(sum, r, S::splat(TAYLOR[i]));
            i += 1;
        }
        S::times_exp2(sum, n)
    }
}

// Φ(-x) e^(x²/2) for x ≥ 0 as a polynomial in t = 1 / (1 + x / 4), fitted for the least relative
// error over [0, 14.5]: 1.7e-8. Beyond, e^(-x²/2) is 0 to float32.
const TAIL_SLOPE: f32 = 0.25;
const TAIL: [f32; 10] = [
    0.033_425_684,
    -0.193_378_88,
    0.388_490_73,
    -0.324_871_8,
    0.297_397_38,
    -0.016_604_103,
    0.120_266_62,
    0.095_098_88,
    0.100_195_35,
    -1.985_490_2e-5,
];
const INVERSE_SQRT_2_PI: f32 = 0.398_942_3;

/// The normal distribution at x: Φ(x) = (1 + erf(x / √2)) / 2, and its density φ(x).
///
/// The lower tail is computed as such: no 1 - erf cancels.
///
/// # Safety
///
/// The CPU has the instruction set.
#[inline(always)]
pub(crate) unsafe fn normal<S: Simd>(x: S::F) -> (S::F, S::F) {
    // SAFETY: as the caller promises.
    unsafe {
        let negative = S::is_negative(x);
        let zero = S::splat(0.0);
        let one = S::splat(1.0);
        let magnitude = S::select(negative, S::sub(zero, x), x);
        let t = S::div(one, S::fma(magnitude, S::splat(TAIL_SLOPE), one));
        let mut sum = S::splat(TAIL[0]);
        let mut i = 1;
        while i < TAIL.len() {
            sum = S::fma(sum, t, S::splat(TAIL[i]));
            i += 1;
        }
        let bell = exp::<S>(S::mul(S::mul(x, x), S::splat(-0.5)));
        let tail = S::mul(bell, sum);
        let below = S::select(negative, tail, S::sub(one, tail));
        (below, S::mul(bell, S::splat(INVERSE_SQRT_2_PI)))
    }
}

#[cfg(test)]
mod tests {
    use super::{exp, normal};
    use crate::instruction_set::InstructionSet;
    use crate::kernel::Kernel;
    use crate::parallel::{Alone, Shared, execute};
    use crate::simd::Simd;

    struct Apply {
        values: Vec<f32>,
        exp: Shared<f32>,
        below: Shared<f32>,
        density: Shared<f32>,
    }

    impl Kernel for Apply {
        fn num_tasks(&self) -> usize {
            self.values.len() / 16
        }

        #[inline(always)]
        unsafe fn run<S: Simd>(&self, task: usize, _: Option<usize>) {
            let mut at = task * 16;
            while at < (task + 1) * 16 {
                // SAFETY: all are as long, a multiple of 16.
                unsafe {
                    let x = S::load(self.values.as_ptr().add(at));
                    let (below, density) = normal::<S>(x);
                    S::store(self.exp.at(at), exp::<S>(x));
                    S::store(self.below.at(at), below);
                    S::store(self.density.at(at), density);
                }
                at += S::LANES;
            }
        }
    }

    /// Φ(x) by its Taylor series around 0, and by a continued fraction in the tails.
    fn phi(x: f64) -> f64 {
        let density = (-x * x / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt();
        if x.abs() > 4.0 {
            let fraction = (1..200)
                .rev()
                .fold(x.abs(), |rest, n| x.abs() + f64::from(n) / rest);
            let tail = density / fraction;
            return if x < 0.0 { tail } else { 1.0 - tail };
        }
        let (mut term, mut sum) = (x, x);
        for n in 1..200 {
            term *= x * x / f64::from(2 * n + 1);
            sum += term;
        }
        0.5 + density * sum
    }

    #[test]
    fn functions_are_right_to_float_precision() {
        let step = if cfg!(miri) { 64 } else { 1 };
        let values = (0..4096).step_by(step).map(|i| (i as f32 - 2048.0) / 170.0);
        let values: Vec<f32> = values.collect();
        for set in InstructionSet::ALL.into_iter().filter(|set| set.choose()) {
            let mut found = vec![vec![0.0_f32; values.len()]; 3];
            let [a, b, c] = found.as_mut_slice() else {
                unreachable!()
            };
            let kernel = Apply {
                values: values.clone(),
                exp: Shared::new(a),
                below: Shared::new(b),
                density: Shared::new(c),
            };
            execute(&Alone, &kernel);
            for (i, &x) in values.iter().enumerate() {
                let x = f64::from(x);
                let close = |got: f32, want: f64, ulps: f64| {
                    let error = (f64::from(got) - want).abs() / want.abs();
                    assert!(error < ulps * 6e-8, "{set:?} at {x}: {got} is not {want}");
                };
                close(found[0][i], x.exp(), 3.0);
                // The argument of e^(-x²/2) is rounded: its error grows with the argument.
                close(found[1][i], phi(x), 9.0 + x * x);
                let density = (-x * x / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt();
                close(found[2][i], density, 5.0 + x * x);
            }
        }
    }
}
