"""A trial's training: finetuning in this process, or with workers that Ray Train starts."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from raybert.finetuning.data import TokenizedData, prepare_data
from raybert.finetuning.trainer import FinetuningTrainer
from raybert.settings import Settings
from raybert.storage import Location
from raybert.tracking import RunFolder, Tracker
from raybert.training.checkpoints import Checkpoint, CheckpointStore
from raybert.training.device import choose_device, make_repeatable
from raybert.training.lease import Permit
from raybert.tuning.trial import Progress, TrialTask

START = "start"
_POLL_S = 0.02


def train_trial(task: TrialTask, report: Callable[[Progress], None]) -> None:
    """Finetunes from where the part stands; see `trial.Train`."""
    folder = RunFolder(task.run)
    folder.fetch()
    tracker = Tracker(folder)
    try:
        _train(task, report, tracker)
    finally:
        tracker.close()
        folder.close()


def _train(task: TrialTask, report: Callable[[Progress], None], tracker: Tracker) -> None:
    trainer = open_trainer(task.settings, task.run, _data(task), task.permit, tracker)
    num_rows, batch_size = len(trainer.rows("train")), task.settings.finetuning.batch_size
    told = -1

    def tell(step: int) -> None:
        nonlocal told
        evaluation = trainer.history.at(step)
        if evaluation is None or step == told:
            return
        if task.commits_first:
            _wait_for_commit(task.run, step)
        told = step
        report(
            Progress(
                step=step,
                num_steps=trainer.num_steps,
                epoch=step * batch_size / num_rows,
                metrics=evaluation.metrics,
                is_last=step == trainer.num_steps or trainer.history.ended_early is not None,
            )
        )

    # A killed launch may have committed what it could no longer tell.
    tell(trainer.first_step)
    trainer.train(on_checkpoint=lambda step, _: tell(step))
    tell(trainer.history.evaluations[-1].step)


def open_trainer(
    settings: Settings,
    run: Location,
    data: TokenizedData,
    permit: Permit | None,
    tracker: Tracker | None = None,
) -> FinetuningTrainer:
    """The trainer of a part, where it stands: its own checkpoint, another trial's, or the start."""
    # Gradients of LayerNorm differ between numbers of threads, so it is never left to chance.
    torch.set_num_threads(settings.cluster.cpus_per_worker)
    device = choose_device(settings.cluster.gpus_per_worker)  # pyright: ignore[reportArgumentType]
    if settings.finetuning.reduction == "canonical":
        make_repeatable(device)
    return FinetuningTrainer(
        settings,
        data,
        run,
        tracker,
        start_from=_moved(run),
        device=device,
        permit=permit,
    )


def _data(task: TrialTask) -> TokenizedData:
    return task.data or prepare_data(task.settings, task.data_folder)


def _moved(run: Location) -> Checkpoint | None:
    """The checkpoint that an exchange brought to this part."""
    names = (run / START).list_dirs()
    if not names:
        return None
    (name,) = names
    return Checkpoint(int(name.rpartition("-")[2]), run / START / name)


def _wait_for_commit(run: Location, step: int) -> None:
    store = CheckpointStore(run)
    while step not in store.steps():
        time.sleep(_POLL_S)
