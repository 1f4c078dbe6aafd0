"""What a person sees of a sweep: a live table at a terminal, a line per interval elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from raybert.tracking.display import duration
from raybert.tuning.ledger import Entry

_PLAIN_INTERVAL_S = 10.0
_RECENT = 6
_DIGITS = 4


@dataclass(frozen=True)
class Standing:
    """How a sweep stands.

    Attributes:
        entries: of the ledger.
        running: keys of the trials that are being trained.
        num_trials: of the sweep in all.
        metric: that trials are compared by, and whether higher is better.
        concurrent: trials at the same time.
        budget_left_s: seconds until the time budget is used up; None: no such budget.
    """

    entries: Sequence[Entry]
    running: frozenset[str]
    num_trials: int
    metric: str
    higher: bool
    concurrent: int
    budget_left_s: float | None = None

    @property
    def best(self) -> Entry | None:
        known = ranked(self.entries, self.metric, higher=self.higher)
        return known[0] if known else None

    def count(self, *states: str) -> int:
        return sum(entry.state in states for entry in self.entries)

    @property
    def seconds_left(self) -> float | None:
        """By the mean time of the trials that are done; None before one is."""
        done = [e.seconds for e in self.entries if e.state in ("finished", "stopped")]
        if not done:
            return self.budget_left_s
        to_come = self.num_trials - len(self.entries)
        mean = sum(done) / len(done)
        work = to_come * mean + sum(
            max(0.0, mean - entry.seconds) for entry in self.entries if entry.state == "open"
        )
        left = work / self.concurrent
        return left if self.budget_left_s is None else min(left, self.budget_left_s)


def ranked(entries: Sequence[Entry], metric: str, *, higher: bool) -> list[Entry]:
    """Trials that have figures and did not fail, the best first."""

    def value(entry: Entry) -> float | None:
        best = entry.best(metric, higher=higher)
        return None if best is None or entry.state == "failed" else best.metrics[metric]

    known = [(v, entry) for entry in entries if (v := value(entry)) is not None]
    sign = -1 if higher else 1
    return [entry for _, entry in sorted(known, key=lambda item: (sign * item[0], item[1].number))]


class SweepDisplay:
    """Shows how a sweep stands, again and again.

    Args:
        stream: where to; a terminal or not decides the form.
        plain_interval_s: least time between two plain lines.
    """

    def __init__(
        self, stream: TextIO | None = None, plain_interval_s: float = _PLAIN_INTERVAL_S
    ) -> None:
        self._console = Console(file=stream or sys.stdout, highlight=False, soft_wrap=True)
        self._interval_s = plain_interval_s
        self._last = time.monotonic()
        self._told: set[str] = set()
        self._live: Live | None = None

    def note(self, text: str) -> None:
        """Says something once."""
        self._console.print(text, markup=False)

    def show(self, standing: Standing) -> None:
        self._tell_failures(standing)
        if self._console.is_terminal:
            if self._live is None:
                self._live = Live(console=self._console, refresh_per_second=4, transient=True)
                self._live.start()
            self._live.update(_table(standing))
        elif time.monotonic() - self._last >= self._interval_s:
            self._last = time.monotonic()
            self.note(describe(standing))

    def _tell_failures(self, standing: Standing) -> None:
        for entry in standing.entries:
            if entry.state == "failed" and entry.key not in self._told:
                self._told.add(entry.key)
                self.note(f"trial {entry.number} failed: {entry.reason}")

    def close(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None


def describe(standing: Standing) -> str:
    """How a sweep stands, in one line."""
    counts = [f"{standing.count('finished', 'stopped', 'failed')}/{standing.num_trials} trials"]
    if stopped := standing.count("stopped"):
        counts.append(f"{stopped} stopped early")
    if failed := standing.count("failed"):
        counts.append(f"{failed} failed")
    counts.append(f"{len(standing.running)} running")
    parts = [", ".join(counts)]
    if (best := standing.best) is not None:
        parts.append(f"best {_score(best, standing)} ({describe_values(best.values)})")
    if (left := standing.seconds_left) is not None:
        parts.append(f"{duration(left)} left")
    return "  ".join(parts)


def describe_values(values: Mapping[str, Any]) -> str:
    """Settings in one line, without their sections."""
    return ", ".join(f"{name.rsplit('.', 1)[-1]} {shown(value)}" for name, value in values.items())


def shown(value: object) -> str:
    """A setting's value as people write it."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.{_DIGITS}g}" if isinstance(value, float) else str(value)


def _score(entry: Entry, standing: Standing) -> str:
    best = entry.best(standing.metric, higher=standing.higher)
    return f"{standing.metric} {best.metrics[standing.metric]:.4f}" if best else "–"


def _table(standing: Standing) -> Group:
    table = Table(box=None, pad_edge=False, expand=False)
    for column in ("trial", "state", "epoch", standing.metric, "best", "settings"):
        table.add_column(column, overflow="ellipsis", no_wrap=column != "settings")
    running = [e for e in standing.entries if e.key in standing.running]
    closed = [e for e in standing.entries if e.state != "open"][-_RECENT:]
    best = standing.best
    for entry in [*closed, *running]:
        table.add_row(*_cells(entry, standing), style="bold green" if entry is best else None)
    return Group(table, Text(describe(standing)))


def _cells(entry: Entry, standing: Standing) -> list[str]:
    last = entry.evaluations[-1] if entry.evaluations else None
    best = entry.best(standing.metric, higher=standing.higher)
    value = last.metrics.get(standing.metric) if last else None
    return [
        str(entry.number),
        "running" if entry.state == "open" else entry.state,
        f"{last.epoch:.1f}" if last else "–",
        "–" if value is None else f"{value:.4f}",
        f"{best.metrics[standing.metric]:.4f}" if best else "–",
        describe_values(entry.values),
    ]
