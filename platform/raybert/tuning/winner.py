"""The end of a sweep: its best model, scored once on rows that the search never saw."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from raybert.finetuning.data import TokenizedData
from raybert.finetuning.evaluation import predict
from raybert.finetuning.result import REPORT as RUN_REPORT
from raybert.finetuning.statistics import mean_and_std
from raybert.settings import Settings
from raybert.storage import Location, committed_folder, write_file
from raybert.training.export import FOLDER as EXPORT
from raybert.training.lease import Permit
from raybert.tuning.finetuning_trial import open_trainer
from raybert.tuning.ledger import Entry
from raybert.tuning.space import Values

BEST = "best.json"


@dataclass(frozen=True)
class Finish:
    """A run to be finished: its best version scored and exported.

    Attributes:
        settings: of the run.
        run: its folder.
        data: that it was trained on.
        test: the same with test rows; None where there are none.
        permit: the sweep's right to write.
    """

    settings: Settings
    run: Location
    data: TokenizedData
    test: TokenizedData | None
    permit: Permit


@dataclass(frozen=True)
class Figures:
    """Of one model.

    Attributes:
        seed: that it was trained with.
        run: its folder.
        step: steps that its version had taken.
        validation: metrics on the validation rows.
        test: metrics on the test rows; None where there are none.
    """

    seed: int
    run: str
    step: int
    validation: Mapping[str, float]
    test: Mapping[str, float] | None


@dataclass(frozen=True)
class Best:
    """What a sweep found.

    Attributes:
        trial: number and key.
        values: of the searched settings.
        metric: that trials were compared by.
        models: the best trial's version, or one for each seed that it was trained anew with.
        exported: the place in `models` of the exported one.
        test_data: fingerprint of the data with test rows; None where there are none.
    """

    trial: tuple[int, str]
    values: Values
    metric: str
    models: tuple[Figures, ...]
    exported: int
    test_data: str | None

    def spread(self, split: str) -> tuple[float, float] | None:
        """Mean and standard deviation of the metric over the models; None without such rows."""
        figures = [getattr(model, split) for model in self.models]
        known = [found[self.metric] for found in figures if found is not None]
        return mean_and_std(known) if known else None


def finish_run(finish: Finish) -> Figures:
    """Scores and exports the best version of a run; in a process with the resources of a trial."""
    trainer = open_trainer(finish.settings, finish.run, finish.data, finish.permit)
    result = trainer.finish()
    assert result is not None  # this process is the only worker
    test = None
    if finish.test is not None:
        # The model has the best version's weights now.
        most = finish.settings.finetuning.max_tokens_per_device
        rows = finish.test.rows("test")
        test = dict(predict(trainer.engine, rows, finish.test.facts, most).metrics)
    return Figures(
        finish.settings.finetuning.seed,
        finish.run.address,
        result.best_step,
        dict(result.validation),
        test,
    )


def best_of(figures: Sequence[Figures], metric: str, *, higher: bool) -> int:
    """The place of the model with the best validation figure."""
    sign = 1 if higher else -1
    values = [f.validation[metric] for f in figures]
    return max(
        range(len(values)), key=lambda i: -math.inf if math.isnan(values[i]) else sign * values[i]
    )


def read_best(sweep: Location) -> Best | None:
    """What an earlier launch found."""
    file = sweep / BEST
    if not file.is_file():
        return None
    content: dict[str, Any] = json.loads(file.read_bytes())
    models = tuple(Figures(**model) for model in content.pop("models"))
    trial = tuple(content.pop("trial"))
    return Best(models=models, trial=trial, **content)


def write_best(sweep: Location, best: Best) -> None:
    """Copies the export and its report to the sweep's folder and writes the figures last."""
    run = Location.parse(best.models[best.exported].run)
    with committed_folder(sweep / EXPORT) as staging:
        for name in (run / EXPORT).list_files():
            if name != "manifest.json":
                _copy(run / EXPORT / name, staging / name)
    write_file(sweep / RUN_REPORT, (run / RUN_REPORT).read_bytes())
    write_file(sweep / BEST, json.dumps(asdict(best), indent=1).encode())


def _copy(source: Location, target: Location) -> None:
    with source.open_input_stream() as read, target.open_output_stream() as written:
        shutil.copyfileobj(read, written)


def describe(best: Best, num_test_rows: int) -> list[str]:
    """What a sweep found, for a person, a line each."""
    told = []
    number, key = best.trial
    several = len(best.models) > 1
    told.append(f"best trial  {number} ({key})")
    for split in ("validation", "test"):
        spread = best.spread(split)
        if spread is None:
            continue
        mean, deviation = spread
        rows = f" on {num_test_rows:,} rows that the search never saw" if split == "test" else ""
        seeds = f" ± {deviation:.4f} ({len(best.models)} seeds)" if several else ""
        told.append(f"{split:<11} {best.metric} {mean:.4f}{seeds}{rows}")
    return told


Finisher = Callable[[Sequence[Finish]], list[Figures]]


def finish_on_cluster(bundle: Mapping[str, float]) -> Finisher:
    """Finishes runs in tasks that each ask for a trial's resources."""

    def finish(runs: Sequence[Finish]) -> list[Figures]:
        import ray

        task = ray.remote(finish_run).options(
            num_cpus=bundle.get("CPU", 1), num_gpus=bundle.get("GPU", 0), max_retries=3
        )
        return ray.get([task.remote(run) for run in runs])

    return finish


def reusable(best: Best | None, entry: Entry, seeds: int, test_data: str | None) -> bool:
    """Whether an earlier launch's figures are those that are asked for."""
    return (
        best is not None
        and best.trial[1] == entry.key
        and len(best.models) == max(1, seeds)
        and best.test_data == test_data
    )
