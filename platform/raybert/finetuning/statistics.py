"""How sure a figure is: spread over seeds, and a bootstrap interval over rows and seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from raybert.finetuning.metrics import Outputs, measure
from raybert.settings.data import Task

_CONFIDENCE = 0.95
_LEAST_RESAMPLES, _MOST_RESAMPLES = 100, 1000
# So many outputs are looked at for an interval, whatever the number of rows.
_BUDGET = 20_000_000


@dataclass(frozen=True)
class Interval:
    """A 95 % interval."""

    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.low:.4f} to {self.high:.4f}"


def mean_and_std(values: Sequence[float]) -> tuple[float, float]:
    """Mean, and the standard deviation of a sample (n - 1); NaN for a single value."""
    mean = math.fsum(values) / len(values)
    if len(values) < 2:
        return mean, math.nan
    return mean, math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (len(values) - 1))


def bootstrap(task: Task, metric: str, outputs: Sequence[Outputs], seed: int = 0) -> Interval:
    """The percentile interval of a metric's mean over runs (Efron and Tibshirani 1993, chapter 13).

    Each resample draws as many rows as there are, the same for all runs, and as many runs as there
    are, both with replacement: so the interval holds the chance of the rows and, with several
    runs, that of the seed.

    Args:
        outputs: of each run, on the same rows.
        seed: of the resampling.
    """
    random = np.random.default_rng(seed)
    num_rows, num_runs = outputs[0].num_rows, len(outputs)
    fitting = _BUDGET // max(1, num_rows * num_runs)
    values = []
    for _ in range(min(_MOST_RESAMPLES, max(_LEAST_RESAMPLES, fitting))):
        rows = random.integers(num_rows, size=num_rows)
        runs, counts = np.unique(random.integers(num_runs, size=num_runs), return_counts=True)
        figures = [measure(task, outputs[run].take(rows), [metric])[metric] for run in runs]
        values.append(float(np.average(figures, weights=counts)))
    tail = (1 - _CONFIDENCE) / 2
    finite = np.asarray(values)[np.isfinite(values)]
    if len(finite) == 0:
        return Interval(math.nan, math.nan)
    low, high = np.quantile(finite, [tail, 1 - tail])
    return Interval(float(low), float(high))
