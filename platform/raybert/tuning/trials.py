"""Runs trials with Ray Tune until the ledger has them all, watched from the main thread."""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from raybert.errors import UserError
from raybert.settings.tuning import TuningSettings
from raybert.storage import Location
from raybert.tracking.run_folder import RAY
from raybert.training.stopping import StopRequest
from raybert.tuning.ledger import Entry, Ledger, Part
from raybert.tuning.placement import Placement
from raybert.tuning.progress import Standing, SweepDisplay
from raybert.tuning.proposals import Proposer
from raybert.tuning.trial import Sweep, trainable_of

_LOOK_S = 0.25

# Ray Tune's own notes are never read again: the ledger is the truth.
_TUNE_ENVIRONMENT = {
    # The older output can be silenced.
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "86400",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    # A trial that was stopped commits the checkpoint that it was writing before it lets go.
    "TUNE_FUNCTION_THREAD_TIMEOUT_S": "60",
}


@dataclass(frozen=True)
class Plan:
    """What is to be run.

    Attributes:
        tuning: scheduler and seed; the rest of the section is the caller's.
        ledger: says what is done.
        proposer: of values for new trials.
        num_trials: in all.
        placement: on the cluster.
        sweep: what the trials' processes get.
        metric: that trials are compared by, and whether higher is better.
        most_epochs: of the longest trial.
        max_failures: deaths of a trial's process that are survived.
        move: brings weights from one trial to another; see `scheduler_of`.
        closed: called with each trial that is done.
        seconds_left: of the time budget; None: no such budget.
    """

    tuning: TuningSettings
    ledger: Ledger
    proposer: Proposer
    num_trials: int
    placement: Placement
    sweep: Sweep
    metric: str
    higher: bool
    most_epochs: float
    max_failures: int
    move: Callable[[Entry, Part], None]
    closed: Callable[[Entry], None]
    seconds_left: float | None = None


def run_trials(
    plan: Plan,
    launch: str,
    display: SweepDisplay,
    stop: StopRequest,
    tick: Callable[[], None] = lambda: None,
) -> str | None:
    """Runs what the ledger lacks.

    Args:
        plan: what to run.
        launch: name of this launch, and of Tune's folder.
        display: shown how it goes.
        stop: looked at all the time.
        tick: called again and again.

    Returns:
        Why trials are left undone: the time is up, or a wish to stop; None: all are done.

    Raises:
        UserError: what would fail every trial, such as a full disk.
    """
    from raybert.tuning.recorder import Recorder, StopAll

    recorder = Recorder(plan.ledger, plan.closed)
    deadline = None if plan.seconds_left is None else time.monotonic() + plan.seconds_left
    ended: list[str] = []

    def asked() -> bool:
        if not ended and recorder.halt is not None:
            ended.append(recorder.halt)
        if not ended and stop.reason is not None:
            ended.append(stop.reason)
        if not ended and deadline is not None and time.monotonic() > deadline:
            ended.append("the time budget")
        return bool(ended)

    fit = _Fit(plan, launch, recorder, StopAll(asked))
    fit.start()
    try:
        while fit.is_alive():
            fit.join(_LOOK_S)
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            display.show(_standing(plan, recorder.running, left))
            tick()
    finally:
        display.close()
    fit.raise_error()
    if recorder.halt is not None:
        raise UserError(f"the sweep can't go on: {recorder.halt}")
    unfinished = any(entry.state == "open" for entry in plan.ledger.entries())
    return ended[0] if ended and (unfinished or len(plan.ledger) < plan.num_trials) else None


def _standing(plan: Plan, running: frozenset[str], left: float | None) -> Standing:
    return Standing(
        entries=plan.ledger.entries(),
        running=running,
        num_trials=plan.num_trials,
        metric=plan.metric,
        higher=plan.higher,
        concurrent=plan.placement.concurrent,
        budget_left_s=left,
    )


class _Fit(threading.Thread):
    """Tune's controller at work; outside the main thread, where it would take our signals."""

    def __init__(self, plan: Plan, launch: str, recorder: Any, stopper: Any) -> None:
        super().__init__(name="ray-tune", daemon=True)
        self._plan = plan
        self._rest = (launch, recorder, stopper)
        self._error: BaseException | None = None

    def run(self) -> None:
        # PBT draws from Python's global generator.
        random.seed(self._plan.tuning.seed * 1_000_003 + _num_parts(self._plan.ledger))
        try:
            _run(self._plan, *self._rest)
        except BaseException as error:  # noqa: BLE001 - raised again by raise_error
            self._error = error

    def raise_error(self) -> None:
        if self._error is not None:
            raise self._error


def _num_parts(ledger: Ledger) -> int:
    return sum(len(entry.parts) for entry in ledger.entries())


def _run(plan: Plan, launch: str, recorder: Any, stopper: Any) -> None:
    for name, value in _TUNE_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    from ray import tune

    from raybert.tuning.scheduling import scheduler_of
    from raybert.tuning.search import LedgerSearch

    pbt = plan.tuning.scheduler == "pbt"
    scheduler = scheduler_of(
        plan.tuning,
        plan.ledger,
        plan.metric,
        higher=plan.higher,
        most_epochs=plan.most_epochs,
        record=recorder.result,
        move=plan.move,
    )
    search = LedgerSearch(
        plan.ledger,
        plan.proposer,
        plan.num_trials,
        most_running=None if pbt else plan.placement.concurrent,
        retry_failed=plan.tuning.retry_failed,
    )
    folder = plan.sweep.folder / RAY
    # A Tuner would pickle all of this into a file for a restart that never reads it.
    tune.run(
        tune.with_resources(trainable_of(plan.sweep), plan.placement.actor),
        # Fresh for each launch: Tune would restore a snapshot of its own for a known name.
        name=launch,
        storage_path=folder.path,
        storage_filesystem=None if folder.is_local else folder.filesystem,
        search_alg=search,  # pyright: ignore[reportArgumentType]
        scheduler=scheduler,
        num_samples=plan.num_trials,
        # A process that has imported torch and mapped the data takes the next trial.
        reuse_actors=True,
        trial_name_creator=_name_of,
        trial_dirname_creator=_name_of,
        stop=stopper,
        callbacks=[recorder],
        max_failures=plan.max_failures,
        checkpoint_config=tune.CheckpointConfig(num_to_keep=3 if pbt else None),
        raise_on_failed_trial=False,
        verbose=0,
    )


def _name_of(trial: Any) -> str:
    return trial.experiment_tag


def remove_notes(sweep: Location) -> None:
    """Removes what Tune wrote down; nobody reads it."""
    (sweep / RAY).delete_dir()
