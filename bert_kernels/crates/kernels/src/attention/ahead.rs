//! Rows of the next head, fetched into the cache while this one is computed.
//!
//! A head's rows are 3 D or D numbers apart, too far for a processor to foresee: without this a
//! fourth to a third of the time of short sequences is waiting for memory.

use super::Head;

/// Bytes that come into the cache together.
const CACHE_LINE: usize = 64;

/// The rows of one head in `N` matrices of a batch.
pub(super) struct Ahead<E, const N: usize> {
    /// Where the head begins in each matrix, and from one row to the next.
    matrices: [(*const E, usize); N],
    size: usize,
    row: usize,
    num_rows: usize,
}

impl<E, const N: usize> Ahead<E, N> {
    /// Nothing to fetch if there is no next head.
    ///
    /// # Arguments
    ///
    /// * `size`: width of a head.
    /// * `matrices`: where the first token's first head begins, and from one token to the next.
    pub(super) fn new(next: Option<Head>, size: usize, matrices: [(*const E, usize); N]) -> Self {
        let (head, first, num_rows) =
            next.map_or((0, 0, 0), |next| (next.head, next.first_token, next.length));
        let matrices =
            matrices.map(|(start, pitch)| (start.wrapping_add(first * pitch + head * size), pitch));
        Self {
            matrices,
            size,
            row: 0,
            num_rows,
        }
    }

    /// Fetches the next row of each matrix, if there is one. For every row of this head once: heads
    /// that follow each other are about as long.
    #[inline(always)]
    pub(super) fn fetch_row(&mut self) {
        if self.row == self.num_rows {
            return;
        }
        for (start, pitch) in self.matrices {
            let start = start.wrapping_add(self.row * pitch).cast::<i8>();
            for line in (0..self.size * size_of::<E>()).step_by(CACHE_LINE) {
                prefetch(start.wrapping_add(line));
            }
        }
        self.row += 1;
    }
}

#[inline(always)]
fn prefetch(address: *const i8) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a prefetch reads nothing that a program could see, whatever the address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(address) };
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    let _ = address;
}
