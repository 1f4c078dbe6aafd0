"""A training step against `transformers` on the same sequences, and against the machine's limit.

Making the batch, forward, loss, backward, clipping and optimizer step are counted on every side.
The peers are transformers' models with SDPA attention and torch's fused AdamW: "as documented"
(padded to the longest of the batch, fp32, a process as Python starts it) and "tuned" (our allocator
settings, bf16 where this CPU is fast at it, lengths grouped). Sides run in processes of their
own, in turn; before they are timed, loss and gradients of one batch are compared.

python tests/benchmarks/bench_training_step.py [--quick] [--only TEXT] [--precision fp32]
"""

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import torch
from harness import Timing
from rich.console import Console
from rich.table import Table
from safetensors.torch import load_file
from torch import Tensor
from training_cases import (
    CUTS,
    EMBEDDING,
    FINETUNING,
    PRETRAINING,
    SCALING,
    SMOKE,
    Case,
    packed,
    pairs,
)

from bert import kernels
from raybert.cluster.environment import TRAIN_WORKER_VARIABLES
from raybert.training.precision import choose_precision
from raybert.training.throughput import batch_flops

HERE = Path(__file__).parent
THREADS = 2
SCALING_TURNS = 3  # of one worker and two, each time in processes of their own
CPU = torch.device("cpu")
CONSOLE = Console(width=120)


class Worker:
    """A side in a process of its own."""

    def __init__(self, side: str, case: Case, precision: str) -> None:
        tuned = {} if side == "as documented" else TRAIN_WORKER_VARIABLES
        self.peak_bytes = 0
        self._process = subprocess.Popen(
            [sys.executable, HERE / "training_worker.py", side, case.name, precision, str(THREADS)],
            env=os.environ | tuned,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def wait(self) -> dict:
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"{self._process.args} ended: {self._process.wait()}")
        return json.loads(line)

    def ask(self, line: str) -> dict:
        assert self._process.stdin
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()
        return self.wait()

    def step(self) -> float:
        found = self.ask("step")
        self.peak_bytes = found["peak"]
        return found["seconds"]

    def close(self) -> None:
        self._process.communicate()


@contextlib.contextmanager
def workers(sides: Sequence[str], case: Case, precision: str) -> Iterator[dict[str, Worker]]:
    found = {side: Worker(side, case, precision) for side in sides}
    try:
        for worker in found.values():
            worker.wait()
        yield found
    finally:
        for worker in found.values():
            worker.close()


def require_agreement(sides: Mapping[str, Worker]) -> str:
    """Losses, gradients or results of all sides on one batch, in fp32 without dropout."""
    with tempfile.TemporaryDirectory() as folder:
        found = []
        for number, worker in enumerate(sides.values()):
            worker.ask(f"probe {folder}/{number}")
            found.append(load_file(f"{folder}/{number}"))
    return agreement(found)


def agreement(found: Sequence[Mapping[str, Tensor]]) -> str:
    """What the first side found against what the others did."""
    mine, *others = found
    worst = 0.0
    for theirs in others:
        # A key's bias shifts all scores of a query alike: its gradient is 0 but for rounding.
        common = [name for name in mine.keys() & theirs.keys() if "key.bias" not in name]
        assert common, "nothing to compare"
        for name in common:
            error = (mine[name] - theirs[name]).norm() / theirs[name].norm().clamp(min=1e-6)
            worst = max(worst, error.item())
            if error > 1e-4:
                raise SystemExit(f"{name} differs by {error:.2g}")
    return f"{len(mine)} tensors agree to {worst:.1g}"


def compare(sides: Sequence[str], case: Case, precision: str) -> tuple[dict[str, Timing], dict]:
    """Timings of all sides in turn, and what else is known of them."""
    with workers(sides, case, precision) as found:
        agreement = require_agreement(found)
    # Fresh processes: comparing needs memory of its own.
    with workers(sides, case, precision) as found:
        for worker in found.values():
            worker.step()
        seconds: dict[str, list[float]] = {side: [] for side in sides}
        flops = []
        for _ in range(case.rounds):
            for side, worker in found.items():
                seconds[side].append(worker.step())
            # The host's speed changes from minute to minute: each round has a GEMM peak of its own.
            flops.append(found[sides[0]].ask("flops")["flops"])
        peaks = {side: worker.peak_bytes for side, worker in found.items()}
    timings = {side: Timing(tuple(values)) for side, values in seconds.items()}
    return timings, {"agreement": agreement, "peaks": peaks, "flops": flops}


def ratio(timings: Mapping[str, Timing], other: str, ours: str) -> str:
    pairs_of_rounds = zip(timings[other].seconds, timings[ours].seconds, strict=True)
    return f"{statistics.median(theirs / mine for theirs, mine in pairs_of_rounds):.2f}x"


def milliseconds(timing: Timing) -> str:
    return f"{timing.median * 1000:,.0f} ms ±{timing.spread / 2:.0%}"


