"""Where a text file is cut into parts of whole rows, and the bytes of a part."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from raybert.storage.compression import read_blocks
from raybert.tables.files import TableFile
from raybert.tables.rows import Rows, RowScanner, without_mark

MAX_PART_BYTES: Final = 32 << 20
_BLOCK_BYTES: Final = 4 << 20


@dataclass(frozen=True)
class TablePart:
    """Some rows of a file that stand one after the other.

    Attributes:
        first_row: from 0.
        first_line: of its text, from 1; 0 in a parquet file.
        start, end: bytes of the decompressed file; rows of a parquet file.
    """

    number: int
    first_row: int
    num_rows: int
    first_line: int
    start: int
    end: int


def scan(file: TableFile, *, quoted: bool) -> Iterator[Rows]:
    """The rows of a text file, by the blocks in which it is read.

    Raises:
        InvalidContent: see `RowScanner`.
    """
    scanner = RowScanner(
        str(file), file.delimiter if quoted else None, keep_blank=file.format == "txt"
    )
    blocks = read_blocks(file.location, file.compression, 0, _BLOCK_BYTES)
    return scanner.scan(without_mark(str(file), blocks))


def cut(
    scanned: Iterator[Rows], rows_per_part: int, skipped_rows: int = 0
) -> tuple[TablePart, ...]:
    """Parts of so many rows, or fewer where these are long.

    Offsets leave out a byte order mark, as `contents` does.
    """
    return tuple(_Cutter(rows_per_part, skipped_rows).cut(scanned))


class _Cutter:
    def __init__(self, rows_per_part: int, skipped_rows: int) -> None:
        self._rows_per_part = rows_per_part
        self._skipped_rows = skipped_rows

    def cut(self, scanned: Iterator[Rows]) -> Iterator[TablePart]:
        starts, ends, lines = self._bounds(scanned)
        number = first = 0
        while first < len(ends):
            last = min(first + self._rows_per_part, len(ends))
            fitting = int(np.searchsorted(ends, starts[first] + MAX_PART_BYTES, side="right"))
            last = max(first + 1, min(last, fitting))
            yield TablePart(
                number,
                first,
                last - first,
                int(lines[first]),
                int(starts[first]),
                int(ends[last - 1]),
            )
            number, first = number + 1, last

    def _bounds(self, scanned: Iterator[Rows]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Per row: where it begins (blank lines before it included), ends, and its first line."""
        ends, lines = [np.zeros(1, dtype=np.int64)], [np.zeros(1, dtype=np.int64)]
        base = line = 0
        for rows in scanned:
            ends.append(rows.ends + base)
            lines.append(rows.lines + line)
            base += len(rows.data)
            line += rows.data.count(b"\n")
        all_ends, all_lines = np.concatenate(ends), np.concatenate(lines)
        skipped = self._skipped_rows
        return all_ends[skipped:-1], all_ends[skipped + 1 :], all_lines[skipped:-1] + 1


def contents(file: TableFile, parts: Sequence[TablePart]) -> Iterator[tuple[TablePart, bytes]]:
    """The bytes of parts that follow each other."""
    if not parts:
        return
    mark = _mark_bytes(file)
    start, window = parts[0].start, b""
    blocks = read_blocks(file.location, file.compression, start + mark, _BLOCK_BYTES)
    for part in parts:
        pieces = [window]
        held = start + len(window)
        while held < part.end and (block := next(blocks, b"")):
            pieces.append(block)
            held += len(block)
        window = b"".join(pieces)
        yield part, window[part.start - start : part.end - start]
        window, start = window[part.end - start :], part.end


def _mark_bytes(file: TableFile) -> int:
    block = next(read_blocks(file.location, file.compression, 0, 16), b"")
    return len(block) - sum(map(len, without_mark(str(file), [block])))
