//! Kernels over rows and flat buffers against their definitions, small enough for Miri:
//! `cargo +nightly miri test --package kernels`.

mod shared;

use std::sync::OnceLock;

use kernels::{
    Affine, Bf16, Biased, Dropout, Element, Gradients, Lookup, ROWS_PER_BLOCK, Saved, Step, adamw,
    add, add_rows, cross_entropy, drop, dropout_add_norm_backward, dropout_add_norm_forward,
    embeddings_forward, gelu_backward, gelu_forward, round, scatter_add,
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

fn plain<E>(values: &[E]) -> Biased<'_, E> {
    Biased { values, bias: None }
}

/// Rows plus their bias.
fn with_bias(values: &[f32], bias: &[f32]) -> Vec<f32> {
    let places = values.iter().zip(bias.iter().cycle());
    places.map(|(value, bias)| value + bias).collect()
}

fn widened(values: &[Bf16]) -> Vec<f32> {
    values.iter().map(|value| value.widen()).collect()
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
    let affine = Affine {
        weight: &weight,
        bias: &bias,
        epsilon: 1e-5,
    };
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
    let affine = Affine {
        weight: &weight,
        bias: &bias,
        epsilon: 1e-5,
    };
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
    let affine = Affine {
        weight: &weight,
        bias: &bias,
        epsilon: 1e-5,
    };
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
    let affine = Affine {
        weight: &weight,
        bias: &bias,
        epsilon: 1e-5,
    };
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

#[test]
fn gelu_and_its_gradient() {
    let values: Vec<f32> = numbers(ROWS * WIDTH, 6).iter().map(|x| 4.0 * x).collect();
    let grad = numbers(values.len(), 7);
    let gelu = |values: &[f32]| {
        let mut out = vec![0.0; values.len()];
        gelu_forward(&Two, WIDTH, plain(values), &mut out);
        out
    };
    on_every_set(|set| {
        let what = format!("{set:?}");
        let known = [0.0, 0.841_345, -0.158_655_25, 2.995_950_3, -0.004_049_7];
        let mut out = [0.0; 5];
        gelu_forward(&Two, 5, plain(&[0.0, 1.0, -1.0, 3.0, -3.0]), &mut out);
        assert_close(&out, &known, 1e-6, &what);
        let mut found = grad.clone();
        let mut partial_sums = vec![0.0; ROWS.div_ceil(ROWS_PER_BLOCK) * WIDTH];
        gelu_backward(&Two, WIDTH, plain(&values), &mut found, &mut partial_sums);
        assert_gradient(&values, &found, 2e-3, &what, |values| {
            dot(&gelu(values), &grad)
        });
        for (block, sums) in partial_sums.chunks_exact(WIDTH).enumerate() {
            let rows = found
                .chunks_exact(WIDTH)
                .skip(block * ROWS_PER_BLOCK)
                .take(ROWS_PER_BLOCK);
            let wanted = rows.fold(vec![0.0; WIDTH], |sums: Vec<f32>, row| {
                sums.iter().zip(row).map(|(a, b)| a + b).collect()
            });
            assert_close(sums, &wanted, 1e-4, &what);
        }
    });
}

#[test]
fn gelu_adds_a_bias_in_both_passes() {
    let low = rounded(&numbers(ROWS * WIDTH, 6));
    let (values, bias) = (widened(&low), numbers(WIDTH, 5));
    let grad = numbers(values.len(), 7);
    on_every_set(|set| {
        let what = format!("{set:?}");
        let forward = |values: &[f32], bias: Option<&[f32]>| {
            let mut out = vec![0.0; values.len()];
            gelu_forward(&Two, WIDTH, Biased { values, bias }, &mut out);
            out
        };
        let backward = |values: &[f32], bias: Option<&[f32]>| {
            let mut grad = grad.clone();
            let mut sums = vec![0.0; ROWS.div_ceil(ROWS_PER_BLOCK) * WIDTH];
            gelu_backward(&Two, WIDTH, Biased { values, bias }, &mut grad, &mut sums);
            (grad, sums)
        };
        let (sums, bias) = (with_bias(&values, &bias), Some(&bias[..]));
        let out = forward(&values, bias);
        assert_eq!(out, forward(&sums, None), "{what}");
        let found = backward(&values, bias);
        assert_eq!(found, backward(&sums, None), "{what}");
        assert_gradient(&values, &found.0, 2e-3, &what, |values| {
            dot(&forward(values, bias), &grad)
        });

        let product = Biased {
            values: &low[..],
            bias,
        };
        let mut out_low = vec![Bf16::default(); low.len()];
        gelu_forward(&Two, WIDTH, product, &mut out_low);
        assert_eq!(out_low, rounded(&out), "{what}");
        let (mut grad_low, mut partial_sums) = (rounded(&grad), found.1.clone());
        gelu_backward(&Two, WIDTH, product, &mut grad_low, &mut partial_sums);
        assert_close(&widened(&grad_low), &found.0, 1e-2, &what);
    });
}

#[test]
#[should_panic(expected = "assertion failed")]
fn a_bias_of_another_width_is_refused() {
    let (values, mut out) = ([0.0; 6], [0.0; 6]);
    let bias = Some(&[0.0; 2][..]);
    let values = &values[..];
    gelu_forward(&Two, 3, Biased { values, bias }, &mut out);
}

#[test]
fn cross_entropy_and_its_gradient() {
    // Of three shapes: shorter than a vector, with a tail, with columns that don't count.
    for (width, pitch) in [(5, 5), (67, 67), (70, 80)] {
        let rows = 3;
        let logits: Vec<f32> = numbers(rows * pitch, 2).iter().map(|x| 5.0 * x).collect();
        let labels = [0, width as i64 - 1, width as i64 / 2];
        on_every_set(|set| {
            let what = format!("{set:?}, {width} of {pitch} columns");
            let mut found = logits.clone();
            let (mut losses, mut correct) = (vec![0.0; rows], vec![-1; rows]);
            cross_entropy(
                &Two,
                width,
                &mut found,
                None,
                &labels,
                &mut losses,
                &mut correct,
            );
            for row in 0..rows {
                let line = &logits[row * pitch..row * pitch + width];
                let label = labels[row] as usize;
                let sum: f64 = line.iter().map(|&x| f64::from(x).exp()).sum();
                let loss = (sum.ln() - f64::from(line[label])) as f32;
                assert_close(&losses[row..=row], &[loss], 1e-5, &what);
                let best = line.iter().all(|&x| x <= line[label]);
                assert_eq!(correct[row], i64::from(best), "{what}");
                let softmax = |(column, &x): (usize, &f32)| {
                    (f64::from(x).exp() / sum) as f32 - f32::from(u8::from(column == label))
                };
                let wanted: Vec<f32> = line.iter().enumerate().map(softmax).collect();
                assert_close(
                    &found[row * pitch..row * pitch + width],
                    &wanted,
                    1e-5,
                    &what,
                );
                let beyond = row * pitch + width..(row + 1) * pitch;
                assert_eq!(found[beyond.clone()], logits[beyond], "{what}");
            }
        });
    }
}

#[test]
fn cross_entropy_adds_a_bias_first() {
    for (width, pitch) in [(5, 5), (67, 67), (70, 80), (128, 128)] {
        let labels = [0, width as i64 - 1, width as i64 / 2];
        let bias = numbers(width, 3);
        on_every_set(|set| {
            let what = format!("{set:?}, {width} of {pitch} columns");
            let logits: Vec<f32> = numbers(3 * pitch, 2).iter().map(|x| 5.0 * x).collect();
            let mut sums = logits.clone();
            for row in sums.chunks_exact_mut(pitch) {
                let exact = with_bias(&row[..width], &bias);
                row[..width].copy_from_slice(&exact);
            }
            holds_with_bias(width, logits, sums, &bias, &labels, &what);
            // In bfloat16 the sums are rounded.
            let logits = rounded(&numbers(3 * pitch, 2));
            let mut sums = logits.clone();
            for row in sums.chunks_exact_mut(pitch) {
                let exact = with_bias(&widened(&row[..width]), &bias);
                row[..width].copy_from_slice(&rounded(&exact));
            }
            holds_with_bias(width, logits, sums, &bias, &labels, &what);
        });
    }
}

/// Logits with their bias are treated as their sums are, to the bit.
fn holds_with_bias<E: Element + PartialEq + std::fmt::Debug>(
    width: usize,
    mut logits: Vec<E>,
    mut sums: Vec<E>,
    bias: &[f32],
    labels: &[i64; 3],
    what: &str,
) {
    let run = |of: &mut [E], bias: Option<&[f32]>| {
        let (mut losses, mut correct) = ([0.0; 3], [-1; 3]);
        cross_entropy(&Two, width, of, bias, labels, &mut losses, &mut correct);
        (losses, correct)
    };
    let found = run(&mut logits, Some(bias));
    assert_eq!(found, run(&mut sums, None), "{what}");
    assert_eq!(logits, sums, "{what}");
}

#[test]
fn adamw_is_the_published_step() {
    let len = 1037;
    let step = Step {
        learning_rate: 1e-2,
        beta1: 0.9,
        beta2: 0.999,
        epsilon: 1e-6,
        weight_decay: 0.1,
        count: 3,
        gradient_factor: 0.5,
    };
    let gradient = numbers(len, 1);
    let before = [
        numbers(len, 2),
        numbers(len, 3),
        numbers(len, 4).iter().map(|x| x * x).collect(),
    ];
    on_every_set(|set| {
        let [mut values, mut first, mut second] = before.clone();
        adamw(&Two, step, &gradient, &mut values, &mut first, &mut second);
        for place in 0..len {
            let wide = |x: f32| f64::from(x);
            let g = wide(gradient[place]) * 0.5;
            let m = 0.9 * wide(before[1][place]) + 0.1 * g;
            let v = 0.999 * wide(before[2][place]) + 0.001 * g * g;
            let unbiased = m / (1.0 - 0.9f64.powi(3));
            let root = (v / (1.0 - 0.999f64.powi(3))).sqrt() + 1e-6;
            let w = wide(before[0][place]) * (1.0 - 1e-3) - 1e-2 * unbiased / root;
            let found = [values[place], first[place], second[place]];
            assert_close(
                &found,
                &[w as f32, m as f32, v as f32],
                2e-5,
                &format!("{set:?} at {place}"),
            );
        }
    });
}

#[test]
fn sums_of_rows_and_of_buffers() {
    let (rows, pitch, width) = (6, 300, 277);
    let values = numbers(rows * pitch, 1);
    let start = numbers(width, 2);
    on_every_set(|set| {
        let what = format!("{set:?}");
        let mut out = start.clone();
        add_rows(&Two, &values, pitch, &mut out);
        let column = |column: usize| {
            (0..rows)
                .map(|row| values[row * pitch + column])
                .sum::<f32>()
        };
        let wanted: Vec<f32> = (0..width).map(|at| start[at] + column(at)).collect();
        assert_close(&out, &wanted, 1e-6, &what);

        let mut low = vec![Bf16::default(); width];
        round(&Two, &start, &mut low);
        assert_eq!(low, rounded(&start), "{what}");
        let mut out = start.clone();
        add(&Two, &low, &mut out);
        let wanted: Vec<f32> = start.iter().zip(&low).map(|(a, b)| a + b.widen()).collect();
        assert_eq!(out, wanted, "{what}");

        let (ids, mut table) = ([3, 0, 3, 1, 2], vec![0.0; 4 * WIDTH]);
        let values = &values[..ids.len() * WIDTH];
        scatter_add(&Two, &ids, Some(1), values, WIDTH, &mut table);
        let mut wanted = vec![0.0; table.len()];
        for (row, &id) in ids.iter().enumerate().filter(|(_, id)| **id != 1) {
            for column in 0..WIDTH {
                wanted[id as usize * WIDTH + column] += values[row * WIDTH + column];
            }
        }
        assert_eq!(table, wanted, "{what}");
    });
}
