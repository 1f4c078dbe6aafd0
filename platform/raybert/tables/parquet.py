"""parquet: the footer, and rows by their numbers."""

from __future__ import annotations

from collections import Counter

import pyarrow as pa
import pyarrow.parquet as pq

from raybert.errors import InvalidContent
from raybert.tables.files import TableFile

_READ_BUFFER_BYTES = 1 << 20
_BATCH_ROWS = 8192


def look(file: TableFile) -> tuple[pa.Schema, int]:
    """Columns and number of rows.

    Raises:
        InvalidContent: not a parquet file, or a column twice.
    """
    with _open(file) as opened:
        schema = opened.schema_arrow.remove_metadata()
        twice = [name for name, count in Counter(schema.names).items() if count > 1]
        if twice:
            raise InvalidContent(f"{file} has the column {twice[0]!r} twice")
        return schema, opened.metadata.num_rows


def read_rows(file: TableFile, start: int, end: int, schema: pa.Schema) -> pa.RecordBatch:
    """The rows [start, end) of the columns of `schema`.

    Raises:
        InvalidContent: the file is damaged.
    """
    with _open(file) as opened:
        groups, first = _groups(opened, start, end)
        wanted: list[pa.RecordBatch] = []
        batches = opened.iter_batches(_BATCH_ROWS, groups, schema.names, use_threads=False)
        try:
            for batch in batches:
                begin = max(0, start - first)
                stop = min(batch.num_rows, end - first)
                if begin < stop:
                    wanted.append(batch.slice(begin, stop - begin).select(schema.names))
                first += batch.num_rows
                if first >= end:
                    break
        except (pa.ArrowInvalid, OSError) as error:
            raise InvalidContent(f"{file}: rows from {start + 1} on: damaged: {error}") from error
    table = pa.Table.from_batches(wanted, wanted[0].schema if wanted else schema)
    batches = table.replace_schema_metadata(None).combine_chunks().to_batches()
    return batches[0] if batches else pa.RecordBatch.from_pylist([], schema)


def _groups(opened: pq.ParquetFile, start: int, end: int) -> tuple[list[int], int]:
    """The row groups that hold these rows, and the number of the first row of the first."""
    groups: list[int] = []
    row = first = 0
    for group in range(opened.num_row_groups):
        num_rows = opened.metadata.row_group(group).num_rows
        if row < end and row + num_rows > start:
            if not groups:
                first = row
            groups.append(group)
        row += num_rows
    return groups, first


def _open(file: TableFile) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(
            file.location.open_input_file(), buffer_size=_READ_BUFFER_BYTES, pre_buffer=False
        )
    except pa.ArrowInvalid as error:
        raise InvalidContent(f"{file}: not a parquet file: {error}") from error
