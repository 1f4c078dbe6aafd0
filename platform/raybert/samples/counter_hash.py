"""Random numbers as a function of a key and a counter, so that nothing has to be remembered.

The function is SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators",
2014): draw c of key k is the finalizer of k + c * golden ratio. Arithmetic is modulo 2**64.
"""

from __future__ import annotations

from typing import Final

import numpy as np

GOLDEN: Final = 0x9E3779B97F4A7C15
_MASK_64: Final = 2**64 - 1
_MULTIPLIER_1: Final = 0xBF58476D1CE4E5B9
_MULTIPLIER_2: Final = 0x94D049BB133111EB


def derive_key(*parts: int) -> int:
    """One 64-bit key from several numbers; their order matters."""
    key = 0
    for part in parts:
        key = _mix_scalar((key + (part + 1) * GOLDEN) & _MASK_64)
    return key


def draws(keys: int | np.ndarray, counters: np.ndarray) -> np.ndarray:
    """64 random bits per counter.

    Args:
        keys: one key, or uint64 keys that broadcast with the counters.
        counters: uint64, any shape.

    Returns:
        uint64, the broadcast shape.
    """
    mixed = counters * np.uint64(GOLDEN)
    mixed = mixed + (np.uint64(keys) if isinstance(keys, int) else keys)
    return _mix_in_place(mixed)


def below(bits: np.ndarray, limit: int | np.ndarray) -> np.ndarray:
    """Whole numbers in 0 ≤ n < limit from the upper 32 bits of each draw; limit below 2**32.

    A value's probability is off by at most limit / 2**32 of itself.
    """
    limits = np.uint64(limit) if isinstance(limit, int) else limit.astype(np.uint64)
    return ((bits >> np.uint64(32)) * limits) >> np.uint64(32)


def shuffled(key: int, counters: np.ndarray) -> np.ndarray:
    """A permutation of 0..n for n counters: int64 (n,), a bijection drawn by the key.

    Sorts draws that carry their index in the low bits: one sort of plain numbers, no ties.
    """
    return sort_order(draws(key, counters))[0]


def sort_order(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The order that sorts uint64 values by their high bits, and those bits in that order.

    As many low bits as an index needs are cut off and do not count; equal ones stay in order.

    Returns:
        int64 (n,) order; uint64 (n,) values shifted right by the bits cut off, ascending.
    """
    index_bits = np.uint64(max(1, (len(values) - 1).bit_length()))
    packed = (values >> index_bits) << index_bits
    packed |= np.arange(len(values), dtype=np.uint64)
    packed.sort()
    order = packed & ((np.uint64(1) << index_bits) - np.uint64(1))
    return order.view(np.int64), packed >> index_bits


def _mix_in_place(z: np.ndarray) -> np.ndarray:
    z ^= z >> np.uint64(30)
    z *= np.uint64(_MULTIPLIER_1)
    z ^= z >> np.uint64(27)
    z *= np.uint64(_MULTIPLIER_2)
    z ^= z >> np.uint64(31)
    return z


def _mix_scalar(z: int) -> int:
    z = ((z ^ (z >> 30)) * _MULTIPLIER_1) & _MASK_64
    z = ((z ^ (z >> 27)) * _MULTIPLIER_2) & _MASK_64
    return z ^ (z >> 31)
