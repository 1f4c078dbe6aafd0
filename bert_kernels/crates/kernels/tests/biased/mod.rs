//! Rows of a size that fills neither a block nor a vector, with and without a bias.

use kernels::{Bf16, Biased, Element, ROWS_PER_BLOCK};

/// More rows than a block has, and a width that fills no vector.
pub(crate) const ROWS: usize = ROWS_PER_BLOCK + 3;
pub(crate) const WIDTH: usize = 19;

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
