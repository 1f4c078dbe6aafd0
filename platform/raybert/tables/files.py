"""Which files hold the rows, and how each is read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from raybert.errors import UserError
from raybert.storage import Location
from raybert.storage.compression import Compression
from raybert.storage.formats import FileFormats

TableFormat = Literal["csv", "tsv", "jsonl", "parquet", "txt"]

_SUFFIXES: Final[dict[str, TableFormat]] = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".txt": "txt",
}


@dataclass(frozen=True)
class TableFile:
    """One file of rows.

    Attributes:
        delimiter: one character between the fields of a csv or tsv file.
        num_bytes: as stored, so before decompression.
        fingerprint: of address, size and time of change; another one means another content.
    """

    location: Location
    format: TableFormat
    compression: Compression | None
    delimiter: str
    num_bytes: int
    fingerprint: str

    def __str__(self) -> str:
        return str(self.location)


def list_tables(
    paths: Sequence[str],
    *,
    setting: str,
    format: Literal["auto"] | TableFormat = "auto",
    delimiter: str | None = None,
) -> tuple[TableFile, ...]:
    """The files that paths, folders and globs name, sorted by address, each once.

    Args:
        setting: that gave the paths, for messages.
        format: of all of them; auto goes by their names.
        delimiter: of csv and tsv files; None: a comma and a tab.

    Raises:
        UserError: a path that isn't there, matches nothing or can't be listed, a file whose format
            its name doesn't tell, a delimiter that is not one character.
    """
    if delimiter is not None and (len(delimiter.encode()) != 1 or delimiter in '"\r\n'):
        raise UserError(f"the delimiter {delimiter!r} is not one ASCII character between fields")
    files: dict[str, TableFile] = {}
    formats = FileFormats[TableFormat](setting, _SUFFIXES)
    for path in paths:
        for found in formats.find(path, format):
            files[found.file.location.address] = TableFile(
                location=found.file.location,
                format=found.format,
                compression=found.compression,
                delimiter=delimiter or ("\t" if found.format == "tsv" else ","),
                num_bytes=found.file.num_bytes,
                fingerprint=found.file.fingerprint,
            )
    return tuple(files[address] for address in sorted(files))
