"""Which trials go on: Ray Tune's schedulers, told of what the ledger remembers.

Time is counted in passes over the training rows, an absolute measure that survives a resume and is
shared by trials of any batch size. The last evaluation of a trial is never a reason to stop it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from ray.tune.schedulers import (
    ASHAScheduler,
    FIFOScheduler,
    MedianStoppingRule,
    PopulationBasedTraining,
    TrialScheduler,
)

from raybert.settings.tuning import TuningSettings
from raybert.tuning.ledger import Entry, Evaluation, Ledger, Part
from raybert.tuning.space import clipped, mutations

if TYPE_CHECKING:
    from ray.tune.experiment import Trial

EPOCH = "epoch"
STEP = "step"
IS_LAST = "is_last"
PART = "part"
# Before the names of figures.
EVAL = "eval/"
_EXCHANGE = "exchange"

Record = Callable[[str, dict[str, Any]], bool]
Move = Callable[[Entry, Part], None]


def scheduler_of(
    tuning: TuningSettings,
    ledger: Ledger,
    metric: str,
    *,
    higher: bool,
    most_epochs: float,
    record: Record,
    move: Move,
) -> TrialScheduler:
    """The scheduler that the settings name, as if it had seen all that the ledger has.

    Args:
        tuning: of the settings.
        ledger: of the sweep.
        metric: that trials are compared by, and whether higher is better.
        most_epochs: of the longest trial.
        record: commits a result, given the trial's key, and says whether it has figures; called
            before anything is decided.
        move: brings the weights that a new part of a trial begins with to its place; called
            before the part is in the ledger.
    """
    compared: dict[str, Any] = {"metric": EVAL + metric, "mode": "max" if higher else "min"}
    match tuning.scheduler:
        case "asha":
            inner = ASHAScheduler(
                time_attr=EPOCH,
                max_t=max(most_epochs, tuning.grace_epochs),  # pyright: ignore[reportArgumentType]
                grace_period=tuning.grace_epochs,  # pyright: ignore[reportArgumentType]
                reduction_factor=tuning.reduction_factor,
                stop_last_trials=False,
                **compared,
            )
        case "median":
            inner = MedianStoppingRule(
                time_attr=EPOCH,
                grace_period=tuning.grace_epochs,
                # A trial that yields is started again later, which costs more than it brings.
                min_time_slice=math.inf,  # pyright: ignore[reportArgumentType]
                **compared,
            )
        case "pbt":
            return Exchanging(tuning, ledger, compared, record, move)
        case "none":
            inner = FIFOScheduler()
    worst = -math.inf if higher else math.inf
    return Remembering(inner, ledger, metric, worst, record)


class Remembering(TrialScheduler):
    """A scheduler that stops trials, fed with the ledger first.

    Args:
        inner: takes the decisions.
        ledger: its closed trials are told at once, an open one when it is taken up again.
        metric: that trials are compared by.
        worst: stands for a value that is no number.
        record: see `scheduler_of`.
    """

    def __init__(
        self,
        inner: TrialScheduler,
        ledger: Ledger,
        metric: str,
        worst: float,
        record: Record,
    ) -> None:
        super().__init__()
        self.inner = inner
        self._ledger = ledger
        self._metric_name = metric
        self._worst = worst
        self._record = record
        for entry in ledger.entries():
            if entry.state in ("finished", "stopped"):
                trial: Any = _Past(entry.key)
                inner.on_trial_add(_NO_CONTROLLER, trial)
                results = [self._past(evaluation) for evaluation in entry.evaluations]
                for result in results:
                    inner.on_trial_result(_NO_CONTROLLER, trial, result)
                if results:
                    inner.on_trial_complete(_NO_CONTROLLER, trial, results[-1])

    def set_search_properties(self, metric: str | None, mode: str | None, **spec: Any) -> bool:
        return True

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:
        self.inner.on_trial_add(tune_controller, trial)
        for evaluation in self._ledger[trial.trial_id].evaluations:
            # What was decided then stands: it went on.
            self.inner.on_trial_result(_NO_CONTROLLER, trial, self._past(evaluation))
        if isinstance(self.inner, MedianStoppingRule):
            self.inner._stopped_trials.discard(trial)

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        if not self._record(trial.trial_id, result):
            return TrialScheduler.CONTINUE
        decision = self.inner.on_trial_result(tune_controller, trial, self._numbered(result))
        return TrialScheduler.CONTINUE if result[IS_LAST] else decision

    def _past(self, evaluation: Evaluation) -> dict[str, Any]:
        value = evaluation.metrics.get(self._metric_name, math.nan)
        return self._numbered({EPOCH: evaluation.epoch, EVAL + self._metric_name: value})

    def _numbered(self, result: dict[str, Any]) -> dict[str, Any]:
        name = EVAL + self._metric_name
        return result | {name: self._worst if math.isnan(result[name]) else result[name]}

    def on_trial_complete(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> None:
        if EPOCH in result:
            self.inner.on_trial_complete(tune_controller, trial, self._numbered(result))

    def on_trial_error(self, tune_controller: Any, trial: Trial) -> None:
        self.inner.on_trial_error(tune_controller, trial)

    def on_trial_remove(self, tune_controller: Any, trial: Trial) -> None:
        self.inner.on_trial_remove(tune_controller, trial)

    def choose_trial_to_run(self, tune_controller: Any) -> Trial | None:
        return self.inner.choose_trial_to_run(tune_controller)

    def debug_string(self) -> str:
        return self.inner.debug_string()


class Exchanging(PopulationBasedTraining):
    """Population based training (Jaderberg et al. 2017), all trials in step.

    At an exchange the worst trials begin a new part: from a copy of a good trial's checkpoint, made
    before that trial goes on, with its settings perturbed. The part is committed to the ledger at
    once, so a killed sweep goes on from the exchange, not from before it.
    """

    def __init__(
        self,
        tuning: TuningSettings,
        ledger: Ledger,
        compared: Mapping[str, Any],
        record: Record,
        move: Move,
    ) -> None:
        self._tuning = tuning
        self._ledger = ledger
        self._record = record
        self._move = move
        furthest = max(
            (e.evaluations[-1].epoch for e in ledger.entries() if e.evaluations), default=0.0
        )
        super().__init__(
            time_attr=_EXCHANGE,
            perturbation_interval=1,
            # The first exchange of this launch waits for the trial that is furthest.
            burn_in_period=self._exchanges(furthest) + 1,
            hyperparam_mutations=mutations(tuning.space),
            quantile_fraction=tuning.exchange_share,
            custom_explore_fn=lambda config: config | clipped(tuning.space, config),
            log_config=False,
            synch=True,
            **compared,
        )

    def _exchanges(self, epoch: float) -> int:
        return math.floor(epoch / self._tuning.perturb_epochs + 1e-6)

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        if not self._record(trial.trial_id, result) or result[IS_LAST]:
            return TrialScheduler.CONTINUE
        result = result | {_EXCHANGE: self._exchanges(result[EPOCH])}
        return super().on_trial_result(tune_controller, trial, result)

    def _exploit(self, tune_controller: Any, trial: Trial, trial_to_clone: Trial) -> None:
        super()._exploit(tune_controller, trial, trial_to_clone)
        entry, donor = self._ledger[trial.trial_id], self._ledger[trial_to_clone.trial_id]
        values = {setting: trial.config[setting] for setting in self._tuning.space}
        part = Part(values, donor.step, (donor.key, len(donor.parts) - 1))
        self._move(entry, part)
        self._ledger.update(entry.key, parts=(*entry.parts, part))
        trial.set_config(values | {PART: len(entry.parts)})


class _Past:
    """Stands for a trial of an earlier launch."""

    def __init__(self, key: str) -> None:
        self.trial_id = key

    def is_finished(self) -> bool:
        return True


class _NoController:
    """Stands for Tune's controller while the past is told: nothing waits."""

    def get_live_trials(self) -> list[Any]:
        return []

    def get_trials(self) -> list[Any]:
        return []


_NO_CONTROLLER: Any = _NoController()
