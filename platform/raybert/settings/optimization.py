"""What every kind of training settles alike: AdamW, arithmetic, limits of a pass, of a launch."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from raybert.settings.marks import Section, identity, operational

MicroShards = Literal["auto"] | Annotated[int, Field(ge=1)]
MicroShardThreads = Literal["auto", "all"] | Annotated[int, Field(ge=1)]


class OptimizationSettings(Section):
    """Shared by pretraining and finetuning, under the name of their own section."""

    section: ClassVar[str]
    length_setting: ClassVar[str]

    max_tokens_per_device: int = operational(16_384, "most tokens of one forward pass", ge=8)
    micro_shard_threads: MicroShardThreads = identity(
        "auto",
        "CPU threads that compute one micro-shard; a worker that has more computes several side "
        "by side; all: one after another; auto: as few as leave none idle at the first launch",
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
        "canonical: the same bits for any number of workers; fast: whatever order costs least, on "
        "CUDA during the backward pass",
    )
    kernels: Literal["auto", "native", "torch"] = operational(
        "auto",
        "auto takes the compiled CPU kernels of bert-kernels where they are installed, on CUDA "
        "Triton's; other kernels round differently in the last bits",
    )
    activation_checkpointing: bool = operational(
        False, "recompute activations in the backward pass: less memory, more time"
    )
    max_nonfinite_steps: int = operational(
        10, "stop after so many steps in a row with a loss or gradient that is not finite", ge=1
    )
    log_every: int = operational(10, "steps between logged metrics", ge=1)
    max_hours: float | None = operational(
        None, "stop with a checkpoint after so many hours of this launch; none: no limit", gt=0
    )

    def check_micro_shards(self, micro_shards: MicroShards, batch_size: int) -> None:
        """Raises:
        ValueError: a micro-shard would have no sample.
        """
        if micro_shards != "auto" and micro_shards > batch_size:
            raise ValueError(
                f"{self.section}.micro_shards {micro_shards} is more than "
                f"{self.section}.batch_size {batch_size}: each part needs a sample"
            )

    def fitting_threads(
        self, num_micro_shards: int, num_workers: int, cpus_per_worker: int
    ) -> int | Literal["all"]:
        """Threads of a micro-shard: a given number, or a worker's threads shared out among its own.

        A worker of one thread or one micro-shard has nothing to share out: all.
        """
        if self.micro_shard_threads != "auto":
            return self.micro_shard_threads
        at_once = min(num_micro_shards // num_workers, cpus_per_worker)
        return "all" if at_once < 2 else cpus_per_worker // at_once

    def fitting_micro_shards(
        self, micro_shards: MicroShards, batch_size: int, max_length: int, fewest: int
    ) -> int:
        """K of the canonical reduction: a given number, or `fewest` doubled until passes fit.

        Raises:
            ValueError: a forward pass could have more than `max_tokens_per_device`.
        """
        name, most = self.section, self.max_tokens_per_device
        if max_length > most:
            raise ValueError(
                f"{self.length_setting} {max_length} is more than {name}.max_tokens_per_device "
                f"{most}: not one sample fits a forward pass"
            )
        if micro_shards != "auto":
            tokens = -(-batch_size // micro_shards) * max_length
            if tokens > most:
                raise ValueError(
                    f"{name}.micro_shards {micro_shards} makes forward passes of {tokens} "
                    f"tokens ({name}.batch_size {batch_size} x {self.length_setting} {max_length} "
                    f"/ micro_shards), more than {name}.max_tokens_per_device {most}: take more "
                    "micro-shards, or auto"
                )
            return micro_shards
        count = fewest
        while -(-batch_size // count) * max_length > most:
            count *= 2
        return min(count, batch_size)
