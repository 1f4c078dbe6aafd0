"""How good predictions are: torchmetrics by task, and seqeval's entities.

Legend: U units (rows, or labelled words), C outputs.
"""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from raybert.errors import UserError
from raybert.settings.data import Task
from raybert.settings.finetuning import Metric

_DEFAULTS: Final[dict[Task, Metric]] = {
    "classification": "macro_f1",
    "multi_label": "macro_f1",
    "regression": "pearson",
    "tokens": "entity_f1",
}
_LOWER_IS_BETTER: Final = ("loss", "mean_squared_error")
_CHUNK_PREFIXES: Final = ("B-", "I-", "E-", "S-", "L-", "U-")


def choose_metric(task: Task, asked: str, label_names: Sequence[str] = ()) -> Metric:
    """The metric that versions are compared by.

    Raises:
        UserError: the task doesn't have it.
    """
    if asked == "auto":
        if task == "tokens" and label_names and not are_chunks(label_names):
            return "macro_f1"  # tags of single words, such as parts of speech
        return _DEFAULTS[task]
    for metric in METRICS[task]:
        if metric == asked:
            return metric
    raise UserError(
        f"finetuning.metric {asked} is none of the task {task}; it has: {', '.join(METRICS[task])}"
    )


def is_better(metric: str, value: float, best: float | None) -> bool:
    """Whether a figure beats the best one so far; NaN beats nothing."""
    if math.isnan(value):
        return False
    if best is None or math.isnan(best):
        return True
    return value < best if metric in _LOWER_IS_BETTER else value > best


def losses(task: Task, outputs_UC: Tensor, targets: Tensor) -> Tensor:
    """The loss of every unit, mean over its outputs: float32 (U,)."""
    if task in ("classification", "tokens"):
        return F.cross_entropy(outputs_UC, targets, reduction="none")
    if task == "multi_label":
        loss = F.binary_cross_entropy_with_logits(outputs_UC, targets, reduction="none")
        return loss.mean(dim=1)
    return F.mse_loss(outputs_UC.squeeze(1), targets, reduction="none")


def predicted(task: Task, outputs_UC: Tensor) -> Tensor:
    """Class ids (U,), 0 and 1 per label (U, C), or numbers (U,)."""
    if task in ("classification", "tokens"):
        return outputs_UC.argmax(dim=1)
    if task == "multi_label":
        return (outputs_UC > 0).long()
    return outputs_UC.squeeze(1)


@dataclass(frozen=True)
class Outputs:
    """What metrics are computed from.

    Attributes:
        values_UC: logits, or numbers of a regression, float32 on the CPU.
        targets: (U,) or (U, C), as `LabelledRows.targets` gives them.
        label_names: by id.
        units_N1: where each row's units begin.
    """

    values_UC: Tensor
    targets: Tensor
    label_names: Sequence[str]
    units_N1: np.ndarray

    @property
    def num_rows(self) -> int:
        return len(self.units_N1) - 1

    def take(self, rows: np.ndarray) -> Outputs:
        """Those of some rows, of which some may stand there twice."""
        length = np.diff(self.units_N1)[rows]
        ends = np.cumsum(length)
        start = np.repeat(self.units_N1[:-1][rows] - (ends - length), length)
        units = torch.from_numpy(np.arange(int(ends[-1])) + start)
        units_N1 = np.concatenate([[0], ends])
        return Outputs(self.values_UC[units], self.targets[units], self.label_names, units_N1)


def measure(task: Task, outputs: Outputs, metrics: Sequence[str] = ()) -> dict[str, float]:
    """Metrics of the task, all of them by default; NaN where one is not defined."""
    with warnings.catch_warnings():
        # Classes without a row, constant predictions: a figure of 0 or NaN says it, too.
        warnings.simplefilter("ignore")
        return {
            name: function(outputs) if name != "loss" else _loss(task, outputs)
            for name, function in _FUNCTIONS[task].items()
            if not metrics or name in metrics
        }


