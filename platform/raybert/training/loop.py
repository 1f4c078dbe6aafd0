"""The loop that pretraining and finetuning share: a step is taken, and now and then logged,
evaluated and saved.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Collection, Generator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from torch import nn

from bert.config import BertConfig
from raybert.samples import BatchLoader
from raybert.samples.loader import BatchSource
from raybert.training.agreement import from_worker_0
from raybert.training.checkpoints import CheckpointStore, Snapshot, weights_in_host_memory
from raybert.training.engine import Engine
from raybert.training.report import StepReport
from raybert.training.stopping import StopRequest
from raybert.training.throughput import Meter, measure_peak

_GO_ON, _STOP, _END = range(3)

OnCheckpoint = Callable[[int, Mapping[str, float]], None]


class Tracker(Protocol):
    """What a trainer tells of its steps; `raybert.tracking.Tracker` is one."""

    def resume(self, step: int) -> None: ...
    def log(self, step: int, scalars: Mapping[str, float]) -> None: ...
    def flush(self) -> None: ...


class Permit(Protocol):
    """The right to write to a run: its lease, or a worker's proof that the driver holds it."""

    def check(self) -> None: ...


@dataclass(frozen=True)
class Outcome:
    """How a launch ended.

    Attributes:
        step: steps taken in all.
        first_step: where this launch began.
        stopped: why it was stopped before its end, to be gone on with; None if it wasn't.
        scalars: the last ones of each kind.
        ended_early: why the run is done although steps are left; None if it isn't.
    """

    step: int
    first_step: int
    stopped: str | None
    scalars: Mapping[str, float]
    ended_early: str | None = None


@dataclass(frozen=True)
class Cadence:
    """How long a run is and when something is due, by the number of steps taken.

    Attributes:
        steps: in all.
        batch_size: samples of a step.
        log_every: steps between logged metrics.
        max_hours: of a launch; for the words of a stop.
        evaluates: whether to evaluate after so many steps.
        saves: whether to commit a checkpoint after so many steps.
    """

    steps: int
    batch_size: int
    log_every: int
    max_hours: float | None
    evaluates: Callable[[int], bool]
    saves: Callable[[int], bool]


class Course(Protocol):
    """What the loop asks of the training that it runs."""

    def evaluate_after(self, done: int) -> dict[str, float]:
        """Scalars `eval/…` of the model as it is after so many steps. Collective."""
        ...

    def end_early(self) -> str | None:
        """On worker 0: why the run is done already, if it is."""
        ...

    def checkpoint_entries(self) -> dict[str, Any]:
        """On worker 0: the course's own entries of a checkpoint's state."""
        ...

    def pinned_steps(self) -> Collection[int]:
        """On worker 0: checkpoints to keep, however old."""
        ...


