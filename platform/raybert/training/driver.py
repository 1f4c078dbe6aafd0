"""Pretraining on a cluster, as the process sees it that a person started.

It refuses mistakes before anything starts; `launching` does what all kinds of training need.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from raybert.errors import UserError
from raybert.samples import PretrainingSamples
from raybert.settings import Settings
from raybert.storage import Location
from raybert.tokens import TokenStore
from raybert.tracking import Row
from raybert.tracking.display import describe_evaluation
from raybert.training.checkpoints import CheckpointStore
from raybert.training.first_weights import check_first_weights
from raybert.training.launching import Work, refuse_other_content, run_workers
from raybert.training.run_identity import settle
from raybert.training.workers import Launch, pretraining_worker


@dataclass(frozen=True)
class Prepared:
    """A launch that passed the door.

    Attributes:
        settings: settled as far as can be before the device is known.
        store: the token folder.
        samples: of the training split.
        run: the run's folder.
        steps_taken: by earlier launches, as far as checkpoints were committed.
    """

    settings: Settings
    store: TokenStore
    samples: PretrainingSamples
    run: Location
    steps_taken: int


def prepare(settings: Settings) -> Prepared:
    """Looks for mistakes in everything that can be known before a cluster starts.

    Raises:
        UserError: one of them.
    """
    if settings.tokens is None:
        raise UserError("--tokens is missing: the folder that jobs/tokenize_corpus.py wrote")
    if settings.run is None:
        raise UserError("--run is missing: the folder for checkpoints, logs and the model")
    store = TokenStore.open(settings.tokens)
    run = Location.parse(settings.run)
    refuse_other_content(run)
    settings = settle(settings, run, store.manifest)
    steps = CheckpointStore(run).steps()
    if steps and steps[-1] > settings.pretraining.steps:
        raise UserError(
            f"{run} has a checkpoint of step {steps[-1]}, beyond pretraining.steps "
            f"{settings.pretraining.steps}"
        )
    if not steps:
        check_first_weights(settings, store)
    samples = PretrainingSamples(store, settings.samples, settings.pretraining.seed)
    return Prepared(settings, store, samples, run, steps[-1] if steps else 0)


def pretrain(
    settings: Settings, worker: Callable[[Launch], dict[str, Any]] = pretraining_worker
) -> None:
    """Pretrains as the settings say, from where the run stands, and exports the model at its end.

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
        from raybert.training.plan import print_plan

        print_plan(prepared.settings, prepared.samples)
        return
    pretraining = prepared.settings.pretraining
    ended = run_workers(
        Work(
            prepared.settings,
            prepared.run,
            prepared.store.location,
            pretraining.steps,
            pretraining.max_hours,
        ),
        worker,
    )
    if not ended.tell_if_stopped():
        _tell_end(ended.outcome)
    ended.exit_as_signalled()


def _tell_end(outcome: dict[str, Any]) -> None:
    held_out = describe_evaluation(Row(outcome["step"], 0.0, outcome["scalars"]))
    print(f"done: {outcome['step']:,} steps" + (f"; {held_out}" if held_out else ""))
    print(f"the model is in {outcome['export']}", flush=True)
