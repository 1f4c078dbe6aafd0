"""Where the rows of a text file end: at a line's end that stands in no quoted field.

A field is quoted when its first character is a quote (RFC 4180); a quote inside of one is doubled.
Any other quote is a character like the rest (`5" pipe`). Blank lines are no rows of csv, tsv and
jsonl files; in a txt file every line is a row.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from raybert.errors import InvalidContent

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
# Beyond this a quote was hardly meant to be one, and a task could not hold the row.
MAX_ROW_BYTES = 64 << 20

_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")


class BrokenQuotes(InvalidContent):
    """A quoted field that doesn't end before a delimiter or a line's end, or not at all."""


@dataclass(frozen=True)
class Rows:
    """Whole rows of a file.

    Attributes:
        data: the bytes of the rows, blank lines among them.
        ends: int64, per row the offset in `data` behind its line's end.
        lines: int64, per row the number of lines in `data` up to its end.
    """

    data: bytes
    ends: np.ndarray
    lines: np.ndarray


class RowScanner:
    """Cuts the blocks of a file at the ends of rows.

    Args:
        file: named in messages.
        delimiter: between fields, where fields may be quoted; None where quotes mean nothing.
        keep_blank: whether a blank line is a row.
    """

    def __init__(
        self,
        file: str,
        delimiter: str | None,
        keep_blank: bool,
        max_row_bytes: int = MAX_ROW_BYTES,
    ) -> None:
        self._file = file
        self._quoted = None if delimiter is None else _quoted_field(delimiter)
        self._after = frozenset(b"\r\n" + (delimiter or "").encode())
        self._keep_blank = keep_blank
        self._max_row_bytes = max_row_bytes
        self._line = 1

    def scan(self, blocks: Iterable[bytes]) -> Iterator[Rows]:
        """The rows of the file; the last one needs no line's end.

        Raises:
            BrokenQuotes: with the line.
            InvalidContent: a row longer than `max_row_bytes`.
        """
        window = b""
        for block in blocks:
            window += block
            rows = self._complete_rows(window, at_end=False)
            if rows is None:
                if len(window) > self._max_row_bytes:
                    raise InvalidContent(
                        f"{self._file}: the row that begins in line {self._line} is longer than "
                        f"{self._max_row_bytes >> 20} MiB: is there a quote that is never closed?"
                    )
                continue
            window = window[len(rows.data) :]
            yield rows
        if window:
            rows = self._complete_rows(window, at_end=True)
            assert rows is not None  # all of the window is a row
            yield rows

    def _complete_rows(self, window: bytes, *, at_end: bool) -> Rows | None:
        data = np.frombuffer(window, dtype=np.uint8)
        newlines = np.flatnonzero(data == ord("\n"))
        ends = newlines + 1
        if self._quoted is not None:
            ends = ends[self._outside_quotes(window, newlines, at_end)]
        if at_end and (len(ends) == 0 or ends[-1] < len(window)):
            ends = np.append(ends, len(window))
        if len(ends) == 0:
            return None
        lines = np.searchsorted(newlines, ends - 1, side="right")
        if at_end and window[-1:] != b"\n":
            lines[-1] = len(newlines) + 1
        last, num_lines = int(ends[-1]), int(lines[-1])
        if not self._keep_blank:
            starts = np.concatenate([np.zeros(1, dtype=ends.dtype), ends[:-1]])
            rows = ~_blank(data, starts, ends)
            ends, lines = ends[rows], lines[rows]
        self._line += num_lines
        return Rows(window[:last], ends, lines)

    def _outside_quotes(self, window: bytes, newlines: np.ndarray, at_end: bool) -> np.ndarray:
        """Which of these line ends stand in no quoted field."""
        assert self._quoted is not None
        outside = np.ones(len(newlines), dtype=bool)
        for field in self._quoted.finditer(window):
            start, end = field.span()
            closed = field[1] is not None
            if end == len(window) and not at_end:
                closed = False  # a quote at the end may be half of a doubled one
            elif not closed:
                raise BrokenQuotes(
                    f"{self._file}: the quote of line {self._line_at(window, start)} is never "
                    "closed"
                )
            elif end < len(window) and window[end] not in self._after:
                raise BrokenQuotes(
                    f"{self._file}: line {self._line_at(window, end)}: a quoted field goes on "
                    "behind its closing quote; a quote inside of a quoted field is doubled"
                )
            if not closed or b"\n" in field[0]:
                outside[slice(*np.searchsorted(newlines, [start, end]))] = False
        return outside

    def _line_at(self, window: bytes, place: int) -> int:
        return self._line + window.count(b"\n", 0, place)


def _quoted_field(delimiter: str) -> re.Pattern[bytes]:
    before = re.escape(delimiter.encode())
    begin = rb"(?:\A|(?<=" + before + rb"|\r|\n))"
    return re.compile(begin + rb'"[^"]*+(?:""[^"]*+)*+(?:(")|\Z)')


def _blank(data: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Which lines hold nothing but their end, `\\n` or `\\r\\n`."""
    bare = data[ends - 1] == ord("\n")
    lengths = ends - starts - bare
    return (lengths == 0) | ((lengths == 1) & (data[starts] == ord("\r")))


def without_mark(file: str, blocks: Iterable[bytes]) -> Iterator[bytes]:
    """The blocks of a file without the byte order mark at its beginning.

    Raises:
        InvalidContent: the mark is that of UTF-16.
    """
    first = True
    for block in blocks:
        if first and block.startswith(_UTF16_MARKS):
            raise InvalidContent(f"{file}: it looks like UTF-16; save it as UTF-8")
        yield block.removeprefix(BYTE_ORDER_MARK) if first else block
        first = False


def require_utf8(file: str, data: bytes, first_line: int) -> None:
    """Raises:
    InvalidContent: with the line.
    """
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = first_line + data.count(b"\n", 0, error.start)
        raise InvalidContent(
            f"{file}: line {line} is not UTF-8 (0x{data[error.start]:02x}, {error.reason}): save "
            "the file as UTF-8"
        ) from error
