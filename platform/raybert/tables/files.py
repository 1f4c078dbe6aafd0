"""Which files hold the rows, and how each is read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from raybert.errors import UserError
from raybert.storage import Location
from raybert.storage.compression import (
    COMPRESSION_SUFFIXES,
    Compression,
    compression_of,
    without_compression,
)
from raybert.storage.listing import FoundFile, find_files

TableFormat = Literal["csv", "tsv", "jsonl", "parquet", "txt"]

_FORMATS: Final[dict[str, TableFormat]] = {
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
    for path in paths:
        listing = find_files(path, setting)
        found = list(listing.files)
        if listing.is_folder and format == "auto":
            found = [file for file in found if _format_of(file.location.name)]
        if not found:
            what = f"is a folder without a file of {_known()}" if listing.is_folder else None
            raise UserError(f"{setting}: {path} {what or 'matches no file'}")
        for file in found:
            files[file.location.address] = _table_file(file, setting, format, delimiter)
    return tuple(files[address] for address in sorted(files))


def _table_file(
    file: FoundFile,
    setting: str,
    format: Literal["auto"] | TableFormat,
    delimiter: str | None,
) -> TableFile:
    name = file.location.name
    known = _format_of(name) if format == "auto" else format
    if known is None:
        raise UserError(
            f"{setting}: the name of {file.location} doesn't tell its format; known: {_known()}"
        )
    compression = compression_of(name)
    if known == "parquet" and compression is not None:
        raise UserError(
            f"{setting}: {file.location}: parquet compresses by itself and is read by parts; "
            f"unpack the {compression} around it"
        )
    return TableFile(
        location=file.location,
        format=known,
        compression=compression,
        delimiter=delimiter or ("\t" if known == "tsv" else ","),
        num_bytes=file.num_bytes,
        fingerprint=file.fingerprint,
    )


def _format_of(name: str) -> TableFormat | None:
    name = without_compression(name)
    return next((f for suffix, f in _FORMATS.items() if name.endswith(suffix)), None)


def _known() -> str:
    return f"{', '.join(_FORMATS)} (text also with {' or '.join(COMPRESSION_SUFFIXES)})"
