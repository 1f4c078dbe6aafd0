"""jsonl: an object per line; its keys are the columns."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any, Final

import pyarrow as pa

from raybert.errors import InvalidContent
from raybert.tables.rows import require_utf8

_SURROGATE: Final = re.compile(r"\\u[dD][89a-fA-F]")

Row = dict[str, Any]


def parse(file: str, data: bytes, first_line: int) -> list[Row]:
    """The objects of these lines; blank ones are passed over.

    Raises:
        InvalidContent: a line that is not one JSON object in UTF-8.
    """
    require_utf8(file, data, first_line)
    rows: list[Row] = []
    for number, line in enumerate(data.decode().split("\n"), start=first_line):
        if not line or line.isspace():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            reason = error.msg if isinstance(error, json.JSONDecodeError) else error
            raise InvalidContent(f"{file}: line {number} is not JSON: {reason}") from error
        if not isinstance(row, dict):
            raise InvalidContent(
                f"{file}: line {number}: expected a JSON object, found {type(row).__name__}"
            )
        if _SURROGATE.search(line):
            _refuse_half_pairs(file, number, row)
        rows.append(row)
    return rows


def _refuse_half_pairs(file: str, number: int, row: Row) -> None:
    try:
        json.dumps(row, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise InvalidContent(
            f"{file}: line {number} holds half of a surrogate pair, which is no character"
        ) from error


def schema_of(file: str, rows: Sequence[Row], first_row: int) -> pa.Schema:
    """The columns of these rows, in the order in which they come up.

    Raises:
        InvalidContent: a column of values whose types don't fit each other.
    """
    names = dict.fromkeys(name for row in rows for name in row)
    columns = {name: [row.get(name) for row in rows] for name in names}
    return pa.schema([(n, _array(file, n, v, None, first_row).type) for n, v in columns.items()])


def joined(file: str, schema: pa.Schema, more: pa.Schema) -> pa.Schema:
    """Raises:
    InvalidContent: a column whose types don't fit each other.
    """
    try:
        return pa.unify_schemas([schema, more], promote_options="permissive")
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise InvalidContent(f"{file}: values of different types in one column: {error}") from error


def settled(schema: pa.Schema) -> pa.Schema:
    """Columns of nothing but nulls as strings."""
    return pa.schema(
        [(f.name, pa.string() if pa.types.is_null(f.type) else f.type) for f in schema]
    )


def to_batch(file: str, rows: Sequence[Row], schema: pa.Schema, first_row: int) -> pa.RecordBatch:
    """Rows as columns; what a row lacks is null.

    Raises:
        InvalidContent: a value that is not of its column's type.
    """
    arrays = [
        _array(file, field.name, [row.get(field.name) for row in rows], field.type, first_row)
        for field in schema
    ]
    if not arrays:
        return pa.RecordBatch.from_struct_array(pa.array([{}] * len(rows), pa.struct([])))
    return pa.record_batch(arrays, schema=schema)


def _array(
    file: str, name: str, values: list[Any], kind: pa.DataType | None, first_row: int
) -> pa.Array:
    try:
        return pa.array(values, kind)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError) as error:
        place = _first_unfit(values, kind)
        raise InvalidContent(
            f"{file}, row {first_row + place + 1}: {name!r} is {_shown(values[place])}, which "
            f"doesn't fit the values before it ({str(error).splitlines()[0]})"
        ) from error


def _first_unfit(values: list[Any], kind: pa.DataType | None) -> int:
    """The end of the shortest beginning that makes no column, by halving."""
    low, high = 0, len(values)
    while high - low > 1:
        middle = (low + high) // 2
        try:
            pa.array(values[:middle], kind)
            low = middle
        except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
            high = middle
    return low


def _shown(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 40 else f"{text[:39]}…"
