"""A corpus: its files, listed and looked into, and the settings that say how they are read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa

from raybert.corpus.content import PassedOver
from raybert.corpus.default import default_corpus
from raybert.corpus.ranges import TextRange, plan_ranges
from raybert.corpus.reading import Reader
from raybert.corpus.sources import Source, list_sources
from raybert.errors import UserError
from raybert.settings import CorpusSettings

# A corpus is cut into this many ranges at least, unless they would be smaller than this.
_MIN_RANGES = 16
_MIN_RANGE_BYTES = 2 << 20


@dataclass(frozen=True)
class Corpus:
    """Text of one's own, or the default corpus where `settings.paths` is empty."""

    settings: CorpusSettings
    sources: tuple[Source, ...]

    @classmethod
    def open(cls, settings: CorpusSettings | None = None) -> Corpus:
        """Lists the files and reads the beginning of one of each kind.

        Raises:
            UserError: paths that name nothing, unknown formats, a missing column, no text.
            InvalidContent: what was read is not text (in UTF-8), JSON lines or parquet.
        """
        settings = settings or CorpusSettings()
        paths = settings.paths or (str(default_corpus()),)
        corpus = cls(settings, list_sources(paths, settings.format))
        corpus._look_inside()
        return corpus

    @property
    def num_bytes(self) -> int:
        """As stored: of compressed files, the compressed size."""
        return sum(source.num_bytes for source in self.sources)

    @property
    def fingerprints(self) -> dict[str, str]:
        """Of every file, by its address."""
        return {str(source): source.fingerprint for source in self.sources}

    @property
    def reader(self) -> Reader:
        return Reader(self.settings.text_column, self.settings.on_invalid)

    def ranges(self) -> tuple[TextRange, ...]:
        """The pieces that tasks work on, in order; of a small corpus smaller ones, for all CPUs."""
        fair_share = max(_MIN_RANGE_BYTES, self.num_bytes // _MIN_RANGES)
        range_bytes = min(int(self.settings.range_mebibytes * 2**20), fair_share)
        return plan_ranges(self.sources, range_bytes, self.settings.text_column)

    def documents(self) -> Iterator[pa.Array]:
        """All documents in order, in batches (string arrays)."""
        passed_over = PassedOver()
        for text_range in self.ranges():
            yield from self.reader.read(text_range, passed_over)

    def _look_inside(self) -> None:
        kinds = {(s.format, s.compression): s for s in reversed(self.sources) if s.num_bytes}
        for source in kinds.values():
            try:
                self.reader.look(source)
            except OSError as error:
                raise UserError(f"{source} can't be read: {error}") from error
