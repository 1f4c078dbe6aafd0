"""What checkpoints cost a run of pretraining; the goal is 1 % of it at one per five minutes.

    python tests/benchmarks/bench_checkpoint.py [--quick] [--checkpoints 6] [--folder FOLDER]

A real run, as jobs/pretrain.py does it: one worker with all CPUs on a local Ray cluster. Steps
beside which a checkpoint is written are held against as many quiet ones right after them, so that
the two kinds take turns; what the loop itself spends on a checkpoint is timed part by part.
"""

import argparse
import contextlib
import io
import logging
import os
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from checkpoint_cost import PARTS, Cost, Record, TimedWorker, costs, median_cost
from rich.console import Console
from rich.table import Table

# Ray's default of 15 lets whatever else the machine does slow the worker down.
os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112 - Ray's own spelling
sys.path.append(str(Path(__file__).parents[1]))

from tiny_tokens import write_tokens

from raybert.cluster import start
from raybert.settings import (
    ClusterSettings,
    ModelSettings,
    PretrainingSettings,
    SampleSettings,
    Settings,
)
from raybert.settings.model import ModelSize
from raybert.storage import Location
from raybert.training.checkpoints import CheckpointStore
from raybert.training.driver import pretrain

INTERVAL_S = 300
GOAL = 0.01
NUM_WORDS = 30_517  # with five special tokens, the vocabulary of BERT


@dataclass(frozen=True)
class Case:
    """A model, and how many steps there are between checkpoints: twice those that writing takes."""

    size: ModelSize
    batch_size: int
    checkpoint_every: int


CASES = (Case("small", 16, 20), Case("base", 16, 12))
SMOKE = (Case("tiny", 8, 40),)


def settings_of(case: Case, checkpoints: int, tokens: Location, run: Path) -> Settings:
    return Settings(
        tokens=tokens.address,
        run=str(run),
        model=ModelSettings(size=case.size),
        samples=SampleSettings(max_length=128),
        pretraining=PretrainingSettings(
            # The last one has no steps after it that it could slow down.
            steps=case.checkpoint_every * (checkpoints + 1),
            batch_size=case.batch_size,
            checkpoint_every=case.checkpoint_every,
            evaluation_samples=0,
        ),
        cluster=ClusterSettings(cpus_per_worker=os.cpu_count() or 1),
    )


def measure(case: Case, checkpoints: int, tokens: Location, folder: Path) -> tuple[int, list[Cost]]:
    """Bytes of a checkpoint, and what each one cost."""
    run, record = folder / case.size, folder / f"{case.size}.json"
    with contextlib.redirect_stdout(io.StringIO()):
        pretrain(settings_of(case, checkpoints, tokens, run), TimedWorker(record))
    checkpoint = CheckpointStore(Location.parse(run)).newest_whole()
    assert checkpoint is not None
    num_bytes = sum(file.stat().st_size for file in checkpoint.location.local_path.iterdir())
    return num_bytes, costs(Record.read(record))


def figures(num_bytes: int, cost: Cost) -> dict[str, str]:
    """What is shown of a model."""
    share = cost.extra / INTERVAL_S
    return {
        "bytes of a checkpoint": f"{num_bytes / 1e6:,.0f} MB",
        "an undisturbed step": f"{cost.step:.3f}",
        **{f"in the loop: {part}": f"{cost.parts[part]:.3f}" for part in PARTS},
        "steps slower, in all": f"{cost.slower:+.2f}",
        "the run is longer by": f"{cost.extra:.2f}",
        "(writing beside the steps; its CPU)": f"{cost.written:.2f}; {cost.written_cpu:.2f}",
        "share at one per 5 minutes": f"{share:.2%}",
        f"goal < {GOAL:.0%}": "holds" if share < GOAL else "misses",
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a tiny model: a smoke run")
    parser.add_argument("--checkpoints", type=int, default=6, help="whose medians count")
    parser.add_argument("--only", default="", help="a model's size")
    parser.add_argument("--folder", help="on the disk that is to be measured; default: temporary")
    arguments = parser.parse_args()
    checkpoints = 2 if arguments.quick else arguments.checkpoints
    logging.disable(logging.WARNING)
    table = Table(
        "seconds, medians of checkpoints",
        title=f"checkpoints of a run, one worker with {os.cpu_count()} CPUs",
        title_justify="left",
    )
    columns = []
    details = []
    with (
        tempfile.TemporaryDirectory(prefix="raybert-bench-", dir=arguments.folder) as temporary,
        start(ClusterSettings(address="local")),
    ):
        folder = Path(temporary)
        tokens = write_tokens(
            Location.parse(folder / "tokens"), num_documents=5_000, num_words=NUM_WORDS
        )
        for case in SMOKE if arguments.quick else CASES:
            if arguments.only not in case.size:
                continue
            num_bytes, each = measure(case, checkpoints, tokens, folder)
            cost = median_cost(each)
            table.add_column(f"{case.size}, {case.batch_size} pairs ≤ 128", justify="right")
            columns.append(figures(num_bytes, cost))
            shown = ", ".join(f"{one.extra:.2f}" for one in each)
            details.append(f"{case.size}: extra seconds of each checkpoint {shown}")
    for name in columns[0]:
        table.add_row(name, *(column[name] for column in columns))
    Console(width=100).print(table)
    print(*details, sep="\n")


if __name__ == "__main__":
    main()
