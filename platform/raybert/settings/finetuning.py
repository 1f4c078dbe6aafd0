"""Finetuning: how long, how fast, which version is kept."""

import math
from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from raybert.settings.marks import identity, operational
from raybert.settings.optimization import MicroShards, OptimizationSettings

Metric = Literal[
    "loss",
    "accuracy",
    "macro_f1",
    "micro_f1",
    "matthews",
    "auroc",
    "exact_match",
    "pearson",
    "spearman",
    "mean_squared_error",
    "entity_f1",
    "token_accuracy",
]


class FinetuningSettings(OptimizationSettings):
    """One run of finetuning (Devlin et al. 2018, section A.3)."""

    section: ClassVar[str] = "finetuning"
    length_setting: ClassVar[str] = "data.max_length"

    seed: int = identity(42, "order, dropout and the fresh head follow from it", ge=0, lt=1 << 63)
    seeds: int = operational(
        1, "runs with as many seeds, from seed on: mean and spread instead of one figure", ge=1
    )
    epochs: float = operational(3.0, "passes over the training rows", gt=0)
    batch_size: int = identity(32, "rows per step, over all workers", ge=1)
    micro_shards: MicroShards = identity(
        "auto",
        "parts into which a step's batch is dealt, each one forward pass; as many workers can "
        "share a step; auto: one per worker of the first launch, doubled until a part has at most "
        "max_tokens_per_device",
    )
    learning_rate: float = identity(5e-5, "the highest learning rate, reached after warm-up", gt=0)
    warmup_share: float = identity(0.1, "share of the steps with linear warm-up", ge=0, lt=1)
    layer_decay: float = identity(
        1.0,
        "each layer learns at this factor of the rate of the one above; 1: all alike",
        gt=0,
        le=1,
    )
    frozen_layers: int = identity(
        0, "lowest layers, with the embeddings below them, that stay as they are", ge=0
    )
    head_dropout: float | None = identity(
        None, "dropout before the head; none takes model.hidden_dropout", ge=0, lt=1
    )
    fresh_head: bool = identity(
        False, "replace the head of a model that was finetuned for other labels"
    )
    fresh_weights: bool = identity(
        False, "take only shape and tokenizer of model.init_from: a baseline from random weights"
    )
    class_weights: Literal["uniform", "balanced"] = identity(
        "uniform", "balanced: a label's loss counts by its rarity (classification, tokens)"
    )
    metric: Literal["auto"] | Metric = identity(
        "auto",
        "what the best version is chosen by; auto: macro_f1, pearson or entity_f1 by task",
    )
    evaluate_every: Literal["epoch"] | Annotated[int, Field(ge=1)] = identity(
        "epoch", "evaluate, and commit a checkpoint, after each epoch or so many steps"
    )
    checkpoint_every: int | None = operational(
        None, "commit a checkpoint after so many steps too; none: at evaluations only", ge=1
    )
    keep_last: int = operational(1, "newest checkpoints to keep, besides the best", ge=1)
    patience: int | None = identity(
        None, "stop after so many evaluations without a better one; none: never early", ge=1
    )

    @model_validator(mode="after")
    def _parts_fit(self) -> "FinetuningSettings":
        self.check_micro_shards(self.micro_shards, self.batch_size)
        return self

    def num_micro_shards(self, max_length: int, num_workers: int = 1) -> int:
        """K of the canonical reduction: a given number, or the fewest that fit the device.

        Each one costs a pass over all gradients, which for short texts is a good part of a step.

        Raises:
            ValueError: a forward pass could have more than `max_tokens_per_device`.
        """
        return self.fitting_micro_shards(
            self.micro_shards, self.batch_size, max_length, num_workers
        )

    def num_steps(self, num_rows: int) -> int:
        """Steps in all: a step's batch may run over from one epoch into the next."""
        return max(1, math.ceil(self.epochs * num_rows / self.batch_size - 1e-9))
