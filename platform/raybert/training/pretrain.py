"""Pretraining as a loop over steps: plain Python, alone or as one worker of a group.

    trainer = Trainer(settings, samples, "runs/first", tracker)
    outcome = trainer.train()
    trainer.export()

A step is taken, now and then logged, evaluated and saved. Nothing here knows of Ray: workers of a
Ray Train group each run one `Trainer`, and so does a notebook.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

import torch

from bert.batch import PackedBatch
from bert.bert import BertForPreTraining
from bert.hf import from_hf_tensors
from raybert.errors import UserError
from raybert.samples import PretrainingSamples
from raybert.settings import Settings
from raybert.storage import Location
from raybert.training.agreement import agreed_checkpoint, agreed_precision
from raybert.training.checkpoints import Checkpoint, CheckpointStore, weights_in_host_memory
from raybert.training.device import choose_device
from raybert.training.engine import Engine
from raybert.training.evaluation import evaluate
from raybert.training.export import FOLDER as EXPORT
from raybert.training.export import huggingface_files, model_card, write_export
from raybert.training.first_weights import build_model, restore_model
from raybert.training.group import WorkerGroup
from raybert.training.lease import Lease
from raybert.training.loop import Cadence, OnCheckpoint, Outcome, Permit, Tracker, TrainingLoop
from raybert.training.objectives import PretrainingObjective
from raybert.training.precision import PrecisionName
from raybert.training.process import prepare_process
from raybert.training.run_identity import record, settle, with_pretraining
from raybert.training.stopping import StopRequest

_EVALUATION_SEQUENCES = 64


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
        prepare_process(settings.pretraining, self._device)
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
        checkpoint = agreed_checkpoint(self._checkpoints, self.group, self._device)
        self.first_step = checkpoint.step if checkpoint else 0
        if self.first_step > self._pretraining.steps:
            raise UserError(
                f"{run} has taken {self.first_step} steps, more than pretraining.steps "
                f"{self._pretraining.steps}"
            )
        self.model = self._first_model(checkpoint, model).to(self._device)
        self.engine = Engine(
            self.model,
            PretrainingObjective(self.settings.samples.next_sentence),
            self._pretraining,
            num_micro_shards=self._pretraining.num_micro_shards(self.settings.samples.max_length),
            micro_shard_threads=self._pretraining.micro_shard_threads,
            precision=self._precision(),
            group=self.group,
        )
        if checkpoint:
            self.engine.restore(checkpoint.engine())
        self._files = huggingface_files(self.model, samples.store.tokenizer_path.read_bytes())
        self._held_out = _HeldOut.of(self.settings, samples)
        self._loop = TrainingLoop(
            self.engine,
            samples,
            self._cadence(),
            self,
            self._checkpoints,
            self._files,
            tracker,
            first_step=self.first_step,
            seconds_before=checkpoint.run()["train_seconds"] if checkpoint else 0.0,
        )

    def _settle(self, settings: Settings) -> Settings:
        """Every worker with the same answers: those of the run, or of worker 0."""
        settings = settle(settings, self._run, self._samples.store.manifest)
        precision = agreed_precision(
            settings.pretraining.precision, self.group, self._device, "pretraining"
        )
        return with_pretraining(settings, {"precision": precision})

    def _cadence(self) -> Cadence:
        pretraining = self._pretraining
        return Cadence(
            pretraining.steps,
            pretraining.batch_size,
            pretraining.log_every,
            pretraining.max_hours,
            evaluates=lambda done: done % pretraining.evaluate_every == 0,
            saves=lambda done: done % pretraining.checkpoint_every == 0,
        )

    def _precision(self) -> PrecisionName:
        precision = self._pretraining.precision
        assert precision != "auto"  # settled
        return precision

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
        on_checkpoint: OnCheckpoint | None = None,
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
                return self._loop.run(stop or StopRequest(), deadline, on_checkpoint)
            finally:
                self._checkpoints.close()

    def evaluate_after(self, done: int) -> dict[str, float]:
        """See `Course`."""
        return self.evaluate()

    def end_early(self) -> str | None:
        """Pretraining takes all its steps."""
        return None

    def checkpoint_entries(self) -> dict[str, Any]:
        """Nothing that the loop does not know."""
        return {}

    def pinned_steps(self) -> Collection[int]:
        """Retention by age is enough."""
        return ()

    def evaluate(self) -> dict[str, float]:
        """Scalars `eval/…` on the held-out samples; none where there are no such samples."""
        if self._held_out is None:
            return {}
        batches = self._held_out.batches(self.group.rank, self.group.size)
        found = evaluate(self.engine, batches, self._held_out.num_batches)
        return {f"eval/{name}": value for name, value in found.items()}

    def export(self) -> Location:
        """Commits the model as a Hugging Face folder beside the checkpoints; on worker 0."""
        place = self._run / EXPORT
        facts = {
            "steps": f"{self._pretraining.steps:,}",
            "samples per step": f"{self._pretraining.batch_size:,}",
            "longest sample": f"{self.settings.samples.max_length} tokens",
        }
        metrics = {k: v for k, v in self._loop.scalars.items() if k.startswith("eval/")}
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
