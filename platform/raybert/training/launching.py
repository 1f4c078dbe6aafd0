"""A group of workers on a cluster, as the process sees it that a person started.

It holds the run's lease, has Ray Train look after the workers, shows how it goes, and passes on a
wish to stop. The workers do the rest. Pretraining and finetuning are launched alike.
"""

from __future__ import annotations

import functools
import shlex
import shutil
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from raybert.cluster import RunningCluster, WorkerRequest, start
from raybert.cluster.environment import TRAIN_WORKER_VARIABLES
from raybert.cluster.resources import what_is_missing
from raybert.errors import UserError
from raybert.settings import Settings
from raybert.storage import Location
from raybert.tracking import Display, Row, RunFolder
from raybert.tracking.environment import describe_launch, new_launch
from raybert.tracking.process_log import process_log
from raybert.tracking.run_folder import RAY
from raybert.training.lease import Lease
from raybert.training.mailbox import Note, Started, drain, open_mailbox
from raybert.training.run_identity import IDENTITY
from raybert.training.stopping import StopRequest, stopping_on_signals
from raybert.training.workers import Launch

_LOOK_S = 0.25
_SAY_WHAT_IS_MISSING_S = 20.0
_BEGINNINGS = (IDENTITY, "lease.json", ".lease.lock", "launches.jsonl")


@dataclass(frozen=True)
class Work:
    """What is to be done.

    Attributes:
        settings: settled as far as can be before the device is known.
        run: the run's folder.
        inputs: what workers read: a token folder, or tokenized data.
        total_steps: of the whole run.
        max_hours: of this launch; None: no limit.
        notes: lines for a person, shown before the workers start.
        written: folders outside of the run that the job writes and workers read.
    """

    settings: Settings
    run: Location
    inputs: Location
    total_steps: int
    max_hours: float | None
    notes: tuple[str, ...] = ()
    written: tuple[Location, ...] = ()


@dataclass(frozen=True)
class Ended:
    """How the workers ended.

    Attributes:
        run: the run's folder.
        outcome: what worker 0 returned.
        stop: the wish to stop, if there was one.
    """

    run: Location
    outcome: dict[str, Any]
    stop: StopRequest

    def tell_if_stopped(self) -> bool:
        """Says how to go on with a run that was stopped; whether it was."""
        stopped = self.outcome["stopped"]
        if stopped is None:
            (self.run / RAY).delete_dir()
            return False
        print(
            f"stopped by {stopped} after step {self.outcome['step']:,}; its checkpoint is "
            f"committed. To go on:\n  {shlex.join(['python', *sys.argv])}",
            flush=True,
        )
        return True

    def exit_as_signalled(self) -> None:
        """Ends the process as one that the signal ended: shells and schedulers expect it."""
        if self.outcome["stopped"] is not None and self.stop.signal is not None:
            sys.exit(128 + self.stop.signal)


def refuse_other_content(run: Location, prepared: Sequence[str] = ()) -> None:
    """Looks whether a folder can be a run's.

    Args:
        prepared: folders that may stand there before the first launch.

    Raises:
        UserError: it is a file, or holds other things.
    """
    if run.is_file():
        raise UserError(f"--run {run} is a file; it must be a folder, or nothing yet")
    if any((run / name).is_file() for name in _BEGINNINGS):
        return
    found = [name for name in (*run.list_files(), *run.list_dirs()) if name not in prepared]
    if found:
        raise UserError(
            f"--run {run} holds other things ({', '.join(found[:3])}) and no run: take a new "
            "folder, or the folder of a run to go on with it"
        )


def run_workers(work: Work, worker: Callable[[Launch], dict[str, Any]]) -> Ended:
    """Runs a worker group to its end, surviving the failures that settings allow.

    Args:
        worker: what each worker runs.

    Raises:
        UserError: a person's mistake, found on the way.
        KeyboardInterrupt: a second Ctrl-C.
    """
    cluster_settings = work.settings.cluster
    request = WorkerRequest(
        cluster_settings.num_workers,
        cluster_settings.cpus_per_worker,
        cluster_settings.gpus_per_worker,
        cluster_settings.min_workers,
    )
    name = new_launch()
    folder = RunFolder(work.run)
    with (
        Lease(work.run) as lease,
        process_log(folder.logs(name) / "driver.log"),
        start(cluster_settings, request, outputs=[work.run, *work.written]) as cluster,
        stopping_on_signals() as stop,
    ):
        folder.record_launch(describe_launch(name) | {"cluster": cluster.address})
        launch = Launch(
            name=name,
            settings=work.settings,
            inputs=work.inputs,
            run=work.run,
            permit=lease.permit(),
            mailbox=open_mailbox(),
            began=time.time(),
            total_steps=work.total_steps,
            max_hours=work.max_hours,
        )
        try:
            outcome = _watch(launch, cluster, functools.partial(worker, launch), stop, work.notes)
        finally:
            _keep_ray_logs(cluster, folder, name)
            folder.close()
    return Ended(work.run, outcome, stop)


