"""Finetuning as a loop over steps: plain Python, alone or as one worker of a group.

    data = prepare_data(settings)
    trainer = FinetuningTrainer(settings, data, "runs/reviews")
    outcome = trainer.train()
    result = trainer.finish()

Nothing here knows of Ray: workers of a Ray Train group each run one trainer, and so do a trial of
a search and a notebook.
"""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
import torch

from bert.hf import from_hf_tensors
from raybert.errors import UserError
from raybert.finetuning.data import TokenizedData
from raybert.finetuning.evaluation import Predictions, predict
from raybert.finetuning.history import Evaluation, History
from raybert.finetuning.identity import record, settle, with_finetuning
from raybert.finetuning.labels import balanced_weights
from raybert.finetuning.metrics import choose_metric
from raybert.finetuning.objectives import FinetuningObjective
from raybert.finetuning.pictures import confusion_picture
from raybert.finetuning.result import Result, write_result
from raybert.finetuning.rows import LabelledRows, TrainingOrder
from raybert.finetuning.start import Model, empty_model, first_model, freeze, layer_rates
from raybert.settings import Settings
from raybert.storage import IncompleteFolder, Location, verify_folder
from raybert.storage.commit import DamagedFile
from raybert.training.agreement import agreed_checkpoint, agreed_precision, from_worker_0
from raybert.training.checkpoints import Checkpoint, CheckpointStore, weights_in_host_memory
from raybert.training.device import choose_device
from raybert.training.engine import Engine
from raybert.training.export import huggingface_files
from raybert.training.group import WorkerGroup
from raybert.training.lease import Lease
from raybert.training.loop import Cadence, OnCheckpoint, Outcome, Permit, Tracker, TrainingLoop
from raybert.training.precision import PrecisionName
from raybert.training.process import prepare_process
from raybert.training.stopping import StopRequest

SECTION = "finetuning"
_HISTORY = "history"

OnEvaluation = Callable[[int, Mapping[str, float]], bool | None]

logger = logging.getLogger(__name__)


@runtime_checkable
class TakesPictures(Protocol):
    """A tracker that shows pictures too; `raybert.tracking.Tracker` is one."""

    def picture(self, step: int, name: str, pixels: np.ndarray) -> None: ...


@dataclass(frozen=True)
class StepPlan:
    """`raybert.training.engine.StepSettings` of a finetuning run."""

    seed: int
    steps: int
    batch_size: int
    learning_rate: float
    warmup_steps: int
    weight_decay: float
    beta1: float
    beta2: float
    epsilon: float
    max_grad_norm: float
    max_nonfinite_steps: int
    reduction: Literal["canonical", "fast"]

    @classmethod
    def of(cls, settings: Settings, num_rows: int) -> StepPlan:
        """The plan that settings make for so many training rows."""
        asked = settings.finetuning
        steps = asked.num_steps(num_rows)
        return cls(
            seed=asked.seed,
            steps=steps,
            batch_size=asked.batch_size,
            learning_rate=asked.learning_rate,
            warmup_steps=math.ceil(asked.warmup_share * steps),
            weight_decay=asked.weight_decay,
            beta1=asked.beta1,
            beta2=asked.beta2,
            epsilon=asked.epsilon,
            max_grad_norm=asked.max_grad_norm,
            max_nonfinite_steps=asked.max_nonfinite_steps,
            reduction=asked.reduction,
        )

    def num_warmup_steps(self) -> int:
        return self.warmup_steps


