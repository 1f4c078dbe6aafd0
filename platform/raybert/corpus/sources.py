"""Which files a corpus is made of: paths, folders and globs (`find_files`), listed once, sorted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from raybert.errors import UserError
from raybert.storage import Location, checksum_of_bytes
from raybert.storage.compression import (
    COMPRESSION_SUFFIXES,
    Compression,
    compression_of,
    without_compression,
)
from raybert.storage.listing import FoundFile, find_files

Format = Literal["txt", "jsonl", "parquet"]

_FORMATS: Final[dict[str, Format]] = {
    ".txt": "txt",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
}
_SETTING: Final = "corpus.paths"


@dataclass(frozen=True)
class Source:
    """One file of the corpus.

    Attributes:
        num_bytes: size of the file as stored, so before decompression.
        fingerprint: of address, size and time of change; another one means another content.
    """

    location: Location
    format: Format
    compression: Compression | None
    num_bytes: int
    fingerprint: str

    def __str__(self) -> str:
        return str(self.location)


def list_sources(paths: Sequence[str], format: Literal["auto"] | Format) -> tuple[Source, ...]:
    """The files that `paths` name, sorted by address, each once.

    Folders are searched at any depth for files of a known kind (with `format="auto"`) or for all
    files but hidden ones and those that begin with `_`.

    Raises:
        UserError: a path that isn't there, matches nothing or can't be listed, a file whose format
            its name doesn't tell, or no text at all.
    """
    files: dict[str, Source] = {}
    for path in paths:
        for source in _sources_of(path, format):
            files[source.location.address] = source
    sources = tuple(files[address] for address in sorted(files))
    if not any(source.num_bytes for source in sources):
        raise UserError(f"corpus.paths: the corpus is empty: {', '.join(paths)} hold no byte")
    return sources


def fingerprint_of_sources(sources: Sequence[Source]) -> str:
    """32 hexadecimal digits that name these files with their present content."""
    return checksum_of_bytes("\n".join(s.fingerprint for s in sources).encode())


def _sources_of(path: str, format: Literal["auto"] | Format) -> list[Source]:
    listing = find_files(path, _SETTING)
    files = list(listing.files)
    if listing.is_folder:
        files = [f for f in files if format != "auto" or _format_of(f.location.name)]
        if not files:
            raise UserError(
                f"corpus.paths: {path} is a folder without "
                f"{'a file of ' + _known() if format == 'auto' else 'files'}"
            )
    if not files:
        raise UserError(f"corpus.paths: {path} matches no file")
    return [_source(file, format) for file in files]


def _source(file: FoundFile, format: Literal["auto"] | Format) -> Source:
    name = file.location.name
    known = _format_of(name) if format == "auto" else format
    if known is None:
        raise UserError(
            f"corpus.paths: the name of {file.location} doesn't tell its format; known: "
            f"{_known()}; or set corpus.format"
        )
    compression = compression_of(name)
    if known == "parquet" and compression is not None:
        raise UserError(
            f"corpus.paths: {file.location}: parquet compresses by itself and is read by parts; "
            f"unpack the {compression} around it"
        )
    return Source(
        location=file.location,
        format=known,
        compression=compression,
        num_bytes=file.num_bytes,
        fingerprint=file.fingerprint,
    )


def _format_of(name: str) -> Format | None:
    name = without_compression(name)
    return next((f for suffix, f in _FORMATS.items() if name.endswith(suffix)), None)


def _known() -> str:
    return f"{', '.join(_FORMATS)} (text also with {' or '.join(COMPRESSION_SUFFIXES)})"
