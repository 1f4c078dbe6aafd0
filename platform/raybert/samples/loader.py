"""Batches made ahead of the step, in the background."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Final, Protocol

from bert.batch import PackedBatch

_POLL_SECONDS: Final = 0.1


class BatchSource(Protocol):
    """What the loader needs: `PretrainingSamples` is one."""

    def micro_shards(
        self, position: int, batch_size: int, num_micro_shards: int, which: range
    ) -> list[PackedBatch]: ...
    def prefetch(self, position: int) -> None: ...


class BatchLoader:
    """Iterates over (step, micro-shards) from first_step on, without end.

    A thread keeps up to `depth` steps ready, another one makes the next window of samples while
    this one lasts. An exception in either is raised by the next iteration but those made ready
    before it. Close the loader, or use it in a `with` statement.

    Args:
        samples: where batches come from.
        batch_size: samples of the global batch; step n takes positions from n * batch_size on.
        num_micro_shards: K of the global batch.
        which: the micro-shards to build here.
        first_step: where to begin; a resumed run begins where it stopped.
        depth: steps kept ready.

    Attributes:
        wait_seconds: how long iterations have waited for a batch, in all.
    """

    def __init__(
        self,
        samples: BatchSource,
        batch_size: int,
        num_micro_shards: int,
        which: range,
        first_step: int = 0,
        depth: int = 2,
    ) -> None:
        if depth < 1:
            raise ValueError(f"depth is {depth}; it must be at least 1")
        self.wait_seconds = 0.0
        self._samples = samples
        self._batch_size = batch_size
        self._num_micro_shards = num_micro_shards
        self._which = which
        self._ready: queue.Queue[tuple[int, list[PackedBatch]] | BaseException] = queue.Queue(depth)
        self._stopping = threading.Event()
        self._thread = threading.Thread(
            target=self._produce, args=(first_step,), name="batch-loader", daemon=True
        )
        self._thread.start()

    def __iter__(self) -> Iterator[tuple[int, list[PackedBatch]]]:
        return self

    def __next__(self) -> tuple[int, list[PackedBatch]]:
        """The next step and its micro-shards.

        Raises:
            Exception: whatever building the batch raised.
            RuntimeError: the loader is closed.
        """
        if self._stopping.is_set():
            raise RuntimeError("the batch loader is closed")
        begin = time.perf_counter()
        item = self._ready.get()
        self.wait_seconds += time.perf_counter() - begin
        if isinstance(item, BaseException):
            self.close()
            raise item
        return item

    def close(self) -> None:
        """Stop the thread and wait for it; batches made ahead are dropped."""
        self._stopping.set()
        self._thread.join()

    def __enter__(self) -> BatchLoader:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _produce(self, step: int) -> None:
        with ThreadPoolExecutor(1, "window-ahead") as ahead:
            prefetching: Future[None] | None = None
            while not self._stopping.is_set():
                try:
                    if prefetching is not None and prefetching.done():
                        prefetching.result()
                        prefetching = None
                    position = step * self._batch_size
                    micro_shards = self._samples.micro_shards(
                        position, self._batch_size, self._num_micro_shards, self._which
                    )
                    if prefetching is None:
                        following = position + self._batch_size
                        prefetching = ahead.submit(self._samples.prefetch, following)
                except BaseException as error:  # noqa: BLE001 - raised where batches are taken
                    self._put(error)
                    return
                self._put((step, micro_shards))
                step += 1

    def _put(self, item: tuple[int, list[PackedBatch]] | BaseException) -> None:
        while not self._stopping.is_set():
            try:
                self._ready.put(item, timeout=_POLL_SECONDS)
            except queue.Full:
                continue
            return
