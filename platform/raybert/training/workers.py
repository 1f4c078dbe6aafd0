"""What each worker of a Ray Train group runs: one `Trainer`, with the group's backend around it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from raybert.settings import Settings
from raybert.storage import Location
from raybert.training.lease import Permit

if TYPE_CHECKING:
    import torch

    from raybert.tracking import RunFolder, Sink
    from raybert.training.mailbox import Event
    from raybert.training.stopping import StopRequest


@dataclass(frozen=True)
class Launch:
    """One start of a run, as the driver hands it to the workers.

    Attributes:
        name: of the launch; unique.
        settings: the tree.
        inputs: a token folder, or tokenized data.
        run: run folder.
        permit: the driver's right to write.
        mailbox: actor handle for rows, words and the wish to stop.
        began: seconds since 1970.
        total_steps: of the whole run.
        max_hours: of this launch; None: no limit.
    """

    name: str
    settings: Settings
    inputs: Location
    run: Location
    permit: Permit
    mailbox: Any
    began: float
    total_steps: int
    max_hours: float | None

    @property
    def deadline(self) -> float:
        """When `max_hours` are over, in seconds since 1970."""
        return float("inf") if self.max_hours is None else self.began + 3600 * self.max_hours


@dataclass(frozen=True)
class Seat:
    """A worker's place in its group.

    Attributes:
        rank: this worker, from 0.
        num_workers: in the group.
        device: its own.
        folder: of the run.
        sinks: where worker 0's rows go besides the run's log; none on the others.
        post: sends an event to the driver; does nothing but on worker 0.
        stop: set when the driver wants to stop.
    """

    rank: int
    num_workers: int
    device: torch.device
    folder: RunFolder
    sinks: tuple[Sink, ...]
    post: Callable[[Event], None]
    stop: StopRequest


@contextlib.contextmanager
def seated(
    launch: Launch,
    reduction: Literal["canonical", "fast"],
    gauges: Mapping[str, tuple[str, str]],
) -> Iterator[Seat]:
    """Makes a process of a Ray Train group ready to train.

    Args:
        gauges: scalar to name and description of its Ray metric.
    """
    import ray.train

    from raybert.tracking import RunFolder
    from raybert.tracking.process_log import process_log
    from raybert.tracking.ray_metrics import RayMetrics
    from raybert.training.mailbox import Correspondent
    from raybert.training.stopping import StopRequest

    context = ray.train.get_context()
    rank = context.get_world_rank()
    folder = RunFolder(launch.run)
    stop = StopRequest()
    with contextlib.ExitStack() as stack:
        stack.callback(folder.close)
        stack.enter_context(process_log(folder.logs(launch.name) / f"worker-{rank}.log"))
        sinks: tuple[Sink, ...] = ()
        post: Callable[[Event], None] = _nobody
        if rank == 0:
            correspondent = Correspondent(launch.mailbox, stop)
            stack.callback(correspondent.close)
            sinks = (correspondent, RayMetrics(folder.name, gauges))
            post = correspondent.post
        device = _prepare_torch(launch.settings, reduction)
        yield Seat(rank, context.get_world_size(), device, folder, sinks, post, stop)


def pretraining_worker(launch: Launch) -> dict[str, Any]:
    """Trains as one worker of the group that Ray Train has set up.

    Returns:
        How it went: fields of `Outcome`, and on worker 0 where the export is.
    """
    from raybert.samples import PretrainingSamples
    from raybert.tokens import TokenStore
    from raybert.tracking import Tracker
    from raybert.tracking.ray_metrics import PRETRAINING
    from raybert.training.mailbox import Started
    from raybert.training.pretrain import Trainer

    settings = launch.settings
    with (
        seated(launch, settings.pretraining.reduction, PRETRAINING) as seat,
        contextlib.ExitStack() as stack,
    ):
        tracker = None
        if seat.rank == 0:
            seat.folder.fetch()
            tracker = Tracker(seat.folder, *seat.sinks)
            stack.callback(tracker.close)
        store = TokenStore.open(launch.inputs)
        samples = PretrainingSamples(store, settings.samples, settings.pretraining.seed)
        trainer = Trainer(
            settings, samples, launch.run, tracker, device=seat.device, permit=launch.permit
        )
        seat.post(Started(trainer.first_step, seat.num_workers))
        outcome = trainer.train(seat.stop, launch.deadline, report_checkpoint)
        finished = outcome.stopped is None
        export = trainer.export() if finished and seat.rank == 0 else None
    return {
        "step": outcome.step,
        "first_step": outcome.first_step,
        "stopped": outcome.stopped,
        "scalars": dict(outcome.scalars),
        "export": None if export is None else export.address,
    }


def _nobody(event: Event) -> None:
    """Only worker 0 talks with the driver."""


def report_checkpoint(step: int, scalars: Mapping[str, float]) -> None:
    """Tells Ray Train of a checkpoint. Metrics only: its own snapshot is never restored from."""
    import ray.train

    ray.train.report({"step": step, **scalars})


def _prepare_torch(settings: Settings, reduction: Literal["canonical", "fast"]) -> torch.device:
    """Threads, the worker's own GPU, repeatable kernels; the device."""
    import torch

    from raybert.training.device import choose_device, make_repeatable

    # Gradients of LayerNorm differ between numbers of threads, so it is never left to chance.
    torch.set_num_threads(settings.cluster.cpus_per_worker)
    if settings.cluster.gpus_per_worker != 0 and torch.cuda.is_available():
        from ray.train.torch import get_device

        torch.cuda.set_device(get_device())
    device = choose_device(settings.cluster.gpus_per_worker)  # pyright: ignore[reportArgumentType]
    if reduction == "canonical":
        make_repeatable(device)
    return device
