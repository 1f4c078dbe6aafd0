//! What the tests of kernels share: every instruction set, two threads, numbers to start with.

use std::sync::{Mutex, PoisonError};

use kernels::{Bf16, InstructionSet, Team};

/// Two threads that take tasks at the same time: Miri sees what they would disturb.
pub(crate) struct Two;

impl Team for Two {
    fn run(&self, work: &(dyn Fn() + Sync)) {
        std::thread::scope(|scope| {
            scope.spawn(work);
            work();
        });
    }
}

/// Runs a test with each instruction set that this CPU has; under Miri that is the portable one.
pub(crate) fn on_every_set(test: impl Fn(InstructionSet)) {
    // The choice is the process's.
    static CHOICE: Mutex<()> = Mutex::new(());
    let _one_at_a_time = CHOICE.lock().unwrap_or_else(PoisonError::into_inner);
    for set in InstructionSet::ALL.into_iter().filter(|set| set.choose()) {
        test(set);
    }
}

/// Numbers in [-1, 1) that don't repeat soon, the same for the same seed.
pub(crate) fn numbers(len: usize, seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state as f32 / (1u64 << 31) as f32 - 1.0
    };
    (0..len).map(|_| next()).collect()
}

/// Rounded to the nearest, ties to even.
pub(crate) fn rounded(values: &[f32]) -> Vec<Bf16> {
    let round = |value: &f32| {
        let bits = value.to_bits();
        Bf16(((bits + 0x7FFF + (bits >> 16 & 1)) >> 16) as u16)
    };
    values.iter().map(round).collect()
}

/// Panics, with the place, where numbers differ by more than `tolerance` and that much of the wanted
/// one.
pub(crate) fn assert_close(found: &[f32], wanted: &[f32], tolerance: f32, what: &str) {
    assert_eq!(found.len(), wanted.len(), "{what}");
    for (place, (&found, &wanted)) in found.iter().zip(wanted).enumerate() {
        let error = (found - wanted).abs();
        assert!(
            error <= tolerance * (1.0 + wanted.abs()),
            "{what} at {place}: {found} is not {wanted}"
        );
    }
}

/// Elements that are looked at where each costs two passes.
const LOOKS: usize = if cfg!(miri) { 3 } else { 20 };

/// Holds a gradient against differences of `loss`, which is the sum of outputs times fixed numbers.
pub(crate) fn assert_gradient(
    values: &[f32],
    gradient: &[f32],
    tolerance: f32,
    what: &str,
    loss: impl Fn(&[f32]) -> f64,
) {
    assert_eq!(values.len(), gradient.len(), "{what}");
    let step = 1.0 / 64.0;
    let mut moved = values.to_vec();
    for place in (0..values.len()).step_by((values.len() / LOOKS) | 1) {
        moved[place] = values[place] + step;
        let above = loss(&moved);
        moved[place] = values[place] - step;
        let below = loss(&moved);
        moved[place] = values[place];
        let wanted = ((above - below) / f64::from(2.0 * step)) as f32;
        let error = (gradient[place] - wanted).abs();
        assert!(
            error <= tolerance * (1.0 + wanted.abs()),
            "{what} at {place}: {} is not {wanted}",
            gradient[place]
        );
    }
}

/// The sum of products.
pub(crate) fn dot(left: &[f32], right: &[f32]) -> f64 {
    let products = left.iter().zip(right);
    products.map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
}
