//! Which pairs merge, and when: one word of memory per pair.

/// Merges by pair of ids. A slot is 8 bytes, so that the table of 30,000 merges is half a megabyte
/// and stays in the second cache.
///
/// The 48 bits of a pair of ids are multiplied by an odd number modulo 2^48, which loses nothing.
/// The highest bits of the product tell the slot, and the slot holds the lowest 40. The search for a
/// free slot never leaves the 2^8-th part of the table that the highest 8 bits name, so these and
/// the 40 tell the pair without a doubt.
#[derive(Debug)]
pub(super) struct PairTable {
    slots: Box<[u64]>,
    bits: u32,
}

const MULTIPLIER: u64 = 0x9E37_79B9_7F4B;
const PRODUCT: u64 = (1 << 48) - 1;
const STORED: u64 = (1 << 40) - 1;
const RANK_BITS: u32 = 24;
/// The rank of no pair.
const NONE: u64 = (1 << RANK_BITS) - 1;

#[inline(always)]
fn product(left: u32, right: u32) -> u64 {
    (u64::from(left) << 24 | u64::from(right)).wrapping_mul(MULTIPLIER) & PRODUCT
}

impl PairTable {
    /// Of pairs by rank; a pair that comes again has its last rank. Ids and ranks have 24 bits.
    pub(super) fn new(pairs: &[(u32, u32)]) -> Self {
        let mut bits = (2 * pairs.len().max(1 << 9)).next_power_of_two().ilog2();
        loop {
            if let Some(table) = Self::filled(pairs, bits) {
                return table;
            }
            bits += 1;
        }
    }

    /// `None` when a part of the table would be full: a search needs a free slot to end at.
    fn filled(pairs: &[(u32, u32)], bits: u32) -> Option<Self> {
        let mut table = Self {
            slots: vec![u64::MAX; 1 << bits].into(),
            bits,
        };
        let part = table.slots.len() >> 8;
        let mut taken = [0; 1 << 8];
        for (rank, &(left, right)) in (0u64..).zip(pairs) {
            let first = table.first(left, right);
            let stored = product(left, right) & STORED;
            let place = (0..part)
                .map(|step| table.step(first, step))
                .find(|&place| {
                    let slot = table.slots[place];
                    slot >> RANK_BITS == stored || slot & NONE == NONE
                })?;
            if table.slots[place] & NONE == NONE {
                taken[first / part] += 1;
                if taken[first / part] == part {
                    return None;
                }
            }
            table.slots[place] = stored << RANK_BITS | rank;
        }
        Some(table)
    }

    #[inline(always)]
    fn first(&self, left: u32, right: u32) -> usize {
        (product(left, right) >> (48 - self.bits)) as usize
    }

    #[inline(always)]
    fn step(&self, first: usize, step: usize) -> usize {
        let inside = (self.slots.len() >> 8) - 1;
        first & !inside | (first + step) & inside
    }

    /// The rank of a pair; [`u32::MAX`] for one that doesn't merge.
    #[inline(always)]
    pub(super) fn rank(&self, left: u32, right: u32) -> u32 {
        let stored = product(left, right) & STORED;
        let first = self.first(left, right);
        let mut step = 0;
        loop {
            let slot = self.slots[self.step(first, step)];
            let rank = slot & NONE;
            if rank == NONE {
                return u32::MAX;
            }
            if slot >> RANK_BITS == stored {
                return rank as u32;
            }
            step += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    /// Pairs that all belong to one part of a table of the smallest size.
    #[test]
    fn a_crowded_part_makes_a_larger_table() {
        let crowded = |&(left, right): &(u32, u32)| product(left, right) >> 40 == 7;
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
