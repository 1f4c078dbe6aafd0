"""What a sweep costs beside its trials: its wall time against that of plain finetunings.

Both sides train the same n runs (a BERT of 4 layers x 256 on the same tokenized rows, two epochs
with evaluation and checkpoint, one thread each, different seeds), as many at a time as there are
cores. Plain: a Python process per run, without Ray. The sweep: `tune` with a grid over the seed and
no early stopping, on a cluster that is running; its ledger, leaderboard and export of the best
model are counted, starting the cluster is told apart.

python tests/benchmarks/bench_tuning.py [TRIALS] [ROWS] [ROUNDS]
"""

import contextlib
import io
import itertools
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bench_finetuning import examples, write_model
from harness import interleave, print_table

from raybert.cluster import start
from raybert.finetuning.data import prepare_data
from raybert.settings import DataSettings, FinetuningSettings, ModelSettings, Settings
from raybert.settings.tuning import TuningSettings
from raybert.settings.yaml_text import from_yaml, to_yaml
from raybert.tuning.driver import tune

_SEED = "finetuning.seed"
_SECTIONS = ("run", "model", "data", "finetuning", "cluster")


def plain_run(config: str) -> None:
    """One finetuning, in this process."""
    import torch

    from raybert.finetuning.trainer import FinetuningTrainer

    torch.set_num_threads(1)
    settings = from_yaml(Path(config).read_bytes(), config, _SECTIONS)
    trainer = FinetuningTrainer(settings, prepare_data(settings), settings.run or "")
    trainer.train()


def with_seed(settings: Settings, seed: int, run: Path) -> Settings:
    finetuning = settings.finetuning.model_copy(update={"seed": seed})
    return settings.model_copy(update={"finetuning": finetuning, "run": str(run)})


class Sides:
    """The two sides, on the same rows and model."""

    def __init__(self, folder: Path, num_trials: int, num_rows: int) -> None:
        rows = examples(num_rows * 3 // 2)
        model = write_model(folder / "model", [row.text for row in rows])
        for name, part in (("train", rows[:num_rows]), ("validation", rows[num_rows:])):
            lines = ["text\tlabel", *(f"{row.text}\t{row.label}" for row in part)]
            (folder / f"{name}.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
        self._folder = folder
        self._turn = itertools.count()
        self._seeds = list(range(1, num_trials + 1))
        self._settings = Settings(
            model=ModelSettings(init_from=str(model)),
            data=DataSettings(
                train=str(folder / "train.tsv"),
                validation=str(folder / "validation.tsv"),
                max_length=128,
                cache=str(folder / "data"),
            ),
            finetuning=FinetuningSettings(epochs=2),
        )
        prepare_data(self._settings)

    def plain(self) -> None:
        folder = self._folder / f"plain-{next(self._turn)}"
        folder.mkdir()

        def run(seed: int) -> None:
            config = folder / f"{seed}.yaml"
            settings = with_seed(self._settings, seed, folder / f"run-{seed}")
            config.write_text(to_yaml(settings, _SECTIONS))
            command = [sys.executable, __file__, "--plain", str(config)]
            subprocess.run(command, check=True, env=os.environ | {"OMP_NUM_THREADS": "1"})

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(run, self._seeds))
        shutil.rmtree(folder)

    def sweep(self) -> None:
        folder = self._folder / f"sweep-{next(self._turn)}"
        tuning = TuningSettings(
            space={_SEED: {"grid": tuple(self._seeds)}}, algorithm="grid", scheduler="none"
        )
        with contextlib.redirect_stdout(io.StringIO()):
            tune(self._settings.model_copy(update={"run": str(folder), "tuning": tuning}))
        shutil.rmtree(folder)


def main() -> None:
    num_trials, num_rows, rounds = (
        int(sys.argv[place]) if len(sys.argv) > place else default
        for place, default in ((1, 8), (2, 512), (3, 3))
    )
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory(prefix="raybert-bench-") as temporary:
        sides = Sides(Path(temporary), num_trials, num_rows)
        begin = time.perf_counter()
        with start(Settings().cluster):
            began = time.perf_counter() - begin
            timings = interleave(
                {"raybert sweep": sides.sweep, "plain processes": sides.plain},
                rounds=rounds,
                warmup=0,
            )
    title = f"{num_trials} finetunings of {num_rows} rows, {os.cpu_count()} cores"
    print_table(title, timings, ours="raybert sweep", amount=60 * num_trials, unit="runs/min")
    sweep, plain = timings["raybert sweep"].median, timings["plain processes"].median
    print(
        f"sweep {sweep:.1f} s, plain {plain:.1f} s: {(sweep - plain) / num_trials:+.2f} s a trial; "
        f"starting the cluster took {began:.1f} s once"
    )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--plain"]:
        plain_run(sys.argv[2])
    else:
        main()
