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

    /// `None` when a part of the table is too full.
    fn filled(pairs: &[(u32, u32)], bits: u32) -> Option<Self> {
        let mut table = Self {
            slots: vec![u64::MAX; 1 << bits].into(),
            bits,
        };
        for (rank, &(left, right)) in (0u64..).zip(pairs) {
            let place = table.place(left, right)?;
            table.slots[place] = (product(left, right) & STORED) << RANK_BITS | rank;
        }
        Some(table)
    }

    /// The slot of a pair, or the one where it would stand. Every part has a free slot left.
    fn place(&self, left: u32, right: u32) -> Option<usize> {
        let part = self.slots.len() >> 8;
        let first = self.first(left, right);
        (0..part - 1).find_map(|step| {
            let place = self.step(first, step);
            let slot = self.slots[place];
            let same = slot >> RANK_BITS == product(left, right) & STORED;
            (same || slot & NONE == NONE).then_some(place)
        })
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
        let product = product(left, right);
        let first = (product >> (48 - self.bits)) as usize;
        let mut step = 0;
        loop {
            let slot = self.slots[self.step(first, step)];
            let rank = slot & NONE;
            if rank == NONE {
                return u32::MAX;
            }
            if slot >> RANK_BITS == product & STORED {
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
