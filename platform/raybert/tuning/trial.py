"""What the process of a trial does: trains a part of it, and says how it goes after evaluations.

Whatever goes wrong inside is told as a result with its reason, so that the sweep goes on and the
process can take the next trial. Only a process that dies is Tune's to start again, and goes on from
its own newest checkpoint.
"""

from __future__ import annotations

import math
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from raybert.cluster.nodes import Expectation, check_once
from raybert.errors import UserError
from raybert.finetuning.data import TokenizedData
from raybert.settings import Settings
from raybert.storage import Location, NoSpaceLeft, write_file
from raybert.training.checkpoints import CheckpointNotWritten
from raybert.training.device import OutOfMemory
from raybert.training.lease import LeaseLost, Permit
from raybert.tuning.ledger import Entry
from raybert.tuning.scheduling import EPOCH, EVAL, IS_LAST, PART, STEP
from raybert.tuning.space import with_values

TRIALS = "trials"
# Of a trial that failed: what Python said.
ERROR = "error.txt"
BEGAN = "began"
SECONDS = "seconds"
NUM_STEPS = "num_steps"
FAILED = "failed"
HALT = "halt"

# Every trial would fail for the same reason, so the sweep stops instead.
_OF_THE_SWEEP = (NoSpaceLeft, CheckpointNotWritten, LeaseLost)


@dataclass(frozen=True)
class Progress:
    """Where a trial stands after an evaluation whose checkpoint is on its way.

    Attributes:
        step: steps taken, of `num_steps`.
        epoch: passes over the training rows.
        metrics: held-out figures by name.
        is_last: no step is left to take.
    """

    step: int
    num_steps: int
    epoch: float
    metrics: Mapping[str, float]
    is_last: bool


@dataclass(frozen=True)
class TrialTask:
    """A part of a trial to be trained.

    Attributes:
        settings: of the part.
        run: its folder; what an earlier launch left there is gone on with.
        data: tokenized; None where they depend on what is searched.
        data_folder: for those.
        permit: the sweep's right to write.
        commits_first: an evaluation is told only when its checkpoint is committed.
    """

    settings: Settings
    run: Location
    data: TokenizedData | None
    data_folder: Location
    permit: Permit
    commits_first: bool


Train = Callable[[TrialTask, Callable[[Progress], None]], None]


@dataclass(frozen=True)
class Sweep:
    """What all trials share, as their processes get it.

    Attributes:
        folder: of the sweep.
        settings: the sweep's.
        data: tokenized; None where they depend on what is searched.
        data_folder: for those.
        permit: the driver's right to write.
        train: trains a trial; takes the task and what to call after each evaluation.
        exchanges: whether weights move between trials.
        expectation: what a node has to have.
    """

    folder: Location
    settings: Settings
    data: TokenizedData | None
    data_folder: Location
    permit: Permit
    train: Train
    exchanges: bool
    expectation: Expectation


def part_folder(sweep: Location, entry: Entry, part: int) -> Location:
    """The run folder of a part of a trial."""
    return sweep / TRIALS / entry.name / f"part-{part}"


def trainable_of(sweep: Sweep) -> Callable[[dict[str, Any]], None]:
    """The function that Tune runs in the actor of a trial."""

    def trial(config: dict[str, Any]) -> None:
        run_trial(sweep, config)

    return trial


def run_trial(sweep: Sweep, config: dict[str, Any]) -> None:
    """Trains the part that a trial's configuration names, in this process."""
    from ray import tune

    began = time.time()
    run = sweep.folder / TRIALS / tune.get_context().get_trial_name() / f"part-{config[PART]}"
    try:
        check_once(sweep.expectation)
    except UserError as error:
        tune.report({HALT: str(error)})
        return
    try:
        values = {name: value for name, value in config.items() if name != PART}
        task = TrialTask(
            settings=with_values(sweep.settings, values),
            run=run,
            data=sweep.data,
            data_folder=sweep.data_folder,
            permit=sweep.permit,
            commits_first=sweep.exchanges,
        )
        sweep.train(task, lambda progress: _report(sweep, progress, began))
    except _OF_THE_SWEEP as error:
        tune.report({HALT: str(error)})
    except Exception as error:  # noqa: BLE001 - a reason in the ledger, and the next trial
        write_file(run / ERROR, traceback.format_exc().encode())
        tune.report({FAILED: reason_of(error)})


def _report(sweep: Sweep, progress: Progress, began: float) -> None:
    from ray import tune

    loss = progress.metrics.get("loss", 0.0)
    if not math.isfinite(loss):
        raise NotFinite(f"the held-out loss is {loss} after step {progress.step}")
    result = {
        STEP: progress.step,
        NUM_STEPS: progress.num_steps,
        EPOCH: progress.epoch,
        BEGAN: began,
        SECONDS: time.time() - began,
        IS_LAST: progress.is_last,
        **{f"{EVAL}{name}": value for name, value in progress.metrics.items()},
    }
    if not sweep.exchanges:
        tune.report(result)
        return
    # Tune exchanges only what has a checkpoint; ours stands in the trial's folder already.
    with tempfile.TemporaryDirectory() as nothing:
        tune.report(result, checkpoint=tune.Checkpoint(nothing))


class NotFinite(UserError):
    """A trial whose figures are no numbers any more."""


def reason_of(error: BaseException) -> str:
    """Why a trial failed, in one line."""
    text = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, MemoryError | OutOfMemory) or "out of memory" in text.lower():
        return f"out of memory: {text}"
    return text if isinstance(error, UserError) else f"{type(error).__name__}: {text}"
