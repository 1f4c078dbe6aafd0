"""Which sample stands where: shards in an order of the epoch, windows of them, a shuffle in each.

The memory is a number per shard. A position is found by two binary searches, whatever its size.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from raybert.samples.counter_hash import shuffled


@dataclass(frozen=True)
class EpochOrder:
    """The windows of one epoch.

    Attributes:
        shard_order: int64 (N,), shard numbers in the order of this epoch.
        window_shards: int64 (W+1,), where windows begin in shard_order.
        window_samples: int64 (W+1,), where windows begin among the epoch's samples.
    """

    shard_order: np.ndarray
    window_shards: np.ndarray
    window_samples: np.ndarray

    @classmethod
    def of(cls, num_samples_N: np.ndarray, key: int, shuffle_shards: int) -> EpochOrder:
        """Order N shards with these numbers of samples.

        Windows are as few as shuffle_shards allows and as equal in shards as possible: a last
        window of one shard would hardly be mixed.
        """
        num_shards = len(num_samples_N)
        shard_order = shuffled(key, np.arange(num_shards, dtype=np.uint64))
        num_windows = -(-num_shards // shuffle_shards)
        window_shards = np.arange(num_windows + 1) * num_shards // num_windows
        ends = np.concatenate([[0], np.cumsum(num_samples_N[shard_order])])
        return cls(shard_order, window_shards, ends[window_shards])

    @property
    def num_windows(self) -> int:
        return len(self.window_shards) - 1

    @cached_property
    def _window_samples(self) -> list[int]:
        """Python's own numbers: for one place these are searched several times as fast."""
        return self.window_samples.tolist()

    @property
    def num_samples(self) -> int:
        return int(self.window_samples[-1])

    def shards_of(self, window: int) -> np.ndarray:
        """Shard numbers of a window, ascending: int64."""
        return np.sort(
            self.shard_order[self.window_shards[window] : self.window_shards[window + 1]]
        )

    def spans(self, first: int, last: int) -> list[tuple[int, int, int]]:
        """The windows that samples first ≤ n < last of the epoch lie in.

        Returns:
            (window, first, last) with places counted from the window's begin; none is empty.
        """
        found: list[tuple[int, int, int]] = []
        window = bisect_right(self._window_samples, first) - 1
        while first < last:
            begin, end = self._window_samples[window : window + 2]
            stop = min(end, last)
            if stop > first:
                found.append((window, first - begin, stop - begin))
            first, window = stop, window + 1
        return found
