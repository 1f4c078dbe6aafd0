"""Pretraining as a loop over steps: plain Python, alone or as one worker of a group.

    trainer = Trainer(settings, samples, "runs/first", tracker)
    outcome = trainer.train()
    trainer.export()

A step is taken, now and then logged, evaluated and saved. Nothing here knows of Ray: workers of a
Ray Train group each run one `Trainer`, and so does a notebook.
"""

from __future__ import annotations

import contextlib
import logging
import math
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

import torch

from bert.batch import PackedBatch
from bert.bert import BertForPreTraining
from bert.hf import from_hf_tensors
from raybert.errors import UserError
from raybert.samples import BatchLoader, PretrainingSamples
from raybert.settings import Settings
from raybert.storage import Location
from raybert.training.checkpoints import (
    Checkpoint,
    CheckpointStore,
    Snapshot,
    weights_in_host_memory,
)
from raybert.training.device import choose_device
from raybert.training.engine import Engine
from raybert.training.evaluation import evaluate
from raybert.training.export import FOLDER as EXPORT
from raybert.training.export import huggingface_files, model_card, write_export
from raybert.training.first_weights import build_model, restore_model
from raybert.training.group import WorkerGroup
from raybert.training.lease import Lease
from raybert.training.objectives import PretrainingObjective
from raybert.training.precision import PrecisionName, choose_precision
from raybert.training.report import StepReport
from raybert.training.run_identity import record, settle, with_pretraining
from raybert.training.stopping import StopRequest
from raybert.training.throughput import Meter, measure_peak

_EVALUATION_SEQUENCES = 64
_PRECISIONS: tuple[PrecisionName, ...] = ("fp32", "bf16", "fp16")

