//! Attention over packed sequences with dropout on the probabilities, forward and backward.
//!
//! A task is one head of one sequence. Scores are made for a chunk of queries at a time, in this
//! core's cache, and made again in the backward pass from the logarithm of their sum (Dao et al.
//! 2022, "FlashAttention"); nothing quadratic in the length is kept.

use crate::dropout::{Dropout, kept};
use crate::elements::{Element, load_some, store_some};
use crate::math::exp;
use crate::parallel::{Kernel, Scratch, Shared, Team, execute};
use crate::product::{Left, TILE_ROWS, product};
use crate::simd::Simd;

/// Queries of a chunk: a multiple of the tile's rows, with scores of 512 keys inside the L2 cache.
const CHUNK: usize = 60;
/// Lanes of two vectors of the widest instruction set: dropout makes that many bits at once.
const COLUMN_UNIT: usize = 32;

/// Where sequences and heads lie.
#[derive(Clone, Copy, Debug)]
pub struct Shape<'a> {
    /// Running sum of the lengths, from 0.
    pub offsets: &'a [i32],
    /// Heads.
    pub num_heads: usize,
    /// Width of one head.
    pub head_size: usize,
    /// The longest sequence that the model takes; it spaces the dropout counters.
    pub max_length: usize,
}

impl Shape<'_> {
    fn num_sequences(&self) -> usize {
        self.offsets.len() - 1
    }

    fn num_tokens(&self) -> usize {
        self.offsets[self.num_sequences()] as usize
    }

    fn hidden_size(&self) -> usize {
        self.num_heads * self.head_size
    }

    fn longest(&self) -> usize {
        let lengths = self.offsets.windows(2).map(|pair| pair[1] - pair[0]);
        lengths.max().unwrap_or(0) as usize
    }

    fn task(&self, task: usize) -> Head {
        // Batches are sorted by length: the long ones first, so that no thread ends up alone.
        let sequence = self.num_sequences() - 1 - task / self.num_heads;
        let first_token = self.offsets[sequence] as usize;
        Head {
            sequence,
            head: task % self.num_heads,
            first_token,
            length: self.offsets[sequence + 1] as usize - first_token,
        }
    }
}

#[derive(Clone, Copy)]
struct Head {
    sequence: usize,
    head: usize,
    first_token: usize,
    length: usize,
}

/// Sizes of a task's matrices in scratch memory.
#[derive(Clone, Copy)]
struct Padded {
    /// Row length of matrices over keys.
    keys: usize,
    /// Rows of matrices with one row per key.
    key_rows: usize,
    /// Row length of matrices over a head.
    width: usize,
}

impl Padded {
    fn of(length: usize, head_size: usize) -> Self {
        let keys = length.next_multiple_of(COLUMN_UNIT);
        Self {
            keys,
            key_rows: keys.next_multiple_of(TILE_ROWS),
            width: head_size.next_multiple_of(16),
        }
    }
}

/// Attention of a whole batch.
///
/// # Arguments
///
/// * `qkv`: (T, 3 D), queries, keys and values of every token.
/// * `context`: (T, D), written.
/// * `log_sums`: (T, heads), written: logarithms of the sums of exponentials, for the backward pass.
pub fn attention_forward<E: Element>(
    team: &dyn Team,
    shape: Shape<'_>,
    dropout: Option<Dropout>,
    qkv: &[E],
    context: &mut [E],
    log_sums: &mut [f32],
) {
    let tokens = shape.num_tokens();
    assert_eq!(qkv.len(), 3 * tokens * shape.hidden_size());
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

fn column_keys(dropout: Option<Dropout>, shape: Shape<'_>) -> Vec<u32> {
    let longest = shape.longest().next_multiple_of(COLUMN_UNIT);
    dropout.map_or_else(Vec::new, |dropout| dropout.columns(longest))
}

struct Forward<'a, E> {
    shape: Shape<'a>,
    dropout: Option<Dropout>,
    columns: Vec<u32>,
    qkv: &'a [E],
    context: Shared<E>,
    log_sums: Shared<f32>,
}

