"""From a job's submission to its first step: where the seconds go.

    python tests/benchmarks/bench_start.py [--quick] [--rounds 3] [--only submitted|alone]

"submitted": `ray job submit` to a cluster that runs already. "alone": the script itself, which
starts a cluster for its run. The job is jobs/pretrain.py with stamps of the clock (start_job.py): a
tiny model, one worker.
"""

import argparse
import logging
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

sys.path.append(str(Path(__file__).parents[1]))

from submitting import Submitter
from tiny_tokens import write_tokens

from raybert.cluster import RunningCluster, start
from raybert.settings import ClusterSettings
from raybert.storage import Location

ROOT = Path(__file__).parents[2]
JOB = Path(__file__).with_name("start_job.py")
AGENT_S = 60
# Stamp to what led to it, in the order of time.
PARTS = {
    "driver's process": "submission, until the driver's process is there",
    "driver's script": "start of Python",
    "settings": "settings",
    "driver's imports": "imports of the driver",
    "checks": "checks at the door",
    "Ray": "Ray: start or join, its nodes checked",
    "trainer": "Ray Train in the driver",
    "worker's process": "controller and placement, until the worker's process is there",
    "worker's function": "the worker's own start, process group",
    "model built": "samples, model, optimizer",
    "first step": "first step",
}
SETTINGS = """
model: {num_hidden_layers: 1, hidden_size: 32, num_attention_heads: 2, max_position_embeddings: 64}
samples: {max_length: 32}
pretraining: {steps: 2, batch_size: 16, evaluation_samples: 0}
"""


def parts_of(began: float, stamps: Mapping[str, float]) -> dict[str, float]:
    """Seconds of each part, by its words; they add up to the whole.

    Args:
        began: when the job was submitted.
        stamps: when what was reached; all of `PARTS`.

    Raises:
        KeyError: a stamp is missing.
    """
    times = [began, *(stamps[name] for name in PARTS)]
    return {
        words: after - before
        for words, before, after in zip(PARTS.values(), times, times[1:], strict=False)
    }


def read_stamps(path: Path) -> dict[str, float]:
    """The first stamp of each name."""
    found: dict[str, float] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        seconds, _, name = line.partition(" ")
        found.setdefault(name, float(seconds))
    return found


class Job:
    """Starts the same job again and again, each time with a run of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._turn = 0
        self._tokens = write_tokens(Location.parse(folder / "tokens"))
        (folder / "settings.yaml").write_text(SETTINGS, encoding="utf-8")

    def measure(self, carry_out: Callable[[Sequence[str]], object]) -> dict[str, float]:
        self._turn += 1
        stamps = self._folder / f"stamps-{self._turn}"
        line = [
            *(str(JOB), str(stamps), "--config", str(self._folder / "settings.yaml")),
            *("--tokens", str(self._tokens), "--run", str(self._folder / f"run-{self._turn}")),
        ]
        began = time.time()
        carry_out(line)
        return parts_of(began, read_stamps(stamps))


def alone(line: Sequence[str]) -> None:
    environment = {name: text for name, text in os.environ.items() if name != "RAY_ADDRESS"}
    subprocess.run([sys.executable, *line], check=True, env=environment, capture_output=True)


class Submitted:
    """`ray job submit` and the wait for its end."""

    def __init__(self, cluster: RunningCluster) -> None:
        self._submitter = Submitter(cluster, ROOT, ROOT)
        deadline = time.monotonic() + AGENT_S
        while True:
            try:
                self._submitter.ray_job("submit", "--", "true")
                return
            except AssertionError:  # a new cluster's agent for jobs may not be there yet
                if time.monotonic() > deadline:
                    raise

    def __call__(self, line: Sequence[str]) -> None:
        submitter = self._submitter
        name = f"start-{time.time_ns()}"
        submitter.ray_job(
            *("submit", "--no-wait", "--submission-id", name),
            *("--working-dir", ".", "--runtime-env", "runtime_env.yaml"),
            *("--", sys.executable, *line),
        )
        if submitter.wait(name) != "SUCCEEDED":
            raise SystemExit(submitter.logs(name))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="one round: a smoke run")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=["submitted", "alone"])
    arguments = parser.parse_args()
    rounds = 1 if arguments.quick else arguments.rounds
    logging.disable(logging.WARNING)
    found: dict[str, list[dict[str, float]]] = {}
    with tempfile.TemporaryDirectory(prefix="raybert-bench-") as folder:
        job = Job(Path(folder))
        # One after the other: two clusters on one machine disturb each other.
        if arguments.only != "alone":
            with start(ClusterSettings(address="local"), num_cpus=4) as cluster:
                submitted = Submitted(cluster)
                found["submitted"] = [job.measure(submitted) for _ in range(rounds)]
        if arguments.only != "submitted":
            found["alone"] = [job.measure(alone) for _ in range(rounds)]
    print_table(found)


def print_table(found: Mapping[str, Sequence[Mapping[str, float]]]) -> None:
    """A column per way of starting: medians of each part, and of the sums."""
    table = Table("seconds until the first step, medians", title_justify="left")
    for way in found:
        table.add_column(way, justify="right")
    for words in PARTS.values():
        medians = [statistics.median(round_[words] for round_ in found[way]) for way in found]
        table.add_row(words, *(f"{median:.2f}" for median in medians))
    sums = [statistics.median(sum(round_.values()) for round_ in found[way]) for way in found]
    table.add_row("in all", *(f"{total:.2f}" for total in sums), style="bold")
    Console(width=100).print(table)
    for way, rounds in found.items():
        print(f"{way}, in all: {', '.join(f'{sum(one.values()):.1f}' for one in rounds)}")


if __name__ == "__main__":
    # Ray's default of 15 lets whatever else the machine does slow the workers down.
    os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112 - Ray's own spelling
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    main()
