//! Merging as it is defined: the pair of the least rank first, the leftmost of equals.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::Merges;
use crate::id::Id;

/// Most symbols that are merged in arrays; more of them go through the queue.
pub(super) const FEW: usize = 32;

/// Reused memory for merging one piece.
#[derive(Debug, Default)]
pub(super) struct Queue {
    symbols: Vec<Symbol>,
    queue: BinaryHeap<Reverse<(u32, u32)>>,
}

#[derive(Clone, Copy, Debug)]
struct Symbol {
    id: u32,
    /// Place of the next symbol; `END` after the last.
    next: u32,
    /// Place of the previous symbol; `END` before the first.
    previous: u32,
}

const END: u32 = u32::MAX;
/// Id of a symbol that was merged into the one before it.
const GONE: u32 = u32::MAX;

/// Merges at most [`FEW`] symbols in place, and returns how many are left.
#[inline]
pub(super) fn merge_few(merges: &Merges, ids: &mut [u32]) -> usize {
    let mut len = ids.len().min(FEW);
    let mut ranks = [u32::MAX; FEW];
    for place in 1..len {
        ranks[place - 1] = merges.pairs.rank(ids[place - 1], ids[place]);
    }
    loop {
        let (mut least, mut place) = (u32::MAX, 0);
        for (other, &rank) in ranks[..len.saturating_sub(1)].iter().enumerate() {
            if rank < least {
                (least, place) = (rank, other);
            }
        }
        if least == u32::MAX {
            return len;
        }
        ids[place] = merges.products[least as usize];
        ids.copy_within(place + 2..len, place + 1);
        ranks.copy_within(place + 1..len, place);
        len -= 1;
        ranks[len - 1] = u32::MAX;
        if place + 1 < len {
            ranks[place] = merges.pairs.rank(ids[place], ids[place + 1]);
        }
        if place > 0 {
            ranks[place - 1] = merges.pairs.rank(ids[place - 1], ids[place]);
        }
    }
}

/// Most bytes that [`BytePairs::merge`] takes.
pub(super) const SHORT: usize = 16;

/// Merging of short pieces, begun with a table of pairs of bytes.
///
/// A pair that may merge is one number: its rank, and its place in the lowest four bits. So the
/// least number is the next pair to merge, and symbols that were merged into the one before them
/// are bits that are gone from a set: nothing moves.
#[derive(Debug)]
pub(super) struct BytePairs {
    /// By left and right byte, the rank in the higher 28 bits, or [`APART`].
    ranks: Box<[u32; 1 << 16]>,
    /// By byte.
    ids: Box<[u32; 256]>,
}

/// A pair that does not merge; its place may be added.
const APART: u32 = u32::MAX << 4;

impl BytePairs {
    /// `ids` are the tokens of the bytes.
    pub(super) fn new(merges: &Merges, ids: &[u32; 256]) -> Self {
        let mut ranks = Box::new([APART; 1 << 16]);
        for (row, &left) in ranks.chunks_exact_mut(256).zip(ids) {
            for (rank, &right) in row.iter_mut().zip(ids) {
                *rank = merges.pairs.rank(left, right) << 4;
            }
        }
        Self {
            ranks,
            ids: Box::new(*ids),
        }
    }

    /// Appends the ids of a piece of at most [`SHORT`] bytes.
    #[inline]
    pub(super) fn merge<I: Id>(&self, merges: &Merges, piece: &[u8], out: &mut Vec<I>) {
        let len = piece.len().min(SHORT);
        let mut ids = [0; SHORT];
        // Wide, so that the compiler compares them one by one: a load of several that were just stored
        // one by one would have to wait.
        let mut pairs = [u64::MAX; SHORT];
        for (id, &byte) in ids.iter_mut().zip(piece) {
            *id = self.ids[usize::from(byte)];
        }
        for ((pair, two), place) in pairs.iter_mut().zip(piece.windows(2)).zip(0..) {
            let rank = self.ranks[usize::from(two[0]) << 8 | usize::from(two[1])];
            *pair = u64::from(rank | place);
        }
        let mut alive = (1u32 << len) - 1;
        loop {
            let least = least(&pairs);
            if least >= u64::from(APART) {
                break;
            }
            let place = least as u32 & 15;
            let behind = alive & (u32::MAX << (place + 1));
            let right = behind.trailing_zeros();
            alive &= !(1 << right);
            let id = merges.products[(least >> 4) as usize];
            ids[place as usize] = id;
            pairs[(right & 15) as usize] = u64::MAX;
            let next = (behind & (behind - 1)).trailing_zeros();
            pairs[place as usize] = match ids.get(next as usize) {
                Some(&next) => u64::from(merges.pairs.rank(id, next) << 4 | place),
                None => u64::MAX,
            };
            let before = alive & ((1 << place) - 1);
            if before != 0 {
                let before = before.ilog2();
                let rank = merges.pairs.rank(ids[(before & 15) as usize], id);
                pairs[(before & 15) as usize] = u64::from(rank << 4 | before);
            }
        }
        while alive != 0 {
            out.push(I::new(ids[(alive.trailing_zeros() & 15) as usize]));
            alive &= alive - 1;
        }
    }
}

/// The least of all, in rows that don't wait for each other.
#[inline(always)]
fn least(pairs: &[u64; SHORT]) -> u64 {
    let mut least = [u64::MAX; 4];
    for four in pairs.as_chunks::<4>().0 {
        for (least, &pair) in least.iter_mut().zip(four) {
            *least = pair.min(*least);
        }
    }
    least[0].min(least[1]).min(least[2].min(least[3]))
}

impl Queue {
    /// Merges any number of symbols, n log n, and appends what is left. Returns the rank of the last
    /// merge.
    pub(super) fn merge<I: Id>(
        &mut self,
        merges: &Merges,
        ids: &[u32],
        out: &mut Vec<I>,
    ) -> Option<u32> {
        let Self { symbols, queue } = self;
        symbols.clear();
        symbols.extend((0u32..).zip(ids).map(|(place, &id)| Symbol {
            id,
            next: place + 1,
            previous: place.wrapping_sub(1),
        }));
        symbols.last_mut()?.next = END;
        let mut last = None;

        let rank = |left: u32, right: u32| match merges.pairs.rank(left, right) {
            u32::MAX => None,
            rank => Some(rank),
        };
        queue.clear();
        queue.extend((0u32..).zip(symbols.windows(2)).filter_map(|(place, two)| {
            let rank = rank(two[0].id, two[1].id)?;
            Some(Reverse((rank, place)))
        }));
        while let Some(Reverse((found, place))) = queue.pop() {
            let left = symbols[place as usize];
            if left.id == GONE || left.next == END {
                continue;
            }
            let right = symbols[left.next as usize];
            // An entry whose symbols have changed since.
            if rank(left.id, right.id) != Some(found) {
                continue;
            }
            last = Some(found);
            let id = merges.products[found as usize];
            symbols[left.next as usize].id = GONE;
            symbols[place as usize].id = id;
            symbols[place as usize].next = right.next;
            if right.next != END {
                symbols[right.next as usize].previous = place;
                if let Some(next) = rank(id, symbols[right.next as usize].id) {
                    queue.push(Reverse((next, place)));
                }
            }
            if left.previous != END
                && let Some(next) = rank(symbols[left.previous as usize].id, id)
            {
                queue.push(Reverse((next, left.previous)));
            }
        }
        let mut place = 0;
        while place != END {
            let symbol = symbols[place as usize];
            out.push(I::new(symbol.id));
            place = symbol.next;
        }
        last
    }
}
