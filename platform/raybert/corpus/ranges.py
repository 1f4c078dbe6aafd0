"""Pieces of a corpus that tasks work on: whole documents, found by the task that reads them.

The driver cuts by size alone and reads no text (of parquet files, the footers). A large file is cut
into ranges, small files are bundled into one; a compressed file is one range, however large, and
is streamed.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

from raybert.corpus.parquet import row_group_bytes
from raybert.corpus.sources import Source
from raybert.storage import checksum_of_bytes

# What compressed text roughly grows to; only bundles of small files look at it.
_EXPANSION: Final = 4
_FOOTER_READERS: Final = 16


@dataclass(frozen=True)
class Segment:
    """A part of one file.

    Attributes:
        start, end: bytes; row groups of a parquet file; of a compressed file always the whole.
        text_bytes: about how much text it holds, where that is known before reading.
    """

    source: Source
    start: int
    end: int
    text_bytes: int


@dataclass(frozen=True)
class TextRange:
    """What one task reads, by its name `SSSSS-PPPPP`: number of the first file, part of it."""

    name: str
    segments: tuple[Segment, ...]

    @property
    def text_bytes(self) -> int:
        return sum(segment.text_bytes for segment in self.segments)

    @property
    def fingerprint(self) -> str:
        """32 hexadecimal digits that name this text: the files' fingerprints and the bounds."""
        parts = (f"{s.source.fingerprint} {s.start} {s.end}" for s in self.segments)
        return checksum_of_bytes("\n".join(parts).encode())


def plan_ranges(
    sources: Sequence[Source], range_bytes: int, text_column: str
) -> tuple[TextRange, ...]:
    """The corpus in ranges of about `range_bytes` of text, in the order of the sources.

    Raises:
        UserError: a parquet file without the text column.
        InvalidContent: a file that is no parquet file.
    """
    ranges: list[TextRange] = []
    bundle: list[Segment] = []
    name = ""
    for number, segments in enumerate(_segments(sources, range_bytes, text_column)):
        if len(segments) == 1 and segments[0].text_bytes < range_bytes:
            if bundle and _size(bundle) + segments[0].text_bytes > range_bytes:
                ranges.append(TextRange(name, tuple(bundle)))
                bundle = []
            name = name if bundle else _name(number, 0)
            bundle += segments
            continue
        if bundle:
            ranges.append(TextRange(name, tuple(bundle)))
            bundle = []
        ranges += [TextRange(_name(number, part), (s,)) for part, s in enumerate(segments)]
    if bundle:
        ranges.append(TextRange(name, tuple(bundle)))
    return tuple(ranges)


def _name(source: int, part: int) -> str:
    return f"{source:05d}-{part:05d}"


def _size(segments: Sequence[Segment]) -> int:
    return sum(segment.text_bytes for segment in segments)


def _segments(
    sources: Sequence[Source], range_bytes: int, text_column: str
) -> Iterator[list[Segment]]:
    with ThreadPoolExecutor(_FOOTER_READERS) as pool:
        groups = pool.map(
            lambda s: row_group_bytes(s.location, text_column) if s.format == "parquet" else [],
            sources,
        )
        for source, sizes in zip(sources, groups, strict=True):
            if source.format == "parquet":
                yield _group_segments(source, sizes, range_bytes)
            elif source.compression is not None:
                yield [Segment(source, 0, source.num_bytes, source.num_bytes * _EXPANSION)]
            else:
                yield _byte_segments(source, range_bytes)


def _byte_segments(source: Source, range_bytes: int) -> list[Segment]:
    """Equal parts, so that no worker ends up with a long last one."""
    size = source.num_bytes
    count = max(1, math.ceil(size / range_bytes))
    bounds = [size * i // count for i in range(count + 1)]
    return [Segment(source, start, end, end - start) for start, end in itertools.pairwise(bounds)]


def _group_segments(source: Source, sizes: Sequence[int], range_bytes: int) -> list[Segment]:
    segments: list[Segment] = []
    first, held = 0, 0
    for group, size in enumerate(sizes):
        if group > first and held + size > range_bytes:
            segments.append(Segment(source, first, group, held))
            first, held = group, 0
        held += size
    segments.append(Segment(source, first, len(sizes), held))
    return segments
