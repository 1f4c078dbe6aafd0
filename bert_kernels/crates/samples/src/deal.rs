//! Samples are dealt to micro-shards of about equally many tokens, as `raybert.samples.packing`.

use crate::rows::Row;

/// The samples of some micro-shards, one micro-shard after the other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dealt {
    /// In each micro-shard the longest first.
    pub rows: Vec<Row>,
    /// Samples of each.
    pub sizes: Vec<usize>,
}

impl Dealt {
    /// The rows of each micro-shard.
    pub fn parts(&self) -> impl Iterator<Item = &[Row]> {
        let mut rest = self.rows.as_slice();
        self.sizes.iter().map(move |&size| {
            let (part, others) = rest.split_at(size);
            rest = others;
            part
        })
    }
}

/// Deals from the longest to the shortest, forward through the micro-shards and back again, and
/// keeps the micro-shards that are asked for.
///
/// # Panics
///
/// Where a micro-shard is asked for that isn't there.
#[must_use]
pub fn deal(rows: &[Row], num_micro_shards: usize, which: &[usize]) -> Dealt {
    assert!(which.iter().all(|&k| k < num_micro_shards));
    let longest_first = longest_first(rows);
    let mut dealt = Dealt {
        rows: Vec::with_capacity(rows.len()),
        sizes: Vec::with_capacity(which.len()),
    };
    for &micro_shard in which {
        let before = dealt.rows.len();
        for (turn, hand) in longest_first.chunks(num_micro_shards).enumerate() {
            let forward = turn % 2 == 0;
            let seat = if forward {
                micro_shard
            } else {
                num_micro_shards - 1 - micro_shard
            };
            dealt
                .rows
                .extend(hand.get(seat).map(|&place| rows[place as usize]));
        }
        dealt.sizes.push(dealt.rows.len() - before);
    }
    dealt
}

/// Places of the rows by length, equal ones in their order: a counting sort.
fn longest_first(rows: &[Row]) -> Vec<u32> {
    let longest = rows.iter().map(Row::num_tokens).max().unwrap_or(0);
    // next[d]: where the next row that is d shorter than the longest one goes.
    let mut next = vec![0u32; longest + 2];
    for row in rows {
        next[longest - row.num_tokens() + 1] += 1;
    }
    for shorter in 1..next.len() {
        next[shorter] += next[shorter - 1];
    }
    let mut places = vec![0u32; rows.len()];
    for (place, row) in (0u32..).zip(rows) {
        let seat = &mut next[longest - row.num_tokens()];
        places[*seat as usize] = place;
        *seat += 1;
    }
    places
}