class TrainingLoop:
    """Takes the steps of a run that are left.

    Args:
        engine: takes a step.
        samples: where batches come from.
        cadence: when what is due.
        course: pretraining or finetuning.
        checkpoints: where they are saved, by worker 0.
        files: that stand beside the weights in each.
        tracker: told of steps on worker 0; None on the others.
        first_step: steps that earlier launches took.
        seconds_before: that they trained for.

    Attributes:
        scalars: the last ones of each kind.
    """

    def __init__(
        self,
        engine: Engine,
        samples: BatchSource,
        cadence: Cadence,
        course: Course,
        checkpoints: CheckpointStore,
        files: Mapping[str, bytes],
        tracker: Tracker | None,
        *,
        first_step: int,
        seconds_before: float,
    ) -> None:
        self.scalars: dict[str, float] = {}
        self._engine = engine
        self._samples = samples
        self._cadence = cadence
        self._course = course
        self._checkpoints = checkpoints
        self._files = files
        self._tracker = tracker
        self._first_step = first_step
        self._seconds_before = seconds_before

    def run(
        self, stop: StopRequest, deadline: float, on_checkpoint: OnCheckpoint | None
    ) -> Outcome:
        """Takes steps until they are done, or somebody wants to stop.

        Args:
            stop: looked at between steps, on worker 0.
            deadline: stop after the step during which `time.time()` passes this.
            on_checkpoint: called by every worker when a checkpoint has been handed to the writer.

        Returns:
            How it ended; a checkpoint of that step is on its way.
        """
        done, code, reason = self._first_step, _GO_ON, None
        begin = time.monotonic()
        with contextlib.closing(self._steps()) as steps:
            for done in steps:
                code, reason = self._agreed_end(stop, deadline, done)
                last = done == self._cadence.steps
                if self._cadence.saves(done) or code != _GO_ON or last:
                    self._save(done, time.monotonic() - begin)
                    if on_checkpoint:
                        on_checkpoint(done, self.scalars)
                if code != _GO_ON:
                    break
        if done == self._cadence.steps:
            code = _GO_ON
        return Outcome(
            done,
            self._first_step,
            reason if code == _STOP else None,
            dict(self.scalars),
            reason if code == _END else None,
        )

    def _steps(self) -> Generator[int]:
        """Takes step after step, with what is logged of it; yields the steps taken so far."""
        cadence = self._cadence
        if self._first_step == cadence.steps:
            self.scalars |= self._course.evaluate_after(cadence.steps)
            return
        peak = measure_peak(self._engine.device, self._engine.precision)
        meter = Meter(_config_of(self._engine.model), peak)
        with BatchLoader(
            self._samples,
            cadence.batch_size,
            self._engine.num_micro_shards,
            self._engine.micro_shards,
            self._first_step,
        ) as loader:
            begin = time.perf_counter()
            for step, batches in loader:
                report = self._engine.step(step, batches)
                done = step + 1
                logs = done % cadence.log_every == 0 or done == cadence.steps
                if logs:
                    _ = report.num_tokens  # waits for the device
                end = time.perf_counter()
                waited, loader.wait_seconds = loader.wait_seconds, 0.0
                meter.add(report, batches, end - begin, waited)
                scalars = self._describe(report) | meter.take() if logs else {}
                if cadence.evaluates(done) or done == cadence.steps:
                    scalars |= self._course.evaluate_after(done)
                self._log(done, scalars)
                yield done
                if done == cadence.steps:
                    return
                # Evaluating and saving are not part of a step's time.
                begin = time.perf_counter()

    def _describe(self, report: StepReport) -> dict[str, float]:
        objective = self._engine.objective
        scalars = {"train/loss": report.loss}
        for name, loss in report.losses.items():
            scalars[f"train/{name}_loss"] = loss
            if name in objective.guessing:
                scalars[f"train/{name}_accuracy"] = report.accuracies[name]
        scalars["train/learning_rate"] = report.learning_rate
        scalars["train/grad_norm"] = report.grad_norm
        scalars["train/skipped_steps"] = float(self._engine.num_skipped)
        if self._engine.precision == "fp16":
            scalars["train/loss_scale"] = report.loss_scale
        return scalars

    def _log(self, done: int, scalars: dict[str, float]) -> None:
        if scalars:
            self.scalars |= scalars
            if self._tracker:
                self._tracker.log(done, scalars)

    def _agreed_end(self, stop: StopRequest, deadline: float, done: int) -> tuple[int, str | None]:
        """Whether to end here, and on worker 0 why; the others only learn that it does."""
        cadence, engine = self._cadence, self._engine
        # On GPUs steps are queued ahead; asking every time would make each wait for the last.
        waits = engine.device.type != "cpu" and engine.group.size > 1
        if waits and done % cadence.log_every and not cadence.evaluates(done):
            return _GO_ON, None
        code, reason = _GO_ON, None
        if engine.group.rank == 0:
            if (reason := self._course.end_early()) is not None:
                code = _END
            elif (reason := stop.reason) is not None:
                code = _STOP
            elif time.time() > deadline:
                code, reason = _STOP, f"max_hours {cadence.max_hours:g}"
        if engine.group.size > 1:
            code = from_worker_0(code, engine.group, engine.device)
        return code, reason or ("worker 0 stops" if code != _GO_ON else None)

    def _save(self, done: int, seconds: float) -> None:
        state = self._engine.capture()
        if state is None:
            return
        # The log must reach as far as the checkpoint: a resume only ever shortens it.
        if self._tracker:
            self._tracker.flush()
        trained = {"train_seconds": self._seconds_before + seconds}
        self._checkpoints.save(
            Snapshot(
                step=done,
                weights=weights_in_host_memory(self._engine.model),
                engine=state,
                run=trained | self._course.checkpoint_entries(),
                files=self._files,
                pinned=frozenset(self._course.pinned_steps()),
            )
        )


def _config_of(model: nn.Module) -> BertConfig:
    return model.config  # pyright: ignore[reportReturnType]
