"""How fast a run is, and how fast it could be.

Model FLOPs count the matrix products that the mathematics asks for, once per multiplication and
once per addition, on real tokens only: nothing for padding (there is none), recomputation,
LayerNorm, softmax, the embedding tables' look-ups or the optimizer. For a packed batch of T tokens
in S sequences of lengths s, M of them masked, with width D, feed-forward width F, vocabulary V, per
layer and forward:

    2 T (4 D² + 2 D F)    query, key, value, output, feed-forward
    4 D Σ s²              scores and their product with the values

and once, for the heads, 2 M (D² + D V) + 2 S (D² + 2 D). The backward pass takes twice the forward
(a product for the inputs, one for the weights), so a step is three forwards. MFU is that over the
time of the steps and the rate of a large matrix product, measured in this process (Chowdhery et
al. 2022, https://arxiv.org/abs/2204.02311, appendix B, where the peak is a data sheet's).
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field

import torch

from bert import products
from bert.batch import PackedBatch
from bert.config import BertConfig
from raybert.training.precision import PrecisionName
from raybert.training.report import StepReport

_FORWARDS_PER_STEP = 3
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_PEAK_SIZE = {"cpu": 1024, "cuda": 8192}
_PEAK_REPEATS = 5


def step_flops(
    config: BertConfig, lengths: Iterable[int], num_masked: int, num_pairs: int
) -> float:
    """Model FLOPs of forward and backward over a packed batch.

    Args:
        config: the model's.
        lengths: tokens per sequence.
        num_masked: rows of the MLM head.
        num_pairs: sequences that the NSP head sees.
    """
    width, inner = config.hidden_size, config.intermediate_size
    num_tokens = sum(lengths := tuple(lengths))
    squares = sum(length * length for length in lengths)
    layer = 2 * num_tokens * (4 * width**2 + 2 * width * inner) + 4 * width * squares
    mlm = 2 * num_masked * (width**2 + width * config.vocab_size)
    nsp = 2 * num_pairs * (width**2 + 2 * width)
    return _FORWARDS_PER_STEP * (config.num_hidden_layers * layer + mlm + nsp)


def batch_flops(config: BertConfig, batch: PackedBatch) -> float:
    """`step_flops` of a batch."""
    return step_flops(config, batch.lengths, batch.num_masked, batch.num_sequences)


def measure_peak(device: torch.device, precision: PrecisionName) -> float:
    """FLOPs per second of a large matrix product in this format, the best of a few.

    With torch's threads as they are set; workers of one machine measure at the same time, as they
    will train.
    """
    size = _PEAK_SIZE[device.type]
    left = torch.ones(size, size, dtype=_DTYPES[precision], device=device)
    best = float("inf")
    for _ in range(_PEAK_REPEATS):
        begin = time.perf_counter()
        products.multiply(left, left)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        best = min(best, time.perf_counter() - begin)
    return 2 * size**3 / best


@dataclass
class Meter:
    """Adds up what was done between two logged steps.

    Args:
        config: the model's.
        peak_flops: of this worker, from `measure_peak`.
    """

    config: BertConfig
    peak_flops: float
    _reports: list[StepReport] = field(default_factory=list)
    _flops: float = 0.0
    _seconds: float = 0.0
    _waited: float = 0.0

    def add(
        self, report: StepReport, batches: Iterable[PackedBatch], seconds: float, waited: float
    ) -> None:
        """Adds a step.

        Args:
            report: of the step.
            batches: this worker's micro-shards.
            seconds: wall time of the step, waiting for data included.
            waited: the part of it spent waiting for data.
        """
        self._reports.append(report)
        self._flops += sum(batch_flops(self.config, batch) for batch in batches)
        self._seconds += seconds
        self._waited += waited

    def take(self) -> dict[str, float]:
        """The scalars of the steps since the last call."""
        seconds = max(self._seconds, 1e-9)
        scalars = {
            "throughput/tokens_per_sec": sum(r.num_tokens for r in self._reports) / seconds,
            "throughput/mfu": self._flops / seconds / self.peak_flops,
            "time/step_seconds": seconds / max(len(self._reports), 1),
            "time/data_wait_fraction": self._waited / seconds,
        }
        self._reports.clear()
        self._flops = self._seconds = self._waited = 0.0
        return scalars
