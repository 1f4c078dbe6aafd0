"""What is known of tokenized data, besides the data: kept beside them as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from raybert.settings.data import Task

FORMAT = 1


@dataclass(frozen=True)
class SplitFacts:
    """One part of the data.

    Attributes:
        source: its file, or how it was split off.
        num_rows: rows.
        num_tokens: ids of all rows, special tokens included.
        num_cut: rows that lost tokens to the length limit.
        num_left_out: rows left out for an empty text or a missing label.
        num_lost_words: words without a label to learn, of token classification.
        num_seen: rows whose texts are among the training rows too; 0 of the training rows.
        label_counts: label to rows (to words for tokens); empty for regression.
        target_mean, target_std: of a regression, else 0.
    """

    source: str
    num_rows: int
    num_tokens: int
    num_cut: int
    num_left_out: int
    num_lost_words: int
    num_seen: int
    label_counts: Mapping[str, int]
    target_mean: float = 0.0
    target_std: float = 0.0


@dataclass(frozen=True)
class Facts:
    """All of the data.

    Attributes:
        task: what is to be learned.
        label_names: in the order of their ids; empty for regression.
        columns: role ("text", "pair", "label") to column.
        guessed: roles whose column no setting named.
        task_guessed: whether no setting named the task.
        tokenizer: its fingerprint.
        max_length: the limit that texts were cut to.
        splits: train, validation and, if there is one, test.
        notes: what a person should know, a line each.
    """

    task: Task
    label_names: tuple[str, ...]
    columns: Mapping[str, str]
    guessed: tuple[str, ...]
    task_guessed: bool
    tokenizer: str
    max_length: int
    splits: Mapping[str, SplitFacts]
    notes: tuple[str, ...]

    @property
    def num_outputs(self) -> int:
        """Of the head."""
        return 1 if self.task == "regression" else len(self.label_names)

    def to_json(self) -> bytes:
        return json.dumps({"format": FORMAT, **asdict(self)}, indent=1).encode()

    @classmethod
    def from_json(cls, content: bytes) -> Facts:
        values: dict[str, Any] = json.loads(content)
        del values["format"]
        splits = {name: SplitFacts(**split) for name, split in values.pop("splits").items()}
        for name in ("label_names", "guessed", "notes"):
            values[name] = tuple(values[name])
        return cls(splits=splits, **values)

    def lines(self) -> list[str]:
        """For a person, before training starts."""
        told = [f"task        {self.task}{' (guessed)' if self.task_guessed else ''}"]
        columns = ", ".join(
            f"{role} {column!r}{' (guessed)' if role in self.guessed else ''}"
            for role, column in self.columns.items()
        )
        told.append(f"columns     {columns}")
        for name, split in self.splits.items():
            extra = [
                f"{count:,} {what}"
                for count, what in (
                    (split.num_cut, f"cut to {self.max_length} tokens"),
                    (split.num_left_out, "left out as incomplete"),
                    (split.num_lost_words, "words without a label to learn"),
                    (split.num_seen, "with texts of training rows"),
                )
                if count
            ]
            tail = f"; {', '.join(extra)}" if extra else ""
            told.append(
                f"{name:<11} {split.num_rows:,} rows, {split.num_tokens:,} tokens, from "
                f"{split.source}{tail}"
            )
        return [*told, *(f"note        {note}" for note in self.notes)]
