//! Attention over packed sequences with dropout on the probabilities, forward and backward.
//!
//! A task is one head of one sequence. Scores are made for a chunk of queries at a time, in this
//! core's cache, and made again in the backward pass from the logarithm of their sum (Dao et al.
//! 2022, "FlashAttention"); nothing quadratic in the length is kept.
//!
//! Products run in float32. Where tensors are bfloat16 and the CPU multiplies pairs of it, they run
//! on pairs: probabilities and gradients of scores are rounded to bfloat16 first, as torch's
//! autocast has them; sums are float32 in either way.

mod ahead;
mod backward;
mod backward_pairs;
mod forward;
mod forward_pairs;
mod lines;
mod pairs;

use crate::biased::Biased;
use crate::dropout::Dropout;
use crate::product::TILE_ROWS;
use lines::HeadRows;

pub use backward::attention_backward;
pub use forward::attention_forward;

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

    /// Where queries, keys and values begin in (T, 3 D), and from one token to the next.
    fn parts<E>(&self, start: *const E) -> [(*const E, usize); 3] {
        let hidden = self.hidden_size();
        [0, 1, 2].map(|part| (start.wrapping_add(part * hidden), 3 * hidden))
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

/// A head's queries, keys and values.
fn head_rows<'a, E>(qkv: Biased<'a, E>, shape: Shape<'_>, head: Head) -> [HeadRows<'a, E>; 3] {
    let hidden = shape.hidden_size();
    let pitch = 3 * hidden;
    [0, 1, 2].map(|part| {
        let column = part * hidden + head.head * shape.head_size;
        HeadRows {
            start: qkv
                .values
                .as_ptr()
                .wrapping_add(head.first_token * pitch + column),
            pitch,
            bias: qkv.bias.map(|bias| &bias[column..][..shape.head_size]),
        }
    })
}

fn column_keys(dropout: Option<Dropout>, shape: Shape<'_>) -> Vec<u32> {
    let longest = shape.longest().next_multiple_of(COLUMN_UNIT);
    dropout.map_or_else(Vec::new, |dropout| dropout.columns(longest))
}

/// A row of probabilities is (sequence, head, query).
#[inline(always)]
fn row_counter(shape: Shape<'_>, head: Head, position: usize) -> u32 {
    let block = head.sequence * shape.num_heads + head.head;
    (block * shape.max_length + position) as u32
}
