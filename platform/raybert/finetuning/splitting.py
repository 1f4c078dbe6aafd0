"""Which rows are learned from and which are held out: a function of a seed and the rows' places."""

from __future__ import annotations

import numpy as np

from raybert.errors import UserError
from raybert.finetuning.reading import Rows
from raybert.samples.counter_hash import derive_key, shuffled
from raybert.settings import DataSettings
from raybert.settings.data import Task

_LIMIT, _SPLIT = range(2)


def limit_rows(rows: Rows, settings: DataSettings) -> Rows:
    """At most data.max_rows of the rows, drawn evenly and kept in order."""
    most = settings.max_rows
    if most is None or len(rows) <= most:
        return rows
    return rows.take(np.sort(_shuffled(settings.split_seed, _LIMIT, len(rows))[:most]))


def split_off(
    rows: Rows, labels: list[list[str]], task: Task, settings: DataSettings
) -> tuple[Rows, Rows]:
    """Training and validation rows; for classification each class gives the same share.

    A class of one row stays in training. Other tasks are split evenly at random.

    Args:
        labels: of each row.

    Raises:
        UserError: too few rows.
    """
    order = _shuffled(settings.split_seed, _SPLIT, len(rows))
    if task == "classification":
        held_out = _stratified(order, [row[0] for row in labels], settings.validation_share)
    else:
        held_out = order[: round(settings.validation_share * len(rows))]
    if len(held_out) == 0 or len(held_out) == len(rows):
        raise UserError(
            f"{rows.file} has {len(rows)} rows; data.validation_share "
            f"{settings.validation_share:g} leaves nothing to learn from or to validate with: name "
            "a --data.validation file"
        )
    is_held_out = np.zeros(len(rows), dtype=bool)
    is_held_out[held_out] = True
    return rows.take(np.flatnonzero(~is_held_out)), rows.take(np.flatnonzero(is_held_out))


def _stratified(order: np.ndarray, labels: list[str], share: float) -> np.ndarray:
    by_class: dict[str, list[int]] = {}
    for place in order.tolist():
        by_class.setdefault(labels[place], []).append(place)
    held_out: list[int] = []
    for places in by_class.values():
        count = max(1, round(share * len(places))) if len(places) > 1 else 0
        held_out += places[: min(count, len(places) - 1)]
    return np.asarray(held_out, dtype=np.int64)


def _shuffled(seed: int, purpose: int, count: int) -> np.ndarray:
    return shuffled(derive_key(seed, purpose), np.arange(count, dtype=np.uint64))
