"""How far work of a known size has come: a bar at a terminal, a line per interval everywhere else,
and its rate as a Ray metric.
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

from raybert.tracking.display import duration

if TYPE_CHECKING:
    from ray.util.metrics import Gauge

_PLAIN_INTERVAL_S = 10.0
# The rate that is shown is that of the last seconds: long enough for several tasks to end.
_RATE_WINDOW_S = 20.0


@dataclass(frozen=True)
class Work:
    """A kind of work.

    Attributes:
        name: for people, `tokenizing`.
        unit: what it is counted in, for people.
        unit_size: how many of what `advance` is told make one unit.
        metric: name of the gauge of its rate, in units per second; Prometheus puts `ray_` before.
        description: of the gauge.
    """

    name: str
    unit: str
    unit_size: float
    metric: str
    description: str


COUNTING = Work(
    "counting words",
    "MB",
    1e6,
    "raybert_counted_megabytes_per_second",
    "text whose words were counted for a tokenizer, MB per second",
)
TOKENIZING = Work(
    "tokenizing",
    "MB",
    1e6,
    "raybert_tokenized_megabytes_per_second",
    "text that became token shards, MB per second",
)
PREDICTING = Work(
    "predicting",
    "rows",
    1,
    "raybert_predicted_rows_per_second",
    "rows of text that got predictions or embeddings, per second",
)


class WorkProgress:
    """Follows one piece of work; a context manager.

    Args:
        work: its kind.
        total: its size, as `advance` counts.
        label: of the metric: what is worked on, for example the output folder's name. None: there
            is no Ray here to take a metric.
        stream: where to; standard error by default. A terminal or not decides the form.
        plain_interval_s: least time between two plain lines.
    """

    def __init__(
        self,
        work: Work,
        total: int,
        label: str | None = None,
        *,
        stream: TextIO | None = None,
        plain_interval_s: float = _PLAIN_INTERVAL_S,
    ) -> None:
        self._work = work
        self._total = total
        self._done = 0
        self._rate = _Rate()
        self._interval_s = plain_interval_s
        self._last_plain = time.monotonic()
        self._label = {"output": label or ""}
        self._gauge = _gauge(work) if label is not None else None
        console = Console(file=stream, stderr=stream is None, highlight=False, soft_wrap=True)
        self._console = console
        self._bar: Progress | None = None
        if console.is_terminal:
            columns = TextColumn(work.name), BarColumn(), TaskProgressColumn()
            self._bar = Progress(*columns, TextColumn("{task.fields[line]}"), console=console)
            self._task = self._bar.add_task("", total=max(total, 1), line="")

    def __enter__(self) -> WorkProgress:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar:
            self._bar.stop()
        if self._gauge:
            self._gauge.set(0.0, self._label)

    def advance(self, amount: int) -> None:
        """So much more is done."""
        self._done += amount
        now = time.monotonic()
        rate = self._rate.see(now, self._done) / self._work.unit_size
        if self._gauge:
            self._gauge.set(rate, self._label)
        if self._bar:
            self._bar.update(self._task, completed=self._done, line=self._figures(rate))
        elif now - self._last_plain >= self._interval_s and self._done < self._total:
            done, total = (f"{n / self._work.unit_size:,.0f}" for n in (self._done, self._total))
            share = f"{done} of {total} {self._work.unit}"
            self._console.print(f"{self._work.name}: {share}, {self._figures(rate)}", markup=False)
            self._last_plain = now

    def _figures(self, rate: float) -> str:
        left = (self._total - self._done) / self._work.unit_size
        figures = f"{rate:,.1f} {self._work.unit}/s"
        return f"{figures}, {duration(left / rate)} left" if rate > 0 else figures


class _Rate:
    """Of the last seconds."""

    def __init__(self) -> None:
        self._seen = deque([(time.monotonic(), 0)])

    def see(self, now: float, done: int) -> float:
        """Per second."""
        self._seen.append((now, done))
        while len(self._seen) > 2 and self._seen[1][0] <= now - _RATE_WINDOW_S:
            self._seen.popleft()
        began, before = self._seen[0]
        return (done - before) / max(now - began, 1e-9)


def _gauge(work: Work) -> Gauge:
    from ray.util.metrics import Gauge

    return Gauge(work.metric, description=work.description, tag_keys=("output",))
