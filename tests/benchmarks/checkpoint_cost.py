"""What a checkpoint costs a run: clocks in its worker, and what they say."""

from __future__ import annotations

import functools
import itertools
import json
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from raybert.training.workers import Launch, pretraining_worker

# Parts of a checkpoint in the loop, in their order: training stands still meanwhile.
PARTS = ("capture optimizer", "flush log", "copy weights", "hand over", "report")


@dataclass
class Save:
    """One checkpoint as its worker saw it.

    Attributes:
        done: steps taken before it.
        parts: seconds of each of `PARTS`.
        written: seconds of writing in the background.
        written_cpu: seconds of a CPU that this took.
        written_by: when that ended, by the clock of `Record.begins`.
    """

    done: int
    parts: dict[str, float] = field(default_factory=dict)
    written: float = 0.0
    written_cpu: float = 0.0
    written_by: float = 0.0


@dataclass
class Record:
    """One run of training as its worker saw it.

    Attributes:
        begins: when each step began, in seconds of a steady clock.
        saves: its checkpoints.
    """

    begins: list[float] = field(default_factory=list)
    saves: list[Save] = field(default_factory=list)

    def write(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self)))

    @classmethod
    def read(cls, path: Path) -> Record:
        found = json.loads(path.read_text())
        return cls(found["begins"], [Save(**save) for save in found["saves"]])


@dataclass(frozen=True)
class Cost:
    """Of one checkpoint, in seconds.

    Attributes:
        parts: in the loop, of each of `PARTS`.
        slower: what the steps take longer while the checkpoint is written.
        written: the writing in the background.
        written_cpu: of a CPU, for that.
        step: a step that nothing disturbs.
    """

    parts: Mapping[str, float]
    slower: float
    written: float
    written_cpu: float
    step: float

    @property
    def extra(self) -> float:
        """By which the run is longer."""
        return sum(self.parts.values()) + self.slower


def costs(record: Record) -> list[Cost]:
    """Of each checkpoint: the steps beside its writing against as many quiet ones after them.

    Both are of the same run, a moment apart. The last checkpoint has no steps after it.

    Raises:
        ValueError: the next checkpoint came before there were enough quiet steps.
    """
    return [_cost(record, *pair) for pair in itertools.pairwise(record.saves)]


def _cost(record: Record, save: Save, after: Save) -> Cost:
    # A save stands between the beginning of its last step and that of the next one.
    first, limit = save.done - 1, after.done - 1
    # One step more than those that the writing touches.
    number = 1 + sum(begin < save.written_by for begin in record.begins[first:])
    if first + 2 * number > limit:
        raise ValueError(
            f"the checkpoint of step {save.done} was being written for {number} steps, and the "
            f"next came {limit - first} steps later: take more steps between them"
        )
    begin, middle, end = (record.begins[first + n * number] for n in range(3))
    quiet = end - middle
    slower = middle - begin - sum(save.parts.values()) - quiet
    return Cost(save.parts, slower, save.written, save.written_cpu, quiet / number)


def median_cost(found: Sequence[Cost]) -> Cost:
    """Every figure's own median."""
    return Cost(
        {part: statistics.median(cost.parts[part] for cost in found) for part in PARTS},
        statistics.median(cost.slower for cost in found),
        statistics.median(cost.written for cost in found),
        statistics.median(cost.written_cpu for cost in found),
        statistics.median(cost.step for cost in found),
    )


class TimedWorker:
    """A worker that keeps a record of its steps and checkpoints, and does what every worker does.

    Args:
        path: of the record, written at the end.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def __call__(self, launch: Launch) -> dict[str, Any]:
        record = Record()
        _set_clocks(record)
        try:
            return pretraining_worker(launch)
        finally:
            record.write(self._path)


def _set_clocks(record: Record) -> None:
    """In this process, for good."""
    import ray.train

    from raybert.tracking import Tracker
    from raybert.training import loop
    from raybert.training.checkpoints import CheckpointStore
    from raybert.training.engine import Engine

    def part(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(call)
        def timed(*args: Any, **kwargs: Any) -> Any:
            begin = time.perf_counter()
            try:
                return call(*args, **kwargs)
            finally:
                # What is called outside of a checkpoint, at the very end, counts for none.
                if record.saves:
                    record.saves[-1].parts.setdefault(name, time.perf_counter() - begin)

        return timed

    save, write, step = loop.TrainingLoop._save, CheckpointStore._write, Engine.step

    def timed_save(self: Any, done: int, seconds: float) -> None:
        record.saves.append(Save(done))
        save(self, done, seconds)

    def timed_write(self: Any, snapshot: Any) -> None:
        begin, begin_cpu = time.perf_counter(), time.thread_time()
        write(self, snapshot)
        (found,) = [save for save in record.saves if save.done == snapshot.step]
        found.written_by = time.perf_counter()
        found.written = found.written_by - begin
        found.written_cpu = time.thread_time() - begin_cpu

    def timed_step(self: Any, *args: Any) -> Any:
        record.begins.append(time.perf_counter())
        return step(self, *args)

    loop.TrainingLoop._save = timed_save
    CheckpointStore._write = timed_write
    Engine.step = timed_step
    Engine.capture = part("capture optimizer", Engine.capture)
    Tracker.flush = part("flush log", Tracker.flush)
    loop.weights_in_host_memory = part("copy weights", loop.weights_in_host_memory)
    CheckpointStore.save = part("hand over", CheckpointStore.save)
    ray.train.report = part("report", ray.train.report)
