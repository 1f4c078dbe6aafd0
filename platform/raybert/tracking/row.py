"""What all trackers share: one row of scalars per logged step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Row:
    """The scalars of one step.

    Attributes:
        step: steps taken so far; a row and a checkpoint of the same step belong together.
        time: seconds since 1970.
        scalars: by name, `train/loss` for example.
    """

    step: int
    time: float
    scalars: Mapping[str, float]


class Sink(Protocol):
    """Somewhere rows go."""

    def resume(self, history: Sequence[Row]) -> None:
        """Called once before the first row: what stands from earlier launches, in order."""
        ...

    def log(self, row: Row) -> None: ...

    def flush(self) -> None:
        """What was logged is safe when this returns."""
        ...

    def close(self) -> None: ...
