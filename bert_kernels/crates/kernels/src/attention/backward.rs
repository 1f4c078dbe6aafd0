//! The backward pass: scores made again, gradients of queries, keys and values.

use super::ahead::Ahead;
use super::lines::{HeadRows, dot, pack, transpose, unpack};
use super::{CHUNK, Head, Padded, Shape, column_keys, head_rows, pairs, row_counter};
use crate::biased::Biased;
use crate::dropout::{Dropout, kept};
use crate::elements::Element;
use crate::kernel::Kernel;
use crate::math::exp;
use crate::parallel::{Scratch, Shared, Team, execute};
use crate::product::{Left, TILE_ROWS, product};
use crate::simd::Simd;

/// The gradient of `attention_forward`.
///
/// # Arguments
///
/// * `qkv`, `context`, `log_sums`: what the forward pass read and wrote.
/// * `grad_context`: (T, D).
/// * `grad_qkv`: (T, 3 D), written.
pub fn attention_backward<E: Element>(
    team: &dyn Team,
    shape: Shape<'_>,
    dropout: Option<Dropout>,
    qkv: Biased<'_, E>,
    context: &[E],
    log_sums: &[f32],
    grad_context: &[E],
    grad_qkv: &mut [E],
) {
    let tokens = shape.num_tokens();
    assert_eq!(qkv.rows(3 * shape.hidden_size()), tokens);
    assert_eq!(context.len(), tokens * shape.hidden_size());
    assert_eq!(log_sums.len(), tokens * shape.num_heads);
    assert_eq!(grad_context.len(), context.len());
    assert_eq!(grad_qkv.len(), qkv.values.len());
    let kernel = Backward {
        shape,
        dropout,
        columns: column_keys(dropout, shape),
        qkv,
        context,
        log_sums,
        grad_context,
        grad_qkv: Shared::new(grad_qkv),
    };
    execute(team, &kernel);
}

pub(super) struct Backward<'a, E> {
    pub(super) shape: Shape<'a>,
    pub(super) dropout: Option<Dropout>,
    pub(super) columns: Vec<u32>,
    pub(super) qkv: Biased<'a, E>,
    pub(super) context: &'a [E],
    pub(super) log_sums: &'a [f32],
    pub(super) grad_context: &'a [E],
    pub(super) grad_qkv: Shared<E>,
}

impl<E: Element> Kernel for Backward<'_, E> {
    const LOOKS_AHEAD: bool = true;

    fn num_tasks(&self) -> usize {
        self.shape.num_sequences() * self.shape.num_heads
    }

    #[inline(always)]
    unsafe fn run<S: Simd>(&self, task: usize, next: Option<usize>) {
        let head = self.shape.task(task);
        let mut ahead = self.ahead(next.map(|next| self.shape.task(next)));
        if pairs::fit::<S, E>(self.shape.head_size) && self.qkv.bias.is_none() {
            // SAFETY: as the caller promises.
            unsafe { self.run_in_pairs::<S>(head, ahead) };
            return;
        }
        let (heads, size) = (self.shape.num_heads, self.shape.head_size);
        let hidden = heads * size;
        let padded = Padded::of(head.length, size);
        let square = padded.width * padded.keys;
        let tall = padded.key_rows * padded.width;
        let wide = CHUNK * padded.width;
        // Rows of scores are read in whole tiles of their columns.
        let stride = padded.key_rows.next_multiple_of(16);
        let mut scratch = Scratch::take(2 * square + 3 * tall + 3 * wide + 2 * CHUNK * stride);
        // SAFETY: as in the forward pass.
        unsafe {
            let keys_across = scratch.start();
            let values_across = keys_across.add(square);
            let keys = values_across.add(square);
            let grad_keys = keys.add(tall);
            let grad_values = grad_keys.add(tall);
            let queries = grad_values.add(tall);
            let grad_out = queries.add(wide);
            let grad_queries = grad_out.add(wide);
            let probs = grad_queries.add(wide);
            let grad_scores = probs.add(CHUNK * stride);
            let pitch = 3 * hidden;
            let [from_queries, from_keys, from_values] = head_rows(self.qkv, self.shape, head);
            let place = self
                .grad_qkv
                .at(head.first_token * pitch + head.head * size);
            let length = head.length;
            // The place of the keys is free until the values are across.
            pack::<S, E>(
                from_values,
                length,
                padded.keys,
                size,
                1.0,
                keys,
                padded.width,
            );
            transpose::<S>(keys, padded.keys, padded.width, values_across);
            pack::<S, E>(
                from_keys,
                length,
                padded.keys,
                size,
                1.0,
                keys,
                padded.width,
            );
            transpose::<S>(keys, padded.keys, padded.width, keys_across);
            let reached = length.next_multiple_of(16);
            std::ptr::write_bytes(grad_keys, 0, 2 * tall);
            let scale = 1.0 / (size as f32).sqrt();
            let mut first = 0;
            while first < length {
                let count = CHUNK.min(length - first);
                let rows = count.next_multiple_of(TILE_ROWS);
                pack::<S, E>(
                    from_queries.starting_at(first),
                    count,
                    rows,
                    size,
                    scale,
                    queries,
                    padded.width,
                );
                let token = head.first_token + first;
                let offset = token * hidden + head.head * size;
                let source = HeadRows {
                    start: self.grad_context.as_ptr().add(offset),
                    pitch: hidden,
                    bias: None,
                };
                let keep = self.dropout.map_or(1.0, |dropout| dropout.scale);
                // The factor of kept elements enters both of its uses here.
                pack::<S, E>(source, count, rows, size, keep, grad_out, padded.width);
                let left = Left {
                    start: queries,
                    row: padded.width,
                    inner: 1,
                };
                product::<S, f32, false>(
                    rows,
                    size,
                    reached,
                    left,
                    keys_across,
                    padded.keys,
                    probs,
                    stride,
                );
                let left = Left {
                    start: grad_out,
                    row: padded.width,
                    inner: 1,
                };
                product::<S, f32, false>(
                    rows,
                    size,
                    reached,
                    left,
                    values_across,
                    padded.keys,
                    grad_scores,
                    stride,
                );
                for row in 0..count {
                    ahead.fetch_row();
                    let offset = offset + row * hidden;
                    let delta = dot::<S, E>(
                        self.grad_context.as_ptr().add(offset),
                        self.context.as_ptr().add(offset),
                        size,
                    );
                    let log_sum = self.log_sums[(token + row) * heads + head.head];
                    let bits = self
                        .dropout
                        .map(|dropout| dropout.row(row_counter(self.shape, head, first + row)));
                    self.scores_row::<S>(
                        probs.add(row * stride),
                        grad_scores.add(row * stride),
                        length,
                        stride,
                        log_sum,
                        delta,
                        bits,
                    );
                }
                let left = Left {
                    start: grad_scores,
                    row: stride,
                    inner: 1,
                };
                product::<S, f32, false>(
                    rows,
                    length,
                    padded.width,
                    left,
                    keys,
                    padded.width,
                    grad_queries,
                    padded.width,
                );
                unpack::<S, E>(
                    grad_queries,
                    padded.width,
                    count,
                    size,
                    scale,
                    place.add(first * pitch),
                    pitch,
                );
                let key_rows = length.next_multiple_of(TILE_ROWS);
                let left = Left {
                    start: probs,
                    row: 1,
                    inner: stride,
                };
                product::<S, f32, true>(
                    key_rows,
                    count,
                    padded.width,
                    left,
                    grad_out,
                    padded.width,
                    grad_values,
                    padded.width,
                );
                let left = Left {
                    start: grad_scores,
                    row: 1,
                    inner: stride,
                };
                product::<S, f32, true>(
                    key_rows,
                    count,
                    padded.width,
                    left,
                    queries,
                    padded.width,
                    grad_keys,
                    padded.width,
                );
                first += CHUNK;
            }
            unpack::<S, E>(
                grad_keys,
                padded.width,
                length,
                size,
                1.0,
                place.add(hidden),
                pitch,
            );
            unpack::<S, E>(
                grad_values,
                padded.width,
                length,
                size,
                1.0,
                place.add(2 * hidden),
                pitch,
            );
        }
    }
}

