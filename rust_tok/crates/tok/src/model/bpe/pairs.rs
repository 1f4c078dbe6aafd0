//! Which pairs merge, and when: one look at memory per pair.

use crate::hash::FastMap;

/// Merges by pair of ids. A slot is 8 bytes, so that the table of 30,000 merges is half a megabyte
/// and stays in the second cache.
///
/// The 48 bits of a pair of ids are multiplied by an odd number modulo 2^48, which loses nothing.
/// The highest bits of the product tell a bucket of two slots, and a slot holds the other ones: so
/// these tell the pair without a doubt. Most pairs that are asked for don't merge; whether a bucket
/// has them is found without a branch. A pair whose bucket is full goes to a map, which only pairs
/// of marked buckets are looked for in.
#[derive(Debug)]
pub(super) struct PairTable {
    buckets: Box<[[u64; 2]]>,
    /// The lowest bits of a product, those that a slot holds.
    num_stored: u32,
    crowded: FastMap<u64, u32>,
}

const MULTIPLIER: u64 = 0x9E37_79B9_7F4B;
const PRODUCT_BITS: u32 = 48;
const RANK_BITS: u32 = 24;
/// The rank of no pair.
const NONE: u64 = (1 << RANK_BITS) - 1;
/// In the first slot of a bucket: there is more in the map.
const MARK: u64 = 1 << 63;
/// A slot has room for the mark with so many buckets.
const MIN_BUCKET_BITS: u32 = 9;

#[inline(always)]
fn product(left: u32, right: u32) -> u64 {
    let pair = u64::from(left) << 24 | u64::from(right);
    pair.wrapping_mul(MULTIPLIER) & ((1 << PRODUCT_BITS) - 1)
}

impl PairTable {
    /// Of pairs by rank; a pair that comes again has its last rank. Ids and ranks have 24 bits.
    pub(super) fn new(pairs: &[(u32, u32)]) -> Self {
        let bits = (pairs.len().next_power_of_two().ilog2()).max(MIN_BUCKET_BITS);
        let mut table = Self {
            buckets: vec![[NONE; 2]; 1 << bits].into(),
            num_stored: PRODUCT_BITS - bits,
            crowded: FastMap::default(),
        };
        for (rank, &(left, right)) in (0..).zip(pairs) {
            table.insert(product(left, right), rank);
        }
        table
    }

    fn insert(&mut self, product: u64, rank: u32) {
        let stored = self.stored(product);
        let bucket = &mut self.buckets[(product >> self.num_stored) as usize];
        let mask = (1 << self.num_stored) - 1;
        let own = |slot: u64| slot >> RANK_BITS & mask == stored || slot & NONE == NONE;
        match bucket.iter_mut().find(|slot| own(**slot)) {
            Some(slot) => *slot = *slot & MARK | stored << RANK_BITS | u64::from(rank),
            None => {
                bucket[0] |= MARK;
                self.crowded.insert(product, rank);
            }
        }
    }

    #[inline(always)]
    fn stored(&self, product: u64) -> u64 {
        product & ((1 << self.num_stored) - 1)
    }

    /// The rank of a pair; [`u32::MAX`] for one that doesn't merge.
    #[inline(always)]
    pub(super) fn rank(&self, left: u32, right: u32) -> u32 {
        let product = product(left, right);
        let stored = self.stored(product);
        let [first, second] = self.buckets[(product >> self.num_stored) as usize];
        let mut rank = NONE;
        for slot in [second, first] {
            if self.stored(slot >> RANK_BITS) == stored {
                rank = slot & NONE;
            }
        }
        if rank != NONE {
            return rank as u32;
        }
        if first & MARK != 0 {
            return self.crowded_rank(product);
        }
        u32::MAX
    }

    #[cold]
    fn crowded_rank(&self, product: u64) -> u32 {
        self.crowded.get(&product).copied().unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    /// Pairs that all belong to one bucket of a table of the smallest size.
    #[test]
    fn a_crowded_bucket_keeps_all_of_its_pairs() {
        let crowded = |&(left, right): &(u32, u32)| product(left, right) >> 39 == 7;
        let all = (0..300).flat_map(|left| (0..300).map(move |right| (left, right)));
        let pairs: Vec<_> = all.filter(crowded).take(100).collect();
        let table = PairTable::new(&pairs);
        for (rank, &(left, right)) in (0..).zip(&pairs) {
            assert_eq!(table.rank(left, right), rank);
            assert_eq!(table.rank(left + 1000, right), u32::MAX);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 2 } else { 64 }))]

        #[test]
        fn a_pair_has_its_last_rank(
            pairs in prop::collection::vec(
                prop_oneof![(0u32..40, 0u32..40), (0u32..1 << 24, 0u32..1 << 24)], 0..3000,
            ),
            others in prop::collection::vec((0u32..50, 0u32..50), 100),
        ) {
            let table = PairTable::new(&pairs);
            let expected: HashMap<_, _> = pairs.iter().copied().zip(0u32..).collect();
            for pair in pairs.iter().chain(&others) {
                let rank = expected.get(pair).copied().unwrap_or(u32::MAX);
                prop_assert_eq!(table.rank(pair.0, pair.1), rank);
            }
        }
    }
}
