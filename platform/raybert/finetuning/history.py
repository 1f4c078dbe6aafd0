"""A run's evaluations and its best version, carried from checkpoint to checkpoint."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from raybert.finetuning.metrics import is_better


@dataclass(frozen=True)
class Evaluation:
    """One look at the validation rows.

    Attributes:
        step: steps taken.
        metrics: by name.
    """

    step: int
    metrics: Mapping[str, float]


@dataclass
class History:
    """What was found so far.

    Attributes:
        metric: that versions are compared by.
        patience: evaluations without a better one after which the run is done; None: it goes on.
        evaluations: in order.
        best: the first of those with the best figure; None before any had one.
        ended_early: why the run was over before its last step; None if it wasn't.
    """

    metric: str
    patience: int | None
    evaluations: list[Evaluation] = field(default_factory=list)
    best: Evaluation | None = None
    ended_early: str | None = None

    def add(self, step: int, metrics: Mapping[str, float]) -> None:
        """Takes an evaluation."""
        evaluation = Evaluation(step, dict(metrics))
        self.evaluations.append(evaluation)
        best = None if self.best is None else self.best.metrics[self.metric]
        if self.best is None or is_better(self.metric, metrics[self.metric], best):
            self.best = evaluation
        since = sum(e.step > self.best.step for e in self.evaluations)
        if self.patience is not None and since >= self.patience:
            self.ended_early = (
                f"{self.metric} has not become better than {self.best.metrics[self.metric]:.4f} "
                f"(step {self.best.step:,}) in {since} evaluations"
            )

    def forget_all_but(self, steps: Collection[int]) -> None:
        """Looks for the best among the versions that still have a checkpoint."""
        if self.best is None or self.best.step in steps:
            return
        self.best = None
        for evaluation in self.evaluations:
            best = None if self.best is None else self.best.metrics[self.metric]
            value = evaluation.metrics[self.metric]
            if evaluation.step in steps and (
                self.best is None or is_better(self.metric, value, best)
            ):
                self.best = evaluation

    def at(self, step: int) -> Evaluation | None:
        """The evaluation of a step, if there was one."""
        return next((e for e in self.evaluations if e.step == step), None)

    def to_dict(self) -> dict[str, Any]:
        """For a checkpoint's state; JSON has no NaN, so it becomes None."""
        return {
            "evaluations": [
                {"step": e.step, "metrics": {k: _json(v) for k, v in e.metrics.items()}}
                for e in self.evaluations
            ],
            "best_step": None if self.best is None else self.best.step,
            "ended_early": self.ended_early,
        }

    @classmethod
    def from_dict(cls, metric: str, patience: int | None, stored: Mapping[str, Any]) -> History:
        """What `to_dict` gave."""
        evaluations = [
            Evaluation(
                e["step"],
                {k: float("nan") if v is None else v for k, v in e["metrics"].items()},
            )
            for e in stored["evaluations"]
        ]
        best = next((e for e in evaluations if e.step == stored["best_step"]), None)
        return cls(metric, patience, evaluations, best, stored["ended_early"])


def _json(value: float) -> float | None:
    return value if value == value and abs(value) != float("inf") else None
