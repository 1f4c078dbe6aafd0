"""Which trials Ray Tune runs: the open ones of the ledger first, then new ones."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ray.tune.experiment import Experiment
from ray.tune.experiment.config_parser import _create_trial_from_spec, _make_parser
from ray.tune.search.search_algorithm import SearchAlgorithm

from raybert.tuning.ledger import Entry, Ledger
from raybert.tuning.proposals import Proposer
from raybert.tuning.scheduling import PART

if TYPE_CHECKING:
    from ray.tune.experiment import Trial


class LedgerSearch(SearchAlgorithm):
    """Hands trials to Tune under the ledger's keys.

    Tune's own searchers number trials anew in every launch and know none of an earlier one.

    Args:
        ledger: of the sweep.
        proposer: of values for new trials.
        num_trials: of the sweep in all.
        most_running: trials that are not done at any time; None: all at once, as PBT needs them.
        retry_failed: whether failed trials are open again.
    """

    def __init__(
        self,
        ledger: Ledger,
        proposer: Proposer,
        num_trials: int,
        most_running: int | None,
        retry_failed: bool = False,
    ) -> None:
        self._ledger = ledger
        self._proposer = proposer
        self._num_trials = num_trials
        self._most_running = most_running
        self._running: set[str] = set()
        self._used_up = False
        self._spec: dict[str, Any] = {}
        again = ("open", "failed") if retry_failed else ("open",)
        self._waiting = [entry for entry in ledger.entries() if entry.state in again]

    @property
    def total_samples(self) -> int:  # pyright: ignore[reportIncompatibleMethodOverride]
        return self._num_trials

    def add_configurations(self, experiments: Any) -> None:
        (experiment,) = experiments if isinstance(experiments, list) else (experiments,)
        assert isinstance(experiment, Experiment)
        self._spec = experiment.spec
        self._parser = _make_parser()

    def next_trial(self) -> Trial | None:
        if self._most_running is not None and len(self._running) >= self._most_running:
            return None
        entry = self._next_entry()
        if entry is None:
            # Until the last trial is done its process may have to take another one's turn.
            if not self._running:
                self.set_finished()
            return None
        self._running.add(entry.key)
        spec = copy.copy(self._spec)
        config = {**entry.values, PART: len(entry.parts) - 1}
        spec["config"] = config
        return _create_trial_from_spec(
            spec,
            self._parser,
            evaluated_params=dict(entry.values),
            experiment_tag=entry.name,
            trial_id=entry.key,
        )

    def _next_entry(self) -> Entry | None:
        if self._waiting:
            entry = self._waiting.pop(0)
            return self._ledger.update(entry.key, state="open", reason=None)
        if self._used_up or len(self._ledger) >= self._num_trials:
            return None
        values = self._proposer.propose(self._ledger.entries())
        if values is None:
            self._used_up = True
            return None
        return self._ledger.add(values)

    def on_trial_complete(
        self, trial_id: str, result: Mapping[str, Any] | None = None, error: bool = False
    ) -> None:
        self._running.discard(trial_id)
