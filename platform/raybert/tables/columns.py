"""Whether the columns that settings name are there, and hold what they should."""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa
import pyarrow.compute as pc

from raybert.errors import InvalidContent, UserError
from raybert.settings.fields import nearest
from raybert.tables.table import Table

_SHOWN_NAMES = 12


def require_columns(table: Table, wanted: Mapping[str, str | None]) -> None:
    """Looks for the columns that settings name.

    Args:
        wanted: setting to column; None: not asked for.

    Raises:
        UserError: one isn't there; the nearest is named.
    """
    names = table.schema.names
    for setting, column in wanted.items():
        if column is None or column in names:
            continue
        shown = ", ".join(map(repr, names[:_SHOWN_NAMES])) + (
            ", …" if len(names) > _SHOWN_NAMES else ""
        )
        raise UserError(
            f"{table}: no column {column!r} ({setting}); it has {shown}"
            f"{nearest(column, names)}{_delimiter_hint(table)}"
        )


def _delimiter_hint(table: Table) -> str:
    """A file with one column only was perhaps written with another delimiter."""
    if table.file.format not in ("csv", "tsv") or len(table.schema.names) != 1:
        return ""
    others = [mark for mark in ",;\t|" if mark != table.file.delimiter]
    found = next((mark for mark in others if mark in table.schema.names[0]), None)
    return f"; is {found!r} the delimiter, not {table.file.delimiter!r}?" if found else ""


def text_column(table: Table, batch: pa.RecordBatch, column: str, first_row: int) -> pa.Array:
    """A column of a batch as strings.

    Args:
        first_row: of the batch in the table, from 0.

    Raises:
        UserError: the column holds something else.
        InvalidContent: a text of a parquet file is not UTF-8.
    """
    values = batch.column(column)
    kind = values.type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if not (
        pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    ):
        raise UserError(f"{table}: column {column!r} is {kind}, not text")
    texts = values if values.type == pa.string() else pc.cast(values, pa.string())
    try:
        texts.validate(full=True)
    except pa.ArrowInvalid as error:
        raise InvalidContent(
            f"{table.place(first_row + _first_broken(texts))}: {column!r} is not UTF-8"
        ) from error
    return texts


def _first_broken(texts: pa.Array) -> int:
    for place, value in enumerate(texts.cast(pa.binary()).to_pylist()):
        try:
            (value or b"").decode()
        except UnicodeDecodeError:
            return place
    return 0
