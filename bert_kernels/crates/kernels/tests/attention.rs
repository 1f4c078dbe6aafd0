//! Attention against its definition and against differences, small enough for Miri:
//! `cargo +nightly miri test --package kernels`.

mod biased;
mod shared;

use biased::{plain, widened, with_bias};
use kernels::{Biased, Dropout, Element, Shape, attention_backward, attention_forward};
use shared::{Two, assert_close, assert_gradient, dot, numbers, on_every_set, rounded};

const HEADS: usize = 2;
/// One token, an odd number of them, more than a chunk of queries holds.
const OFFSETS: &[i32] = if cfg!(miri) {
    &[0, 1, 6]
} else {
    &[0, 1, 6, 69]
};
const SIZES: &[usize] = if cfg!(miri) { &[6] } else { &[5, 22] };
const DROPOUT: Dropout = Dropout {
    row_key: 0x1234_5678,
    column_key: 0x9ABC_DEF0,
    limit: 22_937, // of 65,536 values from -32,768 on: 85 % lie below
    scale: 1.0 / 0.85,
};

fn shape(head_size: usize) -> Shape<'static> {
    Shape {
        offsets: OFFSETS,
        num_heads: HEADS,
        head_size,
        max_length: 80,
    }
}

fn num_tokens() -> usize {
    OFFSETS[OFFSETS.len() - 1] as usize
}

fn forward<E: Element>(
    size: usize,
    dropout: Option<Dropout>,
    qkv: Biased<'_, E>,
) -> (Vec<E>, Vec<f32>) {
    let mut context = vec![E::default(); qkv.values.len() / 3];
    let mut log_sums = vec![0.0; num_tokens() * HEADS];
    let shape = shape(size);
    attention_forward(&Two, shape, dropout, qkv, &mut context, &mut log_sums);
    (context, log_sums)
}

fn backward<E: Element>(
    size: usize,
    dropout: Option<Dropout>,
    qkv: Biased<'_, E>,
    grad_context: &[E],
) -> Vec<E> {
    let (context, log_sums) = forward(size, dropout, qkv);
    let mut found = vec![E::default(); qkv.values.len()];
    attention_backward(
        &Two,
        shape(size),
        dropout,
        qkv,
        &context,
        &log_sums,
        grad_context,
        &mut found,
    );
    found
}

/// softmax(Q Kᵀ / √size) V of every head of every sequence.
fn defined(size: usize, qkv: &[f32]) -> Vec<f32> {
    let hidden = HEADS * size;
    let mut context = vec![0.0; qkv.len() / 3];
    for ends in OFFSETS.windows(2) {
        let tokens = ends[0] as usize..ends[1] as usize;
        for head in 0..HEADS {
            let part = |token: usize, which: usize| {
                let start = token * 3 * hidden + which * hidden + head * size;
                &qkv[start..start + size]
            };
            for query in tokens.clone() {
                let score = |key| dot(part(query, 0), part(key, 1)) / (size as f64).sqrt();
                let weights: Vec<f64> = tokens.clone().map(|key| score(key).exp()).collect();
                let sum: f64 = weights.iter().sum();
                for column in 0..size {
                    let value = |key| f64::from(part(key, 2)[column]);
                    let terms = tokens.clone().zip(&weights);
                    let mixed: f64 = terms.map(|(key, weight)| weight / sum * value(key)).sum();
                    context[query * hidden + head * size + column] = mixed as f32;
                }
            }
        }
    }
    context
}

#[test]
fn without_dropout_it_is_what_its_definition_says() {
    on_every_set(|set| {
        for &size in SIZES {
            let qkv = numbers(num_tokens() * 3 * HEADS * size, 7);
            let what = format!("{set:?}, heads of {size}");
            assert_close(
                &forward(size, None, plain(&qkv)).0,
                &defined(size, &qkv),
                2e-6,
                &what,
            );
            let qkv = rounded(&qkv);
            let (context, _) = forward(size, None, plain(&qkv));
            let (found, wide) = (widened(&context), widened(&qkv));
            assert_close(&found, &defined(size, &wide), 1e-2, &what);
        }
    });
}

#[test]
fn the_gradient_is_that_of_the_forward_pass() {
    on_every_set(|set| {
        for &size in SIZES {
            for dropout in [None, Some(DROPOUT)] {
                let qkv = numbers(num_tokens() * 3 * HEADS * size, 3);
                let grad_context = numbers(qkv.len() / 3, 5);
                let found = backward(size, dropout, plain(&qkv), &grad_context);
                let loss = |qkv: &[f32]| dot(&forward(size, dropout, plain(qkv)).0, &grad_context);
                let what = format!("{set:?}, heads of {size}, {dropout:?}");
                assert_gradient(&qkv, &found, 2e-3, &what, loss);

                let low = rounded(&qkv);
                let found_low = backward(size, dropout, plain(&low), &rounded(&grad_context));
                assert_close(&widened(&found_low), &found, 3e-2, &what);
            }
        }
    });
}

#[test]
fn a_bias_that_comes_apart_is_added_before_all_else() {
    on_every_set(|set| {
        for &size in SIZES {
            let bias = numbers(3 * HEADS * size, 11);
            let qkv = numbers(num_tokens() * bias.len(), 3);
            let grad_context = numbers(qkv.len() / 3, 5);
            let dropout = Some(DROPOUT);
            let what = format!("{set:?}, heads of {size}");
            let values = qkv.as_slice();
            let summed = with_bias(values, &bias);
            let apart = Biased {
                values,
                bias: Some(&bias),
            };
            // The same bits, but for Miri, which rounds a logarithm now this way, now that.
            let tolerance = if cfg!(miri) { 1e-5 } else { 0.0 };
            let (context, log_sums) = forward(size, dropout, apart);
            let wanted = forward(size, dropout, plain(&summed));
            assert_close(&context, &wanted.0, tolerance, &what);
            assert_close(&log_sums, &wanted.1, tolerance, &what);
            let found = backward(size, dropout, apart, &grad_context);
            let wanted = backward(size, dropout, plain(&summed), &grad_context);
            assert_close(&found, &wanted, tolerance, &what);

            let low = rounded(values);
            let summed = with_bias(&widened(&low), &bias);
            let apart = Biased {
                values: &low[..],
                bias: Some(&bias),
            };
            let (context, _) = forward(size, dropout, apart);
            let (wanted, _) = forward(size, dropout, plain(&summed));
            assert_close(&widened(&context), &wanted, 1e-2, &what);
            let found = backward(size, dropout, apart, &rounded(&grad_context));
            let wanted = backward(size, dropout, plain(&summed), &grad_context);
            assert_close(&widened(&found), &wanted, 3e-2, &what);
        }
    });
}
