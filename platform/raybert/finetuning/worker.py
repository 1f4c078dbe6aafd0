"""What each worker of a Ray Train group runs: a trainer per seed, one after the other."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from raybert.storage import Location
from raybert.tracking import Row, RunFolder, Sink, Tracker
from raybert.training.workers import Launch, Seat, report_checkpoint, seated


def finetuning_worker(launch: Launch) -> dict[str, Any]:
    """Trains as one worker of the group that Ray Train has set up.

    Returns:
        How it went: steps of all seeds together, why it was stopped, the last scalars.
    """
    from raybert.finetuning.data import TokenizedData
    from raybert.finetuning.seeds import seed_run, seeds_of, summarize, with_seed
    from raybert.finetuning.trainer import FinetuningTrainer
    from raybert.tracking.ray_metrics import FINETUNING
    from raybert.training.mailbox import Note, Started

    settings = launch.settings
    seeds = seeds_of(settings)
    steps_each = launch.total_steps // len(seeds)
    results, scalars = [], {}
    with seated(launch, settings.finetuning.reduction, FINETUNING) as seat:
        data = TokenizedData.open(launch.inputs)
        for turn, seed in enumerate(seeds):
            run = seed_run(launch.run, seed, len(seeds))
            before = turn * steps_each
            with _tracking(seat, run, before) as tracker:
                trainer = FinetuningTrainer(
                    with_seed(settings, seed),
                    data,
                    run,
                    tracker,
                    device=seat.device,
                    permit=launch.permit,
                )
                if turn == 0 or trainer.first_step:
                    seat.post(Started(before + trainer.first_step, seat.num_workers))
                if len(seeds) > 1:
                    seat.post(Note(f"seed {seed}, {turn + 1} of {len(seeds)}"))
                outcome = trainer.train(seat.stop, launch.deadline, on_checkpoint=report_checkpoint)
                scalars |= outcome.scalars
                if outcome.stopped is not None:
                    return _told(before + outcome.step, outcome.stopped, scalars)
                if outcome.ended_early:
                    seat.post(Note(f"ended early: {outcome.ended_early}"))
                result = trainer.finish()
                if result is not None:
                    results.append(result)
        if len(seeds) > 1 and seat.rank == 0:
            scalars = summarize(launch.run, data, results)
    return _told(launch.total_steps, None, scalars)


def _told(step: int, stopped: str | None, scalars: dict[str, float]) -> dict[str, Any]:
    return {"step": step, "stopped": stopped, "scalars": scalars}


@contextlib.contextmanager
def _tracking(seat: Seat, run: Location, steps_before: int):
    """Worker 0's tracker of one seed's run; None on the others."""
    if seat.rank != 0:
        yield None
        return
    folder = seat.folder if run == seat.folder.location else RunFolder(run)
    folder.fetch()
    tracker = Tracker(folder, *(_Shared(sink, steps_before) for sink in seat.sinks))
    try:
        yield tracker
    finally:
        tracker.close()
        if folder is not seat.folder:
            folder.close()


@dataclass(frozen=True)
class _Shared:
    """A sink of the launch as one of its seeds' runs sees it: rows count from where it began.

    Attributes:
        sink: stays open for the next run.
        steps_before: of the runs before.
    """

    sink: Sink
    steps_before: int

    def resume(self, history: Sequence[Row]) -> None:
        self.sink.resume([self._moved(row) for row in history])

    def log(self, row: Row) -> None:
        self.sink.log(self._moved(row))

    def flush(self) -> None:
        self.sink.flush()

    def close(self) -> None:
        """The launch closes it."""

    def _moved(self, row: Row) -> Row:
        return Row(row.step + self.steps_before, row.time, row.scalars)
