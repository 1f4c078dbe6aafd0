//! Which tokens are to be predicted and what stands in their place, as `raybert.samples.masking`.

use crate::hash::{below, draw};

const DRAWS_PER_WORD: usize = 4;
const REPLACEMENT: u64 = 1 << 20;
const FALLBACK: u64 = 1 << 21;
/// 80 % and 90 % of 2¹⁶: below the one `[MASK]`, below the other a random token.
const MASK_BELOW: u64 = 52_429;
const RANDOM_BELOW: u64 = MASK_BELOW + 6_554;

/// Ids that every sample has.
#[derive(Clone, Copy, Debug)]
pub struct Special {
    /// The first token.
    pub cls: i64,
    /// What ends a segment.
    pub sep: i64,
    /// What stands in place of most chosen tokens.
    pub mask: i64,
}

/// How tokens are chosen and replaced.
#[derive(Clone, Copy, Debug)]
pub struct Masking<'a> {
    /// Ids that every sample has.
    pub special: Special,
    /// Chance of a token, or of a word, in steps of 2⁻¹⁶.
    pub rate: u16,
    /// By id, not 0 for those that are never chosen.
    pub never_masked: &'a [u8],
    /// The ids that a random token is drawn from.
    pub replacements: &'a [i64],
    /// By id, not 0 for those that go on with a word; then whole words are chosen.
    pub continuation: Option<&'a [u8]>,
}

impl Masking<'_> {
    /// Chooses columns of one sample, ascending; at least one if any may be chosen.
    ///
    /// # Panics
    ///
    /// Where an id is outside the tables.
    pub(crate) fn choose(&self, ids: &[i64], key: u64, scratch: &mut Scratch) {
        let Scratch {
            draws,
            chosen,
            starts,
        } = scratch;
        fill(draws, ids.len(), key);
        if self.continuation.is_some() {
            self.word_starts(ids, starts);
            let starts = starts.iter();
            keep(
                chosen,
                starts.map(|&start| draws[start as usize] < self.rate),
            );
        } else {
            keep(chosen, draws.iter().map(|&bits| bits < self.rate));
        }
        chosen.retain(|&column| self.may_choose(ids[column as usize]));
        if chosen.is_empty() {
            self.choose_one(ids, key, scratch);
        }
    }

    /// What stands in place of a chosen token.
    pub(crate) fn replaced(&self, id: i64, column: u32, key: u64) -> i64 {
        let bits = draw(key, u64::from(column) + REPLACEMENT);
        let choice = bits & 0xFFFF;
        // Looked up always: chance decides, so a branch would be mispredicted.
        let random = self.replacements[below(bits, self.replacements.len() as u64) as usize];
        if choice < MASK_BELOW {
            self.special.mask
        } else if choice < RANDOM_BELOW {
            random
        } else {
            id
        }
    }

    fn may_choose(&self, id: i64) -> bool {
        self.never_masked[id as usize] == 0
    }

    /// One token, or one word; every token as likely.
    fn choose_one(&self, ids: &[i64], key: u64, scratch: &mut Scratch) {
        let Scratch { chosen, starts, .. } = scratch;
        keep(chosen, ids.iter().map(|&id| self.may_choose(id)));
        if chosen.is_empty() {
            return;
        }
        let rank = below(draw(key, FALLBACK), chosen.len() as u64) as usize;
        let hit = chosen[rank];
        if self.continuation.is_some() {
            chosen.retain(|&column| starts[column as usize] == starts[hit as usize]);
        } else {
            chosen.clear();
            chosen.push(hit);
        }
    }

    /// The column where each token's word begins. The one after a special token begins a word.
    fn word_starts(&self, ids: &[i64], starts: &mut Vec<u32>) {
        let Some(continuation) = self.continuation else {
            return;
        };
        starts.clear();
        let (mut start, mut after_special) = (0, true);
        for (column, &id) in (0u32..).zip(ids) {
            if after_special || continuation[id as usize] == 0 {
                start = column;
            }
            after_special = !self.may_choose(id);
            starts.push(start);
        }
    }
}

/// Memory used again from sample to sample.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    draws: Vec<u16>,
    starts: Vec<u32>,
    /// The columns that were chosen.
    pub(crate) chosen: Vec<u32>,
}

/// 16 random bits per column; four come from one draw.
fn fill(draws: &mut Vec<u16>, num_columns: usize, key: u64) {
    draws.resize(num_columns.next_multiple_of(DRAWS_PER_WORD), 0);
    for (word, four) in (0u64..).zip(draws.chunks_exact_mut(DRAWS_PER_WORD)) {
        let bits = draw(key, word);
        for (i, column) in four.iter_mut().enumerate() {
            *column = (bits >> (16 * i)) as u16;
        }
    }
    draws.truncate(num_columns);
}

/// The columns that are wanted. Written always and counted sometimes: chance decides, so a branch
/// would be mispredicted.
fn keep(chosen: &mut Vec<u32>, wanted: impl ExactSizeIterator<Item = bool>) {
    chosen.resize(wanted.len(), 0);
    let mut count = 0;
    for (column, is_wanted) in (0u32..).zip(wanted) {
        chosen[count] = column;
        count += usize::from(is_wanted);
    }
    chosen.truncate(count);
}
