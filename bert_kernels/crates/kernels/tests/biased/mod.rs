//! Rows with and without a bias.

use kernels::{Bf16, Biased, Element};

pub(crate) fn plain<E>(values: &[E]) -> Biased<'_, E> {
    Biased { values, bias: None }
}

/// Rows plus their bias.
pub(crate) fn with_bias(values: &[f32], bias: &[f32]) -> Vec<f32> {
    let places = values.iter().zip(bias.iter().cycle());
    places.map(|(value, bias)| value + bias).collect()
}

pub(crate) fn widened(values: &[Bf16]) -> Vec<f32> {
    values.iter().map(|value| value.widen()).collect()
}
