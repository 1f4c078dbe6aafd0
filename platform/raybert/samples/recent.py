"""The last few results of an expensive function, made once however many threads ask."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import Generic, TypeVar

Value = TypeVar("Value")


class Recent(Generic[Value]):
    """Keeps the results used last.

    Args:
        capacity: results kept; the least recently used goes before another is made.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._lock = threading.Lock()
        self._kept: OrderedDict[Hashable, Future[Value]] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], Value]) -> Value:
        """The result of a key; who asks first makes it, others wait for it and no others wait.

        Raises:
            BaseException: whatever `make` raises, to all who wait; the next call tries again.
        """
        with self._lock:
            future = self._kept.get(key)
            is_mine = future is None
            if future is None:
                while len(self._kept) >= self._capacity:
                    self._kept.popitem(last=False)
                future = self._kept[key] = Future()
            self._kept.move_to_end(key)
        if is_mine:
            try:
                future.set_result(make())
            except BaseException as error:  # noqa: BLE001 - raised below by result()
                with self._lock:
                    if self._kept.get(key) is future:
                        del self._kept[key]
                future.set_exception(error)
        return future.result()
