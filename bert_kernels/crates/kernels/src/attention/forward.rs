//! The forward pass: scores of a chunk of queries, their softmax and dropout, the context.

use super::ahead::Ahead;
use super::lines::{drop_columns, exponentials, pack, transpose};
use super::{CHUNK, Head, Padded, Shape, column_keys, head_rows, pairs, row_counter};
use crate::biased::Biased;
use crate::dropout::Dropout;
use crate::elements::{Element, store_some};
use crate::kernel::Kernel;
use crate::parallel::{Scratch, Shared, Team, execute};
use crate::product::{Left, TILE_ROWS, product};
use crate::simd::Simd;

/// Attention of a whole batch.
///
/// # Arguments
///
/// * `qkv`: (T, 3 D), queries, keys and values of every token, and their bias if it isn't in them.
/// * `context`: (T, D), written.
/// * `log_sums`: (T, heads), written: logarithms of the sums of exponentials, for the backward pass.
pub fn attention_forward<E: Element>(
    team: &dyn Team,
    shape: Shape<'_>,
    dropout: Option<Dropout>,
    qkv: Biased<'_, E>,
    context: &mut [E],
    log_sums: &mut [f32],
) {
    let tokens = shape.num_tokens();
    assert_eq!(qkv.rows(3 * shape.hidden_size()), tokens);
    assert_eq!(context.len(), tokens * shape.hidden_size());
    assert_eq!(log_sums.len(), tokens * shape.num_heads);
    let kernel = Forward {
        shape,
        dropout,
        columns: column_keys(dropout, shape),
        qkv,
        context: Shared::new(context),
        log_sums: Shared::new(log_sums),
    };
    execute(team, &kernel);
}

pub(super) struct Forward<'a, E> {
    pub(super) shape: Shape<'a>,
    pub(super) dropout: Option<Dropout>,
    pub(super) columns: Vec<u32>,
    pub(super) qkv: Biased<'a, E>,
    pub(super) context: Shared<E>,
    pub(super) log_sums: Shared<f32>,
}

impl<E: Element> Kernel for Forward<'_, E> {
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
        let mut scratch =
            Scratch::take(2 * square + 2 * CHUNK * padded.width + CHUNK * padded.keys);
        // SAFETY: the slices were checked to hold all tokens; a head of a sequence has its own
        // rows and columns of the outputs; the parts of the scratch memory follow one another.
        unsafe {
            let keys = scratch.start();
            let values = keys.add(square);
            let queries = values.add(square);
            let out = queries.add(CHUNK * padded.width);
            let scores = out.add(CHUNK * padded.width);
            let [from_queries, from_keys, from_values] = head_rows(self.qkv, self.shape, head);
            let length = head.length;
            // The place of the values is free until the keys are across.
            pack::<S, E>(
                from_keys,
                length,
                padded.keys,
                size,
                1.0,
                values,
                padded.width,
            );
            transpose::<S>(values, padded.keys, padded.width, keys);
            pack::<S, E>(
                from_values,
                length,
                padded.keys,
                size,
                1.0,
                values,
                padded.width,
            );
            let reached = length.next_multiple_of(16);
            let scale = 1.0 / (size as f32).sqrt();
            let mut first = 0;
            while first < head.length {
                let count = CHUNK.min(head.length - first);
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
                    keys,
                    padded.keys,
                    scores,
                    padded.keys,
                );
                let mut factors = [0.0_f32; CHUNK];
                for (row, factor) in factors.iter_mut().enumerate().take(count) {
                    ahead.fetch_row();
                    let line = scores.add(row * padded.keys);
                    let (highest, sum) = exponentials::<S>(line, head.length, padded.keys);
                    let token = head.first_token + first + row;
                    *self.log_sums.at(token * heads + head.head) = highest + sum.ln();
                    *factor = 1.0 / sum;
                    if let Some(dropout) = self.dropout {
                        *factor *= dropout.scale;
                        let bits = dropout.row(self.row_counter(head, first + row));
                        drop_columns::<S>(line, padded.keys, bits, &self.columns, dropout.limit);
                    }
                }
                let left = Left {
                    start: scores,
                    row: padded.keys,
                    inner: 1,
                };
                product::<S, f32, false>(
                    rows,
                    head.length,
                    padded.width,
                    left,
                    values,
                    padded.width,
                    out,
                    padded.width,
                );
                for (row, &factor) in factors.iter().enumerate().take(count) {
                    let token = head.first_token + first + row;
                    let place = self.context.at(token * hidden + head.head * size);
                    let factor = S::splat(factor);
                    let mut column = 0;
                    while column < size {
                        let x = S::load(out.add(row * padded.width + column));
                        store_some::<S, E>(place.add(column), S::mul(x, factor), size - column);
                        column += S::LANES;
                    }
                }
                first += CHUNK;
            }
        }
    }
}

/// Of queries, keys, values and the context.
pub(super) type ForwardRows<E> = Ahead<E, 4>;

impl<E: Element> Forward<'_, E> {
    fn ahead(&self, next: Option<Head>) -> ForwardRows<E> {
        let [queries, keys, values] = self.shape.parts(self.qkv.values.as_ptr());
        let context = (self.context.start(), self.shape.hidden_size());
        Ahead::new(next, self.shape.head_size, [keys, values, queries, context])
    }

    #[inline(always)]
    fn row_counter(&self, head: Head, position: usize) -> u32 {
        row_counter(self.shape, head, position)
    }
}