impl<E: Element> Kernel for Forward<'_, E> {
    fn num_tasks(&self) -> usize {
        self.shape.num_sequences() * self.shape.num_heads
    }

    #[inline(always)]
    unsafe fn run<S: Simd>(&self, task: usize) {
        let head = self.shape.task(task);
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
            let base = self
                .qkv
                .as_ptr()
                .add(head.first_token * 3 * hidden + head.head * size);
            let (length, pitch) = (head.length, 3 * hidden);
            // The place of the values is free until the keys are across.
            pack::<S, E>(
                base.add(hidden),
                pitch,
                length,
                padded.keys,
                size,
                1.0,
                values,
                padded.width,
            );
            transpose::<S>(values, padded.keys, padded.width, keys);
            pack::<S, E>(
                base.add(2 * hidden),
                pitch,
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
                let source = base.add(first * 3 * hidden);
                pack::<S, E>(
                    source,
                    3 * hidden,
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
                product::<S, false>(
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
                product::<S, false>(
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

impl<E> Forward<'_, E> {
    #[inline(always)]
    fn row_counter(&self, head: Head, position: usize) -> u32 {
        row_counter(self.shape, head, position)
    }
}

/// A row of probabilities is (sequence, head, query).
#[inline(always)]
fn row_counter(shape: Shape<'_>, head: Head, position: usize) -> u32 {
    let block = head.sequence * shape.num_heads + head.head;
    (block * shape.max_length + position) as u32
}

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
    qkv: &[E],
    context: &[E],
    log_sums: &[f32],
    grad_context: &[E],
    grad_qkv: &mut [E],
) {
    let tokens = shape.num_tokens();
    assert_eq!(qkv.len(), 3 * tokens * shape.hidden_size());
    assert_eq!(context.len(), tokens * shape.hidden_size());
    assert_eq!(log_sums.len(), tokens * shape.num_heads);
    assert_eq!(grad_context.len(), context.len());
    assert_eq!(grad_qkv.len(), qkv.len());
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

struct Backward<'a, E> {
    shape: Shape<'a>,
    dropout: Option<Dropout>,
    columns: Vec<u32>,
    qkv: &'a [E],
    context: &'a [E],
    log_sums: &'a [f32],
    grad_context: &'a [E],
    grad_qkv: Shared<E>,
}

impl<E: Element> Kernel for Backward<'_, E> {
    fn num_tasks(&self) -> usize {
        self.shape.num_sequences() * self.shape.num_heads
    }

    #[inline(always)]
    unsafe fn run<S: Simd>(&self, task: usize) {
        let head = self.shape.task(task);
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
            let base = self
                .qkv
                .as_ptr()
                .add(head.first_token * pitch + head.head * size);
            let place = self
                .grad_qkv
                .at(head.first_token * pitch + head.head * size);
            let length = head.length;
            // The place of the keys is free until the values are across.
            pack::<S, E>(
                base.add(2 * hidden),
                pitch,
                length,
                padded.keys,
                size,
                1.0,
                keys,
                padded.width,
            );
            transpose::<S>(keys, padded.keys, padded.width, values_across);
            pack::<S, E>(
                base.add(hidden),
                pitch,
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
                    base.add(first * pitch),
                    pitch,
                    count,
                    rows,
                    size,
                    scale,
                    queries,
                    padded.width,
                );
                let token = head.first_token + first;
                let offset = token * hidden + head.head * size;
                let source = self.grad_context.as_ptr().add(offset);
                let keep = self.dropout.map_or(1.0, |dropout| dropout.scale);
                // The factor of kept elements enters both of its uses here.
                pack::<S, E>(
                    source,
                    hidden,
                    count,
                    rows,
                    size,
                    keep,
                    grad_out,
                    padded.width,
                );
                let left = Left {
                    start: queries,
                    row: padded.width,
                    inner: 1,
                };
                product::<S, false>(
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
                product::<S, false>(
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
                product::<S, false>(
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
                product::<S, true>(
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
                product::<S, true>(
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

impl<E: Element> Backward<'_, E> {
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

/// A row of scores to exp(score - highest), zeros beyond its length; the highest, the sum.
#[inline(always)]
unsafe fn exponentials<S: Simd>(line: *mut f32, length: usize, padded: usize) -> (f32, f32) {
    // SAFETY: the row has `padded` elements, a multiple of the lanes.
    unsafe {
        for beyond in length..padded {
            *line.add(beyond) = f32::NEG_INFINITY;
        }
        let mut highest = S::load(line);
        let mut column = S::LANES;
        while column < length {
            highest = S::max(highest, S::load(line.add(column)));
            column += S::LANES;
        }
        let highest = S::highest(highest);
        let shift = S::splat(highest);
        let mut sum = S::splat(0.0);
        let mut column = 0;
        while column < length {
            let x = exp::<S>(S::sub(S::load(line.add(column)), shift));
            S::store(line.add(column), x);
            column += S::LANES;
            if column > length {
                for beyond in length..column {
                    *line.add(beyond) = 0.0;
                }
                sum = S::add(sum, S::load(line.add(column - S::LANES)));
            } else {
                sum = S::add(sum, x);
            }
        }
        (highest, S::sum(sum))
    }
}

/// Writes zeros over the elements of a row that are dropped.
#[inline(always)]
unsafe fn drop_columns<S: Simd>(
    line: *mut f32,
    padded: usize,
    bits: u32,
    columns: &[u32],
    limit: i16,
) {
    // SAFETY: the row and the column keys reach as far as `padded`, a multiple of the unit.
    unsafe {
        let row = S::splat_int(bits);
        let zero = S::splat(0.0);
        let mut column = 0;
        while column < padded {
            let (m, n) = kept::<S>(row, columns.as_ptr().add(column / 2), limit);
            let (at, next) = (line.add(column), line.add(column + S::LANES));
            S::store(at, S::select(m, S::load(at), zero));
            S::store(next, S::select(n, S::load(next), zero));
            column += 2 * S::LANES;
        }
    }
}

/// Copies (count, size) rows, multiplied, to rows of `width`; zeros in what is left up to `rows`.
#[inline(always)]
unsafe fn pack<S: Simd, E: Element>(
    from: *const E,
    pitch: usize,
    count: usize,
    rows: usize,
    size: usize,
    factor: f32,
    to: *mut f32,
    width: usize,
) {
    // SAFETY: the caller's matrices are as large as it says; the width is a multiple of 16.
    unsafe {
        let factor = S::splat(factor);
        for row in 0..count {
            let mut column = 0;
            while column < width {
                let left = size.saturating_sub(column);
                let x = load_some::<S, E>(from.add(row * pitch + column.min(size)), left);
                S::store(to.add(row * width + column), S::mul(x, factor));
                column += S::LANES;
            }
        }
        if rows > count {
            std::ptr::write_bytes(to.add(count * width), 0, (rows - count) * width);
        }
    }
}

/// Writes packed (rows, width) rows as (width, rows).
#[inline(always)]
unsafe fn transpose<S: Simd>(from: *const f32, rows: usize, width: usize, to: *mut f32) {
    let mut row = 0;
    while row < rows {
        let mut column = 0;
        while column < width {
            // SAFETY: the caller's matrices are as large as it says, both sides multiples of 16.
            unsafe {
                let block = from.add(row * width + column);
                S::transpose(block, width, to.add(column * rows + row), rows);
            }
            column += S::LANES;
        }
        row += S::LANES;
    }
}

/// Writes rows of `width` as (count, size) rows, multiplied.
#[inline(always)]
unsafe fn unpack<S: Simd, E: Element>(
    from: *const f32,
    width: usize,
    count: usize,
    size: usize,
    factor: f32,
    to: *mut E,
    pitch: usize,
) {
    // SAFETY: the caller's matrices are as large as it says.
    unsafe {
        let factor = S::splat(factor);
        for row in 0..count {
            let mut column = 0;
            while column < size {
                let x = S::mul(S::load(from.add(row * width + column)), factor);
                store_some::<S, E>(to.add(row * pitch + column), x, size - column);
                column += S::LANES;
            }
        }
    }
}

#[inline(always)]
unsafe fn dot<S: Simd, E: Element>(a: *const E, b: *const E, size: usize) -> f32 {
    // SAFETY: both have `size` elements.
    unsafe {
        let mut sum = S::splat(0.0);
        let mut column = 0;
        while column < size {
            let left = size - column;
            let x = load_some::<S, E>(a.add(column), left);
            sum = S::fma(x, load_some::<S, E>(b.add(column), left), sum);
            column += S::LANES;
        }
        S::sum(sum)
    }
}
