//! The forward pass with products of pairs of bfloat16.

use super::forward::{Forward, ForwardRows};
use super::lines::transpose;
use super::pairs::{pack, row_pairs, zip};
use super::{CHUNK, Head, Padded, row_counter};
use crate::dropout::kept;
use crate::elements::{Element, store_some};
use crate::math::exp;
use crate::parallel::Scratch;
use crate::product::{Left, Pair, TILE_ROWS, product};
use crate::simd::Simd;

impl<E: Element> Forward<'_, E> {
    /// # Safety
    ///
    /// The instruction set is there, `pairs::fit`, and no head is done twice.
    #[inline(always)]
    pub(super) unsafe fn run_in_pairs<S: Simd>(&self, head: Head, mut ahead: ForwardRows<E>) {
        let (heads, size, length) = (self.shape.num_heads, self.shape.head_size, head.length);
        let hidden = heads * size;
        let pitch = 3 * hidden;
        let padded = Padded::of(length, size);
        let (half, width) = (row_pairs(size), padded.width);
        let square = half * padded.keys;
        let zipped = padded.keys / 2 * width;
        let mut scratch = Scratch::take(
            2 * square + zipped + CHUNK * (half + padded.keys / 2 + width + padded.keys),
        );
        // SAFETY: the slices were checked to hold all tokens; a head of a sequence has its own
        // rows and columns of the outputs; the parts of the scratch memory follow one another.
        unsafe {
            let keys: *mut Pair = scratch.start().cast();
            let keys_across = keys.add(square);
            let values = keys_across.add(square);
            let queries = values.add(zipped);
            let probs = queries.add(CHUNK * half);
            let out: *mut f32 = probs.add(CHUNK * padded.keys / 2).cast();
            let scores = out.add(CHUNK * width);
            let base = self.qkv.values.as_ptr();
            let base = base.add(head.first_token * pitch + head.head * size);
            pack(base.add(hidden), pitch, length, padded.keys, size, keys);
            transpose::<S>(keys.cast(), padded.keys, half, keys_across.cast());
            let from = base.add(2 * hidden);
            zip::<S, E>(from, pitch, length, padded.keys, size, values, width);
            let mut first = 0;
            while first < length {
                let count = CHUNK.min(length - first);
                let rows = count.next_multiple_of(TILE_ROWS);
                pack(base.add(first * pitch), pitch, count, rows, size, queries);
                let left = Left {
                    start: queries.cast_const(),
                    row: half,
                    inner: 1,
                };
                product::<S, Pair, false>(
                    rows,
                    size / 2,
                    length.next_multiple_of(16),
                    left,
                    keys_across,
                    padded.keys,
                    scores,
                    padded.keys,
                );
                let mut factors = [0.0_f32; CHUNK];
                for (row, factor) in factors.iter_mut().enumerate().take(count) {
                    ahead.fetch_row();
                    *factor = self.probabilities::<S>(
                        head,
                        first + row,
                        scores.add(row * padded.keys),
                        probs.add(row * padded.keys / 2),
                        padded.keys,
                    );
                }
                let left = Left {
                    start: probs.cast_const(),
                    row: padded.keys / 2,
                    inner: 1,
                };
                product::<S, Pair, false>(
                    rows,
                    length.div_ceil(2),
                    width,
                    left,
                    values,
                    width,
                    out,
                    width,
                );
                for (row, &factor) in factors.iter().enumerate().take(count) {
                    let token = head.first_token + first + row;
                    let place = self.context.at(token * hidden + head.head * size);
                    let factor = S::splat(factor);
                    let mut column = 0;
                    while column < size {
                        let x = S::load(out.add(row * width + column));
                        store_some::<S, E>(place.add(column), S::mul(x, factor), size - column);
                        column += S::LANES;
                    }
                }
                first += CHUNK;
            }
        }
    }

    /// A row of products of a query with all keys to exp(score - highest), dropped out and rounded;
    /// the factor that makes them probabilities.
    #[inline(always)]
    unsafe fn probabilities<S: Simd>(
        &self,
        head: Head,
        position: usize,
        scores: *mut f32,
        probs: *mut Pair,
        padded: usize,
    ) -> f32 {
        // SAFETY: rows of scores and the column keys reach as far as `padded`, a multiple of two
        // vectors.
        unsafe {
            for beyond in head.length..padded {
                *scores.add(beyond) = f32::NEG_INFINITY;
            }
            let mut highest = S::load(scores);
            let mut column = S::LANES;
            while column < head.length {
                highest = S::max(highest, S::load(scores.add(column)));
                column += S::LANES;
            }
            let scale = 1.0 / (self.shape.head_size as f32).sqrt();
            let highest = S::highest(highest) * scale;
            let (shift, scale) = (S::splat(-highest), S::splat(scale));
            let zero = S::splat(0.0);
            let row = self.dropout.map(|dropout| {
                let counter = row_counter(self.shape, head, position);
                (S::splat_int(dropout.row(counter)), dropout.limit)
            });
            let mut sums = [zero; 2];
            let mut column = 0;
            // Beyond the row's end stand exponentials of the lowest number, which vanish in the sum
            // and are multiplied with zeros.
            while column < head.length {
                let mut both = [zero; 2];
                for half in 0..2 {
                    let score = S::load(scores.add(column + half * S::LANES));
                    both[half] = exp::<S>(S::fma(score, scale, shift));
                    sums[half] = S::add(sums[half], both[half]);
                }
                if let Some((bits, limit)) = row {
                    let (m, n) = kept::<S>(bits, self.columns.as_ptr().add(column / 2), limit);
                    both = [S::select(m, both[0], zero), S::select(n, both[1], zero)];
                }
                let place: *mut u16 = probs.add(column / 2).cast();
                S::store_bf16(place, both[0]);
                S::store_bf16(place.add(S::LANES), both[1]);
                column += 2 * S::LANES;
            }
            let sum = S::sum(S::add(sums[0], sums[1]));
            let token = head.first_token + position;
            *self.log_sums.at(token * self.shape.num_heads + head.head) = highest + sum.ln();
            self.dropout.map_or(1.0, |dropout| dropout.scale) / sum
        }
    }
}
