//! Counts of pairs of symbols: open addressing over two machine words per pair.

/// Two neighbouring symbols; pairs of equal count are merged in the order of this number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Pair(u64);

impl Pair {
    #[inline]
    pub(super) fn new(left: u32, right: u32) -> Self {
        Self(u64::from(left) << 32 | u64::from(right))
    }

    pub(super) fn left(self) -> u32 {
        (self.0 >> 32) as u32
    }

    pub(super) fn right(self) -> u32 {
        self.0 as u32
    }

    pub(super) fn bits(self) -> u64 {
        self.0
    }

    /// Nobody's pair: symbols end below the boundary.
    const NONE: Self = Self(u64::MAX);

    #[inline]
    fn hash(self) -> u64 {
        let mixed = (self.0 ^ self.0 >> 29).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        (mixed ^ mixed >> 32).wrapping_mul(0xD6E8_FEB8_6659_FD93)
    }
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    pair: Pair,
    count: i64,
}

const FREE: Slot = Slot {
    pair: Pair::NONE,
    count: 0,
};
const FIRST_SLOTS: usize = 1 << 10;

/// Counts by pair. A count of 0 stays in the table: it says that the pair once was.
#[derive(Debug)]
pub(super) struct PairTable {
    slots: Vec<Slot>,
    used: usize,
}

impl PairTable {
    pub(super) fn new() -> Self {
        Self {
            slots: vec![FREE; FIRST_SLOTS],
            used: 0,
        }
    }

    #[inline]
    fn home(&self, pair: Pair) -> usize {
        (pair.hash() >> (64 - self.slots.len().ilog2())) as usize
    }

    /// The slot of the pair, or the free one where it belongs.
    #[inline]
    fn find(&self, pair: Pair) -> usize {
        let mask = self.slots.len() - 1;
        let mut place = self.home(pair);
        loop {
            let found = self.slots[place].pair;
            if found == pair || found == Pair::NONE {
                return place;
            }
            place = (place + 1) & mask;
        }
    }

    /// Reads where a pair belongs, so that it is near when it is asked for: reads of several pairs
    /// run side by side where look-ups, which branch on what they find, would wait for each other.
    #[inline]
    pub(super) fn touch(&self, pair: Pair) {
        std::hint::black_box(self.slots[self.home(pair)].pair);
    }

    #[inline]
    pub(super) fn get(&self, pair: Pair) -> i64 {
        self.slots[self.find(pair)].count
    }

    /// Adds to the count of a pair; the new count and whether the pair is new.
    #[inline]
    pub(super) fn add(&mut self, pair: Pair, count: i64) -> (i64, bool) {
        let place = self.find(pair);
        let slot = &mut self.slots[place];
        let is_new = slot.pair == Pair::NONE;
        slot.pair = pair;
        slot.count += count;
        let now = slot.count;
        if is_new {
            self.used += 1;
            if self.used * 8 > self.slots.len() * 5 {
                self.grow();
            }
        }
        (now, is_new)
    }

    #[cold]
    fn grow(&mut self) {
        let doubled = vec![FREE; self.slots.len() * 2];
        let old = std::mem::replace(&mut self.slots, doubled);
        for slot in old.into_iter().filter(|slot| slot.pair != Pair::NONE) {
            let place = self.find(slot.pair);
            self.slots[place] = slot;
        }
    }
}
