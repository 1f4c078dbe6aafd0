"""What a person sees of a run: a steady display at a terminal, plain lines everywhere else."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from raybert.tracking.row import Row

_PLAIN_INTERVAL_S = 10.0
_SMOOTHING = 0.3


class Display:
    """Shows rows. At a terminal one line moves; a log file gets a line per interval.

    Args:
        total_steps: of the whole run.
        stream: where to; a terminal or not decides the form.
        plain_interval_s: least time between two plain lines; evaluations and the last step always
            get one.
    """

    def __init__(
        self,
        total_steps: int,
        stream: TextIO | None = None,
        plain_interval_s: float = _PLAIN_INTERVAL_S,
    ) -> None:
        self._total = total_steps
        self._console = Console(file=stream or sys.stdout, highlight=False, soft_wrap=True)
        self._plain_interval_s = plain_interval_s
        self._pace = _Pace(total_steps)
        self._last_plain = float("-inf")
        self._progress: Progress | None = None
        if self._console.is_terminal:
            self._progress = Progress(
                TextColumn("[bold]step[/] {task.completed:,.0f}/{task.total:,.0f}"),
                BarColumn(bar_width=None),
                TextColumn("{task.fields[line]}"),
                console=self._console,
                expand=True,
            )
            self._task = self._progress.add_task("", total=total_steps, line="starting")
            self._progress.start()

    def note(self, text: str) -> None:
        """Says something once, above the moving line."""
        self._console.print(text, markup=False)

    def status(self, text: str) -> None:
        """What is going on while no step is taken: on the moving line, or as a note."""
        if self._progress:
            self._progress.update(self._task, line=text)
        else:
            self.note(text)

    def resume(self, history: Sequence[Row]) -> None:
        self.restart(history[-1].step if history else 0)

    def restart(self, step: int) -> None:
        """Goes on, or back, to where steps are taken from."""
        self._pace.restart(step)
        if self._progress:
            self._progress.update(self._task, completed=step, line="first step")

    def log(self, row: Row) -> None:
        self._pace.see(row.step)
        line = describe(row, self._pace.time_left())
        held_out = describe_evaluation(row)
        if self._progress:
            self._progress.update(self._task, completed=row.step, line=line)
        elif self._is_due() or held_out or row.step == self._total:
            self.note(f"step {row.step:,}/{self._total:,}  {line}")
            self._last_plain = time.monotonic()
        if held_out:
            self.note(f"step {row.step:,}: {held_out}")

    def _is_due(self) -> bool:
        return time.monotonic() - self._last_plain >= self._plain_interval_s

    def flush(self) -> None:
        """Nothing is held back."""

    def close(self) -> None:
        if self._progress:
            self._progress.stop()
            self._progress = None


class _Pace:
    """Seconds per step, smoothed, of this launch."""

    def __init__(self, total_steps: int) -> None:
        self._total = total_steps
        self.restart(0)

    def restart(self, step: int) -> None:
        self._seen: tuple[int, float] | None = None
        self._step = step
        self._seconds: float | None = None

    def see(self, step: int) -> None:
        now = time.monotonic()
        if self._seen is not None and step > self._seen[0]:
            latest = (now - self._seen[1]) / (step - self._seen[0])
            before = latest if self._seconds is None else self._seconds
            self._seconds = (1 - _SMOOTHING) * before + _SMOOTHING * latest
        self._seen = (step, now)
        self._step = step

    def time_left(self) -> float | None:
        return None if self._seconds is None else self._seconds * (self._total - self._step)


def describe(row: Row, seconds_left: float | None) -> str:
    """The figures of a training step in one line."""
    scalars = row.scalars
    parts = []
    if "train/loss" in scalars:
        parts.append(f"loss {scalars['train/loss']:.4f}")
    if "throughput/tokens_per_sec" in scalars:
        parts.append(f"{scalars['throughput/tokens_per_sec']:,.0f} tokens/s")
    if "time/data_wait_fraction" in scalars:
        parts.append(f"data wait {scalars['time/data_wait_fraction']:.1%}")
    if seconds_left is not None:
        parts.append(f"{duration(seconds_left)} left")
    return "  ".join(parts)


def describe_evaluation(row: Row) -> str:
    """The held-out figures of a row in one line; empty when there are none."""
    scalars = {k.removeprefix("eval/"): v for k, v in row.scalars.items() if k.startswith("eval/")}
    if not scalars:
        return ""
    parts = [f"held-out loss {scalars['loss']:.4f}"]
    if "perplexity" in scalars:
        parts.append(f"perplexity {scalars['perplexity']:,.1f}")
    for name, value in scalars.items():
        if name.endswith("_accuracy"):
            parts.append(f"{name.removesuffix('_accuracy')} accuracy {value:.1%}")
        elif not (name in ("loss", "perplexity") or name.endswith("_loss")):
            parts.append(f"{name.replace('_', ' ')} {value:.4f}")
    return ", ".join(parts)


def duration(seconds: float) -> str:
    """Seconds as people write them: 40 s, 3 min, 2 h 05 min."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60:02d} min"
