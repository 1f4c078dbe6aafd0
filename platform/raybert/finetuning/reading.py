"""From files to rows of text and label, with everything a person should know about them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raybert.errors import InvalidContent, UserError
from raybert.finetuning import conll
from raybert.finetuning.columns import Columns, choose_columns
from raybert.finetuning.labels import guess_task
from raybert.settings import DataSettings
from raybert.settings.data import Task
from raybert.storage import Location
from raybert.tables import Table, open_tables, require_columns, text_column

_CONLL_WHEN_TOKENS = (".txt", ".tsv")


@dataclass(frozen=True)
class Rows:
    """Rows of one file that have a text and a label.

    Attributes:
        file: what messages call it.
        text: strings, or lists of words.
        pair: second strings, or None.
        labels: per row what the file has: a value, a list, or None for no label of several.
        number: int64 (N,), each row's number in its file, from 0.
        num_left_out: rows left out for an empty text or a missing label.
    """

    file: str
    text: pa.Array
    pair: pa.Array | None
    labels: list[Any]
    number: np.ndarray
    num_left_out: int

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, places: np.ndarray) -> Rows:
        """Some of the rows, in this order."""
        index = pa.array(places)
        return Rows(
            self.file,
            self.text.take(index),
            None if self.pair is None else self.pair.take(index),
            [self.labels[i] for i in places.tolist()],
            self.number[places],
            self.num_left_out,
        )


@dataclass(frozen=True)
class Source:
    """A file that was looked at and not yet read.

    Attributes:
        name: for messages.
        schema: its columns.
        table: how to read it; None for CoNLL.
        location: of a CoNLL file, else None.
    """

    name: str
    schema: pa.Schema
    table: Table | None
    location: Location | None

    @property
    def place(self) -> Location:
        """The file."""
        place = self.location if self.table is None else self.table.file.location
        assert place is not None  # one of the two is set
        return place

    def columns(self, wanted: Sequence[str]) -> dict[str, pa.ChunkedArray]:
        """Columns by name."""
        table = self.table
        read = conll.read_conll(self.place) if table is None else table.read(list(wanted))
        return {name: read.column(name) for name in wanted}

    def texts(self, column: str) -> pa.ChunkedArray:
        """A column as strings.

        Raises:
            UserError: it holds something else.
        """
        assert self.table is not None  # CoNLL has lists of words
        chunks, first = [], 0
        for batch in self.table.batches([column]):
            chunks.append(text_column(self.table, batch, column, first))
            first += batch.num_rows
        return pa.chunked_array(chunks, pa.string())


def open_source(path: str, setting: str, settings: DataSettings) -> Source:
    """Looks at a file.

    Raises:
        UserError: it isn't there, or can't be read.
    """
    name = path.lower().partition("?")[0]
    tokens = settings.task == "tokens" and name.endswith(_CONLL_WHEN_TOKENS)
    if name.endswith(conll.SUFFIXES) or tokens:
        location = Location.parse(path)
        if not location.is_file():
            raise UserError(f"{setting}: {path} is no file")
        lists = pa.list_(pa.string())
        schema = pa.schema([(conll.WORDS, lists), (conll.TAGS, lists)])
        return Source(path, schema, None, location)
    tables = open_tables([path], setting=setting)
    if len(tables) != 1:
        raise UserError(f"{setting}: {path} names {len(tables)} files; one is needed")
    return Source(path, tables[0].schema, tables[0], None)


def columns_of(source: Source, settings: DataSettings) -> Columns:
    """The columns of a training file, those that settings name looked for first.

    Raises:
        UserError: one isn't there, or has to be named.
    """
    if source.table is None:
        return Columns(conll.WORDS, None, (conll.TAGS,), {})
    wanted = {
        "data.text_column": settings.text_column,
        "data.pair_column": settings.pair_column,
        "data.label_column": settings.label_column,
    }
    require_columns(source.table, wanted)
    for column in settings.label_columns:
        require_columns(source.table, {"data.label_columns": column})
    return choose_columns(source.name, source.schema, settings)


def require_same_columns(source: Source, columns: Columns, setting: str) -> None:
    """Looks in a validation or test file for the columns of the training file.

    Raises:
        UserError: one isn't there.
    """
    if source.table is not None:
        for column in columns.all:
            require_columns(source.table, {f"of the training file, needed in {setting}": column})


def task_of(source: Source, columns: Columns, settings: DataSettings) -> Task:
    """The task that settings name, or that the columns speak of.

    Raises:
        UserError: the columns don't fit the task, or leave it open.
    """
    words = _is_list(source.schema.field(columns.text).type)
    task = settings.task
    if task == "auto":
        if words:
            return "tokens"
        if settings.label_columns:
            return "multi_label"
        (label,) = columns.labels
        return guess_task(source.name, label, source.columns([label])[label])
    if words != (task == "tokens"):
        found = "lists of words" if words else "texts"
        raise UserError(
            f"{source.name}: column {columns.text!r} has {found}; data.task {task} needs "
            f"{'texts' if words else 'lists of words (jsonl or parquet), or a CoNLL file'}"
        )
    if settings.label_columns and task != "multi_label":
        raise UserError(f"data.label_columns are for data.task multi_label, not {task}")
    return task


def read_rows(source: Source, columns: Columns, task: Task, settings: DataSettings) -> Rows:
    """Reads a file; rows without a text or a label are refused or left out, as settings say.

    Raises:
        UserError: such rows, counted, or no row that is whole; lists of unequal length.
        InvalidContent: the file is broken.
    """
    text, pair = _texts(source, columns, task)
    labels = _labels(source, columns, task)
    empty = _is_empty(text) if pair is None else _is_empty(text) | _is_empty(pair)
    unlabelled = np.fromiter(map(_is_missing, labels), dtype=bool, count=len(labels))
    if task == "multi_label":
        unlabelled[:] = False  # none of the labels is an answer
    if task == "tokens":
        _refuse_unequal(source, text, labels)
    if task == "regression":
        unlabelled = np.fromiter((v is None for v in labels), dtype=bool, count=len(labels))
    _refuse_incomplete(source, empty, unlabelled, settings)
    kept = np.flatnonzero(~(empty | unlabelled))
    if len(kept) == 0:
        raise UserError(f"{source.name} has no row with a text and a label")
    whole = Rows(source.name, text, pair, labels, np.arange(len(labels)), len(labels) - len(kept))
    return whole if len(kept) == len(labels) else whole.take(kept)


def _texts(source: Source, columns: Columns, task: Task) -> tuple[pa.Array, pa.Array | None]:
    if task == "tokens":
        words = source.columns([columns.text])[columns.text]
        lists = pa.list_(pa.string())
        words = _one(words if words.type == lists else words.cast(lists))
        if words.flatten().null_count:
            raise UserError(f"{source.name}: column {columns.text!r} has null words")
        return words, None
    pair = None if columns.pair is None else _one(source.texts(columns.pair))
    return _one(source.texts(columns.text)), pair


def _labels(source: Source, columns: Columns, task: Task) -> list[Any]:
    read = source.columns(columns.labels)
    if len(columns.labels) == 1 and not (task == "multi_label" and _all_flags(read)):
        (column,) = read.values()
        return column.to_pylist()
    flags = {name: _flags(source, name, column) for name, column in read.items()}
    rows = zip(*flags.values(), strict=True)
    return [[name for name, on in zip(flags, row, strict=True) if on] for row in rows]


def _all_flags(read: dict[str, pa.ChunkedArray]) -> bool:
    """Whether a single label column is one of 0 and 1 and not of names."""
    (column,) = read.values()
    return pa.types.is_boolean(column.type) or pa.types.is_integer(column.type)


def _flags(source: Source, name: str, column: pa.ChunkedArray) -> list[bool]:
    known = {"0": False, "1": True, "false": False, "true": True}
    flags: list[bool] = []
    for row, value in enumerate(column.to_pylist()):
        text = str(value).strip().lower().removesuffix(".0")
        if text not in known:
            raise UserError(
                f"{source.name}, row {row + 1}: column {name!r} (data.label_columns) is "
                f"{value!r}; 0 or 1 is needed"
            )
        flags.append(known[text])
    return flags


def _is_list(kind: pa.DataType) -> bool:
    return pa.types.is_list(kind) or pa.types.is_large_list(kind)


def _is_empty(texts: pa.Array) -> np.ndarray:
    """bool (N,): null, of blanks only, or a list without a word."""
    if _is_list(texts.type):
        return _list_lengths(texts) == 0
    trimmed = pc.call_function("utf8_trim_whitespace", [texts])
    lengths = pc.call_function("utf8_length", [trimmed])
    return np.asarray(lengths.fill_null(0)) == 0


def _list_lengths(lists: pa.Array) -> np.ndarray:
    """int64 (N,), 0 for a null."""
    lengths = pc.call_function("list_value_length", [lists])
    return np.asarray(lengths.fill_null(0)).astype(np.int64)


def _is_missing(label: object) -> bool:
    if isinstance(label, float):
        return math.isnan(label)
    return label is None or (isinstance(label, str) and not label.strip())


def _refuse_incomplete(
    source: Source, empty: np.ndarray, unlabelled: np.ndarray, settings: DataSettings
) -> None:
    if settings.empty_texts == "skip":
        return
    found = [
        f"{int(where.sum()):,} rows without a {what} (the first is row {int(where.argmax()) + 1})"
        for what, where in (("text", empty), ("label", unlabelled))
        if where.any()
    ]
    if found:
        raise UserError(
            f"{source.name} has {' and '.join(found)}; --data.empty_texts skip leaves them out"
        )


def _refuse_unequal(source: Source, words: pa.Array, tags: Iterable[Any]) -> None:
    lengths = _list_lengths(words).tolist()
    for row, (num_words, row_tags) in enumerate(zip(lengths, tags, strict=True)):
        if num_words == 0 or row_tags is None:
            continue
        if not isinstance(row_tags, list):
            raise UserError(f"{source.name}, row {row + 1}: {row_tags!r} is no list of tags")
        if len(row_tags) != num_words:
            raise InvalidContent(
                f"{source.name}, row {row + 1} has {num_words} words and {len(row_tags)} tags"
            )


def _one(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    if isinstance(column, pa.Array):
        return column
    combined = column.combine_chunks()
    if isinstance(combined, pa.ChunkedArray):  # none, or more than 2 GiB of text
        combined = pa.concat_arrays([c.cast(_large(c.type)) for c in combined.chunks])
    return combined


def _large(kind: pa.DataType) -> pa.DataType:
    return pa.large_string() if pa.types.is_string(kind) else pa.large_list(pa.string())
