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

import rust_tok

# A longer document goes on as the next one: it bounds what a task holds (a file without a single
# blank line is one document). Arrow's strings end at 2 GiB.
MAX_DOCUMENT_BYTES: Final = 64 << 20

# What the steps from text to ids hand on stays in a core's cache.
_BATCH_BYTES: Final = 1 << 20

Documents = tuple[pa.Array, np.ndarray]
"""Documents, binary where not all are UTF-8, and where each begins in the (decompressed) file."""


def split_documents(
    blocks: Iterable[bytes], start: int, end: int, max_document_bytes: int = MAX_DOCUMENT_BYTES
) -> Iterator[Documents]:
    """The documents of the range [start, end), in order, as they become complete.

    Args:
        blocks: the bytes of the file from `max(start - 1, 0)` on, to its end; no more of them is
            asked for than needed. The sizes of the blocks don't matter.
    """
    splitter = rust_tok.DocumentSplitter(start, end, max_document_bytes)
    for block in blocks:
        for at in range(0, len(block), _BATCH_BYTES):
            yield from _documents(splitter.feed(block[at : at + _BATCH_BYTES]))
            if splitter.finished:
                return
    yield from _documents(splitter.close())


def _documents(found: rust_tok.ArrowColumn) -> Iterator[Documents]:
    if len(found):
        text, places = pa.array(found).flatten()
        yield text, places.to_numpy()
