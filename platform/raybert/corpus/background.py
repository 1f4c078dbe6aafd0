"""Work that goes on in a thread while the next is prepared."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from types import TracebackType
from typing import Any, TypeVar

Result = TypeVar("Result")


class Background:
    """Runs one call at a time, in order; who hands in another one waits for it.

    So what two calls hold is in memory at most. Leaving the context waits for the last one.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1)
        self._last: Future[Any] | None = None

    def __enter__(self) -> Background:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._thread.shutdown()

    def run(self, call: Callable[[], Result]) -> Future[Result]:
        """The call's result or exception comes by the future."""
        if self._last is not None:
            wait([self._last])
        begun = self._thread.submit(call)
        self._last = begun
        return begun
