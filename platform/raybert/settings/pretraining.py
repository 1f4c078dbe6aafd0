"""The optimisation: how many steps, of what, how often saved."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from raybert.settings.marks import Section, identity, operational

MIN_AUTO_MICRO_SHARDS = 4
AUTO_WARMUP_SHARE = 0.06


class PretrainingSettings(Section):
    """One run of pretraining."""

    seed: int = identity(42, "everything random in a run follows from it", ge=0, lt=1 << 63)
    steps: int = operational(10_000, "optimisation steps in all", ge=1)
    batch_size: int = identity(256, "samples per step, over all workers", ge=1)
    micro_shards: Literal["auto"] | Annotated[int, Field(ge=1)] = identity(
        "auto",
        "parts into which a step's batch is dealt, each one forward pass; as many workers can "
        "share a step; auto: 4, doubled until a part has at most max_tokens_per_device",
    )
    max_tokens_per_device: int = operational(16_384, "most tokens of one forward pass", ge=8)
    learning_rate: float = identity(5e-4, "the highest learning rate, reached after warm-up", gt=0)
    warmup_steps: Literal["auto"] | Annotated[int, Field(ge=0)] = identity(
        "auto", "steps of linear warm-up; auto is 6 % of the steps of the first launch"
    )
    weight_decay: float = identity(0.01, "AdamW's, not on biases and LayerNorm", ge=0)
    beta1: float = identity(0.9, "AdamW's first decay rate", ge=0, lt=1)
    beta2: float = identity(0.999, "AdamW's second decay rate", ge=0, lt=1)
    epsilon: float = identity(1e-6, "AdamW's epsilon", gt=0)
    max_grad_norm: float = identity(1.0, "gradients are clipped to this global norm", gt=0)
    precision: Literal["auto", "fp32", "bf16", "fp16"] = identity(
        "auto", "auto takes bf16, or fp16, where the device is fast at it"
    )
    reduction: Literal["canonical", "fast"] = identity(
        "canonical",
        "canonical: the same bits for any number of workers; fast: plain all-reduce",
    )
    kernels: Literal["auto", "native", "torch"] = operational(
        "auto",
        "auto takes the compiled CPU kernels of bert-kernels where they are installed; other "
        "kernels round differently in the last bits",
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
        None, "stop with a checkpoint after so many hours of this launch; none: no limit", gt=0
    )

    @model_validator(mode="after")
    def _parts_fit(self) -> "PretrainingSettings":
        shards, warmup = self.micro_shards, self.warmup_steps
        if shards != "auto" and shards > self.batch_size:
            raise ValueError(
                f"pretraining.micro_shards {shards} is more than pretraining.batch_size "
                f"{self.batch_size}: each part needs a sample"
            )
        if warmup != "auto" and warmup > self.steps:
            raise ValueError(
                f"pretraining.warmup_steps {warmup} is more than pretraining.steps {self.steps}"
            )
        return self

    def num_micro_shards(self, max_length: int) -> int:
        """K of the canonical reduction: a given number, or the fewest that fit the device.

        Raises:
            ValueError: a forward pass would have more than `max_tokens_per_device`.
        """
        most = self.max_tokens_per_device
        if max_length > most:
            raise ValueError(
                f"samples.max_length {max_length} is more than pretraining.max_tokens_per_device "
                f"{most}: not one sample fits a forward pass"
            )
        if self.micro_shards != "auto":
            tokens = -(-self.batch_size // self.micro_shards) * max_length
            if tokens > most:
                raise ValueError(
                    f"pretraining.micro_shards {self.micro_shards} makes forward passes of "
                    f"{tokens} tokens (pretraining.batch_size {self.batch_size} x "
                    f"samples.max_length {max_length} / micro_shards), more than "
                    f"pretraining.max_tokens_per_device {most}: take more micro-shards, or auto"
                )
            return self.micro_shards
        count = MIN_AUTO_MICRO_SHARDS
        while -(-self.batch_size // count) * max_length > most:
            count *= 2
        return min(count, self.batch_size)

    def num_warmup_steps(self) -> int:
        if self.warmup_steps != "auto":
            return self.warmup_steps
        return max(1, round(AUTO_WARMUP_SHARE * self.steps))
