"""What each worker of a Ray Train group runs: one `Trainer`, with the group's backend around it."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from raybert.settings import Settings
from raybert.storage import Location
from raybert.training.lease import Permit


@dataclass(frozen=True)
class Launch:
    """One start of a run, as the driver hands it to the workers.

    Attributes:
        name: of the launch; unique.
        settings: the tree.
        tokens: token folder.
        run: run folder.
        permit: the driver's right to write.
        mailbox: actor handle for rows, words and the wish to stop.
        began: seconds since 1970.
    """

    name: str
    settings: Settings
    tokens: Location
    run: Location
    permit: Permit
    mailbox: Any
    began: float

    @property
    def deadline(self) -> float:
        """When `max_hours` are over, in seconds since 1970."""
        hours = self.settings.pretraining.max_hours
        return float("inf") if hours is None else self.began + 3600 * hours


def pretraining_worker(launch: Launch) -> dict[str, Any]:
    """Trains as one worker of the group that Ray Train has set up.

    Returns:
        How it went: fields of `Outcome`, and on worker 0 where the export is.
    """
    import ray.train

    from raybert.samples import PretrainingSamples
    from raybert.tokens import TokenStore
    from raybert.tracking import RunFolder, Tracker
    from raybert.tracking.process_log import process_log
    from raybert.tracking.ray_metrics import RayMetrics
    from raybert.training.mailbox import Correspondent, Started
    from raybert.training.pretrain import Trainer
    from raybert.training.stopping import StopRequest

    context = ray.train.get_context()
    rank = context.get_world_rank()
    folder = RunFolder(launch.run)
    log = folder.logs(launch.name) / f"worker-{rank}.log"
    stop = StopRequest()
    with contextlib.ExitStack() as stack:
        stack.callback(folder.close)
        stack.enter_context(process_log(log))
        tracker = None
        post = None
        if rank == 0:
            folder.fetch()
            correspondent = Correspondent(launch.mailbox, stop)
            post = correspondent.post
            tracker = Tracker(folder, correspondent, RayMetrics(folder.name))
            stack.callback(tracker.close)
        device = _prepare_torch(launch.settings)
        store = TokenStore.open(launch.tokens)
        settings = launch.settings
        samples = PretrainingSamples(store, settings.samples, settings.pretraining.seed)
        trainer = Trainer(
            settings, samples, launch.run, tracker, device=device, permit=launch.permit
        )
        if post:
            post(Started(trainer.first_step, context.get_world_size()))
        outcome = trainer.train(stop, launch.deadline, _report)
        finished = outcome.stopped is None
        export = trainer.export() if finished and rank == 0 else None
    return {
        "step": outcome.step,
        "first_step": outcome.first_step,
        "stopped": outcome.stopped,
        "scalars": dict(outcome.scalars),
        "export": None if export is None else export.address,
    }


def _report(step: int, scalars: Mapping[str, float]) -> None:
    """Tells Ray Train of a checkpoint. Metrics only: its own snapshot is never restored from."""
    import ray.train

    ray.train.report({"step": step, **scalars})


def _prepare_torch(settings: Settings):
    """Threads, the worker's own GPU, repeatable kernels; the device."""
    import torch

    from raybert.training.device import choose_device, make_repeatable

    # Gradients of LayerNorm differ between numbers of threads, so it is never left to chance.
    torch.set_num_threads(settings.cluster.cpus_per_worker)
    if settings.cluster.gpus_per_worker != 0 and torch.cuda.is_available():
        from ray.train.torch import get_device

        torch.cuda.set_device(get_device())
    device = choose_device(settings.cluster.gpus_per_worker)  # pyright: ignore[reportArgumentType]
    if settings.pretraining.reduction == "canonical":
        make_repeatable(device)
    return device
