"""What a sweep has done: a committed file per trial, the only truth after a kill.

    ledger/0003-9f2c51d07a1e.json     number and key of the trial, the key a hash of its values

A trial is open until it is finished, stopped by the scheduler or failed. Starting the sweep again
takes up the open ones, under their old keys, from their own checkpoints.
"""

from __future__ import annotations

import dataclasses
import json
import math
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from raybert.errors import InvalidContent
from raybert.storage import Location, write_file
from raybert.tuning.space import Values, key_of

FOLDER = "ledger"

State = Literal["open", "finished", "stopped", "failed"]


@dataclass(frozen=True)
class Evaluation:
    """Held-out figures after so many steps.

    Attributes:
        step: steps taken.
        epoch: passes over the training rows, a measure that trials of any batch size share.
        metrics: by name, without `eval/`.
    """

    step: int
    epoch: float
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class Part:
    """A stretch of a trial with the same settings; more than one only where PBT moved weights.

    Attributes:
        values: of the searched settings.
        first_step: where it begins.
        donor: key and part of the trial whose weights it began with; None: its own start.
    """

    values: Values
    first_step: int = 0
    donor: tuple[str, int] | None = None


@dataclass(frozen=True)
class Entry:
    """A trial.

    Attributes:
        number: in order of proposal, from 0.
        key: hash of the values that it was proposed with.
        state: open, finished, stopped (by the scheduler) or failed.
        reason: why it was stopped or failed.
        parts: its settings over time.
        num_steps: that it would take in all; 0 before it has begun.
        seconds: that it has trained for, over all launches.
        evaluations: in order of steps.
    """

    number: int
    key: str
    parts: tuple[Part, ...]
    state: State = "open"
    reason: str | None = None
    num_steps: int = 0
    seconds: float = 0.0
    evaluations: tuple[Evaluation, ...] = ()

    @property
    def values(self) -> Values:
        """The settings that it has now."""
        return self.parts[-1].values

    @property
    def name(self) -> str:
        return f"{self.number:04d}-{self.key}"

    @property
    def step(self) -> int:
        return self.evaluations[-1].step if self.evaluations else 0

    def best(self, metric: str, *, higher: bool) -> Evaluation | None:
        """The evaluation with the best value of a metric, the earliest among equals."""
        known = [e for e in self.evaluations if math.isfinite(e.metrics.get(metric, math.nan))]
        sign = -1 if higher else 1
        return min(known, key=lambda e: sign * e.metrics[metric], default=None)

    def with_evaluation(self, evaluation: Evaluation) -> Entry:
        """With what came at or after that step replaced: it was done again."""
        before = tuple(e for e in self.evaluations if e.step < evaluation.step)
        return dataclasses.replace(self, evaluations=(*before, evaluation))


class Ledger:
    """The trials of a sweep, in order; each change is committed before it is seen.

    Any thread may read; changes come from the process that holds the sweep's lease.

    Args:
        sweep: the sweep's folder.
    """

    def __init__(self, sweep: Location) -> None:
        self._folder = sweep / FOLDER
        self._lock = threading.Lock()
        self._entries: dict[str, Entry] = {}
        for name in self._folder.list_files(".json"):
            entry = _from_json((self._folder / name).read_bytes(), self._folder / name)
            self._entries[entry.key] = entry

    def entries(self) -> list[Entry]:
        with self._lock:
            return sorted(self._entries.values(), key=lambda entry: entry.number)

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, key: str) -> bool:
        return key in self._entries

    def __getitem__(self, key: str) -> Entry:
        return self._entries[key]

    def add(self, values: Values) -> Entry:
        """A new open trial."""
        entry = Entry(len(self._entries), key_of(values), (Part(values),))
        assert entry.key not in self._entries  # proposals are held against the ledger
        self._commit(entry)
        return entry

    def update(self, key: str, **changes: Any) -> Entry:
        """Changes fields of a trial."""
        entry = dataclasses.replace(self[key], **changes)
        self._commit(entry)
        return entry

    def evaluated(self, key: str, evaluation: Evaluation, **changes: Any) -> Entry:
        """Adds an evaluation to a trial, and changes fields."""
        entry = dataclasses.replace(self[key].with_evaluation(evaluation), **changes)
        self._commit(entry)
        return entry

    def _commit(self, entry: Entry) -> None:
        write_file(self._folder / f"{entry.name}.json", _to_json(entry))
        with self._lock:
            self._entries[entry.key] = entry


def _to_json(entry: Entry) -> bytes:
    content = dataclasses.asdict(entry)
    for evaluation in content["evaluations"]:
        # JSON has no NaN and no infinity.
        evaluation["metrics"] = {
            name: value if math.isfinite(value) else None
            for name, value in evaluation["metrics"].items()
        }
    return json.dumps(content, indent=1).encode()


def _from_json(content: bytes, file: Location) -> Entry:
    try:
        fields = json.loads(content)
        parts = tuple(
            Part(p["values"], p["first_step"], tuple(p["donor"]) if p["donor"] else None)
            for p in fields.pop("parts")
        )
        evaluations = tuple(
            Evaluation(e["step"], e["epoch"], _with_nan(e["metrics"]))
            for e in fields.pop("evaluations")
        )
        return Entry(parts=parts, evaluations=evaluations, **fields)
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidContent(f"{file} is no entry of a ledger: {error}") from error


def _with_nan(metrics: dict[str, float | None]) -> dict[str, float]:
    return {name: math.nan if value is None else value for name, value in metrics.items()}
