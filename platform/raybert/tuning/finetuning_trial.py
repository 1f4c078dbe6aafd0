"""A trial's training: finetuning in this process, or with workers that Ray Train starts."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch

from raybert.finetuning.data import TokenizedData, prepare_data
from raybert.finetuning.trainer import FinetuningTrainer
from raybert.settings import Settings
from raybert.storage import Location
from raybert.tracking import RunFolder, Tracker
from raybert.tracking.run_folder import RAY
from raybert.training.checkpoints import Checkpoint, CheckpointStore
from raybert.training.device import choose_device, make_repeatable
from raybert.training.launching import GroupFit
from raybert.training.lease import Permit
from raybert.training.mailbox import drain, open_mailbox
from raybert.training.workers import Launch, report_checkpoint, seated
from raybert.tuning.trial import Progress, TrialTask

START = "start"
_POLL_S = 0.02
_LOOK_S = 0.2


def train_trial(task: TrialTask, report: Callable[[Progress], None]) -> None:
    """Finetunes from where the part stands; see `trial.Train`."""
    data = task.data or prepare_data(task.settings, task.data_folder)
    if task.settings.cluster.num_workers > 1:
        train_with_workers(task, data, report)
        return
    folder = RunFolder(task.run)
    folder.fetch()
    tracker = Tracker(folder)
    try:
        trainer = open_trainer(task.settings, task.run, data, task.permit, tracker)
        tell = teller(trainer, task, report)
        # A killed launch may have committed what it could no longer tell.
        tell(trainer.first_step)
        trainer.train(on_checkpoint=lambda step, _: tell(step))
        tell(trainer.history.evaluations[-1].step)
    finally:
        tracker.close()
        folder.close()


def teller(
    trainer: FinetuningTrainer, task: TrialTask, report: Callable[[Progress], None]
) -> Callable[[int], None]:
    """Reports the evaluation of a step, if there was one; each once."""
    num_rows, batch_size = len(trainer.rows("train")), task.settings.finetuning.batch_size
    told: set[int] = set()

    def tell(step: int) -> None:
        evaluation = trainer.history.at(step)
        if evaluation is None or step in told:
            return
        if task.commits_first:
            _wait_for_commit(task.run, step)
        told.add(step)
        report(
            Progress(
                step=step,
                num_steps=trainer.num_steps,
                epoch=step * batch_size / num_rows,
                metrics=evaluation.metrics,
                is_last=step == trainer.num_steps or trainer.history.ended_early is not None,
            )
        )

    return tell


def train_with_workers(
    task: TrialTask, data: TokenizedData, report: Callable[[Progress], None]
) -> None:
    """Finetunes with workers that Ray Train starts; this process only passes on what they say."""
    from raybert.cluster import WorkerRequest
    from raybert.cluster.resources import of_cluster

    cluster = task.settings.cluster
    request = WorkerRequest(cluster.num_workers, cluster.cpus_per_worker, cluster.gpus_per_worker)
    launch = Launch(
        # Unique: Ray would restore a snapshot of its own for a known name.
        name=f"{task.run.parent.name}-{time.time_ns()}",
        settings=task.settings,
        inputs=data.location,
        run=task.run,
        permit=task.permit,
        mailbox=open_mailbox(),
        began=time.time(),
        total_steps=0,  # nobody is shown them
        max_hours=None,
    )
    worker = functools.partial(_worker, launch, task)
    fit = GroupFit(launch, request.settled(of_cluster()), worker)

    def see(event: object) -> None:
        if isinstance(event, Progress):
            report(event)

    fit.start()
    try:
        while fit.is_alive():
            fit.join(_LOOK_S)
            drain(launch.mailbox, see)
        drain(launch.mailbox, see)
        fit.outcome()
    finally:
        # The scheduler may have stopped the trial: its workers must not go on without it.
        launch.mailbox.ask_to_stop.remote("the search")
        fit.join()
        (task.run / RAY).delete_dir()


def _worker(launch: Launch, task: TrialTask) -> dict[str, Any]:
    """What each worker of a trial's group runs; returns how far it came."""
    with seated(launch, task.settings.finetuning.reduction, {}) as seat:
        data = TokenizedData.open(launch.inputs)
        tracker = None
        if seat.rank == 0:
            seat.folder.fetch()
            # What is told of a trial are its evaluations; the rows are its own.
            tracker = Tracker(seat.folder)
        try:
            trainer = FinetuningTrainer(
                task.settings, data, task.run, tracker, device=seat.device, permit=task.permit
            )
            tell = teller(trainer, task, seat.post)

            def on_checkpoint(step: int, scalars: Mapping[str, float]) -> None:
                report_checkpoint(step, scalars)
                tell(step)

            tell(trainer.first_step)
            outcome = trainer.train(seat.stop, on_checkpoint=on_checkpoint)
            if trainer.history.evaluations:
                tell(trainer.history.evaluations[-1].step)
        finally:
            if tracker is not None:
                tracker.close()
    return {"step": outcome.step}


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
