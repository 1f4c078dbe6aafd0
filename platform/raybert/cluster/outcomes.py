"""What the rows of a Ray Data job come back with.

Tasks and actors give a person's mistake back as a value: an exception would be retried, and its
message buried in Ray's own.
"""

from __future__ import annotations

import logging
import pickle
from collections.abc import Iterator
from typing import Any

import ray.data

from raybert.errors import UserError

# The column that a task fills.
OUTCOME = "outcome"


def as_user_error(error: UserError | OSError) -> UserError:
    """The mistake as a task gives it back; a file that can't be had is one, too."""
    if isinstance(error, UserError):
        return error
    return UserError(f"a file can't be read or written: {error}")


def outcome_batch(*outcomes: object) -> dict[str, list[bytes]]:
    """The batch of rows that a task gives back."""
    return {OUTCOME: [pickle.dumps(outcome) for outcome in outcomes]}


def outcomes_of(dataset: ray.data.Dataset) -> Iterator[Any]:
    """The outcomes of a dataset's rows, in any order, as they come.

    Raises:
        UserError: the first that is one.
    """
    _quiet()
    dataset.context.enable_progress_bars = False
    for row in dataset.iter_rows():
        outcome = pickle.loads(row[OUTCOME])
        if isinstance(outcome, UserError):
            raise outcome
        yield outcome


def _quiet() -> None:
    """Ray Data's own news stay in its log file; the job shows progress itself."""
    for handler in logging.getLogger("ray.data").handlers:
        if isinstance(handler, logging.StreamHandler):
            handler.setLevel(logging.ERROR)
