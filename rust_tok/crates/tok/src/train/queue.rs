//! Pairs that wait to be merged, the most frequent first.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use super::pairs::Pair;

/// A pair that waits, under the count that it had when it came.
pub(super) struct Waiting {
    /// Count above inverted pair: the greatest is the next.
    rank: u128,
    /// Where its places are listed; also its age among entries of the same pair.
    pub(super) start: usize,
    pub(super) len: usize,
}

impl Waiting {
    pub(super) fn new(pair: Pair, count: i64, start: usize, len: usize) -> Self {
        Self {
            rank: u128::from(count as u64) << 64 | u128::from(!pair.bits()),
            start,
            len,
        }
    }

    pub(super) fn pair(&self) -> Pair {
        let bits = !(self.rank as u64);
        Pair::new((bits >> 32) as u32, bits as u32)
    }

    pub(super) fn count(&self) -> i64 {
        (self.rank >> 64) as i64
    }
}

impl PartialEq for Waiting {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Waiting {}

impl PartialOrd for Waiting {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Waiting {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.rank, other.start).cmp(&(other.rank, self.start))
    }
}

/// A heap of the frequent pairs, and the others aside.
///
/// Most pairs are rare and never come up before the vocabulary is full. They are kept in a plain
/// list until the heap is empty; then those within a factor of the most frequent one move in. So
/// the heap stays small enough for the cache, and a pair costs a handful of looks instead of its
/// way through a heap of millions.
pub(super) struct Queue {
    heap: BinaryHeap<Waiting>,
    /// Every entry of the heap has entered with at least this count, every other one is below it.
    floor: i64,
    rare: Vec<Waiting>,
}

/// Between the most frequent pair aside and the least frequent one that moves in.
const SPREAD: i64 = 4;

impl Queue {
    pub(super) fn new(waiting: Vec<Waiting>) -> Self {
        Self {
            heap: BinaryHeap::new(),
            floor: i64::MAX,
            rare: waiting,
        }
    }

    #[inline]
    pub(super) fn push(&mut self, waiting: Waiting) {
        if waiting.count() >= self.floor {
            self.heap.push(waiting);
        } else {
            self.rare.push(waiting);
        }
    }

    pub(super) fn pop(&mut self) -> Option<Waiting> {
        if self.heap.is_empty() {
            let most = self.rare.iter().map(Waiting::count).max()?;
            self.floor = most / SPREAD;
            let floor = self.floor;
            let frequent = self.rare.extract_if(.., |waiting| waiting.count() >= floor);
            self.heap.extend(frequent);
        }
        self.heap.pop()
    }

    /// Visits all entries by the start of their lists, which may move if they keep their order.
    pub(super) fn for_each_by_start(&mut self, visit: impl FnMut(&mut Waiting)) {
        let mut all = std::mem::take(&mut self.heap).into_vec();
        all.append(&mut self.rare);
        all.sort_unstable_by_key(|waiting| waiting.start);
        all.iter_mut().for_each(visit);
        for waiting in all {
            self.push(waiting);
        }
    }
}
