"""Live metrics of a run for Prometheus and Grafana, through Ray's metrics agent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from raybert.tracking.row import Row

if TYPE_CHECKING:
    from ray.util.metrics import Gauge

PRETRAINING = {
    "train/loss": ("raybert_train_loss", "loss of the global batch: masked tokens plus pairs"),
    "train/learning_rate": ("raybert_learning_rate", "learning rate of the step"),
    "train/grad_norm": ("raybert_grad_norm", "norm of the gradient before clipping"),
    "eval/loss": ("raybert_eval_loss", "loss on held-out samples"),
    "throughput/tokens_per_sec": ("raybert_tokens_per_second", "real tokens trained per second"),
    "throughput/mfu": ("raybert_mfu", "model FLOPs over the measured peak of the device"),
    "time/data_wait_fraction": ("raybert_data_wait_fraction", "share of time spent on data"),
}

FINETUNING = PRETRAINING | {
    "train/loss": ("raybert_train_loss", "loss of the global batch"),
    "eval/loss": ("raybert_eval_loss", "loss on validation rows"),
    "eval/accuracy": ("raybert_eval_accuracy", "share of validation rows with the right label"),
    "eval/macro_f1": ("raybert_eval_macro_f1", "F1 on validation rows, mean over labels"),
    "eval/pearson": ("raybert_eval_pearson", "correlation with the targets of validation rows"),
    "eval/entity_f1": ("raybert_eval_entity_f1", "F1 of whole entities on validation rows"),
}


class RayMetrics:
    """Sets a gauge per scalar of interest; Prometheus sees them as `ray_<name>`.

    Args:
        run: name of the run, a label of every gauge.
        gauges: scalar to (name, description) of its gauge.
    """

    def __init__(self, run: str, gauges: Mapping[str, tuple[str, str]] = PRETRAINING) -> None:
        self._labels = {"run": run}
        self._step = _gauge("raybert_step", "steps taken")
        self._gauges = {scalar: _gauge(*described) for scalar, described in gauges.items()}

    def resume(self, history: Sequence[Row]) -> None:
        if history:
            self.log(history[-1])

    def log(self, row: Row) -> None:
        self._step.set(row.step, self._labels)
        for scalar, gauge in self._gauges.items():
            if scalar in row.scalars:
                gauge.set(row.scalars[scalar], self._labels)

    def flush(self) -> None:
        """Nothing is held back."""

    def close(self) -> None:
        """Nothing is held open."""


def _gauge(name: str, description: str) -> Gauge:
    from ray.util.metrics import Gauge

    return Gauge(name, description=description, tag_keys=("run",))
