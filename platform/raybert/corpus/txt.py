"""Documents of a plain text file: what stands between blank lines.

A line ends with `\\n`; a blank one holds nothing but ASCII white space (so `\\r\\n` files need no
care). Runs of blank lines count as one.

A range takes the documents whose last blank line before them begins inside it (the first document
of a file belongs to the range at 0). Whether a line begins at `start` shows in the one byte before,
and whether a line is blank shows in the line: so a range is read forward from where it starts, by
itself, and ranges of any size give every document exactly once.

    ...text of another range\\n  \\n First document\\n of ours \\n\\n Second\\n \\n Not ours
          start ────^         ^ this blank line is ours               end ─^  ^ this one is not
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

import numpy as np
import pyarrow as pa

from raybert.corpus.content import BYTE_ORDER_MARK

# A longer document goes on as the next one: it bounds what a task holds (a file without a single
# blank line is one document). Arrow's strings end at 2 GiB.
MAX_DOCUMENT_BYTES: Final = 64 << 20

_IS_SPACE = np.zeros(256, dtype=bool)
_IS_SPACE[list(b" \t\n\r\x0b\x0c")] = True

Documents = tuple[pa.Array, np.ndarray]
"""Binary documents and where each begins in the (decompressed) file, int64."""


def split_documents(
    blocks: Iterable[bytes], start: int, end: int, max_document_bytes: int = MAX_DOCUMENT_BYTES
) -> Iterator[Documents]:
    """The documents of the range [start, end), in order, as they become complete.

    Args:
        blocks: the bytes of the file from `max(start - 1, 0)` on, to its end; no more of them is
            asked for than needed. The sizes of the blocks don't matter.
    """
    scan = _Scan(start, end, max_document_bytes)
    for block in blocks:
        yield from scan.feed(block)
        if scan.finished:
            return
    yield from scan.close()


class _Scan:
    """The window of the file that holds the open document, or else the open line.

    `window[0]` is byte `base` of the file. `document` is where the open document of this range
    begins in the window, after the blank line that makes it ours. `line` is where the last line,
    not yet ended, begins; None while we are inside a line that began before the window and is not
    blank. A byte order mark reads as white space: so it stays at its place and is no text.
    """

    def __init__(self, start: int, end: int, max_document_bytes: int) -> None:
        self.finished = False
        self._start, self._end = start, end
        self._max_bytes = max_document_bytes
        self._window = b""
        self._base = max(start - 1, 0)
        self._searched = 0
        self._document: int | None = 0 if start == 0 else None
        self._line: int | None = 0 if start == 0 else None
        self._mark_expected = start == 0
        self._mark_bytes = 0

    def feed(self, block: bytes) -> Iterator[Documents]:
        self._window += block
        if self._mark_expected:
            if len(self._window) < len(BYTE_ORDER_MARK):
                return
            self._blank_mark()
        yield from self._scan_window()

    def _scan_window(self) -> Iterator[Documents]:
        starts, afters = self._blank_lines()
        yield from self._documents_between(starts, afters)
        if self._document is not None:
            yield from self._cut_open_document()
        self._forget()

    def close(self) -> Iterator[Documents]:
        """At the end of the file the open document is complete."""
        if self._mark_expected:  # the whole file is shorter than a mark, and not scanned yet
            self._mark_expected = False
            yield from self._scan_window()
        if self._document is not None:
            yield from self._emit([(self._document, len(self._window))])
            self._document = None

    def _blank_mark(self) -> None:
        self._mark_expected = False
        if self._window.startswith(BYTE_ORDER_MARK):
            self._mark_bytes = len(BYTE_ORDER_MARK)
            self._window = b" " * self._mark_bytes + self._window[self._mark_bytes :]

    def _blank_lines(self) -> tuple[np.ndarray, np.ndarray]:
        """Begin and end of every complete blank line not seen before, in the window."""
        data = np.frombuffer(self._window, dtype=np.uint8)
        newlines = np.flatnonzero(data[self._searched :] == ord("\n")) + self._searched
        self._searched = len(data)
        if len(newlines) == 0:
            return newlines, newlines
        first_line = [] if self._line is None else [self._line]
        begins = np.concatenate([np.array(first_line, dtype=np.int64), newlines[:-1] + 1])
        ends = newlines[1:] if self._line is None else newlines
        self._line = int(newlines[-1]) + 1
        outer_spaces = _IS_SPACE[data[begins]] & _IS_SPACE[data[np.maximum(ends - 1, begins)]]
        blank = np.flatnonzero(outer_spaces)
        # Most blank lines are "\n" or "\r\n"; only what is longer needs a look inside.
        unsure = blank[ends[blank] - begins[blank] > 2]
        full = [i for i in unsure if self._window[begins[i] : ends[i]].strip()]
        blank = np.setdiff1d(blank, full, assume_unique=True)
        return begins[blank], ends[blank] + 1

    def _documents_between(self, starts: np.ndarray, afters: np.ndarray) -> Iterator[Documents]:
        places = starts + self._base
        ours = (places >= self._start) & (places < self._end)
        begins, ends = afters[:-1][ours[:-1]], starts[1:][ours[:-1]]
        if self._document is not None and len(starts):
            begins = np.concatenate([[self._document], begins])
            ends = np.concatenate([starts[:1], ends])
        if len(starts):
            self._document = int(afters[-1]) if ours[-1] else None
            self.finished = bool(places[-1] >= self._end)
        bounds = list(zip(begins.tolist(), ends.tolist(), strict=True))
        yield from self._emit([bound for bound in bounds if bound[0] < bound[1]])

    def _emit(self, bounds: list[tuple[int, int]]) -> Iterator[Documents]:
        """Documents without their last line end; those that are too long in pieces."""
        if any(stop - begin > self._max_bytes for begin, stop in bounds):
            bounds = [piece for bound in bounds for piece in self._pieces(*bound)]
        if bounds and bounds[0][0] + self._base == 0:
            bounds[0] = (min(self._mark_bytes, bounds[0][1]), bounds[0][1])
        documents = [self._window[begin:stop].rstrip(b"\r\n") for begin, stop in bounds]
        kept = [i for i, document in enumerate(documents) if document and not document.isspace()]
        if kept:
            offsets = np.array([bounds[i][0] + self._base for i in kept], dtype=np.int64)
            yield pa.array([documents[i] for i in kept], pa.binary()), offsets

    def _pieces(self, begin: int, stop: int) -> Iterator[tuple[int, int]]:
        while stop - begin > self._max_bytes:
            cut = self._cut(begin)
            yield begin, cut
            begin = cut
        yield begin, stop

    def _cut(self, begin: int) -> int:
        """Where the piece that begins here ends: after a line, else a blank, else a character."""
        stop = begin + self._max_bytes
        for mark in (b"\n", b" "):
            at = self._window.rfind(mark, begin, stop)
            if at >= 0:
                return at + 1
        while stop > begin + 1 and self._window[stop] & 0xC0 == 0x80:
            stop -= 1
        return stop

    def _cut_open_document(self) -> Iterator[Documents]:
        assert self._document is not None
        # A last line that is blank so far may turn out to end the document.
        known = len(self._window)
        if self._line is not None and not self._window[self._line :].strip():
            known = self._line
        while known - self._document > self._max_bytes:
            cut = self._cut(self._document)
            yield from self._emit([(self._document, cut)])
            self._document = cut
        if self._line is not None and self._line < self._document:
            self._line = None

    def _forget(self) -> None:
        """Drops what no document of ours needs any more."""
        if self._document is not None:
            keep = self._document
        elif self._line is not None and not self._window[self._line :].strip():
            keep = self._line
        else:
            # Inside a line that is not blank and not ours.
            keep, self._line = len(self._window), None
        self._window = self._window[keep:]
        self._base += keep
        self._searched -= keep
        if self._document is not None:
            self._document = 0
        if self._line is not None:
            self._line -= keep
        if self._document is None and self._base >= self._end:
            self.finished = True
