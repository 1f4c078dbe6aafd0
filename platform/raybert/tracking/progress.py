"""How far a job over many rows is: a bar at a terminal, a line per interval everywhere else."""

from __future__ import annotations

import sys
import time
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from raybert.tracking.display import duration

_PLAIN_INTERVAL_S = 10.0
_RATE_WINDOW_S = 60.0


class RowsProgress:
    """Rows done, rows per second over the last minute, and the time left.

    Args:
        total: rows of the whole job.
        done: of them, by earlier launches.
        stream: where to; a terminal or not decides the form.
        plain_interval_s: least time between two plain lines.
    """

    def __init__(
        self,
        what: str,
        total: int,
        done: int = 0,
        stream: TextIO | None = None,
        plain_interval_s: float = _PLAIN_INTERVAL_S,
    ) -> None:
        self._what, self._total, self._done = what, total, done
        self._console = Console(file=stream or sys.stdout, highlight=False, soft_wrap=True)
        self._plain_interval_s = plain_interval_s
        self._seen = [(time.monotonic(), done)]
        self._last_plain = time.monotonic()
        self._progress: Progress | None = None
        if self._console.is_terminal:
            self._progress = Progress(
                TextColumn(f"[bold]{what}[/] {{task.completed:,.0f}}/{{task.total:,.0f}}"),
                BarColumn(bar_width=None),
                TextColumn("{task.fields[line]}"),
                console=self._console,
                expand=True,
            )
            self._task = self._progress.add_task("", total=total, completed=done, line="starting")
            self._progress.start()

    @property
    def rows_per_second(self) -> float | None:
        """Over about the last minute; None before the first rows of this launch."""
        (begin, before), (now, done) = self._seen[0], self._seen[-1]
        return (done - before) / (now - begin) if done > before and now > begin else None

    def advance(self, rows: int) -> None:
        """More rows are done."""
        now = time.monotonic()
        self._done += rows
        self._seen.append((now, self._done))
        while len(self._seen) > 2 and now - self._seen[1][0] > _RATE_WINDOW_S:
            self._seen.pop(0)
        if self._progress:
            self._progress.update(self._task, completed=self._done, line=self._line())
        elif now - self._last_plain >= self._plain_interval_s or self._done == self._total:
            self._last_plain = now
            share = self._done / self._total if self._total else 1
            self._console.print(
                f"{self._what} {self._done:,}/{self._total:,} ({share:.0%})  {self._line()}",
                markup=False,
            )

    def _line(self) -> str:
        rate = self.rows_per_second
        if rate is None:
            return ""
        left = duration((self._total - self._done) / rate)
        return f"{rate:,.0f} rows/s  {left} left"

    def close(self) -> None:
        if self._progress:
            self._progress.stop()
            self._progress = None

    def __enter__(self) -> RowsProgress:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
