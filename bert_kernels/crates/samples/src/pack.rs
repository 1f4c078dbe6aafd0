//! Micro-shards: tokens gathered, masked and laid end to end, as `raybert.samples.packing`.

use std::ops::Range;

use crate::deal::Dealt;
use crate::masking::{Masking, Scratch, Special};
use crate::rows::{Row, Segment};

/// The token ids of a shard.
#[derive(Clone, Copy, Debug)]
pub enum Ids<'a> {
    /// Where the vocabulary fits.
    Narrow(&'a [u16]),
    /// Where it doesn't.
    Wide(&'a [u32]),
}

impl Ids<'_> {
    fn copy(&self, segment: Segment, to: &mut [i64]) {
        let start = segment.start as usize;
        let places = start..start + segment.len as usize;
        match self {
            Self::Narrow(ids) => widen(&ids[places], to),
            Self::Wide(ids) => widen(&ids[places], to),
        }
    }
}

fn widen<T: Copy + Into<i64>>(ids: &[T], to: &mut [i64]) {
    for (to, &id) in to.iter_mut().zip(ids) {
        *to = id.into();
    }
}

/// Where micro-shards go, all of them one after the other.
#[derive(Debug)]
pub struct Packed<'a> {
    /// Token ids, T.
    pub input_ids: &'a mut [i64],
    /// Place of each in its sample, T.
    pub position_ids: &'a mut [i64],
    /// Segment of each, T.
    pub token_type_ids: &'a mut [i64],
    /// Running sum of lengths from 0 on for each micro-shard: samples + micro-shards.
    pub cu_seqlens: &'a mut [i32],
    /// By sample: is the second segment the true one?
    pub next_sentence_labels: &'a mut [i64],
    /// Room for 2 T: the places of M masked tokens in their micro-shards, then the M ids that stood
    /// there.
    pub masked: &'a mut [i64],
}

/// Rows whose tokens are gathered before any of them is masked: loads that wait for memory overlap.
const BLOCK: usize = 16;

/// Builds the micro-shards; gives the masked tokens of each.
///
/// # Panics
///
/// Where a row names tokens that aren't there, or what is to be written has another size.
pub fn pack(
    dealt: &Dealt,
    shards: &[Ids<'_>],
    masking: &Masking<'_>,
    mut out: Packed<'_>,
) -> Vec<usize> {
    let num_tokens = out.input_ids.len();
    assert_eq!(out.masked.len(), 2 * num_tokens);
    assert_eq!(out.next_sentence_labels.len(), dealt.rows.len());
    assert_eq!(out.cu_seqlens.len(), dealt.rows.len() + dealt.sizes.len());
    let mut scratch = Scratch::default();
    let mut counts = Vec::with_capacity(dealt.sizes.len());
    let (mut sample, mut token, mut num_masked) = (0, 0, 0);
    for (k, part) in dealt.parts().enumerate() {
        let (first_token, first_masked) = (token, num_masked);
        out.cu_seqlens[sample + k] = 0;
        for block in part.chunks(BLOCK) {
            let mut begin = token;
            for row in block {
                let end = token + row.num_tokens();
                out.lay(row, token..end, shards, masking.special);
                out.next_sentence_labels[sample] = row.label.into();
                sample += 1;
                out.cu_seqlens[sample + k] = (end - first_token) as i32;
                token = end;
            }
            for row in block {
                let end = begin + row.num_tokens();
                masking.choose(&out.input_ids[begin..end], row.key, &mut scratch);
                for &column in &scratch.chosen {
                    let place = begin + column as usize;
                    let id = out.input_ids[place];
                    out.masked[num_masked] = (place - first_token) as i64;
                    out.masked[num_tokens + num_masked] = id;
                    out.input_ids[place] = masking.replaced(id, column, row.key);
                    num_masked += 1;
                }
                begin = end;
            }
        }
        counts.push(num_masked - first_masked);
    }
    assert_eq!(token, num_tokens);
    let labels = num_tokens..num_tokens + num_masked;
    out.masked.copy_within(labels, num_masked);
    counts
}

impl Packed<'_> {
    /// `[CLS] first [SEP]`, or `[CLS] first [SEP] second [SEP]`, with positions and segments.
    fn lay(&mut self, row: &Row, tokens: Range<usize>, shards: &[Ids<'_>], special: Special) {
        let (first, second) = (row.first, row.second);
        let first_end = first.len as usize + 2;
        let ids = &mut self.input_ids[tokens.clone()];
        let last = ids.len() - 1;
        ids[0] = special.cls;
        shards[first.shard as usize].copy(first, &mut ids[1..]);
        ids[first_end - 1] = special.sep;
        if second.len > 0 {
            shards[second.shard as usize].copy(second, &mut ids[first_end..]);
            ids[last] = special.sep;
        }
        let positions = self.position_ids[tokens.clone()].iter_mut();
        positions
            .enumerate()
            .for_each(|(column, to)| *to = column as i64);
        let types = &mut self.token_type_ids[tokens];
        types[..first_end].fill(0);
        types[first_end..].fill(1);
    }
}
