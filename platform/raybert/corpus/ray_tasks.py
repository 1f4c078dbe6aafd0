"""The work on ranges as tasks of a Ray cluster; the only module of the corpus that knows Ray.

A task takes one CPU and a range, or a few that follow one another. Text, ids and counts stay where
they are made: the driver sends names of files and bounds, and gets numbers back. Broken text comes
back as a value: an exception would be retried, and its message buried in Ray's own.
"""

from __future__ import annotations

import math
import os
import pickle
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import ray
import ray.data

import rust_tok
from bert.memory import tune_allocator
from raybert.cluster.nodes import Expectation, check_once
from raybert.cluster.outcomes import as_user_error, outcome_batch, outcomes_of
from raybert.corpus.content import PassedOver
from raybert.corpus.ranges import TextRange
from raybert.corpus.shards import ShardMaker
from raybert.corpus.tokenization import Finished, in_process
from raybert.corpus.vocabulary import Counted, OnCounted, WordCounter
from raybert.errors import UserError

# Of a task that tokenizes, where there are that many; and how often each CPU gets one at least.
_RANGES_PER_TASK = 8
_MIN_WAVES = 3

# Counts are split by a hash of the word, so that each part is merged in a task of its own: 50
# million words, 40 bytes each, are 125 MB in a task.
_PARTS = 16
# Counts of this many ranges are held before they are merged; the next as many are made meanwhile.
_RANGES_PER_MERGE = 16


def tokenize_ranges(
    maker: ShardMaker, ranges: Sequence[TextRange], *, expectation: Expectation
) -> Iterator[Finished]:
    """A Ray Data job of one row per range; its rows come back when a task's shards are written.

    `expectation`: of the nodes.

    Raises:
        UserError: of the first range that failed; shards that are written stay.
    """
    rows = [{"range": pickle.dumps(text_range)} for text_range in ranges]
    task: Any = _TokenizeTask(maker, expectation)
    num_tasks = _num_tasks(len(rows), int(ray.cluster_resources().get("CPU", 1)))
    dataset = ray.data.from_items(rows, override_num_blocks=num_tasks).map_batches(
        task, batch_size=None, num_cpus=1
    )
    yield from outcomes_of(dataset)


@dataclass(frozen=True)
class _TokenizeTask:
    maker: ShardMaker
    expectation: Expectation

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, list[bytes]]:
        _one_thread()
        tune_allocator()  # every shard wants as much as the one before
        return outcome_batch(*self._outcomes([pickle.loads(row) for row in batch["range"]]))

    def _outcomes(self, ranges: Sequence[TextRange]) -> Iterator[Finished | UserError]:
        try:
            check_once(self.expectation)
            yield from in_process(self.maker, ranges)
        except (UserError, OSError) as error:
            yield as_user_error(error)


def _num_tasks(num_ranges: int, num_cpus: int) -> int:
    """So many that all CPUs end at about the same time, and so few that a task's last shard, for
    whose way to the disk it has to wait, is one of several."""
    waves = max(_MIN_WAVES, math.ceil(num_ranges / (_RANGES_PER_TASK * num_cpus)))
    return min(num_ranges, waves * num_cpus)


def count_ranges(
    counter: WordCounter,
    ranges: Sequence[TextRange],
    on_counted: OnCounted = lambda _: None,
    *,
    expectation: Expectation,
) -> Counted:
    """Counts in one task per range, merges in one task per part of the words.

    Raises:
        UserError: of the first range that failed.
    """
    count: Any = _count.options(num_returns=_PARTS + 1)
    merge: Any = _merge
    parts: list[Any] = [None] * _PARTS
    sizes: list[Any] = []
    passed_over = PassedOver()
    running: list[tuple[TextRange, Any]] = []
    for first in range(0, len(ranges), _RANGES_PER_MERGE):
        wave = ranges[first : first + _RANGES_PER_MERGE]
        counted: list[Any] = [count.remote(counter, text_range, expectation) for text_range in wave]
        merged: list[Any] = [
            merge.remote(counter, parts[part], *(refs[part + 1] for refs in counted))
            for part in range(_PARTS)
        ]
        sizes, parts = [m[0] for m in merged], [m[1] for m in merged]
        _await(running, passed_over, on_counted)
        running = list(zip(wave, (refs[0] for refs in counted), strict=True))
    _await(running, passed_over, on_counted)
    num_words = sum(ray.get(sizes))
    pruned = num_words > counter.max_words
    if pruned:
        parts = [_prune.remote(part, counter.tokenizer.min_frequency) for part in parts]
    counts = counter.empty()
    while parts:
        counts.merge(_received(ray.get(parts.pop())))
    return Counted(counts, num_words, pruned, passed_over)


def _await(
    running: Iterable[tuple[TextRange, Any]], passed_over: PassedOver, on_counted: OnCounted
) -> None:
    ranges = {outcome: text_range for text_range, outcome in running}
    waiting = list(ranges)
    while waiting:
        (ready,), waiting = ray.wait(waiting)
        outcome = ray.get(ready)
        if isinstance(outcome, UserError):
            for task in waiting:
                ray.cancel(task)
            raise outcome
        passed_over.skipped += outcome.skipped
        passed_over.replaced += outcome.replaced
        on_counted(ranges[ready])


@ray.remote(num_cpus=1)
def _count(counter: WordCounter, text_range: TextRange, expectation: Expectation) -> list[Any]:
    """What was passed over or the error, then the counts by parts."""
    _one_thread()
    passed_over = PassedOver()
    try:
        check_once(expectation)
        counts = counter.count(text_range, passed_over)
    except (UserError, OSError) as error:
        return [as_user_error(error)] + [_sent(counter.empty())] * _PARTS
    return [passed_over, *map(_sent, counts.partition(_PARTS))]


@ray.remote(num_cpus=1, num_returns=2)
def _merge(counter: WordCounter, *parts: Any) -> tuple[int, Any]:
    """Number of words, counts."""
    _one_thread()
    merged = counter.empty()
    for part in parts:
        if part is not None:
            merged.merge(_received(part))
    return len(merged), _sent(merged)


@ray.remote(num_cpus=1)
def _prune(part: Any, min_count: int) -> Any:
    return _sent(_received(part).prune(min_count))


def _sent(counts: rust_tok.WordCounts) -> pa.RecordBatch:
    """As Ray carries it without a copy."""
    return pa.record_batch(counts)


def _received(counts: pa.RecordBatch) -> rust_tok.WordCounts:
    return rust_tok.WordCounts.from_arrow(counts)


def _one_thread() -> None:
    """A task has one CPU; rayon reads this when it is first used in a process."""
    os.environ["RAYON_NUM_THREADS"] = "1"
