"""Documents of a JSON-lines file: the text column of one object per line.

A line belongs to the range in which it begins. Blank lines are passed over, a null text is an
empty document.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Final

import numpy as np
import pyarrow as pa

from raybert.corpus.content import BYTE_ORDER_MARK, ContentPolicy
from raybert.errors import InvalidContent

# Beyond this a file is hardly JSON lines at all, and a task could not hold it.
MAX_LINE_BYTES: Final = 256 << 20

_SURROGATE: Final = re.compile("[\ud800-\udfff]")


def split_lines(
    blocks: Iterable[bytes],
    start: int,
    end: int,
    file: str,
    max_line_bytes: int = MAX_LINE_BYTES,
) -> Iterator[tuple[list[bytes], list[int]]]:
    """Lines that begin in [start, end), without their `\\n`, and where they begin in the file.

    Args:
        blocks: the bytes of the file from `max(start - 1, 0)` on, as in `txt.split_documents`.

    Raises:
        InvalidContent: a line longer than `max_line_bytes`.
    """
    base, window = max(start - 1, 0), b""
    inside = start > 0  # a line of another range, till its end
    for block in blocks:
        if inside:
            newline = block.find(b"\n")
            if newline < 0:
                base += len(block)
                if base >= end:
                    return
                continue
            base, block, inside = base + newline + 1, block[newline + 1 :], False
        if base >= end:
            return
        complete = block.rfind(b"\n")
        if complete >= 0:
            data = window + block[:complete]
            window, base_next = block[complete + 1 :], base + len(data) + 1
            lines, begins = _lines(data, base)
            count = int(np.searchsorted(begins, end))
            yield lines[:count], begins[:count].tolist()
            base = base_next
        else:
            window += block
        if len(window) > max_line_bytes:
            raise InvalidContent(
                f"{file}: the line that begins at byte {base} is longer than "
                f"{max_line_bytes >> 20} MiB"
            )
    if window and not inside and base < end:
        yield [window], [base]


def _lines(data: bytes, base: int) -> tuple[list[bytes], np.ndarray]:
    newlines = np.flatnonzero(np.frombuffer(data, dtype=np.uint8) == ord("\n"))
    begins = np.concatenate([np.zeros(1, dtype=np.int64), newlines + 1])
    return data.split(b"\n"), begins + base


def parse_lines(
    lines: Iterable[bytes],
    offsets: Iterable[int],
    column: str,
    policy: ContentPolicy,
    line_number_at: Callable[[int], int],
) -> pa.Array:
    """The texts of these lines; broken ones as the policy says.

    Args:
        line_number_at: gives the number, from 1, of the line that begins at a byte; called only to
            name a line that is broken.
    """
    texts: list[str] = []
    for line, offset in zip(lines, offsets, strict=True):
        if offset == 0:
            line = line.removeprefix(BYTE_ORDER_MARK)
        if not line or line.isspace():
            continue
        decoded = policy.text(line, offset)
        if decoded is None:
            continue
        try:
            text = _text_of(decoded, column)
        except _BrokenRow as error:
            where = f"line {line_number_at(offset)}: " if policy.on_invalid == "fail" else ""
            policy.broken(f"{where}{error}")
            continue
        if text:
            texts.append(text)
    return pa.array(texts, pa.string())


class _BrokenRow(Exception):
    """Why a line holds no text."""


def _text_of(line: str, column: str) -> str | None:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise _BrokenRow(f"not JSON: {error.msg} at character {error.pos}") from None
    except (RecursionError, ValueError) as error:  # nested too deeply, a number too long
        raise _BrokenRow(f"JSON that can't be read: {error}") from None
    if not isinstance(row, dict):
        raise _BrokenRow(f"expected a JSON object, found {type(row).__name__}")
    if column not in row:
        raise _BrokenRow(f"no {column!r} (corpus.text_column); it has {_names(row)}")
    text = row[column]
    if text is not None and not isinstance(text, str):
        raise _BrokenRow(f"{column!r} is {type(text).__name__}, not a string")
    if text and _SURROGATE.search(text):
        raise _BrokenRow(f"{column!r} holds half of a surrogate pair, which is no character")
    return text


def _names(row: dict[str, object]) -> str:
    names = [repr(name) for name in list(row)[:8]]
    return ", ".join(names) + (", …" if len(row) > 8 else "") if names else "no keys"
