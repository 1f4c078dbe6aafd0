"""One run per seed, and what they say together."""

from __future__ import annotations

from collections.abc import Sequence

from safetensors.torch import load

from raybert.errors import UserError
from raybert.finetuning.data import TokenizedData
from raybert.finetuning.metrics import Outputs, is_better
from raybert.finetuning.report import seeds_report
from raybert.finetuning.result import OUTPUTS, REPORT, RESULT, Result, json_bytes
from raybert.finetuning.statistics import Interval, bootstrap, mean_and_std
from raybert.settings import Settings
from raybert.storage import MANIFEST, Location, committed_folder, write_file
from raybert.training.export import FOLDER as EXPORT
from raybert.training.run_identity import IDENTITY

_PREFIX = "seed-"


def seeds_of(settings: Settings) -> range:
    """The seeds that settings ask for."""
    first = settings.finetuning.seed
    return range(first, first + settings.finetuning.seeds)


def seed_run(run: Location, seed: int, num_seeds: int) -> Location:
    """Where the run of a seed lies: in a folder of its own, unless it is the only one."""
    return run if num_seeds == 1 else run / f"{_PREFIX}{seed}"


def with_seed(settings: Settings, seed: int) -> Settings:
    """The settings of one of the runs."""
    finetuning = settings.finetuning.model_copy(update={"seed": seed, "seeds": 1})
    return settings.model_copy(update={"finetuning": finetuning})


def refuse_other_form(run: Location, num_seeds: int) -> None:
    """Raises:
    UserError: a folder of one run is asked for several seeds, or the other way round.
    """
    if num_seeds > 1 and (run / IDENTITY).is_file():
        raise UserError(
            f"--run {run} is a run with one seed; take another folder for finetuning.seeds "
            f"{num_seeds}"
        )
    if num_seeds == 1 and any(name.startswith(_PREFIX) for name in run.list_dirs()):
        raise UserError(
            f"--run {run} holds runs with several seeds; take another folder, or say how many with "
            "--finetuning.seeds"
        )


def summarize(run: Location, data: TokenizedData, results: Sequence[Result]) -> dict[str, float]:
    """Writes report, result and export of several seeds.

    Args:
        results: of each seed, in order.

    Returns:
        Mean and spread of the chosen metric, as scalars.
    """
    metric = results[0].metric
    best = results[0]
    for result in results[1:]:
        if is_better(metric, result.value, best.value):
            best = result
    figures = {"validation": {r.seed: r.validation for r in results}}
    if results[0].test is not None:
        figures["test"] = {r.seed: r.test for r in results if r.test is not None}
    intervals = {split: _interval(run, data, results, split) for split in figures}
    spread = {
        split: {
            name: mean_and_std([metrics[name] for metrics in by_seed.values()])
            for name in next(iter(by_seed.values()))
        }
        for split, by_seed in figures.items()
    }
    _copy_export(seed_run(run, best.seed, len(results)) / EXPORT, run / EXPORT)
    report = seeds_report(run.name, metric, figures, intervals, spread, best.seed)
    write_file(run / REPORT, report.encode())
    summary = {
        "metric": metric,
        "seeds": [result.seed for result in results],
        "best_seed": best.seed,
        **{
            split: {
                "mean": {name: mean for name, (mean, _) in spread[split].items()},
                "std": {name: std for name, (_, std) in spread[split].items()},
                "interval": [intervals[split].low, intervals[split].high],
            }
            for split in figures
        },
    }
    write_file(run / RESULT, json_bytes(summary))
    last = "test" if "test" in spread else "validation"
    mean, std = spread[last][metric]
    return {
        f"{last}/{metric}_mean": mean,
        f"{last}/{metric}_std": std,
        f"{last}/{metric}_low": intervals[last].low,
        f"{last}/{metric}_high": intervals[last].high,
    }


def _interval(
    run: Location, data: TokenizedData, results: Sequence[Result], split: str
) -> Interval:
    import torch

    rows, facts = data.rows(split), data.facts
    targets, units_N1 = torch.from_numpy(rows.targets()), rows.units_N1()
    outputs = [
        Outputs(
            load((seed_run(run, r.seed, len(results)) / OUTPUTS).read_bytes())[split],
            targets,
            facts.label_names,
            units_N1,
        )
        for r in results
    ]
    return bootstrap(facts.task, results[0].metric, outputs)


def _copy_export(source: Location, target: Location) -> None:
    with committed_folder(target) as staging:
        for name in source.list_files():
            if name != MANIFEST:
                write_file(staging / name, (source / name).read_bytes())
