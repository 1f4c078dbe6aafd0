"""A range's documents as Arrow strings, in batches, whatever the files are.

Memory is bounded by a few blocks and the longest document (`txt.MAX_DOCUMENT_BYTES`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

import pyarrow as pa

from raybert.corpus import jsonl, parquet, txt
from raybert.corpus.content import ContentPolicy, OnInvalid, PassedOver
from raybert.corpus.ranges import Segment, TextRange
from raybert.corpus.sources import Source
from raybert.storage.compression import read_blocks

BLOCK_BYTES: Final = 4 << 20

# From a local disk a block costs no more when it is small, and what the steps from text to ids hand
# on stays in a core's cache.
_LOCAL_BLOCK_BYTES: Final = 1 << 20

# Enough of a file to see that it is what its name says.
_LOOK_BYTES: Final = 1 << 16
_NO_END: Final = 1 << 62


@dataclass(frozen=True)
class Reader:
    """How documents are read.

    Attributes:
        text_column: of jsonl and parquet files.
        block_bytes: text held at a time, but for a longer document; it changes no result.
    """

    text_column: str = "text"
    on_invalid: OnInvalid = "fail"
    block_bytes: int = BLOCK_BYTES

    def read(self, text_range: TextRange, passed_over: PassedOver) -> Iterator[pa.Array]:
        """Batches of documents (string arrays), in the order of the files.

        Raises:
            InvalidContent: text that is not as it should be, by file and place.
        """
        for segment in text_range.segments:
            yield from self.read_segment(segment, passed_over)

    def read_segment(self, segment: Segment, passed_over: PassedOver) -> Iterator[pa.Array]:
        source = segment.source
        policy = ContentPolicy(str(source), self.on_invalid, passed_over)
        if source.format == "parquet":
            groups = range(segment.start, segment.end)
            yield from parquet.read_row_groups(
                source.location, groups, self.text_column, self.block_bytes, policy
            )
            return
        # A compressed file is one segment, and its bounds are not those of the text.
        start, end = (segment.start, segment.end) if source.compression is None else (0, _NO_END)
        blocks = _blocks(source, max(start - 1, 0), self.block_bytes)
        yield from self._documents(source, blocks, start, end, policy)

    def look(self, source: Source) -> None:
        """Reads the first text of a file, as a check.

        Raises:
            InvalidContent, UserError: it is not what it should be.
        """
        policy = ContentPolicy(str(source), self.on_invalid, PassedOver())
        if source.format == "parquet":
            groups = range(min(1, len(parquet.row_group_bytes(source.location, self.text_column))))
            batches = parquet.read_row_groups(
                source.location, groups, self.text_column, _LOOK_BYTES, policy
            )
            next(batches, None)
            return
        block = next(_blocks(source, 0, _LOOK_BYTES), b"")
        if len(block) == _LOOK_BYTES:
            block = block[: block.rfind(b"\n") + 1]
        for _ in self._documents(source, [block], 0, _NO_END, policy):
            pass

    def _documents(
        self,
        source: Source,
        blocks: Iterable[bytes],
        start: int,
        end: int,
        policy: ContentPolicy,
    ) -> Iterator[pa.Array]:
        if source.format == "txt":
            for documents, offsets in txt.split_documents(blocks, start, end):
                yield policy.texts(documents, offsets)
            return
        for lines, offsets in jsonl.split_lines(blocks, start, end, str(source)):
            yield jsonl.parse_lines(
                lines, offsets, self.text_column, policy, lambda at: _line_number(source, at)
            )


def _blocks(source: Source, start: int, block_bytes: int) -> Iterator[bytes]:
    """The text of a file from byte `start` on."""
    if source.location.is_local:
        block_bytes = min(block_bytes, _LOCAL_BLOCK_BYTES)
    return read_blocks(source.location, source.compression, start, block_bytes)


def _line_number(source: Source, offset: int) -> int:
    """Number, from 1, of the line that begins at this byte: reads the file up to there."""
    number, position = 1, 0
    for block in _blocks(source, 0, BLOCK_BYTES):
        number += block.count(b"\n", 0, max(0, offset - position))
        position += len(block)
        if position >= offset:
            break
    return number
