//! Dropout, norms and embeddings against their definitions, small enough for Miri.

mod biased;
mod shared;

use std::sync::OnceLock;

use biased::{plain, widened, with_bias};
use kernels::{
    Affine, Bf16, Biased, Dropout, Element, Gradients, Lookup, ROWS_PER_BLOCK, Saved, drop,
    dropout_add_norm_backward, dropout_add_norm_forward, embeddings_forward,
};
use shared::{Two, assert_close, assert_gradient, dot, numbers, on_every_set, rounded};

/// More rows than a block has, and a width that fills no vector.
const ROWS: usize = ROWS_PER_BLOCK + 3;
const WIDTH: usize = 19;

const DROPOUT: Dropout = Dropout {
    row_key: 77,
    column_key: 0xFFFF_0001,
    limit: 0, // half of them lie below
    scale: 2.0,
};

/// Rows of the norm, and what its backward pass needs.
struct Normed {
    out: Vec<f32>,
    low: Vec<Bf16>,
    sums: Vec<f32>,
    means: Vec<f32>,
    inverse_deviations: Vec<f32>,
}

impl Normed {
    fn empty() -> Self {
        Self {
            out: vec![0.0; ROWS * WIDTH],
            low: vec![Bf16::default(); ROWS * WIDTH],
            sums: vec![0.0; ROWS * WIDTH],
            means: vec![0.0; ROWS],
            inverse_deviations: vec![0.0; ROWS],
        }
    }

    fn of(values: &[f32], residual: &[f32], affine: Affine<'_>, dropout: Option<Dropout>) -> Self {
        Self::of_biased(plain(values), residual, affine, dropout)
    }

    fn of_biased<E: Element>(
        values: Biased<'_, E>,
        residual: &[f32],
        affine: Affine<'_>,
        dropout: Option<Dropout>,
    ) -> Self {
        let mut made = Self::empty();
        let saved = Saved {
            sums: &mut made.sums,
            means: &mut made.means,
            inverse_deviations: &mut made.inverse_deviations,
        };
        let (out, low) = (&mut made.out, &mut made.low);
        dropout_add_norm_forward(&Two, values, residual, affine, dropout, out, low, saved);
        made
    }
}

fn affine<'a>(weight: &'a [f32], bias: &'a [f32]) -> Affine<'a> {
    Affine {
        weight,
        bias,
        epsilon: 1e-5,
    }
}

fn norm_of_rows(sums: &[f32], affine: Affine<'_>) -> Vec<f32> {
    let mut out = Vec::new();
    for row in sums.chunks_exact(WIDTH) {
        let mean = row.iter().map(|&x| f64::from(x)).sum::<f64>() / WIDTH as f64;
        let square = |&x: &f32| (f64::from(x) - mean).powi(2);
        let variance = row.iter().map(square).sum::<f64>() / WIDTH as f64;
        let factor = 1.0 / (variance + f64::from(affine.epsilon)).sqrt();
        for (column, &x) in row.iter().enumerate() {
            let weight = f64::from(affine.weight[column]);
            let bias = f64::from(affine.bias[column]);
            out.push(((f64::from(x) - mean) * factor * weight + bias) as f32);
        }
    }
    out
}

#[test]
fn dropout_keeps_the_same_elements_with_all_instructions() {
    let values = numbers(ROWS * WIDTH, 1);
    let first = OnceLock::new();
    on_every_set(|set| {
        let mut out = vec![0.0; values.len()];
        drop(&Two, &values, WIDTH, DROPOUT, &mut out);
        for (&out, &value) in out.iter().zip(&values) {
            assert!(out == 0.0 || out == 2.0 * value, "{set:?}");
        }
        let kept = out.iter().filter(|&&x| x != 0.0).count() as f64 / out.len() as f64;
        assert!((0.3..0.7).contains(&kept), "{set:?}: {kept}");
        assert_eq!(first.get_or_init(|| out.clone()), &out, "{set:?}");
    });
}

#[test]
fn norm_of_residual_and_dropped_values() {
    let (weight, bias) = (numbers(WIDTH, 8), numbers(WIDTH, 9));
    let affine = affine(&weight, &bias);
    let (values, residual) = (numbers(ROWS * WIDTH, 2), numbers(ROWS * WIDTH, 3));
    on_every_set(|set| {
        for dropout in [None, Some(DROPOUT)] {
            let what = format!("{set:?}, {dropout:?}");
            let mut sums = values.clone();
            if let Some(dropout) = dropout {
                drop(&Two, &values, WIDTH, dropout, &mut sums);
            }
            for (sum, &more) in sums.iter_mut().zip(&residual) {
                *sum += more;
            }
            let made = Normed::of(&values, &residual, affine, dropout);
            assert_close(&made.sums, &sums, 1e-6, &what);
            assert_close(&made.out, &norm_of_rows(&sums, affine), 1e-5, &what);
            assert_eq!(made.low, rounded(&made.out), "{what}");
        }
    });
}

