"""Between Ray Tune and the ledger: what trials say is committed before anything follows from it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ray.tune import Callback, Stopper

from raybert.tuning.ledger import Entry, Evaluation, Ledger
from raybert.tuning.scheduling import EPOCH, EVAL, IS_LAST, STEP
from raybert.tuning.trial import BEGAN, FAILED, HALT, NUM_STEPS, SECONDS, reason_of

if TYPE_CHECKING:
    from ray.tune.experiment import Trial

_STOPPED_BY_SCHEDULER = "stopped early by the scheduler"


class Recorder(Callback):
    """Writes the ledger as Tune's trials go on and end.

    Args:
        ledger: of the sweep.
        closed: called with each trial that is done, once the ledger has it.

    Attributes:
        running: keys of the trials that are being trained.
        halt: why the sweep can't go on, if a trial found out.
    """

    def __init__(self, ledger: Ledger, closed: Callable[[Entry], None]) -> None:
        self._ledger = ledger
        self._closed = closed
        self._last: set[str] = set()
        self._began: dict[str, tuple[float, float]] = {}
        self.running: frozenset[str] = frozenset()
        self.halt: str | None = None

    def result(self, key: str, result: dict[str, Any]) -> bool:
        """Commits a result, before the scheduler sees it.

        Returns:
            Whether it has figures to decide by.
        """
        if HALT in result:
            self.halt = self.halt or result[HALT]
        if FAILED in result:
            self._close(key, "failed", result[FAILED])
        if STEP not in result:
            return False
        metrics = {
            name.removeprefix(EVAL): float(value)
            for name, value in result.items()
            if name.startswith(EVAL)
        }
        if result[IS_LAST]:
            self._last.add(key)
        entry = self._ledger[key]
        if any(known.step == result[STEP] for known in entry.evaluations):
            return False  # told again after a restart; it was decided then
        evaluation = Evaluation(result[STEP], result[EPOCH], metrics)
        self._ledger.evaluated(
            key,
            evaluation,
            num_steps=result[NUM_STEPS],
            seconds=self._seconds_before(entry, result[BEGAN]) + result[SECONDS],
        )
        return True

    def _seconds_before(self, entry: Entry, began: float) -> float:
        """What the trial had trained for when its process began with it this time."""
        if self._began.get(entry.key, (0.0, 0.0))[0] != began:
            self._began[entry.key] = (began, entry.seconds)
        return self._began[entry.key][1]

    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        self.running = frozenset(t.trial_id for t in trials if t.status == t.RUNNING)

    def on_trial_complete(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        key = trial.trial_id
        if self.halt is not None or self._ledger[key].state != "open":
            return
        if key in self._last:
            self._close(key, "finished", None)
        else:
            self._close(key, "stopped", _STOPPED_BY_SCHEDULER)

    def on_trial_error(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        error = trial.get_pickled_error()
        reason = "its process died" if error is None else reason_of(error)
        self._close(trial.trial_id, "failed", reason)

    def _close(self, key: str, state: str, reason: str | None) -> None:
        self._closed(self._ledger.update(key, state=state, reason=reason))


class StopAll(Stopper):
    """Ends the sweep when asked to: trials that are running stay open in the ledger."""

    def __init__(self, asked: Callable[[], bool]) -> None:
        self._asked = asked

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        return self._asked()

    def __reduce__(self) -> tuple[Any, ...]:
        """Tune writes the stopper into its snapshot, which is never restored."""
        return (StopAll, (bool,))
