"""The optimisation: how many steps, of what, how often saved."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from raybert.settings.marks import identity, operational
from raybert.settings.optimization import MicroShards, OptimizationSettings

MIN_AUTO_MICRO_SHARDS = 4
AUTO_WARMUP_SHARE = 0.06


class PretrainingSettings(OptimizationSettings):
    """One run of pretraining."""

    section: ClassVar[str] = "pretraining"
    length_setting: ClassVar[str] = "samples.max_length"

    seed: int = identity(42, "everything random in a run follows from it", ge=0, lt=1 << 63)
    steps: int = operational(10_000, "optimisation steps in all", ge=1)
    batch_size: int = identity(256, "samples per step, over all workers", ge=1)
    micro_shards: MicroShards = identity(
        "auto",
        "parts into which a step's batch is dealt, each one forward pass; as many workers can "
        "share a step; auto: 4, doubled until a part has at most max_tokens_per_device",
    )
    learning_rate: float = identity(5e-4, "the highest learning rate, reached after warm-up", gt=0)
    warmup_steps: Literal["auto"] | Annotated[int, Field(ge=0)] = identity(
        "auto", "steps of linear warm-up; auto is 6 % of the steps of the first launch"
    )
    checkpoint_every: int = operational(500, "steps between checkpoints", ge=1)
    keep_last: int = operational(2, "newest checkpoints to keep", ge=1)
    keep_every: int | None = operational(
        None, "also keep the checkpoints whose step is a multiple of this", ge=1
    )
    evaluate_every: int = operational(500, "steps between evaluations on held-out samples", ge=1)
    evaluation_samples: int = operational(2048, "held-out samples of an evaluation", ge=0)

    @model_validator(mode="after")
    def _parts_fit(self) -> "PretrainingSettings":
        self.check_micro_shards(self.micro_shards, self.batch_size)
        warmup = self.warmup_steps
        if warmup != "auto" and warmup > self.steps:
            raise ValueError(
                f"pretraining.warmup_steps {warmup} is more than pretraining.steps {self.steps}"
            )
        return self

    def num_micro_shards(self, max_length: int) -> int:
        """K of the canonical reduction: a given number, or the fewest that fit the device.

        Raises:
            ValueError: a forward pass could have more than `max_tokens_per_device`.
        """
        return self.fitting_micro_shards(
            self.micro_shards, self.batch_size, max_length, MIN_AUTO_MICRO_SHARDS
        )

    def num_warmup_steps(self) -> int:
        if self.warmup_steps != "auto":
            return self.warmup_steps
        return max(1, round(AUTO_WARMUP_SHARE * self.steps))
