"""Pretraining on a cluster, as the process sees it that a person started.

It refuses mistakes before anything starts, holds the run's lease, has Ray Train look after the
workers, shows how it goes, and passes on a wish to stop. The workers do the rest.
"""

from __future__ import annotations

import functools
import logging
import shlex
import shutil
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from raybert.cluster import RunningCluster, WorkerRequest, start
from raybert.cluster.environment import TRAIN_WORKER_VARIABLES
from raybert.cluster.resources import what_is_missing
from raybert.errors import UserError
from raybert.samples import PretrainingSamples
from raybert.settings import Settings
from raybert.storage import Location
from raybert.tokens import TokenStore
from raybert.tracking import Display, Row, RunFolder
from raybert.tracking.display import describe_evaluation
from raybert.tracking.environment import describe_launch, new_launch
from raybert.tracking.process_log import process_log
from raybert.tracking.run_folder import RAY
from raybert.training.checkpoints import CheckpointStore
from raybert.training.first_weights import check_first_weights
from raybert.training.lease import Lease
from raybert.training.mailbox import Note, Started, drain, open_mailbox
from raybert.training.run_identity import IDENTITY, settle
from raybert.training.stopping import StopRequest, stopping_on_signals
from raybert.training.workers import Launch, pretraining_worker

_LOOK_S = 0.25
_SAY_WHAT_IS_MISSING_S = 20.0

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Prepared:
    """A launch that passed the door.

    Attributes:
        settings: settled as far as can be before the device is known.
        store: the token folder.
        samples: of the training split.
        run: the run's folder.
        steps_taken: by earlier launches, as far as checkpoints were committed.
    """

    settings: Settings
    store: TokenStore
    samples: PretrainingSamples
    run: Location
    steps_taken: int


def prepare(settings: Settings) -> Prepared:
    """Looks for mistakes in everything that can be known before a cluster starts.

    Raises:
        UserError: one of them.
    """
    if settings.tokens is None:
        raise UserError("--tokens is missing: the folder that jobs/tokenize_corpus.py wrote")
    if settings.run is None:
        raise UserError("--run is missing: the folder for checkpoints, logs and the model")
    store = TokenStore.open(settings.tokens)
    run = Location.parse(settings.run)
    _refuse_other_content(run)
    settings = settle(settings, run, store.manifest)
    steps = CheckpointStore(run).steps()
    if steps and steps[-1] > settings.pretraining.steps:
        raise UserError(
            f"{run} has a checkpoint of step {steps[-1]}, beyond pretraining.steps "
            f"{settings.pretraining.steps}"
        )
    if not steps:
        check_first_weights(settings, store)
    samples = PretrainingSamples(store, settings.samples, settings.pretraining.seed)
    return Prepared(settings, store, samples, run, steps[-1] if steps else 0)


def _refuse_other_content(run: Location) -> None:
    if run.is_file():
        raise UserError(f"--run {run} is a file; it must be a folder, or nothing yet")
    beginnings = (IDENTITY, "lease.json", ".lease.lock", "launches.jsonl")
    if any((run / name).is_file() for name in beginnings):
        return
    found = [*run.list_files(), *run.list_dirs()]
    if found:
        raise UserError(
            f"--run {run} holds other things ({', '.join(found[:3])}) and no run: take a new "
            "folder, or the folder of a run to go on with it"
        )


def pretrain(
    settings: Settings, worker: Callable[[Launch], dict[str, Any]] = pretraining_worker
) -> None:
    """Pretrains as the settings say, from where the run stands, and exports the model at its end.

    Args:
        settings: the tree.
        worker: what each worker runs.

    Raises:
        UserError: a person's mistake, at the door or found on the way.
        KeyboardInterrupt: stopped by Ctrl-C, after a checkpoint was committed.
        SystemExit: stopped by SIGTERM, likewise.
    """
    prepared = prepare(settings)
    if settings.plan:
        from raybert.training.plan import print_plan

        print_plan(prepared.settings, prepared.samples)
        return
    cluster_settings = settings.cluster
    request = WorkerRequest(
        cluster_settings.num_workers,
        cluster_settings.cpus_per_worker,
        cluster_settings.gpus_per_worker,
        cluster_settings.min_workers,
    )
    name = new_launch()
    folder = RunFolder(prepared.run)
    with (
        Lease(prepared.run) as lease,
        process_log(folder.logs(name) / "driver.log"),
        start(cluster_settings, request, outputs=[prepared.run]) as cluster,
        stopping_on_signals() as stop,
    ):
        folder.record_launch(describe_launch(name) | {"cluster": cluster.address})
        launch = Launch(
            name=name,
            settings=prepared.settings,
            tokens=prepared.store.location,
            run=prepared.run,
            permit=lease.permit(),
            mailbox=open_mailbox(),
            began=time.time(),
        )
        try:
            outcome = _watch(launch, cluster, functools.partial(worker, launch), stop)
        finally:
            _keep_ray_logs(cluster, folder, name)
            folder.close()
    _tell_end(prepared.run, outcome)
    _end_as_signalled(stop, outcome)


def _watch(
    launch: Launch, cluster: RunningCluster, worker: Callable[[], Any], stop: StopRequest
) -> dict[str, Any]:
    """Runs the workers in the background, and shows what they say, until they are done."""
    request = cluster.request
    assert request is not None  # start has checked it
    display = Display(launch.settings.pretraining.steps)
    _introduce(display, launch, cluster, request)
    fit = _Fit(launch, request, cluster.expectation.around(worker))
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


class _Fit(threading.Thread):
    """Ray Train's controller at work; outside the main thread, where it would take our signals."""

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
    display: Display, launch: Launch, cluster: RunningCluster, request: WorkerRequest
) -> None:
    where = "started here" if cluster.started_here else cluster.address
    display.note(f"run         {launch.run}")
    display.note(f"cluster     {where}; {request}")
    if cluster.dashboard_url:
        display.note(f"dashboard   {cluster.dashboard_hint}")
    display.note(f"tensorboard --logdir {launch.run}/tensorboard")
    display.status("starting workers")


def _describe_start(started: Started, launch: Launch, starts: int) -> str:
    total = launch.settings.pretraining.steps
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


def _tell_end(run: Location, outcome: dict[str, Any]) -> None:
    step, stopped = outcome["step"], outcome["stopped"]
    if stopped is not None:
        print(
            f"stopped by {stopped} after step {step:,}; its checkpoint is committed. "
            f"To go on:\n  {shlex.join(['python', *sys.argv])}",
            flush=True,
        )
        return
    (run / RAY).delete_dir()
    held_out = describe_evaluation(Row(step, 0.0, outcome["scalars"]))
    print(f"done: {step:,} steps" + (f"; {held_out}" if held_out else ""))
    print(f"the model is in {outcome['export']}", flush=True)


def _end_as_signalled(stop: StopRequest, outcome: dict[str, Any]) -> None:
    """Ends the process as one that the signal ended, which is what shells and schedulers expect."""
    if outcome["stopped"] is None or stop.signal is None:
        return
    sys.exit(128 + stop.signal)
