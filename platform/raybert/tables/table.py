"""A file of rows, looked through once: its columns, its number of rows, and where it can be cut."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

import pyarrow as pa

from raybert.errors import InvalidContent, UserError
from raybert.tables import delimited, jsonl, parquet
from raybert.tables.cutting import TablePart, contents, cut, scan
from raybert.tables.files import TableFile, TableFormat, list_tables
from raybert.tables.rows import BrokenQuotes, Rows, require_utf8

TEXT: Final = "text"
"""The column of a txt file."""

ROWS_PER_PART: Final = 8192


@dataclass(frozen=True)
class Table:
    """A file whose rows can be read, as a whole or by parts; small, and picklable.

    Attributes:
        schema: of every part that is read.
        parts: in order; the same for the same file and `rows_per_part`.
        quoted: whether fields may be quoted (a tsv file with stray quotes has none).
    """

    file: TableFile
    schema: pa.Schema
    parts: tuple[TablePart, ...]
    quoted: bool = field(default=False, repr=False)

    def __str__(self) -> str:
        return str(self.file)

    @property
    def num_rows(self) -> int:
        return sum(part.num_rows for part in self.parts)

    def read(self, columns: Sequence[str] | None = None) -> pa.Table:
        """All rows.

        Raises:
            InvalidContent: rows that are broken, with their place.
        """
        batches = list(self.batches(columns))
        return pa.Table.from_batches(batches, _selected(self.schema, columns))

    def batches(self, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        """A batch per part, in order, reading the file once.

        Raises:
            InvalidContent: rows that are broken, with their place.
        """
        if self.file.format == "parquet":
            for part in self.parts:
                yield self.read_part(part, columns)
            return
        for part, data in contents(self.file, self.parts):
            yield self._parsed(part, data, columns)

    def read_part(self, part: TablePart, columns: Sequence[str] | None = None) -> pa.RecordBatch:
        """The rows of one part.

        Raises:
            InvalidContent: rows that are broken, with their place.
        """
        if self.file.format == "parquet":
            schema = _selected(self.schema, columns)
            return parquet.read_rows(self.file, part.start, part.end, schema)
        ((_, data),) = contents(self.file, [part])
        return self._parsed(part, data, columns)

    def place(self, row: int) -> str:
        """What to call a row (from 0) in a message."""
        return f"{self.file}, row {row + 1}"

    def _parsed(
        self, part: TablePart, data: bytes, columns: Sequence[str] | None
    ) -> pa.RecordBatch:
        file, name = self.file, str(self.file)
        if file.format == "jsonl":
            rows = jsonl.parse(name, data, part.first_line)
            schema = _selected(self.schema, columns)
            return jsonl.to_batch(name, rows, schema, part.first_row)
        require_utf8(name, data, part.first_line)
        if file.format == "txt":
            batch = pa.record_batch({TEXT: pa.array(_lines(data.decode()), pa.string())})
        else:
            batch = delimited.parse(
                name,
                data,
                self.schema.names,
                file.delimiter,
                quoted=self.quoted,
                first_row=part.first_row,
            )
        if batch.num_rows != part.num_rows:
            raise InvalidContent(
                f"{file}: {part.num_rows} rows were counted from line {part.first_line} on, and "
                f"{batch.num_rows} read: has it changed, or a bare carriage return in a line?"
            )
        return batch if columns is None else batch.select(list(columns))


def open_tables(
    paths: Sequence[str],
    *,
    setting: str,
    format: Literal["auto"] | TableFormat = "auto",
    delimiter: str | None = None,
    rows_per_part: int = ROWS_PER_PART,
) -> list[Table]:
    """`list_tables`, each one opened.

    Raises:
        UserError: see `list_tables` and `open_table`.
    """
    files = list_tables(paths, setting=setting, format=format, delimiter=delimiter)
    return [open_table(file, rows_per_part) for file in files]


def open_table(file: TableFile, rows_per_part: int = ROWS_PER_PART) -> Table:
    """Looks through a file once; of a parquet file, at its footer alone.

    Raises:
        UserError: no columns, a column twice, a file that can't be read.
        InvalidContent: what can be seen to be broken without parsing every row.
    """
    try:
        match file.format:
            case "parquet":
                return _open_parquet(file, rows_per_part)
            case "jsonl":
                return _open_jsonl(file, rows_per_part)
            case "txt":
                parts = cut(scan(file, quoted=False), rows_per_part)
                return Table(file, pa.schema([(TEXT, pa.string())]), parts)
            case "csv" | "tsv":
                return _open_delimited(file, rows_per_part)
    except OSError as error:
        raise UserError(f"{file} can't be read: {error}") from error


def common_schema(tables: Sequence[Table]) -> pa.Schema:
    """The columns of all tables; a table without one of them has nulls there.

    Raises:
        UserError: a column whose types don't fit each other.
    """
    schema = tables[0].schema
    for table in tables[1:]:
        try:
            schema = pa.unify_schemas([schema, table.schema], promote_options="permissive")
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            raise UserError(f"{table} and {tables[0]} don't fit each other: {error}") from error
    return schema.remove_metadata()


def _selected(schema: pa.Schema, columns: Sequence[str] | None) -> pa.Schema:
    return schema if columns is None else pa.schema([schema.field(name) for name in columns])


def _open_parquet(file: TableFile, rows_per_part: int) -> Table:
    schema, num_rows = parquet.look(file)
    bounds = [*range(0, num_rows, rows_per_part), num_rows]
    parts = tuple(
        TablePart(number, start, end - start, 0, start, end)
        for number, (start, end) in enumerate(itertools.pairwise(bounds))
    )
    return Table(file, schema, parts)


def _open_jsonl(file: TableFile, rows_per_part: int) -> Table:
    parts = cut(scan(file, quoted=False), rows_per_part)
    schema = pa.schema([])
    for part, data in contents(file, parts):
        rows = jsonl.parse(str(file), data, part.first_line)
        schema = jsonl.joined(str(file), schema, jsonl.schema_of(str(file), rows, part.first_row))
    return Table(file, jsonl.settled(schema), parts)


def _open_delimited(file: TableFile, rows_per_part: int) -> Table:
    quoted = True
    try:
        names, parts = _header_and_parts(file, rows_per_part, quoted)
    except BrokenQuotes:
        if file.format == "csv":
            raise
        # Many tsv files are written without quoting, and a quote in them is a quote.
        quoted = False
        names, parts = _header_and_parts(file, rows_per_part, quoted)
    delimited.refuse_names(str(file), names)
    return Table(file, pa.schema([(name, pa.string()) for name in names]), parts, quoted)


def _header_and_parts(
    file: TableFile, rows_per_part: int, quoted: bool
) -> tuple[list[str], tuple[TablePart, ...]]:
    scanned = scan(file, quoted=quoted)
    before: list[Rows] = []
    for rows in scanned:
        before.append(rows)
        if len(rows.ends):
            break
    else:
        raise UserError(f"{file} is empty: it has no line with the names of its columns")
    content = before[-1].data[: int(before[-1].ends[0])].strip(b"\r\n")
    require_utf8(str(file), content, 1)
    header = content.decode()
    names = delimited.names_of(header, file.delimiter, quoted=quoted)
    return names, cut(itertools.chain(before, scanned), rows_per_part, skipped_rows=1)


def _lines(text: str) -> list[str]:
    """Lines end with `\\n` or `\\r\\n` and with nothing else that Unicode calls a line's end."""
    lines = text.split("\n")
    if lines[-1] == "":
        lines.pop()
    return [line.removesuffix("\r") for line in lines]
