"""Documents of a plain text file: what stands between blank lines.

A line ends with `\n`; a blank one holds nothing but ASCII white space (so `\\r\\n` files need no
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
_IS_LINE_END = np.zeros(256, dtype=bool)
_IS_LINE_END[list(b"\r\n")] = True
# So many bytes of line ends are taken off many documents at once; what has more, one by one.
_USUAL_LINE_ENDS: Final = 4

# Scanned at a time: what fits a core's cache is looked through three times as fast.
_SCAN_BYTES: Final = 1 << 20

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
        for at in range(0, len(block), _SCAN_BYTES):
            yield from scan.feed(block[at : at + _SCAN_BYTES])
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
            yield from self._emit(*_one(self._document, len(self._window)))
            self._document = None

    def _blank_mark(self) -> None:
        self._mark_expected = False
        if self._window.startswith(BYTE_ORDER_MARK):
            self._mark_bytes = len(BYTE_ORDER_MARK)
            self._window = b" " * self._mark_bytes + self._window[self._mark_bytes :]

    def _blank_lines(self) -> tuple[np.ndarray, np.ndarray]:
        """Begin and end of every complete blank line not seen before, in the window."""
        data = np.frombuffer(self._window, dtype=np.uint8)
        searched, self._searched = self._searched, len(data)
        last_newline = self._window.rfind(b"\n", searched)
        if last_newline < 0:
            return _NONE, _NONE
        # Only what is a line of this window's is looked at: its begin is known.
        known = self._line if self._line is not None else self._window.find(b"\n", searched) + 1
        self._line = last_newline + 1
        begins, ends, unsure = _blank_candidates(data, searched)
        for i in np.flatnonzero(unsure & (ends >= known)).tolist():
            begin = max(self._window.rfind(b"\n", known, ends[i]) + 1, known)
            begins[i] = begin
            unsure[i] = bool(self._window[begin : ends[i]].strip())
        blank = ~unsure & (ends >= known)
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
        full = begins < ends
        yield from self._emit(begins[full], ends[full])

    def _emit(self, begins: np.ndarray, ends: np.ndarray) -> Iterator[Documents]:
        """Documents without their last line end; those that are too long in pieces."""
        if len(begins) == 0:
            return
        if (ends - begins).max() > self._max_bytes:
            bounds = zip(begins.tolist(), ends.tolist(), strict=True)
            pieces = [piece for bound in bounds for piece in self._pieces(*bound)]
            begins, ends = np.array(pieces, dtype=np.int64).T
        if begins[0] + self._base == 0:
            begins[0] = min(self._mark_bytes, ends[0])
        data = np.frombuffer(self._window, dtype=np.uint8)
        ends = _without_line_ends(data, begins, ends)
        full = np.flatnonzero(ends > begins)
        # Text that begins and ends with white space may be nothing else.
        unsure = full[_IS_SPACE[data[begins[full]]] & _IS_SPACE[data[ends[full] - 1]]]
        blank = [i for i in unsure if self._window[begins[i] : ends[i]].isspace()]
        full = np.setdiff1d(full, blank, assume_unique=True)
        begins, ends = begins[full], ends[full]
        if len(full):
            places = map(slice, begins.tolist(), ends.tolist())
            text = b"".join(map(self._window.__getitem__, places))
            offsets = np.concatenate([[0], np.cumsum(ends - begins)]).astype(np.int32)
            buffers = [None, pa.py_buffer(offsets), pa.py_buffer(text)]
            yield pa.Array.from_buffers(pa.binary(), len(full), buffers), begins + self._base

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
            yield from self._emit(*_one(self._document, cut))
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


_NONE: Final = np.empty(0, dtype=np.int64)


def _blank_candidates(data: np.ndarray, start: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Lines that end from `start` on and may be blank: begins, ends, and which are unsure.

    Sure are those of a line feed alone, or with a carriage return. An unsure one has white space
    (or a control character) before its end; where it begins isn't known.
    """
    first = max(start - 2, 0)
    before = np.full(2 - (start - first), ord("\n"), dtype=np.uint8)
    data = np.concatenate([before, data[first:]])
    here, one_before, two_before = data[2:], data[1:-1], data[:-2]
    candidates = (here == ord("\n")) & (one_before <= ord(" "))
    candidates &= (one_before != ord("\r")) | (two_before <= ord(" "))
    places = np.flatnonzero(candidates)
    feed = one_before[places] == ord("\n")
    return_and_feed = (one_before[places] == ord("\r")) & (two_before[places] == ord("\n"))
    ends = places + start
    return ends - return_and_feed, ends, ~(feed | return_and_feed)


def _without_line_ends(data: np.ndarray, begins: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """The ends of these pieces of data, line ends before them left out."""
    ends = ends.copy()
    left = np.arange(len(ends))
    for _ in range(_USUAL_LINE_ENDS):
        left = left[ends[left] > begins[left]]
        left = left[_IS_LINE_END[data[ends[left] - 1]]]
        ends[left] -= 1
    for i in left:
        ends[i] = begins[i] + len(data[begins[i] : ends[i]].tobytes().rstrip(b"\r\n"))
    return ends


def _one(begin: int, end: int) -> tuple[np.ndarray, np.ndarray]:
    return np.array([begin], dtype=np.int64), np.array([end], dtype=np.int64)
