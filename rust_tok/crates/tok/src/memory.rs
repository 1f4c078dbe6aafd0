//! Fresh memory in large pages, and memory that is fetched ahead.
//!
//! A first touch of a page of 4 KB costs the system more than filling it does: with an output or
//! a table of some ten megabytes that is a tenth of a call's time.

use std::mem::MaybeUninit;

/// Page that the system is asked for, in bytes.
#[cfg(all(target_os = "linux", not(miri)))]
const LARGE_PAGE: usize = 2 << 20;

/// Asks for large pages under memory that nothing was written to yet. The system may refuse.
pub(crate) fn prefer_large_pages<T>(spare: &mut [MaybeUninit<T>]) {
    #[cfg(all(target_os = "linux", not(miri)))]
    {
        let bytes = spare.as_mut_ptr_range();
        let start = (bytes.start as usize).next_multiple_of(LARGE_PAGE);
        let end = bytes.end as usize / LARGE_PAGE * LARGE_PAGE;
        if start < end {
            let start = bytes.start.cast::<libc::c_void>().with_addr(start);
            // SAFETY: the range lies within `spare`, and the advice changes no byte of it.
            unsafe { libc::madvise(start, end - start.addr(), libc::MADV_HUGEPAGE) };
        }
    }
    #[cfg(not(all(target_os = "linux", not(miri))))]
    let _ = spare;
}

/// So many values, in large pages where there are any.
pub(crate) fn filled<T: Clone>(value: T, len: usize) -> Box<[T]> {
    let mut values = Vec::with_capacity(len);
    prefer_large_pages(values.spare_capacity_mut());
    values.resize(len, value);
    values.into()
}

/// A copy of the values, as [`filled`].
pub(crate) fn copied<T: Copy>(values: &[T]) -> Box<[T]> {
    let mut copy = Vec::with_capacity(values.len());
    prefer_large_pages(copy.spare_capacity_mut());
    copy.extend_from_slice(values);
    copy.into()
}

/// Has the processor fetch the line of memory that a value begins in, if there is one.
#[inline(always)]
pub(crate) fn prefetch<T>(value: *const T) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a prefetch reads nothing that a program could see, whatever the address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(value.cast()) };
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    let _ = value;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_as_it_was() {
        for len in [0, 1, 1000, if cfg!(miri) { 5000 } else { 3 << 20 }] {
            assert!(filled(7_u16, len).iter().all(|&value| value == 7));
            let mut values = Vec::with_capacity(len);
            values.extend(0..len / 2);
            prefer_large_pages(values.spare_capacity_mut());
            values.extend(len / 2..len);
            assert!(copied(&values).iter().copied().eq(0..len));
        }
    }
}
