"""A training step on a GPU against `transformers` in bf16 with SDPA, on the same sequences.

Making the batch, copying it, forward, loss, backward, clipping and optimizer step are counted on
both sides; the peer gets lengths grouped and torch's fused AdamW. Losses and gradients of one batch
are compared in fp32 before anything is timed. Rounds of several steps are timed in turn, and the
device is waited for at the end of a round only: both sides may queue steps ahead.

python tests/benchmarks/bench_gpu.py [--reduction canonical] [--smoke]
"""

import argparse
import statistics
from collections.abc import Callable

import torch
from bench_training_step import agreement, milliseconds, new_table, ratio
from harness import interleave
from rich.console import Console
from torch import nn
from training_cases import SMOKE, Case, packed, pairs
from training_sides import our_pretraining, their_model, their_pretraining

from bert import kernels
from raybert.training.precision import PrecisionName
from raybert.training.throughput import measure_peak

CASES = (
    Case("base, 256 pairs ≤ 128", "base", 256, 128, 4, 7),
    Case("base, 64 pairs ≤ 512", "base", 64, 512, 4, 7),
)
STEPS = 10  # of a round
# Dense bf16 with float32 sums, in FLOP/s, as NVIDIA's data sheets have it.
NOMINAL_PEAKS = {"A100": 312e12, "H100": 989e12, "H200": 989e12}


def choose() -> torch.device:
    if not torch.cuda.is_available():
        raise SystemExit(
            "bench_gpu needs a CUDA device, and torch finds none (--smoke runs on any)"
        )
    return torch.device("cuda", torch.cuda.current_device())


def a_round(step: Callable[[], object], device: torch.device, steps: int) -> Callable[[], None]:
    def run() -> None:
        for _ in range(steps):
            step()
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    return run


def usual_flops_per_token(model: nn.Module) -> int:
    """6 N (Kaplan et al. 2020, section 2.1), N the parameters without the embedding tables."""
    tables = [m.weight for m in model.modules() if isinstance(m, nn.Embedding)]
    num_parameters = sum(parameter.numel() for parameter in model.parameters())
    return 6 * (num_parameters - sum(table.numel() for table in tables))


def nominal_peak(device: torch.device) -> float | None:
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    return next((peak for known, peak in NOMINAL_PEAKS.items() if known in name), None)


def shares(flops_per_second: float, device: torch.device, precision: PrecisionName) -> list[str]:
    peaks = measure_peak(device, precision), nominal_peak(device)
    return [
        "unknown" if peak is None else f"{flops_per_second / peak:.0%} of {peak / 1e12:,.1f}"
        for peak in peaks
    ]


def compare(case: Case, device: torch.device, precision: PrecisionName, steps: int) -> list[str]:
    """A row of the table."""
    sides = {
        "raybert": our_pretraining(case, precision, device, reduction="fast"),
        "transformers": their_pretraining(case, precision, case.num_groups, device),
    }
    print(f"{case.name}: {agreement([side.probe() for side in sides.values()])}")
    rounds = {name: a_round(side.step, device, steps) for name, side in sides.items()}
    timings = interleave(rounds, rounds=case.rounds)
    num_tokens = steps * packed(pairs(case)).num_tokens
    rates = {name: num_tokens / timing.median for name, timing in timings.items()}
    flops = usual_flops_per_token(their_model(case)) * rates["raybert"]
    return [
        case.name,
        *(milliseconds(timings[name]) for name in ("transformers", "raybert")),
        ratio(timings, "transformers", "raybert"),
        *(f"{rates[name]:,.0f}" for name in ("transformers", "raybert")),
        *shares(flops, device, precision),
    ]


def canonical(case: Case, device: torch.device, precision: PrecisionName, steps: int) -> str:
    """Ours alone: deterministic kernels would slow the peer down as well."""
    side = our_pretraining(case, precision, device, reduction="canonical")
    run = {"raybert": a_round(side.step, device, steps)}
    median = statistics.median(interleave(run, rounds=case.rounds)["raybert"].seconds)
    rate = steps * packed(pairs(case)).num_tokens / median
    return f"{case.name}, canonical: {rate:,.0f} tokens/s"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--reduction", choices=["fast", "canonical"], default="fast")
    parser.add_argument("--smoke", action="store_true", help="a tiny case, in fp32, on the CPU")
    arguments = parser.parse_args()
    device = torch.device("cpu") if arguments.smoke else choose()
    precision: PrecisionName = "fp32" if arguments.smoke else "bf16"
    cases, steps = ((SMOKE,), 1) if arguments.smoke else (CASES, STEPS)
    print(f"{device}, {precision}; kernels: {kernels.describe(device)}")
    if arguments.reduction == "canonical":
        print(*(canonical(case, device, precision, steps) for case in cases), sep="\n")
        return
    table = new_table(
        f"pretraining, {precision}, rounds of {steps} steps",
        "case", "transformers", "raybert", "raybert is faster", "transformers tokens/s",
        "raybert tokens/s", "6N of measured TFLOP/s", "6N of nominal TFLOP/s",
    )  # fmt: skip
    for case in cases:
        table.add_row(*compare(case, device, precision, steps))
    Console(width=160).print(table)


if __name__ == "__main__":
    main()
