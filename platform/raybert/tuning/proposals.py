"""Which values the next trial gets: a function of the seed, its number and the ledger.

Nothing is carried from one proposal to the next, so a killed sweep goes on as if nothing had
happened, and no values are proposed twice.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

from raybert.errors import UserError
from raybert.settings import Settings
from raybert.settings.tuning import TuningSettings
from raybert.tuning.ledger import Entry
from raybert.tuning.space import (
    Values,
    combinations,
    draw,
    from_optuna,
    key_of,
    num_combinations,
    optuna_space,
    to_optuna,
    with_values,
)

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

DEFAULT_NUM_TRIALS = 16
# A space of few combinations is drawn from until so many draws in a row were known already.
_ATTEMPTS = 200
_OPTUNA_ATTEMPTS = 10
_MOST_COMBINATIONS = 10_000


class Proposer(Protocol):
    """Proposes values for a trial."""

    def propose(self, ledger: Sequence[Entry]) -> Values | None:
        """Values that no trial of the ledger has; None: there are no more."""
        ...


def proposer_of(settings: Settings, metric: str, *, higher: bool) -> Proposer:
    """The algorithm that the settings name.

    Args:
        settings: the sweep's.
        metric: that trials are compared by, and whether higher is better.

    Raises:
        UserError: no combination of a grid agrees with the other settings.
    """
    tuning = settings.tuning
    admissible = functools.partial(_contradiction, settings)
    if tuning.algorithm == "grid":
        return Grid(tuning, admissible)
    drawn = Drawn(tuning, admissible)
    return drawn if tuning.algorithm == "random" else Tpe(tuning, admissible, drawn, metric, higher)


def num_trials(tuning: TuningSettings) -> int:
    """Trials of the sweep in all: what was asked for, as far as the space goes."""
    possible = num_combinations(tuning.space)
    asked = tuning.num_trials
    if asked == "auto":
        asked = possible if tuning.algorithm == "grid" else DEFAULT_NUM_TRIALS
    return int(min(asked, possible))


def _contradiction(settings: Settings, values: Values) -> str | None:
    try:
        with_values(settings, values)
    except UserError as error:
        return str(error)
    return None


Admissible = Callable[[Values], str | None]


class Grid:
    """Every combination in turn; those that contradict other settings are left out."""

    def __init__(self, tuning: TuningSettings, contradiction: Admissible) -> None:
        if (count := num_combinations(tuning.space)) > _MOST_COMBINATIONS and count < math.inf:
            raise UserError(f"tuning.space has {count:,.0f} combinations: too many for a grid")
        combined = [(values, contradiction(values)) for values in combinations(tuning.space)]
        self._combinations = [values for values, wrong in combined if wrong is None]
        if not self._combinations:
            raise UserError(f"tuning.space: no combination agrees: {combined[0][1]}")

    def propose(self, ledger: Sequence[Entry]) -> Values | None:
        known = {entry.key for entry in ledger}
        return next((v for v in self._combinations if key_of(v) not in known), None)


class Drawn:
    """Independent draws."""

    def __init__(self, tuning: TuningSettings, contradiction: Admissible) -> None:
        self._tuning = tuning
        self._contradiction = contradiction

    def propose(self, ledger: Sequence[Entry]) -> Values | None:
        known = {entry.key for entry in ledger}
        wrong = None
        for attempt in range(_ATTEMPTS):
            values = draw(self._tuning.space, self._tuning.seed, len(ledger), attempt)
            if key_of(values) in known:
                continue
            wrong = self._contradiction(values)
            if wrong is None:
                return values
        if not ledger and wrong is not None:
            raise UserError(f"tuning.space: no draw of {_ATTEMPTS} agrees: {wrong}")
        return None


class Tpe:
    """Optuna's tree-structured Parzen estimator (Bergstra et al. 2011).

    The study is made anew from the ledger for each proposal. Open trials are in it as running, so
    that parallel trials keep away from each other (constant liar).
    """

    def __init__(
        self,
        tuning: TuningSettings,
        contradiction: Admissible,
        drawn: Drawn,
        metric: str,
        higher: bool,
    ) -> None:
        self._tuning = tuning
        self._contradiction = contradiction
        self._drawn = drawn
        self._metric = metric
        self._higher = higher
        self._distributions = optuna_space(tuning.space)

    def propose(self, ledger: Sequence[Entry]) -> Values | None:
        if len(ledger) < self._tuning.startup_trials:
            return self._drawn.propose(ledger)
        known = {entry.key for entry in ledger}
        for attempt in range(_OPTUNA_ATTEMPTS):
            values = self._suggest(ledger, attempt)
            if key_of(values) not in known and self._contradiction(values) is None:
                return values
        return self._drawn.propose(ledger)

    def _suggest(self, ledger: Sequence[Entry], attempt: int) -> Values:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        seed = (self._tuning.seed * 1_000_003 + len(ledger) * 1_009 + attempt) % (1 << 32)
        study = optuna.create_study(
            direction="maximize" if self._higher else "minimize",
            sampler=optuna.samplers.TPESampler(seed=seed, n_startup_trials=0, constant_liar=True),
        )
        for entry in ledger:
            study.add_trial(self._frozen(entry))
        asked = study.ask(self._distributions)
        return from_optuna(self._tuning.space, asked.params)

    def _frozen(self, entry: Entry) -> FrozenTrial:
        import optuna
        from optuna.trial import TrialState

        best = entry.best(self._metric, higher=self._higher)
        states = {
            "open": TrialState.RUNNING,
            "finished": TrialState.COMPLETE if best else TrialState.FAIL,
            # Ranked among its like by how far it came.
            "stopped": TrialState.PRUNED,
            "failed": TrialState.FAIL,
        }
        state = states[entry.state]
        return optuna.trial.create_trial(
            state=state,
            value=best.metrics[self._metric] if best and state == TrialState.COMPLETE else None,
            params=to_optuna(self._tuning.space, entry.values),
            distributions=self._distributions,
            intermediate_values={
                evaluation.step: evaluation.metrics[self._metric]
                for evaluation in entry.evaluations
                if self._metric in evaluation.metrics
            },
        )


class Fixed:
    """A list of values, in turn."""

    def __init__(self, values: Sequence[Values]) -> None:
        self._values = values

    def propose(self, ledger: Sequence[Entry]) -> Values | None:
        known = {entry.key for entry in ledger}
        return next((v for v in self._values if key_of(v) not in known), None)