/// Of queries, keys, values and their gradients, the context and its gradient.
pub(super) type BackwardRows<E> = Ahead<E, 8>;

impl<E: Element> Backward<'_, E> {
    fn ahead(&self, next: Option<Head>) -> BackwardRows<E> {
        let hidden = self.shape.hidden_size();
        let [queries, keys, values] = self.shape.parts(self.qkv.values.as_ptr());
        let [grad_queries, grad_keys, grad_values] = self.shape.parts(self.grad_qkv.start());
        let context = (self.context.as_ptr(), hidden);
        let grad_context = (self.grad_context.as_ptr(), hidden);
        let order = [
            values,
            keys,
            queries,
            grad_context,
            context,
            grad_queries,
            grad_keys,
            grad_values,
        ];
        Ahead::new(next, self.shape.head_size, order)
    }

    /// A row of scores and of the kept probabilities' gradient to the kept probabilities and the
    /// scores' gradient, P ∘ (M ∘ dP - δ); zeros beyond the last key.
    #[inline(always)]
    unsafe fn scores_row<S: Simd>(
        &self,
        probs: *mut f32,
        grads: *mut f32,
        length: usize,
        stride: usize,
        log_sum: f32,
        delta: f32,
        bits: Option<u32>,
    ) {
        // SAFETY: a row has `stride` elements, and column keys reach as far as whole units do.
        unsafe {
            let zero = S::splat(0.0);
            let log_sum = S::splat(log_sum);
            let delta = S::splat(delta);
            let limit = self.dropout.map_or(0, |dropout| dropout.limit);
            let mut column = 0;
            while column < length {
                let (at, gt) = (probs.add(column), grads.add(column));
                let (next, grad_next) = (at.add(S::LANES), gt.add(S::LANES));
                let first = exp::<S>(S::sub(S::load(at), log_sum));
                let second = exp::<S>(S::sub(S::load(next), log_sum));
                let (mut grad_first, mut grad_second) = (S::load(gt), S::load(grad_next));
                let (mut kept_first, mut kept_second) = (first, second);
                if let Some(bits) = bits {
                    let pairs = self.columns.as_ptr().add(column / 2);
                    let (m, n) = kept::<S>(S::splat_int(bits), pairs, limit);
                    grad_first = S::select(m, grad_first, zero);
                    grad_second = S::select(n, grad_second, zero);
                    kept_first = S::select(m, first, zero);
                    kept_second = S::select(n, second, zero);
                }
                S::store(at, kept_first);
                S::store(next, kept_second);
                S::store(gt, S::mul(first, S::sub(grad_first, delta)));
                S::store(grad_next, S::mul(second, S::sub(grad_second, delta)));
                column += 2 * S::LANES;
            }
            for beyond in length..stride {
                *probs.add(beyond) = 0.0;
                *grads.add(beyond) = 0.0;
            }
        }
    }
}
