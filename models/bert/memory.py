"""How this process gets its memory: freed pages are kept, and pages are large."""

from __future__ import annotations

import ctypes
import functools
import os
import resource
from pathlib import Path

# glibc's malloc.h and Linux's mman-common.h
_M_TRIM_THRESHOLD = -1
_M_MMAP_MAX = -4
_M_ARENA_MAX = -8
_NEVER = -1
_MADV_HUGEPAGE = 14

_LARGE_PAGE = 2 << 20
_STRICT_OVERCOMMIT = "2"


@functools.cache
def tune_allocator() -> bool:
    """Have this process's allocator keep what is freed, and lay it in large pages.

    A training step frees and allocates the same large tensors again and again. glibc hands each
    one back to the kernel, which clears its pages anew: some ten thousand page faults a step, 3 to
    4 % of a small model's time. The price is that the process stays as large as it ever was.

    Rows of activations lie some KB apart, so that almost each is on a page of its own: looking up
    where pages of 4 KB are costs up to a tenth of a step on a virtual machine. Linux gives pages
    of 2 MB to memory that asks for them (`transparent_hugepage`: "madvise" or "always"); where it
    does not, nothing changes.

    Threads share one arena from then on, since the others keep nothing: glibc unmaps what is free
    at their end. A thread that has an arena of its own already keeps it.

    The first of it is what MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=-1 MALLOC_ARENA_MAX=1 do in
    the environment, for a process that has started already. Calling it again changes nothing.

    Returns:
        Whether the allocator took the settings; False where there is no glibc.
    """
    libc = ctypes.CDLL(None)
    mallopt = getattr(libc, "mallopt", None)
    if mallopt is None:
        return False
    options = ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, _NEVER), (_M_ARENA_MAX, 1))
    taken = [mallopt(option, value) for option, value in options]
    if all(result == 1 for result in taken):
        _enlarge_pages(libc)
        return True
    return False


def _enlarge_pages(libc: ctypes.CDLL) -> None:
    """Grow the heap by half of the machine's memory, ask for large pages there, and free it.

    Nothing is written to it, so it takes addresses, not memory. What the process needs beyond it
    comes in pages of the usual size.
    """
    if _addresses_are_scarce():
        return
    libc.malloc.restype = ctypes.c_void_p
    libc.malloc.argtypes = [ctypes.c_size_t]
    libc.free.argtypes = [ctypes.c_void_p]
    libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    size = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    start = libc.malloc(size)
    if start is None:
        return
    first = -(-start // _LARGE_PAGE) * _LARGE_PAGE
    # Refused where the kernel was built without large pages.
    libc.madvise(first, start + size - first, _MADV_HUGEPAGE)
    libc.free(start)


def _addresses_are_scarce() -> bool:
    """Whether addresses without memory behind them count against a limit."""
    limits = [resource.getrlimit(limit)[0] for limit in (resource.RLIMIT_AS, resource.RLIMIT_DATA)]
    if any(limit != resource.RLIM_INFINITY for limit in limits):
        return True
    overcommit = Path("/proc/sys/vm/overcommit_memory")
    return overcommit.exists() and overcommit.read_text().strip() == _STRICT_OVERCOMMIT