def _watch(
    launch: Launch,
    cluster: RunningCluster,
    worker: Callable[[], Any],
    stop: StopRequest,
    notes: Sequence[str],
) -> dict[str, Any]:
    """Runs the workers in the background, and shows what they say, until they are done."""
    request = cluster.request
    assert request is not None  # start has checked it
    display = Display(launch.total_steps)
    _introduce(display, launch, cluster, request, notes)
    fit = GroupFit(launch, request, cluster.expectation.around(worker))
    began, starts, asked = time.monotonic(), 0, False

    def see(event: Row | Note | Started) -> None:
        nonlocal starts
        if isinstance(event, Row):
            display.log(event)
        elif isinstance(event, Started):
            starts += 1
            display.note(_describe_start(event, launch, starts))
            display.restart(event.step)
        else:
            display.note(event.text)

    try:
        fit.start()
        while fit.is_alive():
            fit.join(_LOOK_S)
            drain(launch.mailbox, see)
            if stop.reason and not asked:
                asked = True
                display.status(f"{stop.reason}: committing a checkpoint …")
                launch.mailbox.ask_to_stop.remote(stop.reason)
            if not starts and time.monotonic() - began > _SAY_WHAT_IS_MISSING_S:
                began = time.monotonic()
                if missing := what_is_missing(request):
                    display.status(f"waiting for the cluster: {missing}")
    finally:
        drain(launch.mailbox, see)
        display.close()
    return fit.outcome()


class GroupFit(threading.Thread):
    """Ray Train's controller at work; outside the main thread, where it would take our signals.

    Args:
        launch: of the run.
        request: the workers, settled.
        worker: what each of them runs.
    """

    def __init__(self, launch: Launch, request: WorkerRequest, worker: Callable[[], Any]) -> None:
        super().__init__(name="ray-train", daemon=True)
        self._trainer = _torch_trainer(launch, request, worker)
        self._returned: dict[str, Any] | None = None
        self._error: BaseException | None = None

    def run(self) -> None:
        try:
            self._returned = self._trainer.fit().return_value
        except BaseException as error:  # noqa: BLE001 - raised again by outcome
            self._error = error

    def outcome(self) -> dict[str, Any]:
        """What worker 0 returned; raises what ended the workers, a person's mistake as such."""
        if self._error is not None:
            mistake = _mistake(self._error)
            if mistake is not None:
                raise mistake
            raise self._error
        assert self._returned is not None  # fit has returned, and with it worker 0
        return self._returned


def _torch_trainer(launch: Launch, request: WorkerRequest, worker: Callable[[], Any]) -> Any:
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    from raybert.training.ray_callback import RefuseMistakes

    workers = request.num_workers
    return TorchTrainer(
        worker,
        scaling_config=ScalingConfig(
            num_workers=(request.min_workers, workers) if request.min_workers else workers,
            use_gpu=request.gpus > 0,
            resources_per_worker=request.bundle,
        ),
        run_config=RunConfig(
            # Fresh for each launch: Ray would restore a snapshot of its own for a known name.
            name=launch.name,
            storage_path=(launch.run / RAY).path,
            storage_filesystem=launch.run.filesystem,
            failure_config=FailureConfig(max_failures=launch.settings.cluster.max_failures),
            callbacks=[RefuseMistakes(launch.mailbox)],
            worker_runtime_env={"env_vars": TRAIN_WORKER_VARIABLES},
        ),
    )


def _mistake(error: BaseException | None) -> UserError | None:
    """The person's mistake inside what Ray Train raised, if there is one."""
    if error is None or isinstance(error, UserError):
        return error
    inner = [
        getattr(error, "controller_failure", None),
        getattr(error, "cause", None),
        *getattr(error, "worker_failures", {}).values(),
        error.__cause__,
    ]
    return next((found for e in inner if (found := _mistake(e)) is not None), None)


def _introduce(
    display: Display,
    launch: Launch,
    cluster: RunningCluster,
    request: WorkerRequest,
    notes: Sequence[str],
) -> None:
    where = "started here" if cluster.started_here else cluster.address
    display.note(f"run         {launch.run}")
    display.note(f"cluster     {where}; {request}")
    if cluster.dashboard_url:
        display.note(f"dashboard   {cluster.dashboard_hint}")
    display.note(f"tensorboard --logdir {launch.run}/tensorboard")
    for note in notes:
        display.note(note)
    display.status("starting workers")


def _describe_start(started: Started, launch: Launch, starts: int) -> str:
    total = launch.total_steps
    workers = f"{started.num_workers} worker" + ("s" if started.num_workers != 1 else "")
    again = "again " if starts > 1 else ""
    if started.step:
        return f"{again}{workers}, going on after step {started.step:,} of {total:,}"
    return f"{again}{workers}, from the first step of {total:,}"


def _keep_ray_logs(cluster: RunningCluster, folder: RunFolder, launch: str) -> None:
    """Ray Train's logs of a cluster that is about to go, into the run folder."""
    if cluster.started_here and cluster.log_folder is not None:
        source = cluster.log_folder / "train"
        if source.is_dir():
            shutil.copytree(source, folder.logs(launch) / "ray", dirs_exist_ok=True)
