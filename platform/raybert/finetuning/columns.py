"""Which columns hold texts and labels: named by the settings, or guessed where one fits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from raybert.errors import UserError
from raybert.settings import DataSettings

_LABELS = (
    "label", "labels", "class", "category", "target", "y", "sentiment", "score", "rating", "stars",
    "tags", "tag", "ner_tags", "pos_tags", "output", "intent", "topic",
)  # fmt: skip
_TEXTS = (
    "text", "texts", "sentence", "review", "content", "body", "comment", "tweet", "utterance",
    "message", "document", "title", "question", "query", "words", "tokens", "input",
)  # fmt: skip
_PAIRS = (
    ("sentence1", "sentence2"), ("premise", "hypothesis"), ("question1", "question2"),
    ("question", "passage"), ("question", "sentence"), ("question", "context"),
    ("question", "answer"), ("query", "passage"), ("query", "document"), ("text_a", "text_b"),
    ("text1", "text2"), ("text", "pair"), ("text", "text_pair"), ("title", "body"),
)  # fmt: skip


@dataclass(frozen=True)
class Columns:
    """The columns in use.

    Attributes:
        text: of texts, or of lists of words.
        pair: of second texts, or None.
        labels: one, or for multi-label several of 0 and 1.
        guessed: role to column of those that no setting named.
    """

    text: str
    pair: str | None
    labels: tuple[str, ...]
    guessed: Mapping[str, str]

    @property
    def all(self) -> tuple[str, ...]:
        return (self.text, *(() if self.pair is None else (self.pair,)), *self.labels)


def choose_columns(file: object, schema: pa.Schema, settings: DataSettings) -> Columns:
    """The columns of a training file.

    Names are compared without regard to case. A column is guessed only where exactly one has a
    usual name, or exactly one of its type is left.

    Args:
        file: named in messages.
        schema: of the file, in which the columns that settings name are known to be.

    Raises:
        UserError: a column has to be named; with the columns there are.
    """
    names = schema.names
    guessed: dict[str, str] = {}
    labels = settings.label_columns
    if not labels:
        label = settings.label_column
        if label is None:
            taken = (settings.text_column, settings.pair_column)
            label = _only(names, _LABELS, taken) or _last_left(names, settings)
            if label is None:
                raise _unclear(file, names, "label", "data.label_column")
            guessed["label"] = label
        labels = (label,)
    text, pair = settings.text_column, settings.pair_column
    if text is None:
        if pair is None and (both := _pair_of(names, labels)) is not None:
            text, pair = both
            guessed |= {"text": text, "pair": pair}
        else:
            text = _only(names, _TEXTS, (*labels, pair)) or _only_text(schema, (*labels, pair))
            if text is None:
                raise _unclear(file, names, "text", "data.text_column")
            guessed["text"] = text
    _refuse_twice(text, pair, labels)
    return Columns(text, pair, labels, guessed)


def _only(names: Sequence[str], usual: Sequence[str], taken: Sequence[str | None]) -> str | None:
    found = [name for name in names if name.lower() in usual and name not in taken]
    return found[0] if len(found) == 1 else None


def _last_left(names: Sequence[str], settings: DataSettings) -> str | None:
    """The label of a file with one more column than the texts that settings name."""
    texts = {settings.text_column, settings.pair_column} - {None}
    left = [name for name in names if name not in texts]
    return left[0] if texts and len(left) == 1 else None


def _pair_of(names: Sequence[str], labels: Sequence[str]) -> tuple[str, str] | None:
    by_lower = {name.lower(): name for name in names if name not in labels}
    found = [
        (by_lower[first], by_lower[second])
        for first, second in _PAIRS
        if first in by_lower and second in by_lower
    ]
    return found[0] if len(found) == 1 else None


def _only_text(schema: pa.Schema, taken: Sequence[str | None]) -> str | None:
    found = [field.name for field in schema if field.name not in taken and _is_text(field.type)]
    return found[0] if len(found) == 1 else None


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _unclear(file: object, names: Sequence[str], what: str, setting: str) -> UserError:
    return UserError(
        f"{file}: which column holds the {what}s is not clear; set --{setting} to one of "
        f"{', '.join(map(repr, names))}"
    )


def _refuse_twice(text: str, pair: str | None, labels: Sequence[str]) -> None:
    used = [text, *([pair] if pair else []), *labels]
    twice = next((name for name in used if used.count(name) > 1), None)
    if twice is not None:
        raise UserError(
            f"column {twice!r} can't be two things: text, pair and label have their own"
        )
