"""Files that are compressed as a whole, told by their names and read as if they were not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Literal

import pyarrow as pa

from raybert.errors import InvalidContent
from raybert.storage.location import Location

Compression = Literal["gzip", "zstd"]

COMPRESSION_SUFFIXES: Final[dict[str, Compression]] = {".gz": "gzip", ".zst": "zstd"}


def compression_of(name: str) -> Compression | None:
    """How a file of this name is compressed."""
    return next((c for s, c in COMPRESSION_SUFFIXES.items() if name.lower().endswith(s)), None)


def without_compression(name: str) -> str:
    """The name, in lower case, that the file would have uncompressed."""
    name = name.lower()
    for suffix in COMPRESSION_SUFFIXES:
        name = name.removesuffix(suffix)
    return name


def read_blocks(
    location: Location, compression: Compression | None, start: int, block_bytes: int
) -> Iterator[bytes]:
    """The decompressed bytes of a file from `start` on, in blocks.

    Of a compressed file what lies before `start` is decompressed and dropped.

    Raises:
        InvalidContent: the compressed data are damaged or cut off.
    """
    with location.open_input_file() as file:
        if compression is None:
            file.seek(start)
            while block := file.read(block_bytes):
                yield block
            return
        with pa.CompressedInputStream(file, compression) as stream:
            dropped = 0
            while True:
                try:
                    block = stream.read(block_bytes)
                except OSError as error:
                    raise InvalidContent(f"{location}: not whole {compression}: {error}") from error
                if not block:
                    return
                if dropped + len(block) > start:
                    yield block[max(0, start - dropped) :]
                dropped += len(block)
