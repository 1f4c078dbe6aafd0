"""csv and tsv: the header, and rows as columns of strings."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.csv as pacsv

from raybert.errors import InvalidContent, UserError

_SHOWN_CHARACTERS = 60


def names_of(header: str, delimiter: str, *, quoted: bool) -> list[str]:
    """The names of the columns; one without a name is called by its place, `column 1`."""
    quoting = csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE
    names = next(csv.reader([header], delimiter=delimiter, quoting=quoting))
    return [name.strip() or f"column {place}" for place, name in enumerate(names, start=1)]


def refuse_names(file: str, names: Sequence[str]) -> None:
    """Raises:
    UserError: a name that stands twice.
    """
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise UserError(f"{file}: its first line names the column {twice[0]!r} twice")


def parse(
    file: str,
    data: bytes,
    names: Sequence[str],
    delimiter: str,
    *,
    quoted: bool,
    first_row: int,
) -> pa.RecordBatch:
    """Rows in UTF-8, without a header, as strings.

    Raises:
        InvalidContent: a row with more or fewer fields than there are names.
    """
    refused: list[pacsv.InvalidRow] = []

    def refuse(row: pacsv.InvalidRow) -> str:
        refused.append(row)
        return "error"

    try:
        table = pacsv.read_csv(
            pa.BufferReader(data),
            read_options=pacsv.ReadOptions(
                use_threads=False, column_names=list(names), block_size=len(data) + 1
            ),
            parse_options=pacsv.ParseOptions(
                delimiter=delimiter,
                quote_char='"' if quoted else False,
                newlines_in_values=quoted,
                invalid_row_handler=refuse,
            ),
            convert_options=pacsv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.string()),
                null_values=[""],
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
                check_utf8=False,
            ),
        )
    except pa.ArrowInvalid as error:
        if not refused:
            raise InvalidContent(f"{file}: behind row {first_row}: {error}") from error
        row = refused[0]
        number = "" if row.number is None else f", row {first_row + row.number}"
        text = row.text if len(row.text) <= _SHOWN_CHARACTERS else row.text[:57] + "…"
        raise InvalidContent(
            f"{file}{number} has {row.actual_columns} fields, its header {row.expected_columns}: "
            f"{text!r}"
        ) from error
    (batch,) = table.combine_chunks().to_batches() or [_empty(names)]
    return batch


def _empty(names: Sequence[str]) -> pa.RecordBatch:
    return pa.record_batch([pa.array([], pa.string())] * len(names), names=list(names))
