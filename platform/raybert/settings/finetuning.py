"""Finetuning: how long, how fast, which version is kept."""

import math
from typing import Annotated, Literal

from pydantic import Field, model_validator

from raybert.settings.marks import Section, identity, operational

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


class FinetuningSettings(Section):
    """One run of finetuning (Devlin et al. 2018, section A.3)."""

    seed: int = identity(42, "order, dropout and the fresh head follow from it", ge=0, lt=1 << 63)
    seeds: int = operational(
        1, "runs with as many seeds, from seed on: mean and spread instead of one figure", ge=1
    )
    epochs: float = operational(3.0, "passes over the training rows", gt=0)
    batch_size: int = identity(32, "rows per step, over all workers", ge=1)
    micro_shards: Literal["auto"] | Annotated[int, Field(ge=1)] = identity(
        "auto",
        "parts into which a step's batch is dealt, each one forward pass; as many workers can "
        "share a step; auto: one per worker of the first launch, doubled until a part has at most "
        "max_tokens_per_device",
    )
    max_tokens_per_device: int = operational(16_384, "most tokens of one forward pass", ge=8)
    learning_rate: float = identity(5e-5, "the highest learning rate, reached after warm-up", gt=0)
    warmup_share: float = identity(0.1, "share of the steps with linear warm-up", ge=0, lt=1)
    weight_decay: float = identity(0.01, "AdamW's, not on biases and LayerNorm", ge=0)
    beta1: float = identity(0.9, "AdamW's first decay rate", ge=0, lt=1)
    beta2: float = identity(0.999, "AdamW's second decay rate", ge=0, lt=1)
    epsilon: float = identity(1e-6, "AdamW's epsilon", gt=0)
    max_grad_norm: float = identity(1.0, "gradients are clipped to this global norm", gt=0)
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
    precision: Literal["auto", "fp32", "bf16", "fp16"] = identity(
        "auto", "auto takes bf16, or fp16, where the device is fast at it"
    )
    reduction: Literal["canonical", "fast"] = identity(
        "canonical",
        "canonical: the same bits for any number of workers; fast: plain all-reduce",
    )
    activation_checkpointing: bool = operational(
        False, "recompute activations in the backward pass: less memory, more time"
    )
    max_nonfinite_steps: int = operational(
        10, "stop after so many steps in a row with a loss or gradient that is not finite", ge=1
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
    log_every: int = operational(10, "steps between logged metrics", ge=1)
    max_hours: float | None = operational(
        None, "stop with a checkpoint after so many hours of this launch; none: no limit", gt=0
    )

    @model_validator(mode="after")
    def _parts_fit(self) -> "FinetuningSettings":
        shards = self.micro_shards
        if shards != "auto" and shards > self.batch_size:
            raise ValueError(
                f"finetuning.micro_shards {shards} is more than finetuning.batch_size "
                f"{self.batch_size}: each part needs a row"
            )
        return self

    def num_micro_shards(self, max_length: int, num_workers: int = 1) -> int:
        """K of the canonical reduction: a given number, or the fewest that fit the device.

        Each one costs a pass over all gradients, which for short texts is a good part of a step.

        Raises:
            ValueError: a forward pass could have more than `max_tokens_per_device`.
        """
        most = self.max_tokens_per_device
        if max_length > most:
            raise ValueError(
                f"data.max_length {max_length} is more than finetuning.max_tokens_per_device "
                f"{most}: not one text fits a forward pass"
            )
        if self.micro_shards != "auto":
            tokens = -(-self.batch_size // self.micro_shards) * max_length
            if tokens > most:
                raise ValueError(
                    f"finetuning.micro_shards {self.micro_shards} makes forward passes of up to "
                    f"{tokens} tokens (finetuning.batch_size {self.batch_size} x data.max_length "
                    f"{max_length} / micro_shards), more than finetuning.max_tokens_per_device "
                    f"{most}: take more micro-shards, or auto"
                )
            return self.micro_shards
        count = num_workers
        while -(-self.batch_size // count) * max_length > most:
            count *= 2
        return min(count, self.batch_size)

    def num_steps(self, num_rows: int) -> int:
        """Steps in all: a step's batch may run over from one epoch into the next."""
        return max(1, math.ceil(self.epochs * num_rows / self.batch_size - 1e-9))
