"""One call per logged step, to everything that wants to know."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from raybert.tracking import metrics_log, tensorboard
from raybert.tracking.metrics_log import MetricsLog
from raybert.tracking.row import Row, Sink
from raybert.tracking.tensorboard import TensorBoard

if TYPE_CHECKING:
    import numpy as np

    from raybert.tracking.run_folder import RunFolder


class Tracker:
    """Follows one launch of a run.

    Call `resume` once with the step that training goes on from, then `log` for steps in ascending
    order. Whatever the number of kills, each logged step stands once in every tracker.

    Args:
        folder: of the run; its log and TensorBoard are kept there. None: only the sinks.
        sinks: where rows go besides.
    """

    def __init__(self, folder: RunFolder | None, *sinks: Sink) -> None:
        self._folder = folder
        self._log = MetricsLog(folder.local / metrics_log.FILE) if folder else None
        self._board = TensorBoard(folder.local / tensorboard.FOLDER) if folder else None
        self._sinks: tuple[Sink, ...] = (*((self._board,) if self._board else ()), *sinks)

    def resume(self, step: int) -> None:
        """Forgets what was logged after `step`: it is going to be done again."""
        history = self._log.resume(step) if self._log else []
        for sink in self._sinks:
            sink.resume(history)

    def log(self, step: int, scalars: Mapping[str, float]) -> None:
        """Logs a step; `step` counts the steps taken."""
        row = Row(step, time.time(), dict(scalars))
        if self._log:
            self._log.log(row)
        for sink in self._sinks:
            sink.log(row)

    def picture(self, step: int, name: str, pixels: np.ndarray) -> None:
        """Shows a picture in TensorBoard; it is not kept beyond the launch.

        Args:
            pixels: uint8 (height, width, 3).
        """
        if self._board:
            self._board.picture(step, name, pixels)

    def flush(self) -> None:
        """Makes safe what was logged: on the device, and in the run's remote folder."""
        if self._log:
            self._log.flush()
        for sink in self._sinks:
            sink.flush()
        if self._folder:
            self._folder.sync()

    def close(self) -> None:
        self.flush()
        if self._log:
            self._log.close()
        for sink in self._sinks:
            sink.close()
