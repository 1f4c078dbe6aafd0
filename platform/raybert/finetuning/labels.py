"""Labels as files have them, and as numbers a model learns.

A label is its text: 1, 1.0 and "1" are the label "1", true is "true".
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from raybert.errors import UserError
from raybert.settings.data import Task

_SHOWN = 8
_MOST_CLASSES_SHARE = 0.5
_IMBALANCED = 10


@dataclass(frozen=True)
class Vocabulary:
    """The labels of a task; empty for regression.

    Attributes:
        names: label texts, in the order of their ids.
    """

    names: tuple[str, ...]

    @property
    def ids(self) -> dict[str, int]:
        return {name: i for i, name in enumerate(self.names)}


def label_text(value: object) -> str:
    """A label's name, however its file writes it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).strip()


def guess_task(file: object, column: str, values: pa.ChunkedArray | pa.Array) -> Task:
    """The task that a label column speaks of.

    Numbers with a fractional part are a regression's, lists a multi-label task's (the caller knows
    lists of words), anything else names classes.

    Raises:
        UserError: it could be free text, or numbers of either kind.
    """
    kind = values.type
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return "multi_label"
    present = [value for value in values.to_pylist() if value is not None]
    numbers = [number for value in present if (number := as_number(value)) is not None]
    distinct = len({label_text(value) for value in present})
    all_numbers = len(numbers) == len(present) > 0
    if all_numbers and any(math.isfinite(n) and n != int(n) for n in numbers):
        return "regression"
    if distinct > 2 and distinct > _MOST_CLASSES_SHARE * len(present):
        hint = "regression or classification" if all_numbers else "classification or multi_label"
        raise UserError(
            f"{file}: column {column!r} has {distinct:,} different values in {len(present):,} "
            f"rows, few for labels of classes; if that is right, set --data.task ({hint})"
        )
    return "classification"


def as_number(value: object) -> float | None:
    """The number that a value is or spells; None if it is none."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return float(value)
    try:
        return float(str(value))
    except ValueError:
        return None


def build_vocabulary(texts: Mapping[str, int]) -> Vocabulary:
    """Labels in their order: numbers by value, others by code point."""
    names = list(texts)
    if all(as_number(name) is not None for name in names):
        return Vocabulary(tuple(sorted(names, key=lambda name: (float(name), name))))
    return Vocabulary(tuple(sorted(names)))


def refuse_single_class(file: object, counts: Mapping[str, int]) -> None:
    """Raises:
    UserError: there is nothing to tell apart.
    """
    if len(counts) < 2:
        found = f"one class only, {next(iter(counts))!r}" if counts else "no label"
        raise UserError(f"{file} has {found}: two at least are needed to learn to tell them apart")


def refuse_unseen(file: object, found: Mapping[str, int], vocabulary: Vocabulary) -> None:
    """Raises:
    UserError: labels that the training rows don't have, counted.
    """
    unseen = {name: count for name, count in found.items() if name not in vocabulary.ids}
    if unseen:
        shown = ", ".join(f"{name!r} ({count})" for name, count in list(unseen.items())[:_SHOWN])
        more = ", …" if len(unseen) > _SHOWN else ""
        known = ", ".join(map(repr, vocabulary.names[:_SHOWN]))
        raise UserError(
            f"{file} has labels that no training row has: {shown}{more}; known are {known}"
            + (", …" if len(vocabulary.names) > _SHOWN else "")
        )


def targets_of(file: object, column: str, values: Sequence[object], rows: np.ndarray) -> np.ndarray:
    """Regression targets: float32 (N,).

    Args:
        rows: number of each value's row in the file, from 0.

    Raises:
        UserError: values that are no numbers or not finite, with the first row.
    """
    numbers = [as_number(value) for value in values]
    wrong = [i for i, n in enumerate(numbers) if n is None or not math.isfinite(n)]
    if wrong:
        first = wrong[0]
        raise UserError(
            f"{file}: {len(wrong)} of {len(values)} targets in column {column!r} are no finite "
            f"numbers, the first in row {rows[first] + 1}: {values[first]!r}"
        )
    return np.asarray(numbers, dtype=np.float32)


def imbalance(counts: Mapping[str, int]) -> str | None:
    """What to say where the commonest label is much more frequent than the rarest."""
    if len(counts) < 2:
        return None
    ordered = Counter(counts).most_common()
    (most, n_most), (least, n_least) = ordered[0], ordered[-1]
    if n_most < _IMBALANCED * max(n_least, 1):
        return None
    return (
        f"imbalanced: {most!r} is {n_most / max(n_least, 1):,.0f} times as frequent as {least!r} "
        f"({n_most:,} and {n_least:,}); see finetuning.class_weights and judge by macro_f1"
    )


def balanced_weights(counts: Sequence[int]) -> np.ndarray:
    """Loss weights N / (C n_c), whose mean over the training rows is 1: float32 (C,).

    King and Zeng 2001, "Logistic regression in rare events data"; the same as scikit-learn's
    class_weight="balanced".
    """
    number = np.maximum(np.asarray(counts, dtype=np.float64), 1)
    return (number.sum() / (len(number) * number)).astype(np.float32)


def split_labels(value: Any, separator: str) -> list[str]:
    """The labels of one row of a multi-label column: a list, or text with separators."""
    if isinstance(value, str):
        return [part.strip() for part in value.split(separator) if part.strip()]
    return [label_text(item) for item in value if item is not None]
