"""Keep the memory of a step's temporary tensors for the next step."""

from __future__ import annotations

import ctypes

# glibc's malloc.h
_M_TRIM_THRESHOLD = -1
_M_MMAP_MAX = -4
_M_ARENA_MAX = -8
_NEVER = 2**31 - 1


def keep_freed_memory() -> bool:
    """Tell this process's allocator not to return freed memory to the operating system.

    A training step frees and allocates the same large tensors again and again. glibc hands each
    one back to the kernel, which clears its pages anew: some ten thousand page faults a step, 3 to
    4 % of a small model's time. The price is that the process stays as large as it ever was.

    Threads share one arena from then on, since the others keep nothing: glibc unmaps what is free
    at their end. A thread that has an arena of its own already keeps it.

    It is what MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=2147483647 MALLOC_ARENA_MAX=1 do in the
    environment, for a process that has started already. Calling it again changes nothing.

    Returns:
        Whether the allocator took the settings; False where there is no glibc.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    options = ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, _NEVER), (_M_ARENA_MAX, 1))
    taken = [mallopt(option, value) for option, value in options]
    return all(result == 1 for result in taken)
