"""Following a run: its folder, its metrics, what a person sees of it."""

from raybert.tracking.display import Display
from raybert.tracking.row import Row, Sink
from raybert.tracking.run_folder import RunFolder
from raybert.tracking.tracker import Tracker

__all__ = ["Display", "Row", "RunFolder", "Sink", "Tracker"]