logger = logging.getLogger(__name__)


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
        stopped: why it ended before the last step; None if it didn't.
        scalars: the last ones of each kind.
    """

    step: int
    first_step: int
    stopped: str | None
    scalars: Mapping[str, float]


class Trainer:
    """Trains a BERT on pretraining samples, going on from the run's newest whole checkpoint.

    Every worker of the group builds one with the same arguments; worker 0 writes.

    Args:
        settings: the tree; of it model, samples and pretraining.
        samples: to train on.
        run: folder of the run.
        tracker: told of steps on worker 0; None on the others.
        model: to start with, or to load the checkpoint's weights into; by default what checkpoint
            or settings say.
        device: where to train; by default the GPU if there is one.
        group: the workers; by default torch's process group, or this process alone.
        permit: asked before anything is written; by default worker 0 takes the run's lease while
            it trains.

    Attributes:
        settings: with every `auto` settled.
        model: on its device.
        engine: takes the steps.
        first_step: steps that earlier launches took.

    Raises:
        UserError: the run was made with other identity settings, has more steps than asked for, or
            can't be gone on with.
    """

    def __init__(
        self,
        settings: Settings,
        samples: PretrainingSamples,
        run: Location | str,
        tracker: Tracker | None = None,
        *,
        model: BertForPreTraining | None = None,
        device: torch.device | None = None,
        group: WorkerGroup | None = None,
        permit: Permit | None = None,
    ) -> None:
        self.group = group or WorkerGroup()
        self._samples = samples
        self._tracker = tracker
        self._device = device or choose_device()
        self._run = Location.parse(run)
        self._lease = Lease(self._run) if permit is None and self.group.rank == 0 else None
        self.settings = self._settle(settings)
        self._pretraining = self.settings.pretraining
        self._checkpoints = CheckpointStore(
            self._run,
            self._pretraining.keep_last,
            self._pretraining.keep_every,
            permit or self._lease,
        )
        checkpoint = self._choose_checkpoint()
        self.first_step = checkpoint.step if checkpoint else 0
        if self.first_step > self._pretraining.steps:
            raise UserError(
                f"{run} has taken {self.first_step} steps, more than pretraining.steps "
                f"{self._pretraining.steps}"
            )
        self._seconds_before = checkpoint.run()["train_seconds"] if checkpoint else 0.0
        self.model = self._first_model(checkpoint, model).to(self._device)
        self.engine = Engine(
            self.model,
            PretrainingObjective(self.settings.samples.next_sentence),
            self._pretraining,
            num_micro_shards=self._pretraining.num_micro_shards(self.settings.samples.max_length),
            precision=self._precision(),
            group=self.group,
        )
        if checkpoint:
            self.engine.restore(checkpoint.engine())
        self._files = huggingface_files(self.model, samples.store.tokenizer_path.read_bytes())
        self._held_out = _HeldOut.of(self.settings, samples)
        self._scalars: dict[str, float] = {}

    def _settle(self, settings: Settings) -> Settings:
        """Every worker with the same answers: those of the run, or of worker 0."""
        settings = settle(settings, self._run, self._samples.store.manifest)
        place = 0
        if self.group.rank == 0:
            choice = choose_precision(settings.pretraining.precision, self._device)
            logger.info("precision %s: %s", choice.name, choice.reason)
            place = _PRECISIONS.index(choice.name)
        place = self._from_worker_0(place)
        return with_pretraining(settings, {"precision": _PRECISIONS[place]})

    def _precision(self) -> PrecisionName:
        precision = self._pretraining.precision
        assert precision != "auto"  # settled
        return precision

    def _from_worker_0(self, number: int) -> int:
        shared = torch.tensor(number, device=self._device)
        self.group.broadcast_(shared)
        return int(shared.item())

    def _choose_checkpoint(self) -> Checkpoint | None:
        """The newest whole checkpoint as worker 0 sees it: all begin at the same step."""
        chosen = self._checkpoints.newest_whole() if self.group.rank == 0 else None
        number = self._from_worker_0(-1 if chosen is None else chosen.step)
        if self.group.rank == 0 or number < 0:
            return chosen
        return Checkpoint(number, self._checkpoints.location_of(number))

    def _first_model(
        self, checkpoint: Checkpoint | None, given: BertForPreTraining | None
    ) -> BertForPreTraining:
        if checkpoint is None:
            return given or build_model(self.settings, self._samples.store)
        if given is None:
            return restore_model(checkpoint, self.settings)
        from_hf_tensors(given, checkpoint.weights())
        return given

    def train(
        self,
        stop: StopRequest | None = None,
        deadline: float = math.inf,
        on_checkpoint: Callable[[int, Mapping[str, float]], None] | None = None,
    ) -> Outcome:
        """Takes the steps that are left.

        Args:
            stop: looked at between steps, on worker 0.
            deadline: stop after the step during which `time.time()` passes this.
            on_checkpoint: called by every worker when a checkpoint has been handed to the writer.

        Returns:
            How it ended; a checkpoint of that step is committed.
        """
        with self._lease or contextlib.nullcontext():
            if self.group.rank == 0:
                record(self.settings, self._run, self._samples.store.manifest)
            if self._tracker:
                self._tracker.resume(self.first_step)
            try:
                return self._train(stop or StopRequest(), deadline, on_checkpoint)
            finally:
                self._checkpoints.close()

    def _train(
        self,
        stop: StopRequest,
        deadline: float,
        on_checkpoint: Callable[[int, Mapping[str, float]], None] | None,
    ) -> Outcome:
        done, reason = self.first_step, None
        begin = time.monotonic()
        with contextlib.closing(self._steps()) as steps:
            for done in steps:
                reason = self._agreed_stop(stop, deadline, done)
                due = done % self._pretraining.checkpoint_every == 0
                if due or reason or done == self._pretraining.steps:
                    self._save(done, time.monotonic() - begin)
                    if on_checkpoint:
                        on_checkpoint(done, self._scalars)
                if reason:
                    break
        stopped = reason if done < self._pretraining.steps else None
        return Outcome(done, self.first_step, stopped, dict(self._scalars))

    def _steps(self) -> Generator[int]:
        """Takes step after step, with what is logged of it; yields the steps taken so far."""
        pretraining = self._pretraining
        if self.first_step == pretraining.steps:
            self._scalars |= self.evaluate()
            return
        peak = measure_peak(self._device, self.engine.precision)
        meter = Meter(self.model.config, peak)
        with BatchLoader(
            self._samples,
            pretraining.batch_size,
            self.engine.num_micro_shards,
            self.engine.micro_shards,
            self.first_step,
        ) as loader:
            begin = time.perf_counter()
            for step, batches in loader:
                report = self.engine.step(step, batches)
                done = step + 1
                logs = done % pretraining.log_every == 0 or done == pretraining.steps
                if logs:
                    _ = report.num_tokens  # waits for the device
                end = time.perf_counter()
                waited, loader.wait_seconds = loader.wait_seconds, 0.0
                meter.add(report, batches, end - begin, waited)
                scalars = self._describe(report) | meter.take() if logs else {}
                if done % pretraining.evaluate_every == 0 or done == pretraining.steps:
                    scalars |= self.evaluate()
                self._log(done, scalars)
                yield done
                if done == pretraining.steps:
                    return
                # Evaluating and saving are not part of a step's time.
                begin = time.perf_counter()

    def _describe(self, report: StepReport) -> dict[str, float]:
        scalars = {"train/loss": report.loss}
        for name, loss in report.losses.items():
            scalars[f"train/{name}_loss"] = loss
            scalars[f"train/{name}_accuracy"] = report.accuracies[name]
        scalars["train/learning_rate"] = report.learning_rate
        scalars["train/grad_norm"] = report.grad_norm
        scalars["train/skipped_steps"] = float(self.engine.num_skipped)
        if self.engine.precision == "fp16":
            scalars["train/loss_scale"] = report.loss_scale
        return scalars

    def _log(self, done: int, scalars: dict[str, float]) -> None:
        if scalars:
            self._scalars |= scalars
            if self._tracker:
                self._tracker.log(done, scalars)

    def evaluate(self) -> dict[str, float]:
        """Scalars `eval/…` on the held-out samples; none where there are no such samples."""
        if self._held_out is None:
            return {}
        batches = self._held_out.batches(self.group.rank, self.group.size)
        found = evaluate(self.engine, batches, self._held_out.num_batches)
        return {f"eval/{name}": value for name, value in found.items()}

    def _agreed_stop(self, stop: StopRequest, deadline: float, done: int) -> str | None:
        """Why worker 0 wants to stop here; the others only learn that it does."""
        pretraining = self._pretraining
        # On GPUs steps are queued ahead; asking every time would make each wait for the last.
        if self._device.type != "cpu" and self.group.size > 1 and done % pretraining.log_every:
            return None
        reason = stop.reason
        if reason is None and time.time() > deadline:
            reason = f"max_hours {pretraining.max_hours:g}"
        if self.group.size == 1:
            return reason
        stops = self._from_worker_0(int(reason is not None))
        return (reason or "worker 0 stops") if stops else None

    def _save(self, done: int, seconds: float) -> None:
        state = self.engine.capture()
        if state is None:
            return
        # The log must reach as far as the checkpoint: a resume only ever shortens it.
        if self._tracker:
            self._tracker.flush()
        self._checkpoints.save(
            Snapshot(
                step=done,
                weights=weights_in_host_memory(self.model),
                engine=state,
                run={"train_seconds": self._seconds_before + seconds},
                files=self._files,
            )
        )

    def export(self) -> Location:
        """Commits the model as a Hugging Face folder beside the checkpoints; on worker 0."""
        place = self._run / EXPORT
        facts = {
            "steps": f"{self._pretraining.steps:,}",
            "samples per step": f"{self._pretraining.batch_size:,}",
            "longest sample": f"{self.settings.samples.max_length} tokens",
        }
        metrics = {k: v for k, v in self._scalars.items() if k.startswith("eval/")}
        card = model_card(self._run.name, self.model.config, facts, metrics)
        write_export(place, weights_in_host_memory(self.model), self._files, card)
        return place


@dataclass(frozen=True)
class _HeldOut:
    """The fixed list of batches of an evaluation, the same for any number of workers."""

    samples: PretrainingSamples
    num_samples: int
    batch_size: int

    @classmethod
    def of(cls, settings: Settings, samples: PretrainingSamples) -> _HeldOut | None:
        """None where the corpus held nothing out, or nothing is to be evaluated."""
        held_out = PretrainingSamples(
            samples.store, settings.samples, settings.pretraining.seed, "held_out"
        )
        num_samples = min(settings.pretraining.evaluation_samples, held_out.num_samples)
        if num_samples == 0:
            return None
        fitting = settings.pretraining.max_tokens_per_device // settings.samples.max_length
        return cls(held_out, num_samples, max(1, min(_EVALUATION_SEQUENCES, fitting)))

    @property
    def num_batches(self) -> int:
        return -(-self.num_samples // self.batch_size)

    def batches(self, rank: int, size: int) -> Iterator[tuple[int, PackedBatch]]:
        """A worker's share, each batch with its place in the list."""
        for place in range(rank, self.num_batches, size):
            begin = place * self.batch_size
            count = min(self.batch_size, self.num_samples - begin)
            yield place, self.samples.micro_shards(begin, count, 1, range(1))[0]
