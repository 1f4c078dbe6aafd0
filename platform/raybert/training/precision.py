"""In which number format the forward and backward passes run, and how that is found out.

Weights, gradients between micro-shards and the optimizer are float32 always; bf16 and fp16 are
autocast around the forward pass (Micikevicius et al. 2018, https://arxiv.org/abs/1710.03740).
"""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from bert import gradients
from bert.gradients import WeightCopies
from raybert.errors import UserError

PrecisionName = Literal["fp32", "bf16", "fp16"]

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_WORTHWHILE_SPEEDUP = 1.2
_PROBE_SIZE = 768
_PROBE_PAIRS = 5


@dataclass(frozen=True)
class PrecisionChoice:
    """A resolved precision and why it was taken, for the log and the stored settings."""

    name: PrecisionName
    reason: str


def choose_precision(
    requested: Literal["auto", "fp32", "bf16", "fp16"],
    device: torch.device,
    section: str = "pretraining",
) -> PrecisionChoice:
    """Resolves `auto`; a precision asked for by name is taken if the device can do it at all.

    On a CPU `auto` first looks for bf16 instructions, then times one matrix product in both
    formats, in turns: without such instructions torch's bf16 was seen a hundred times slower than
    fp32. The result depends on the machine, so it belongs into the stored settings, not into each
    launch.
    `section` is where the setting stands, for messages.

    Raises:
        UserError: fp16 or bf16 on a GPU that lacks it.
    """
    if device.type == "cuda":
        return _choose_for_gpu(requested, device, section)
    if requested != "auto":
        return PrecisionChoice(requested, "as asked for")
    capable = [name for name, found in _cpu_bf16_capabilities().items() if found]
    if not capable:
        return PrecisionChoice("fp32", "this CPU has no bf16 instructions (AVX512-BF16, AMX, Arm)")
    ratio = _bf16_speedup()
    measured = f"{', '.join(capable)}; a matrix product runs {ratio:.1f}x as fast as in fp32"
    if ratio < _WORTHWHILE_SPEEDUP:
        return PrecisionChoice("fp32", f"bf16 doesn't pay on this CPU ({measured})")
    return PrecisionChoice("bf16", f"this CPU is fast at bf16 ({measured})")


def _choose_for_gpu(
    requested: Literal["auto", "fp32", "bf16", "fp16"], device: torch.device, section: str
) -> PrecisionChoice:
    capability = torch.cuda.get_device_capability(device)
    name = (
        f"{torch.cuda.get_device_name(device)} (compute capability {capability[0]}.{capability[1]})"
    )
    has = {"fp32": True, "bf16": capability >= (8, 0), "fp16": capability >= (7, 0)}
    if requested != "auto":
        if not has[requested]:
            allowed = ", ".join(precision for precision, found in has.items() if found)
            raise UserError(
                f"{section}.precision {requested}: {name} has no hardware for it; "
                f"allowed here: {allowed}"
            )
        return PrecisionChoice(requested, "as asked for")
    if has["bf16"]:
        return PrecisionChoice("bf16", f"{name} has bf16 tensor cores")
    if has["fp16"]:
        return PrecisionChoice("fp16", f"{name} has fp16 tensor cores but no bf16")
    return PrecisionChoice("fp32", f"{name} has no tensor cores")


def _cpu_bf16_capabilities() -> dict[str, bool]:
    found = torch.cpu.get_capabilities()
    return {
        "AVX512-BF16": bool(found.get("avx512_bf16")),
        "AMX-BF16": bool(found.get("amx_bf16")),
        "Arm BF16": bool(found.get("bf16")),
    }


def _bf16_speedup() -> float:
    """How many times as fast as in fp32 a product of a width BERT has is; takes under a second.

    The median of pairs, one product of each format right after the other: what else the machine
    does meanwhile slows both, or spoils single pairs.
    """
    fp32, bf16 = (
        torch.ones(_PROBE_SIZE, _PROBE_SIZE, dtype=dtype)
        for dtype in (torch.float32, torch.bfloat16)
    )
    # The first product of a format also makes what the others use.
    _ = _matmul_seconds(fp32), _matmul_seconds(bf16)
    return statistics.median(
        _matmul_seconds(fp32) / _matmul_seconds(bf16) for _ in range(_PROBE_PAIRS)
    )


def _matmul_seconds(left: Tensor) -> float:
    start = time.perf_counter()
    torch.mm(left, left)
    return time.perf_counter() - start


@contextlib.contextmanager
def weights_cast_once(copies: WeightCopies | None = None) -> Iterator[None]:
    """Lets the forward passes inside share the low-precision copies of the weights.

    Autocast drops its copies when the outermost context ends, that is once per micro-shard; one
    more level of nesting keeps them until the weights change. The copies carry gradients back to
    the weights in each backward pass as before.

    Args:
        copies: where compiled layers keep theirs, to be used again after the next update.
    """
    torch.autocast_increment_nesting()
    try:
        with gradients.weights_cast_once(copies):
            yield
    finally:
        if torch.autocast_decrement_nesting() == 0:
            torch.clear_autocast_cache()


def cast_again() -> None:
    """Has the next forward pass make copies of its own, inside of `weights_cast_once` too.

    A backward pass takes the newest nodes first. Copies of an earlier micro-shard are older than
    all else, so their weights would get their gradients at its very end, all at once.
    """
    torch.clear_autocast_cache()


@contextlib.contextmanager
def casts_shared_by_threads() -> Iterator[None]:
    """What a thread that works inside another's `weights_cast_once` is to be in.

    Autocast has one set of copies for all threads, but counts its contexts in each.
    """
    torch.autocast_increment_nesting()
    try:
        yield
    finally:
        torch.autocast_decrement_nesting()


def dtype_of(precision: PrecisionName) -> torch.dtype:
    """Of the products."""
    return _DTYPES[precision]


def forward_context(
    precision: PrecisionName, device: torch.device
) -> contextlib.AbstractContextManager[object]:
    """What a forward pass runs in."""
    if precision == "fp32":
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=_DTYPES[precision])


class LossScale:
    """The factor that keeps fp16 gradients representable; 1 and constant in other precisions.

    It halves after a step that overflowed and doubles after `_GROWTH_STEPS` without, like
    `torch.amp.GradScaler`, and never asks the device.

    Attributes:
        scale: float32 scalar on the device.
        good_steps: float32 scalar, steps since the last change.
    """

    _INITIAL = 2.0**16
    _GROWTH_STEPS = 2000

    def __init__(self, precision: PrecisionName, device: torch.device) -> None:
        self.is_dynamic = precision == "fp16"
        self.scale = torch.full((), self._INITIAL if self.is_dynamic else 1.0, device=device)
        self.good_steps = torch.zeros((), device=device)

    def update(self, overflowed: Tensor) -> None:
        """After a step; `overflowed` is 1 where it was skipped, else 0."""
        if not self.is_dynamic:
            return
        self.good_steps.add_(1).mul_(1 - overflowed)
        grown = self.good_steps >= self._GROWTH_STEPS
        factor = torch.where(grown, 2.0, 1 - overflowed / 2)
        self.scale.mul_(factor)
        self.good_steps.masked_fill_(grown, 0)