def pretraining(cases: Sequence[Case], precision: str) -> None:
    table = new_table(
        f"pretraining step, {THREADS} threads, ours and tuned in {precision}",
        "case", "as documented", "tuned", "raybert", "faster than documented", "than tuned",
        "tokens/s", "share of GEMM peak", "memory of documented",
    )  # fmt: skip
    notes = []
    for case in cases:
        timings, facts = compare(("raybert", "as documented", "tuned"), case, precision)
        ours, peaks = timings["raybert"], facts["peaks"]
        batch = packed(pairs(case))
        flops = batch_flops(case.config, batch)
        rounds = zip(ours.seconds, facts["flops"], strict=True)
        share = statistics.median(flops / seconds / peak for seconds, peak in rounds)
        peak = statistics.median(facts["flops"])
        table.add_row(
            case.name,
            *(milliseconds(timings[side]) for side in ("as documented", "tuned", "raybert")),
            ratio(timings, "as documented", "raybert"),
            ratio(timings, "tuned", "raybert"),
            f"{batch.num_tokens / ours.median:,.0f}",
            f"{share:.0%} of {peak / 1e9:,.0f} GFLOP/s",
            f"{peaks['raybert'] / peaks['as documented']:.2f}",
        )
        notes.append(f"{case.name}: {facts['agreement']}")
    CONSOLE.print(table)
    print(*notes, sep="\n")


def cuts(cases: Sequence[Case], precision: str) -> None:
    """A batch as one micro-shard and as several, in turn or side by side."""
    table = new_table(f"micro-shards, {THREADS} threads, {precision}", "case", *CUTS)
    for case in cases:
        with workers(tuple(CUTS), case, precision) as found:
            for worker in found.values():
                worker.step()
            seconds = [[worker.step() for worker in found.values()] for _ in range(case.rounds)]
        columns = zip(*seconds, strict=True)
        table.add_row(case.name, *(milliseconds(Timing(column)) for column in columns))
    CONSOLE.print(table)


def against_one(title: str, case: Case, ours: str, other: str, precision: str) -> None:
    table = new_table(title, "case", other, ours, "ours is faster")
    timings, facts = compare((ours, other), case, precision)
    table.add_row(
        case.name,
        milliseconds(timings[other]),
        milliseconds(timings[ours]),
        ratio(timings, other, ours),
    )
    CONSOLE.print(table)
    print(f"{case.name}: {facts['agreement']}")


def scaling(cases: Sequence[Case], precision: str) -> None:
    table = new_table(
        f"1 → 2 workers of one thread, {precision}",
        "case", "1 worker", "2 workers", "2 workers are", "canonical over fast",
    )  # fmt: skip
    for case in cases:
        turns = [[_scaled(case, precision, size) for size in (1, 2)] for _ in range(SCALING_TURNS)]
        one, two = (_together(side) for side in zip(*turns, strict=True))
        table.add_row(
            case.name,
            milliseconds(one["canonical"]),
            milliseconds(two["canonical"]),
            f"{2 * one['canonical'].median / two['canonical'].median:.2f}x as fast",
            f"{two['canonical'].median / two['fast'].median - 1:+.1%}",
        )
    CONSOLE.print(table)


def _together(turns: Sequence[Mapping[str, Timing]]) -> dict[str, Timing]:
    return {
        reduction: Timing(tuple(second for turn in turns for second in turn[reduction].seconds))
        for reduction in turns[0]
    }


def _scaled(case: Case, precision: str, size: int) -> dict[str, Timing]:
    environment = os.environ | TRAIN_WORKER_VARIABLES | {"GLOO_SOCKET_IFNAME": "lo"}
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, str(HERE / "scaling_worker.py"), case.name, precision]
        command.append(str(case.rounds))
        processes = [
            subprocess.Popen(
                [*command, str(rank), str(size), f"{folder}/rendezvous"],
                env=environment,
                stdout=subprocess.PIPE,
                text=True,
            )
            for rank in range(size)
        ]
        outputs = [process.communicate()[0] for process in processes]
    seconds: dict[str, list[float]] = json.loads(outputs[0])
    return {reduction: Timing(tuple(values)) for reduction, values in seconds.items()}


def new_table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left")
    for column in columns:
        table.add_column(column, justify="left" if column == "case" else "right")
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a tiny case, two rounds: a smoke run")
    parser.add_argument("--only", default="", help="parts whose name has this in it")
    parser.add_argument("--precision", choices=["auto", "fp32", "bf16"], default="auto")
    arguments = parser.parse_args()
    torch.set_num_threads(THREADS)
    choice = choose_precision(arguments.precision, CPU)
    print(f"{choice.name}: {choice.reason}\nkernels: {kernels.describe(CPU)}")

    def cases(given: Sequence[Case]) -> list[Case]:
        return [SMOKE] if arguments.quick else list(given)

    parts: dict[str, Callable[[], None]] = {
        "pretraining": lambda: pretraining(cases(PRETRAINING), choice.name),
        "micro-shards": lambda: cuts(cases(PRETRAINING), choice.name),
        "finetuning": lambda: against_one(
            "finetuning, an epoch", FINETUNING, "raybert finetuning", "Trainer", choice.name
        ),
        "embedding": lambda: against_one(
            "bulk embedding", EMBEDDING, "raybert embedding", "padded loop", choice.name
        ),
        "scaling": lambda: scaling(cases(SCALING), choice.name),
    }
    if arguments.quick:
        parts = {name: parts[name] for name in ("pretraining", "micro-shards", "scaling")}
    for name, part in parts.items():
        if arguments.only in name:
            print()
            part()


if __name__ == "__main__":
    main()
