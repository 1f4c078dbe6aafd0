//! Merging as it is defined: the pair of the least rank first, the leftmost of equals.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::Merges;
use crate::vocab::Id;

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
