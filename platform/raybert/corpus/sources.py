"""Which files a corpus is made of: paths, folders and globs (`find_files`), listed once, sorted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from raybert.errors import UserError
from raybert.storage import Location, checksum_of_bytes
from raybert.storage.compression import Compression
from raybert.storage.formats import FileFormats

Format = Literal["txt", "jsonl", "parquet"]

_FORMATS: Final = FileFormats[Format](
    "corpus.paths",
    {".txt": "txt", ".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet"},
    otherwise="; or set corpus.format",
)


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

    Raises:
        UserError: a path that isn't there, matches nothing or can't be listed, a file whose format
            its name doesn't tell, or no text at all.
    """
    files: dict[str, Source] = {}
    for path in paths:
        for found in _FORMATS.find(path, format):
            files[found.file.location.address] = Source(
                location=found.file.location,
                format=found.format,
                compression=found.compression,
                num_bytes=found.file.num_bytes,
                fingerprint=found.file.fingerprint,
            )
    sources = tuple(files[address] for address in sorted(files))
    if not any(source.num_bytes for source in sources):
        raise UserError(f"corpus.paths: the corpus is empty: {', '.join(paths)} hold no byte")
    return sources


def fingerprint_of_sources(sources: Sequence[Source]) -> str:
    """32 hexadecimal digits that name these files with their present content."""
    return checksum_of_bytes("\n".join(s.fingerprint for s in sources).encode())
