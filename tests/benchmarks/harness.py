"""Ratios against a named peer: both sides in one process tree, interleaved, medians."""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from rich.console import Console
from rich.table import Table

T = TypeVar("T")


@dataclass(frozen=True)
class Timing:
    """Seconds of every round of one side."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    @property
    def spread(self) -> float:
        """(max - min) / median."""
        return (max(self.seconds) - min(self.seconds)) / self.median


def interleave(
    sides: Mapping[str, Callable[[], object]], *, rounds: int, warmup: int = 1
) -> dict[str, Timing]:
    """Runs A B C A B C …, so that a drift of the machine's speed meets all sides alike."""
    for _ in range(warmup):
        for run in sides.values():
            run()
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, run in sides.items():
            begin = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - begin)
    return {name: Timing(tuple(values)) for name, values in seconds.items()}


def timed(run: Callable[[], T]) -> tuple[float, T]:
    """Seconds, and what the call gave."""
    begin = time.perf_counter()
    given = run()
    return time.perf_counter() - begin, given


def print_table(title: str, timings: Mapping[str, Timing], *, ours: str, amount: float, unit: str):
    """A row per side: rate, spread, and how many times faster ours is by paired medians."""
    table = Table(title=title, title_justify="left")
    for column in ("side", unit, "spread", f"{ours} is"):
        table.add_column(column, justify="left" if column == "side" else "right")
    for name, timing in timings.items():
        ratios = [
            theirs / mine
            for theirs, mine in zip(timing.seconds, timings[ours].seconds, strict=False)
        ]
        if len(timing.seconds) != len(timings[ours].seconds):
            ratios = [timing.median / timings[ours].median]  # not every round has both
        table.add_row(
            name,
            f"{amount / timing.median:,.1f}",
            f"{timing.spread:.0%}",
            "" if name == ours else f"{statistics.median(ratios):.2f}x as fast",
        )
    Console(width=100).print(table)
