"""The optimisation: how many steps, of what, how often saved."""

from typing import Literal

from pydantic import model_validator

from raybert.settings.marks import Section, identity, operational

MIN_AUTO_MICRO_SHARDS = 4
AUTO_WARMUP_SHARE = 0.06


class PretrainingSettings(Section):
    """One run of pretraining."""

    seed: int = identity(42, "everything random in a run follows from it", ge=0, lt=1 << 63)
    steps: int = operational(10_000, "optimisation steps in all", ge=1)
    batch_size: int = identity(256, "samples per step, over all workers", ge=1)
    micro_shards: int | Literal["auto"] = identity(
        "auto", "parts into which a step's batch is dealt; the most workers that can share a step"
    )
    max_tokens_per_device: int = identity(16_384, "most tokens of one forward pass", ge=8)
    learning_rate: float = identity(5e-4, "the highest learning rate, reached after warm-up", gt=0)
    warmup_steps: int | Literal["auto"] = identity(
        "auto", "steps of linear warm-up; auto is 6 % of the steps of the first launch"
    )
    weight_decay: float = identity(0.01, "AdamW's, not on biases and LayerNorm", ge=0)
    beta1: float = identity(0.9, "AdamW's first decay rate", ge=0, lt=1)
    beta2: float = identity(0.999, "AdamW's second decay rate", ge=0, lt=1)
    epsilon: float = identity(1e-6, "AdamW's epsilon", gt=0)
    max_grad_norm: float = identity(1.0, "gradients are clipped to this global norm", gt=0)
    precision: Literal["auto", "fp32", "bf16", "fp16"] = identity(
        "auto", "auto takes bf16 where the device is measured to be fast at it"
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
    checkpoint_every: int = operational(500, "steps between checkpoints", ge=1)
    keep_last: int = operational(2, "newest checkpoints to keep", ge=1)
    keep_every: int | None = operational(
        None, "also keep the checkpoints whose step is a multiple of this", ge=1
    )
    evaluate_every: int = operational(500, "steps between evaluations on held-out samples", ge=1)
    evaluation_samples: int = operational(2048, "held-out samples of an evaluation", ge=0)
    log_every: int = operational(10, "steps between logged metrics", ge=1)
    max_hours: float | None = operational(
        None, "stop with a checkpoint after so many hours of this launch", gt=0
    )

    @model_validator(mode="after")
    def _parts_fit(self) -> "PretrainingSettings":
        shards = self.micro_shards
        if shards != "auto" and not 1 <= shards <= self.batch_size:
            raise ValueError(
                f"micro_shards {shards} must lie between 1 and batch_size {self.batch_size}"
            )
        if self.warmup_steps != "auto" and self.warmup_steps < 0:
            raise ValueError(f"warmup_steps {self.warmup_steps} must be 0 or more")
        return self

    def num_micro_shards(self, max_length: int) -> int:
        """K of the canonical reduction: a given number, or the fewest that fit the device.

        Raises:
            ValueError: a given number makes a forward pass of more than `max_tokens_per_device`.
        """
        if self.micro_shards != "auto":
            most = -(-self.batch_size // self.micro_shards) * max_length
            if most > self.max_tokens_per_device:
                raise ValueError(
                    f"a micro-shard of {most} tokens (batch_size {self.batch_size} x max_length "
                    f"{max_length} / micro_shards {self.micro_shards}) is more than "
                    f"max_tokens_per_device {self.max_tokens_per_device}: raise micro_shards"
                )
            return self.micro_shards
        count = MIN_AUTO_MICRO_SHARDS
        while self.batch_size * max_length > count * self.max_tokens_per_device:
            count *= 2
        return min(count, self.batch_size)

    def num_warmup_steps(self) -> int:
        if self.warmup_steps != "auto":
            return self.warmup_steps
        return max(1, round(AUTO_WARMUP_SHARE * self.steps))
