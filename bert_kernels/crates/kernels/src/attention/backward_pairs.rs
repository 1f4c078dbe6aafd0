//! The backward pass with products of pairs of bfloat16.

use super::backward::{Backward, BackwardRows};
use super::lines::{dot, transpose, unpack};
use super::pairs::{pack, row_pairs, zip};
use super::{CHUNK, Head, Padded, row_counter};
use crate::dropout::kept;
use crate::elements::Element;
use crate::math::exp;
use crate::parallel::Scratch;
use crate::product::{Left, Pair, TILE_ROWS, product};
use crate::simd::Simd;

/// A query's row: what its scores' gradient needs beside the products.
#[derive(Clone, Copy)]
struct Row {
    log_sum: f32,
    delta: f32,
    bits: u32,
}

impl<E: Element> Backward<'_, E> {
    /// # Safety
    ///
    /// The instruction set is there, `pairs::fit`, and no head is done twice.
    #[inline(always)]
    pub(super) unsafe fn run_in_pairs<S: Simd>(&self, head: Head, mut ahead: BackwardRows<E>) {
        let (heads, size, length) = (self.shape.num_heads, self.shape.head_size, head.length);
        let hidden = heads * size;
        let pitch = 3 * hidden;
        let padded = Padded::of(length, size);
        let (half, width) = (row_pairs(size), padded.width);
        let square = half * padded.keys;
        let zipped = padded.keys / 2 * width;
        let tall = padded.key_rows * width;
        let stride = padded.key_rows.next_multiple_of(32);
        let mut scratch = Scratch::take(
            3 * square
                + zipped
                + CHUNK * (2 * half + width + stride + stride / 2)
                + 2 * tall
                + CHUNK * (width + 2 * stride),
        );
        // SAFETY: as in the forward pass.
        unsafe {
            let staged: *mut Pair = scratch.start().cast();
            let keys_across = staged.add(square);
            let values_across = keys_across.add(square);
            let keys = values_across.add(square);
            let queries = keys.add(zipped);
            let grad_out = queries.add(CHUNK * half);
            let query_pairs = grad_out.add(CHUNK * half);
            let grad_out_pairs = query_pairs.add(CHUNK / 2 * width);
            let prob_pairs = grad_out_pairs.add(CHUNK / 2 * width);
            let grad_pairs = prob_pairs.add(CHUNK / 2 * stride);
            let grad_rows = grad_pairs.add(CHUNK / 2 * stride);
            let grad_keys: *mut f32 = grad_rows.add(CHUNK * stride / 2).cast();
            let grad_values = grad_keys.add(tall);
            let grad_queries = grad_values.add(tall);
            let probs = grad_queries.add(CHUNK * width);
            let grad_scores = probs.add(CHUNK * stride);
            let begin = head.first_token * pitch + head.head * size;
            let base = self.qkv.values.as_ptr().add(begin);
            let place = self.grad_qkv.at(begin);
            let (from_keys, from_values) = (base.add(hidden), base.add(2 * hidden));
            pack(from_values, pitch, length, padded.keys, size, staged);
            transpose::<S>(staged.cast(), padded.keys, half, values_across.cast());
            pack(from_keys, pitch, length, padded.keys, size, staged);
            transpose::<S>(staged.cast(), padded.keys, half, keys_across.cast());
            zip::<S, E>(from_keys, pitch, length, padded.keys, size, keys, width);
            std::ptr::write_bytes(grad_keys, 0, 2 * tall);
            let scale = 1.0 / (size as f32).sqrt();
            let reached = length.next_multiple_of(16);
            let along = |start: *mut Pair, row: usize, inner: usize| Left {
                start: start.cast_const(),
                row,
                inner,
            };
            let mut first = 0;
            while first < length {
                let count = CHUNK.min(length - first);
                let rows = count.next_multiple_of(TILE_ROWS);
                let token = head.first_token + first;
                let offset = token * hidden + head.head * size;
                let from = base.add(first * pitch);
                let grad_from = self.grad_context.as_ptr().add(offset);
                pack(from, pitch, count, rows, size, queries);
                pack(grad_from, hidden, count, rows, size, grad_out);
                zip::<S, E>(from, pitch, count, CHUNK, size, query_pairs, width);
                zip::<S, E>(grad_from, hidden, count, CHUNK, size, grad_out_pairs, width);
                for (left, right, out) in [
                    (queries, keys_across, probs),
                    (grad_out, values_across, grad_scores),
                ] {
                    product::<S, Pair, false>(
                        rows,
                        size / 2,
                        reached,
                        along(left, half, 1),
                        right,
                        padded.keys,
                        out,
                        stride,
                    );
                }
                for row in (0..count).step_by(2) {
                    ahead.fetch_row();
                    ahead.fetch_row();
                    let both = [row, row + 1].map(|row| {
                        (row < count)
                            .then(|| self.row::<S>(head, first + row, offset + row * hidden))
                    });
                    self.two_rows::<S>(
                        both,
                        scale,
                        length,
                        stride,
                        probs.add(row * stride),
                        grad_scores.add(row * stride),
                        prob_pairs.add(row / 2 * stride),
                        grad_pairs.add(row / 2 * stride),
                        grad_rows.add(row * stride / 2),
                    );
                }
                product::<S, Pair, false>(
                    rows,
                    length.div_ceil(2),
                    width,
                    along(grad_rows, stride / 2, 1),
                    keys,
                    width,
                    grad_queries,
                    width,
                );
                let to = place.add(first * pitch);
                unpack::<S, E>(grad_queries, width, count, size, scale, to, pitch);
                for (left, right, out) in [
                    (prob_pairs, grad_out_pairs, grad_values),
                    (grad_pairs, query_pairs, grad_keys),
                ] {
                    product::<S, Pair, true>(
                        length.next_multiple_of(TILE_ROWS),
                        count.div_ceil(2),
                        width,
                        along(left, 1, stride),
                        right,
                        width,
                        out,
                        width,
                    );
                }
                first += CHUNK;
            }
            let keep = self.dropout.map_or(1.0, |dropout| dropout.scale);
            let to = place.add(hidden);
            unpack::<S, E>(grad_keys, width, length, size, scale, to, pitch);
            let to = place.add(2 * hidden);
            unpack::<S, E>(grad_values, width, length, size, keep, to, pitch);
        }
    }

    #[inline(always)]
    unsafe fn row<S: Simd>(&self, head: Head, position: usize, offset: usize) -> Row {
        let size = self.shape.head_size;
        let token = head.first_token + position;
        // SAFETY: a head's part of a row begins at the offset.
        let delta = unsafe {
            let grad = self.grad_context.as_ptr().add(offset);
            dot::<S, E>(grad, self.context.as_ptr().add(offset), size)
        };
        Row {
            log_sum: self.log_sums[token * self.shape.num_heads + head.head],
            delta,
            bits: self.dropout.map_or(0, |dropout| {
                dropout.row(row_counter(self.shape, head, position))
            }),
        }
    }

    /// Two rows of products of queries with keys and of the context's gradient with values to the
    /// kept probabilities and the scores' gradient, P ∘ (M ∘ dP - δ), as pairs of both rows, the
    /// latter as rows too. A missing row is one of zeros.
    #[inline(always)]
    unsafe fn two_rows<S: Simd>(
        &self,
        both: [Option<Row>; 2],
        scale: f32,
        length: usize,
        stride: usize,
        scores: *const f32,
        grads: *const f32,
        prob_pairs: *mut Pair,
        grad_pairs: *mut Pair,
        grad_rows: *mut Pair,
    ) {
        // SAFETY: a row has `stride` elements, and column keys reach as far as whole units do.
        unsafe {
            let zero = S::splat(0.0);
            let scale = S::splat(scale);
            let keep = S::splat(self.dropout.map_or(1.0, |dropout| dropout.scale));
            let mut column = 0;
            while column < length {
                // Per row, of two neighbouring vectors.
                let mut probs = [[zero; 2]; 2];
                let mut results = [[zero; 2]; 2];
                for (r, row) in both.iter().enumerate() {
                    let Some(row) = row else { continue };
                    let shift = S::splat(-row.log_sum);
                    let delta = S::splat(row.delta);
                    let mut inside = [zero; 2];
                    let mut grad = [zero; 2];
                    for h in 0..2 {
                        let at = r * stride + column + h * S::LANES;
                        inside[h] = exp::<S>(S::fma(S::load(scores.add(at)), scale, shift));
                        grad[h] = S::mul(S::load(grads.add(at)), keep);
                    }
                    probs[r] = inside;
                    if let Some(dropout) = self.dropout {
                        let pairs = self.columns.as_ptr().add(column / 2);
                        let (m, n) = kept::<S>(S::splat_int(row.bits), pairs, dropout.limit);
                        grad = [S::select(m, grad[0], zero), S::select(n, grad[1], zero)];
                        probs[r] = [S::select(m, inside[0], zero), S::select(n, inside[1], zero)];
                    }
                    for h in 0..2 {
                        results[r][h] = S::mul(inside[h], S::sub(grad[h], delta));
                        let row: *mut u16 = grad_rows.add(r * stride / 2).cast();
                        S::store_bf16(row.add(column + h * S::LANES), results[r][h]);
                    }
                }
                for h in 0..2 {
                    let at = column + h * S::LANES;
                    S::store_pairs(prob_pairs.add(at).cast(), probs[0][h], probs[1][h]);
                    S::store_pairs(grad_pairs.add(at).cast(), results[0][h], results[1][h]);
                }
                column += 2 * S::LANES;
            }
        }
    }
}
