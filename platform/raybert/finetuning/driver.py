"""Finetuning on a cluster, as the process sees it that a person started.

It reads and tokenizes the data, and refuses mistakes, before a cluster starts; workers map what it
wrote.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from raybert.errors import UserError
from raybert.finetuning.data import FOLDER as DATA
from raybert.finetuning.data import TokenizedData, prepare_data
from raybert.finetuning.identity import settle
from raybert.finetuning.result import REPORT, RESULT
from raybert.finetuning.seeds import refuse_other_form, seed_run, seeds_of, with_seed
from raybert.finetuning.worker import finetuning_worker
from raybert.settings import Settings
from raybert.storage import Location
from raybert.training.checkpoints import CheckpointStore
from raybert.training.export import FOLDER as EXPORT
from raybert.training.launching import Work, refuse_other_content, run_workers
from raybert.training.workers import Launch


@dataclass(frozen=True)
class Prepared:
    """A launch that passed the door.

    Attributes:
        settings: the tree.
        data: tokenized.
        run: the run's folder.
        steps: of each seed.
    """

    settings: Settings
    data: TokenizedData
    run: Location
    steps: int

    def notes(self) -> tuple[str, ...]:
        """For a person, before training starts."""
        asked, seeds = self.settings.finetuning, seeds_of(self.settings)
        times = f" for each of {len(seeds)} seeds" if len(seeds) > 1 else ""
        return (
            *self.data.facts.lines(),
            f"steps       {self.steps:,}{times}: {asked.epochs:g} epochs, {asked.batch_size} rows "
            "a step",
        )


def prepare(settings: Settings) -> Prepared:
    """Looks for mistakes in everything that can be known before a cluster starts.

    Raises:
        UserError: one of them.
    """
    if settings.run is None:
        raise UserError("--run is missing: the folder for data, checkpoints, logs and the model")
    run = Location.parse(settings.run)
    refuse_other_content(run, prepared=(DATA,))
    seeds = seeds_of(settings)
    refuse_other_form(run, len(seeds))
    data = prepare_data(settings)
    steps = settings.finetuning.num_steps(data.facts.splits["train"].num_rows)
    for seed in seeds:
        own = seed_run(run, seed, len(seeds))
        refuse_idle_workers(settle(with_seed(settings, seed), own, data))
        taken = CheckpointStore(own).steps()
        if taken and taken[-1] > steps:
            raise UserError(
                f"{own} has a checkpoint of step {taken[-1]}, beyond the {steps} steps of "
                f"finetuning.epochs {settings.finetuning.epochs:g}"
            )
    return Prepared(settings, data, run, steps)


def refuse_idle_workers(settings: Settings) -> None:
    """Raises:
    UserError: there are more workers than micro-shards of a step.
    """
    num_workers = settings.cluster.num_workers
    num_shards = settings.finetuning.num_micro_shards(settings.data.max_length, num_workers)
    if num_workers > num_shards:
        raise UserError(
            f"cluster.num_workers {num_workers} is more than the {num_shards} micro-shards of a "
            f"step, and each worker needs one: set finetuning.micro_shards of a new run to "
            f"{num_workers} or more (at most finetuning.batch_size "
            f"{settings.finetuning.batch_size}), or take fewer workers"
        )


def finetune(
    settings: Settings, worker: Callable[[Launch], dict[str, Any]] = finetuning_worker
) -> None:
    """Finetunes as the settings say, from where the run stands, and exports the best version.

    Args:
        settings: the tree.
        worker: what each worker runs.

    Raises:
        UserError: a person's mistake, at the door or found on the way.
        KeyboardInterrupt: stopped by Ctrl-C, after a checkpoint was committed.
        SystemExit: stopped by SIGTERM, likewise.
    """
    prepared = prepare(settings)
    if settings.plan:
        print("\n".join(prepared.notes()))
        return
    ended = run_workers(
        Work(
            settings,
            prepared.run,
            prepared.data.location,
            prepared.steps * len(seeds_of(settings)),
            settings.finetuning.max_hours,
            prepared.notes(),
            (prepared.data.location.parent,),
        ),
        worker,
    )
    if not ended.tell_if_stopped():
        _tell_end(prepared)
    ended.exit_as_signalled()


def _tell_end(prepared: Prepared) -> None:
    run = prepared.run
    result = json.loads((run / RESULT).read_bytes())
    metric = result["metric"]
    several = "seeds" in result
    for split in ("validation", "test"):
        found = result.get(split)
        if not found:
            continue
        if several:
            low, high = found["interval"]
            told = f"{_figure(found['mean'][metric])} ± {_figure(found['std'][metric])}"
        else:
            low, high = (result["low"], result["high"]) if split == "validation" else (None, None)
            told = _figure(found[metric])
        interval = "" if low is None else f" (95 %: {_figure(low)} to {_figure(high)})"
        rows = prepared.data.facts.splits[split].num_rows
        print(f"{split:<11} {metric} {told}{interval}, {rows:,} rows")
    print(f"the report is {run / REPORT}")
    print(f"the model is in {run / EXPORT}", flush=True)


def _figure(value: float | None) -> str:
    return "not defined" if value is None else f"{value:.4f}"