class FinetuningTrainer:
    """Finetunes a BERT, going on from the run's newest whole checkpoint.

    Every worker of the group builds one with the same arguments; worker 0 writes.

    Args:
        settings: the tree; of it model, data and finetuning.
        data: tokenized, of the same settings.
        run: folder of the run.
        tracker: told of steps on worker 0; None on the others.
        start_from: a checkpoint of another run (`CheckpointStore(…).newest_whole()`): weights,
            optimizer and steps taken are its, settings and history this run's own. A checkpoint of
            this run goes before it.
        device: where to train; by default the GPU if there is one.
        group: the workers; by default torch's process group, or this process alone.
        permit: asked before anything is written; by default worker 0 takes the run's lease while
            it trains.

    Attributes:
        settings: with every `auto` settled.
        model: on its device.
        engine: takes the steps.
        num_steps: of the whole run.
        first_step: steps that earlier launches took.
        history: the evaluations so far, on worker 0.

    Raises:
        UserError: the run was made with other identity settings or data, has more steps than asked
            for, or can't be gone on with.
    """

    def __init__(
        self,
        settings: Settings,
        data: TokenizedData,
        run: Location | str,
        tracker: Tracker | None = None,
        *,
        start_from: Checkpoint | None = None,
        device: torch.device | None = None,
        group: WorkerGroup | None = None,
        permit: Permit | None = None,
    ) -> None:
        self.group = group or WorkerGroup()
        self._data = data
        self._tracker = tracker
        self._device = device or choose_device()
        prepare_process(settings.finetuning, self._device)
        self._run = Location.parse(run)
        self._lease = Lease(self._run) if permit is None and self.group.rank == 0 else None
        self._permit = permit
        self.settings = self._settle(settings)
        asked = self.settings.finetuning
        self._rows: dict[str, LabelledRows] = {"train": data.rows("train")}
        plan = StepPlan.of(self.settings, len(self._rows["train"]))
        self.num_steps = plan.steps
        self._metric = choose_metric(data.facts.task, asked.metric, data.facts.label_names)
        self._store = CheckpointStore(self._run, asked.keep_last, None, permit or self._lease)
        own = agreed_checkpoint(self._store, self.group, self._device)
        checkpoint = own or start_from
        self.first_step = checkpoint.step if checkpoint else 0
        if self.first_step > self.num_steps:
            raise UserError(
                f"{run} has taken {self.first_step} steps, more than finetuning.epochs "
                f"{asked.epochs:g} has ({self.num_steps})"
            )
        self.history = History(self._metric, asked.patience)
        if own is not None:
            stored = own.run()[_HISTORY]
            self.history = History.from_dict(self._metric, asked.patience, stored)
            if self.group.rank == 0:
                self.history.forget_all_but(self._store.steps())
        self.model = self._first_model(checkpoint).to(self._device)
        freeze(self.model, asked.frozen_layers)
        num_layers = self.model.config.num_hidden_layers
        self.engine = Engine(
            self.model,
            FinetuningObjective(data.facts.task, self._class_weights()),
            plan,
            num_micro_shards=asked.num_micro_shards(self.settings.data.max_length),
            micro_shard_threads=asked.micro_shard_threads,
            precision=self._precision(),
            group=self.group,
            rate_of=layer_rates(num_layers, asked.layer_decay),
            section=SECTION,
        )
        if checkpoint:
            self.engine.restore(checkpoint.engine())
        self._files = huggingface_files(self.model, data.tokenizer_json)
        self._on_evaluation: OnEvaluation | None = None
        self._stop = StopRequest()
        self._loop = TrainingLoop(
            self.engine,
            TrainingOrder(self._rows["train"], asked.seed),
            self._cadence(plan),
            self,
            self._store,
            self._files,
            tracker,
            first_step=self.first_step,
            seconds_before=checkpoint.run()["train_seconds"] if checkpoint else 0.0,
        )

    def _settle(self, settings: Settings) -> Settings:
        """Every worker with the same answers: those of the run, or of worker 0."""
        settings = settle(settings, self._run, self._data)
        asked = settings.finetuning.precision
        precision = agreed_precision(asked, self.group, self._device, SECTION)
        return with_finetuning(settings, {"precision": precision})

    def _precision(self) -> PrecisionName:
        precision = self.settings.finetuning.precision
        assert precision != "auto"  # settled
        return precision

    def _first_model(self, checkpoint: Checkpoint | None) -> Model:
        if checkpoint is None:
            model, report = first_model(self.settings, self._data.facts)
            logger.info("weights of %s: %s", self.settings.model.init_from, report)
            return model
        config = (checkpoint.location / "config.json").read_bytes()
        model = empty_model(config, self.settings, self._data.facts)
        from_hf_tensors(model, checkpoint.weights())
        return model

    def _class_weights(self) -> torch.Tensor | None:
        facts = self._data.facts
        if self.settings.finetuning.class_weights == "uniform":
            return None
        if facts.task not in ("classification", "tokens"):
            raise UserError(
                f"finetuning.class_weights balanced is for classification and tokens, not "
                f"{facts.task}"
            )
        counts = [facts.splits["train"].label_counts[name] for name in facts.label_names]
        return torch.from_numpy(balanced_weights(counts))

    def _cadence(self, plan: StepPlan) -> Cadence:
        asked, num_rows = self.settings.finetuning, len(self._rows["train"])
        every, also = asked.evaluate_every, asked.checkpoint_every

        def evaluates(done: int) -> bool:
            if every == "epoch":
                # Some epoch's last row is among those of the step just taken.
                return done * plan.batch_size // num_rows > (done - 1) * plan.batch_size // num_rows
            return done % every == 0

        def saves(done: int) -> bool:
            return evaluates(done) or (also is not None and done % also == 0)

        return Cadence(
            plan.steps, plan.batch_size, asked.log_every, asked.max_hours, evaluates, saves
        )

    def rows(self, split: str) -> LabelledRows:
        """A part of the data, mapped when first asked for."""
        if split not in self._rows:
            self._rows[split] = self._data.rows(split)
        return self._rows[split]

    def train(
        self,
        stop: StopRequest | None = None,
        deadline: float = math.inf,
        on_evaluation: OnEvaluation | None = None,
        on_checkpoint: OnCheckpoint | None = None,
    ) -> Outcome:
        """Takes the steps that are left.

        Args:
            stop: looked at between steps, on worker 0.
            deadline: stop after the step during which `time.time()` passes this.
            on_evaluation: called on worker 0 with the steps taken and the metrics (`eval/…`); by
                returning True it asks to stop there, to be gone on with. An evaluation's checkpoint
                is committed when this method has returned.
            on_checkpoint: called by every worker when a checkpoint has been handed to the writer.

        Returns:
            How it ended; a checkpoint of that step is committed.
        """
        self._stop, self._on_evaluation = stop or StopRequest(), on_evaluation
        with self._lease or contextlib.nullcontext():
            if self.group.rank == 0:
                record(self.settings, self._run, self._data)
            if self._tracker:
                self._tracker.resume(self.first_step)
            if self._ended_before():
                return Outcome(self.first_step, self.first_step, None, {}, self.history.ended_early)
            try:
                return self._loop.run(self._stop, deadline, on_checkpoint)
            finally:
                self._store.close()

    def _ended_before(self) -> bool:
        ended = self.history.ended_early is not None
        return bool(from_worker_0(int(ended), self.group, self._device))

    def predict(self, split: str) -> Predictions:
        """The model's outputs on a part of the data. Collective."""
        most = self.settings.finetuning.max_tokens_per_device
        return predict(self.engine, self.rows(split), self._data.facts, most)

    def evaluate_after(self, done: int) -> dict[str, float]:
        """See `raybert.training.loop.Course`."""
        known = self.history.at(done)
        if bool(from_worker_0(int(known is not None), self.group, self._device)):
            return {} if known is None else _named(known.metrics)
        predictions = self.predict("validation")
        if self.group.rank != 0:
            return {}
        self.history.add(done, predictions.metrics)
        if isinstance(self._tracker, TakesPictures):
            picture = confusion_picture(predictions)
            if picture is not None:
                self._tracker.picture(done, "eval/confusion", picture)
        scalars = _named(predictions.metrics)
        if self._on_evaluation is not None and self._on_evaluation(done, scalars):
            self._stop.ask("the search")
        return scalars

    def end_early(self) -> str | None:
        """See `raybert.training.loop.Course`."""
        return self.history.ended_early

    def checkpoint_entries(self) -> dict[str, Any]:
        """See `raybert.training.loop.Course`."""
        return {_HISTORY: self.history.to_dict()}

    def pinned_steps(self) -> Collection[int]:
        """See `raybert.training.loop.Course`."""
        return () if self.history.best is None else (self.history.best.step,)

    def use_best(self) -> Evaluation:
        """Gives the model the weights of the best version. Collective.

        Raises:
            UserError: there is none yet, or its checkpoint is damaged.
        """
        best = self.history.best
        step = from_worker_0(-1 if best is None else best.step, self.group, self._device)
        if step < 0:
            raise UserError(f"{self._run} was not evaluated yet: there is no best version")
        place = self._store.location_of(step)
        if self.group.rank == 0:
            try:
                verify_folder(place)
            except (DamagedFile, IncompleteFolder) as error:
                raise UserError(f"the best version of {self._run} is gone: {error}") from error
        from_hf_tensors(self.model, Checkpoint(step, place).weights())
        return best or Evaluation(step, {})

    def finish(self) -> Result | None:
        """Scores the best version, and writes result, report and export. Collective.

        The model has the best version's weights afterwards.

        Returns:
            What was found, on worker 0; None on the others.
        """
        best = self.use_best()
        validation = self.predict("validation")
        test = self.predict("test") if "test" in self._data.facts.splits else None
        if self.group.rank != 0:
            return None
        with self._lease or contextlib.nullcontext():
            if self._permit is not None:
                self._permit.check()
            return write_result(
                self._run,
                self.settings,
                self._data.facts,
                self.history,
                best,
                validation,
                test,
                weights_in_host_memory(self.model),
                self._files,
            )


def _named(metrics: Mapping[str, float]) -> dict[str, float]:
    return {f"eval/{name}": value for name, value in metrics.items()}