#[test]
fn the_norm_adds_a_bias_to_values_before_they_are_dropped() {
    let (weight, bias) = (numbers(WIDTH, 8), numbers(WIDTH, 9));
    let affine = affine(&weight, &bias);
    let low = rounded(&numbers(ROWS * WIDTH, 2));
    let (values, residual) = (widened(&low), numbers(ROWS * WIDTH, 3));
    let added = numbers(WIDTH, 5);
    let (bias, sums) = (Some(&added[..]), with_bias(&values, &added));
    on_every_set(|set| {
        for dropout in [None, Some(DROPOUT)] {
            let what = format!("{set:?}, {dropout:?}");
            let wanted = Normed::of(&sums, &residual, affine, dropout);
            let values = Biased {
                values: &values[..],
                bias,
            };
            let made = Normed::of_biased(values, &residual, affine, dropout);
            assert_eq!(made.sums, wanted.sums, "{what}");
            assert_eq!(made.out, wanted.out, "{what}");
            let values = Biased { values: &low, bias };
            let made = Normed::of_biased(values, &residual, affine, dropout);
            assert_eq!(made.out, wanted.out, "{what}");
        }
    });
}

#[test]
fn the_gradient_of_the_norm_is_that_of_its_forward_pass() {
    let (weight, bias) = (numbers(WIDTH, 8), numbers(WIDTH, 9));
    let affine = affine(&weight, &bias);
    let (values, residual) = (numbers(ROWS * WIDTH, 2), numbers(ROWS * WIDTH, 3));
    let grad = numbers(ROWS * WIDTH, 4);
    on_every_set(|set| {
        let dropout = Some(DROPOUT);
        let mut made = Normed::of(&values, &residual, affine, dropout);
        let mut of_residual = vec![0.0; grad.len()];
        let mut of_values = vec![0.0; grad.len()];
        let num_blocks = ROWS.div_ceil(ROWS_PER_BLOCK);
        let mut partial_sums = vec![0.0; num_blocks * 3 * WIDTH];
        let saved = Saved {
            sums: &mut made.sums,
            means: &mut made.means,
            inverse_deviations: &mut made.inverse_deviations,
        };
        let gradients = Gradients::<f32> {
            residual: &mut of_residual,
            values: &mut of_values,
            partial_sums: &mut partial_sums,
        };
        dropout_add_norm_backward(&Two, &grad, &[], saved, &weight, dropout, gradients);
        let what = format!("{set:?}");
        assert_gradient(&residual, &of_residual, 5e-3, &what, |residual| {
            dot(&Normed::of(&values, residual, affine, dropout).out, &grad)
        });
        assert_gradient(&values, &of_values, 5e-3, &what, |values| {
            dot(&Normed::of(values, &residual, affine, dropout).out, &grad)
        });
        // Of weight, bias and values, each the sum over blocks.
        let sum = |which: usize| -> Vec<f32> {
            let at =
                |block: usize, column: usize| partial_sums[(block * 3 + which) * WIDTH + column];
            (0..WIDTH)
                .map(|column| (0..num_blocks).map(|block| at(block, column)).sum())
                .collect()
        };
        assert_gradient(&weight, &sum(0), 5e-3, &what, |weight| {
            dot(
                &Normed::of(&values, &residual, Affine { weight, ..affine }, dropout).out,
                &grad,
            )
        });
        let columns = |of: &[f32]| -> Vec<f32> {
            (0..WIDTH)
                .map(|column| of.iter().skip(column).step_by(WIDTH).sum())
                .collect()
        };
        assert_close(&sum(1), &columns(&grad), 1e-4, &what);
        assert_close(&sum(2), &columns(&of_values), 1e-4, &what);
    });
}

#[test]
fn embeddings_are_summed_and_normed() {
    let (weight, bias) = (numbers(WIDTH, 8), numbers(WIDTH, 9));
    let affine = affine(&weight, &bias);
    let tables = [
        numbers(7 * WIDTH, 1),
        numbers(ROWS * WIDTH, 2),
        numbers(2 * WIDTH, 3),
    ];
    let ids: [Vec<i64>; 3] =
        [7, ROWS as i64, 2].map(|size| (0..ROWS as i64).map(|row| row * 5 % size).collect());
    let mut sums = vec![0.0; ROWS * WIDTH];
    for (place, sum) in sums.iter_mut().enumerate() {
        let (row, column) = (place / WIDTH, place % WIDTH);
        let parts = tables.iter().zip(&ids);
        *sum = parts
            .map(|(table, ids)| table[ids[row] as usize * WIDTH + column])
            .sum();
    }
    on_every_set(|set| {
        let mut made = Normed::empty();
        let saved = Saved {
            sums: &mut made.sums,
            means: &mut made.means,
            inverse_deviations: &mut made.inverse_deviations,
        };
        let lookups = [0, 1, 2].map(|n| Lookup {
            table: &tables[n],
            ids: &ids[n],
        });
        embeddings_forward(&Two, lookups, affine, &mut made.out, saved);
        assert_close(&made.sums, &sums, 1e-6, &format!("{set:?}"));
        assert_close(
            &made.out,
            &norm_of_rows(&sums, affine),
            1e-5,
            &format!("{set:?}"),
        );
    });
}
