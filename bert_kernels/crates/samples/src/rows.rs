//! Which tokens each sample takes, as `raybert.samples.window`.

use std::ops::Range;

use crate::hash::draw;

const NEXT: i32 = 0;
const NOT_NEXT: i32 = 1;
const NOT_COUNTED: i32 = -100;
/// A borrowed second half takes at least this part of the limit.
const LEAST_BORROWED: i64 = 8;

/// Some shards' chunks as samples of one epoch.
#[derive(Clone, Copy, Debug)]
pub struct Window<'a> {
    /// Numbers of the N shards.
    pub shard_numbers: &'a [i64],
    /// Where each shard's chunks begin among all, N + 1.
    pub first_chunk: &'a [i64],
    /// The chunk's first token in its shard.
    pub start: &'a [i32],
    /// Where its second half begins; its end where it has none.
    pub cut: &'a [i32],
    /// The place after its last token.
    pub end: &'a [i32],
    /// The chunk whose second half follows; itself where nothing was exchanged.
    pub partner: &'a [i32],
    /// The chunks in the order of the samples.
    pub order: &'a [i32],
    /// Tokens of a sample at most, special ones left out.
    pub limit: i64,
    /// From this key comes each sample's own.
    pub sample_key: u64,
    /// From this one the side that is truncated.
    pub truncation_key: u64,
}

/// Neighbouring tokens of a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// The shard's place in a list of them.
    pub shard: u32,
    /// Its first token.
    pub start: u32,
    /// Its tokens.
    pub len: u32,
}

/// What one sample is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// The masks are drawn from it.
    pub key: u64,
    /// 0 = the true second half, 1 = another one, -100 = there is none.
    pub label: i32,
    /// What follows `[CLS]`.
    pub first: Segment,
    /// What follows the first `[SEP]`; empty where there is none.
    pub second: Segment,
}

impl Row {
    /// Tokens with the special ones.
    #[must_use]
    pub fn num_tokens(&self) -> usize {
        let num_special = if self.second.len > 0 { 3 } else { 2 };
        (self.first.len + self.second.len + num_special) as usize
    }
}

/// The samples at some places of a window.
///
/// # Panics
///
/// Where the window has no such places, or its columns contradict each other.
pub fn rows<'a>(
    window: &'a Window<'_>,
    places: Range<usize>,
    first_shard: usize,
) -> impl Iterator<Item = Row> + 'a {
    let chunks = window.order[places].iter();
    chunks.map(move |&chunk| row(window, chunk as usize, first_shard))
}

fn row(window: &Window<'_>, chunk: usize, first_shard: usize) -> Row {
    let slot = window.slot_of(chunk);
    let number = window.shard_numbers[slot] as u64;
    let counter = (number << 32).wrapping_add((chunk as i64 - window.first_chunk[slot]) as u64);
    let (start, cut) = (i64::from(window.start[chunk]), i64::from(window.cut[chunk]));
    let is_single = window.cut[chunk] == window.end[chunk];

    let partner = window.partner[chunk] as usize;
    let is_exchanged = partner != chunk;
    let (partner_cut, partner_end) = (window.cut[partner], window.end[partner]);
    // A partner of one sentence lends all of it. Who keeps a cut at the end has no second half.
    let lends_all = is_exchanged && partner_cut == partner_end;
    let second_start = i64::from(if lends_all {
        window.start[partner]
    } else {
        partner_cut
    });
    let label = match (is_exchanged, is_single) {
        (true, _) => NOT_NEXT,
        (false, true) => NOT_COUNTED,
        (false, false) => NEXT,
    };
    let coins = draw(window.truncation_key, counter);
    let (first, second) = truncated(
        (start, cut - start),
        (second_start, i64::from(partner_end) - second_start),
        is_single,
        window.limit,
        coins,
    );
    let segment = |slot: usize, (start, len): (i64, i64)| Segment {
        shard: (first_shard + slot) as u32,
        start: start as u32,
        len: len as u32,
    };
    Row {
        key: draw(window.sample_key, counter),
        label,
        first: segment(slot, first),
        second: segment(window.slot_of(partner), second),
    }
}

impl Window<'_> {
    fn slot_of(&self, chunk: usize) -> usize {
        self.first_chunk
            .partition_point(|&first| first <= chunk as i64)
            - 1
    }
}

/// Start and length of both segments, the longer one shortened until both fit.
fn truncated(
    (first_start, first): (i64, i64),
    (second_start, second): (i64, i64),
    is_single: bool,
    limit: i64,
    coins: u64,
) -> ((i64, i64), (i64, i64)) {
    let second = if is_single {
        second.min((limit - first).max(limit / LEAST_BORROWED))
    } else {
        second
    };
    let small = limit / 2;
    let kept_first = if first + second <= limit {
        first
    } else if second <= small {
        first.min(limit - second)
    } else {
        first.min(limit - small)
    };
    let kept_second = second.min(limit - kept_first);
    let front = |coin: u64, taken: i64| if coin & 1 == 1 { taken } else { 0 };
    (
        (first_start + front(coins, first - kept_first), kept_first),
        (
            second_start + front(coins >> 1, second - kept_second),
            kept_second,
        ),
    )
}
