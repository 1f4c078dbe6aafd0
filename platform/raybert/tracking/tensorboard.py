"""TensorBoard scalars, rewritten from the metrics log at each start."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from raybert.tracking.row import Row

if TYPE_CHECKING:
    import numpy as np
    from torch.utils.tensorboard import SummaryWriter

FOLDER = "tensorboard"
_FLUSH_S = 10


class TensorBoard:
    """Writes event files.

    Event files can't be shortened, and what a killed process had buffered is lost. So a launch
    writes one new file with the whole history and removes the older ones: no step is missing and
    none appears twice. The purge mark makes a TensorBoard that is already open forget what it has
    read.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._writer: SummaryWriter | None = None

    def resume(self, history: Sequence[Row]) -> None:
        older = list(self._folder.glob("events.out.tfevents.*"))
        if not history and not older:
            return  # opened by the first row: what it imports would hold up the first step
        self._writer = self._open(purge_step=0 if older else None)
        for row in history:
            self.log(row)
        self._writer.flush()
        for path in older:
            path.unlink()

    def _open(self, purge_step: int | None = None) -> SummaryWriter:
        from torch.utils.tensorboard import SummaryWriter

        return SummaryWriter(str(self._folder), purge_step=purge_step, flush_secs=_FLUSH_S)

    def log(self, row: Row) -> None:
        if self._writer is None:
            self._writer = self._open()
        for name, value in row.scalars.items():
            self._writer.add_scalar(name, value, row.step, walltime=row.time)

    def picture(self, step: int, name: str, pixels: np.ndarray) -> None:
        """A picture, uint8 (height, width, 3)."""
        if self._writer is None:
            self._writer = self._open()
        self._writer.add_image(name, pixels, step, dataformats="HWC")

    def flush(self) -> None:
        if self._writer is not None:
            self._writer.flush()

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None