def _loss(task: Task, outputs: Outputs) -> float:
    return float(losses(task, outputs.values_UC, outputs.targets).mean())


def _of_classes(name: str, *arguments: object) -> Callable[[Outputs], float]:
    """A function of torchmetrics over classes; imported when first needed, it takes a second."""

    def compute(outputs: Outputs) -> float:
        from torchmetrics.functional import classification

        chances_UC = outputs.values_UC.softmax(dim=1)
        num_classes = chances_UC.shape[1]
        function = getattr(classification, f"multiclass_{name}")
        return float(function(chances_UC, outputs.targets, num_classes, *arguments))

    return compute


def _of_labels(name: str, **arguments: object) -> Callable[[Outputs], float]:
    """The same over labels of which several may be right."""

    def compute(outputs: Outputs) -> float:
        from torchmetrics.functional import classification

        chances_UC = outputs.values_UC.sigmoid()
        function = getattr(classification, f"multilabel_{name}")
        targets_UC = outputs.targets.long()
        return float(function(chances_UC, targets_UC, chances_UC.shape[1], **arguments))

    return compute


def _of_numbers(name: str) -> Callable[[Outputs], float]:
    """The same over numbers, in double precision."""

    def compute(outputs: Outputs) -> float:
        from torchmetrics.functional import regression

        if outputs.num_rows < 2:
            return math.nan
        numbers_U = outputs.values_UC.squeeze(1).double()
        return float(getattr(regression, name)(numbers_U, outputs.targets.double()))

    return compute


def _entity_f1(outputs: Outputs) -> float:
    """Micro F1 over whole entities, as conlleval counts them (seqeval's default mode)."""
    from seqeval.metrics import f1_score

    right, guessed = tag_rows(outputs)
    return float(f1_score(right, guessed, zero_division=0))  # pyright: ignore[reportArgumentType]


def _never(outputs: Outputs) -> float:
    raise AssertionError  # measure takes the loss by its own function


_FUNCTIONS: Final[dict[Task, dict[Metric, Callable[[Outputs], float]]]] = {
    "classification": {
        "loss": _never,
        "accuracy": _of_classes("accuracy", "micro"),
        "macro_f1": _of_classes("f1_score", "macro"),
        "micro_f1": _of_classes("f1_score", "micro"),
        "matthews": _of_classes("matthews_corrcoef"),
        "auroc": _of_classes("auroc"),
    },
    "multi_label": {
        "loss": _never,
        "exact_match": _of_labels("exact_match"),
        "macro_f1": _of_labels("f1_score", average="macro"),
        "micro_f1": _of_labels("f1_score", average="micro"),
        "auroc": _of_labels("auroc"),
    },
    "regression": {
        "loss": _never,
        "pearson": _of_numbers("pearson_corrcoef"),
        "spearman": _of_numbers("spearman_corrcoef"),
        "mean_squared_error": _of_numbers("mean_squared_error"),
    },
    "tokens": {
        "loss": _never,
        "entity_f1": _entity_f1,
        "token_accuracy": _of_classes("accuracy", "micro"),
        "macro_f1": _of_classes("f1_score", "macro"),
    },
}

METRICS: Final[dict[Task, tuple[Metric, ...]]] = {t: tuple(f) for t, f in _FUNCTIONS.items()}
"""What each task is measured by."""


def tag_rows(outputs: Outputs) -> tuple[list[list[str]], list[list[str]]]:
    """The right and the guessed tags of every row."""
    bounds = list(itertools.pairwise(outputs.units_N1.tolist()))
    rows = []
    for ids_U in (outputs.targets, outputs.values_UC.argmax(dim=1)):
        names = [outputs.label_names[i] for i in ids_U.tolist()]
        rows.append([names[begin:end] for begin, end in bounds])
    return rows[0], rows[1]


def are_chunks(label_names: Sequence[str]) -> bool:
    """Whether tags mark entities (B-, I-, …, O), so that whole entities can be counted."""
    return any(name.startswith(_CHUNK_PREFIXES) for name in label_names)
