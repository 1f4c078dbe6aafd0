//! Kernels over rows and flat buffers against their definitions, small enough for Miri:
//! `cargo +nightly miri test --package kernels`.

mod biased;
mod shared;

use biased::{plain, widened, with_bias};
use kernels::{
    Bf16, Biased, Element, ROWS_PER_BLOCK, Step, adamw, add, add_rows, cross_entropy,
    gelu_backward, gelu_forward, round, scatter_add,
};
use shared::{Two, assert_close, assert_gradient, dot, numbers, on_every_set, rounded};

/// More rows than a block has, and a width that fills no vector.
const ROWS: usize = ROWS_PER_BLOCK + 3;
const WIDTH: usize = 19;

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
        let (product, mut again) = (plain(&values[..]), vec![0.0; values.len()]);
        gelu_backward(
            &Two,
            WIDTH,
            product,
            &mut found,
            &mut again,
            &mut partial_sums,
        );
        assert_eq!(again, gelu(&values), "{what}");
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
            let (values, mut out) = (Biased { values, bias }, vec![0.0; grad.len()]);
            gelu_backward(&Two, WIDTH, values, &mut grad, &mut out, &mut sums);
            (grad, out, sums)
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
        assert_eq!(found.1, out, "{what}");
        let (mut grad_low, mut again) = (rounded(&grad), vec![Bf16::default(); low.len()]);
        let mut sums = found.2.clone();
        gelu_backward(&Two, WIDTH, product, &mut grad_low, &mut again, &mut sums);
        assert_eq!(again, out_low, "{what}");
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
fn holds_with_bias<E: Element>(
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
    let (losses, correct) = run(&mut logits, Some(bias));
    let (wanted, wanted_correct) = run(&mut sums, None);
    // The same bits, but for Miri, which rounds a logarithm now this way, now that.
    let tolerance = if cfg!(miri) { 1e-2 } else { 0.0 };
    let floats = |of: &[E]| -> Vec<f32> { of.iter().map(|x| x.widen()).collect() };
    assert_close(&losses, &wanted, tolerance, what);
    assert_eq!(correct, wanted_correct, "{what}");
    assert_close(&floats(&logits), &floats(&sums), tolerance, what);
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
