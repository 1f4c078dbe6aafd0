"""Documents of a parquet file: the text column, row by row; a range is a run of row groups."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from raybert.corpus.content import ContentPolicy
from raybert.errors import InvalidContent, UserError
from raybert.storage import Location

# Pages are read as they are needed, so that a row group of any size can be streamed.
_READ_BUFFER_BYTES: Final = 1 << 20
_MAX_BATCH_ROWS: Final = 65_536


def row_group_bytes(location: Location, column: str) -> list[int]:
    """Bytes of text (uncompressed) of every row group; reads the footer alone.

    Raises:
        InvalidContent: not a parquet file.
        UserError: there is no such column, or it holds no strings.
    """
    with _open(location) as file:
        schema = file.schema_arrow
        if column not in schema.names:
            raise UserError(
                f"{location}: no column {column!r} (corpus.text_column); it has "
                f"{', '.join(map(repr, schema.names[:12]))}"
            )
        kind = schema.field(column).type
        if not _is_text(kind):
            raise UserError(f"{location}: column {column!r} is {kind}, not strings")
        return [_text_bytes(file, group, column) for group in range(file.num_row_groups)]


def read_row_groups(
    location: Location,
    groups: range,
    column: str,
    block_bytes: int,
    policy: ContentPolicy,
) -> Iterator[pa.Array]:
    """The texts of these row groups in batches of about `block_bytes`; null is an empty one.

    Raises:
        InvalidContent: a page can't be read, or its text is not UTF-8.
    """
    with _open(location) as file:
        for group in groups:
            rows = max(1, file.metadata.row_group(group).num_rows)
            row_bytes = max(1, _text_bytes(file, group, column) // rows)
            batch_rows = min(_MAX_BATCH_ROWS, max(1, block_bytes // row_bytes))
            first = 0
            for batch in _batches(file, location, group, column, batch_rows):
                texts = _as_strings(batch.column(0)).drop_null()
                yield _validated(texts, f"row group {group}, rows from {first}", policy)
                first += batch.num_rows


def _open(location: Location) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(
            location.open_input_file(), buffer_size=_READ_BUFFER_BYTES, pre_buffer=False
        )
    except pa.ArrowInvalid as error:
        raise InvalidContent(f"{location}: not a parquet file: {error}") from error


def _batches(
    file: pq.ParquetFile, location: Location, group: int, column: str, batch_rows: int
) -> Iterator[pa.RecordBatch]:
    batches = file.iter_batches(batch_rows, [group], [column], use_threads=False)
    while True:
        try:
            batch = next(batches, None)
        except (pa.ArrowInvalid, OSError) as error:
            raise InvalidContent(f"{location}: row group {group} is damaged: {error}") from error
        if batch is None:
            return
        yield batch


def _text_bytes(file: pq.ParquetFile, group: int, column: str) -> int:
    metadata: Any = file.metadata.row_group(group)
    chunks = (metadata.column(i) for i in range(metadata.num_columns))
    return sum(c.total_uncompressed_size for c in chunks if c.path_in_schema == column)


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return any(
        test(kind)
        for test in (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
    )


def _as_strings(column: pa.Array) -> pa.Array:
    return column if column.type == pa.string() else column.cast(pa.string())


def _validated(texts: pa.Array, place: str, policy: ContentPolicy) -> pa.Array:
    """Parquet's strings are whatever bytes their writer put there."""
    try:
        texts.validate(full=True)
    except pa.ArrowInvalid:
        decoded = (policy.text_in(place, t) for t in texts.cast(pa.binary()).to_pylist())
        return pa.array([text for text in decoded if text is not None], pa.string())
    return texts
