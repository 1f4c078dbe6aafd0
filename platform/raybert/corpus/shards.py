"""Ranges of a corpus to token shards: all that a task does, in plain Python.

A range becomes one shard; where its text turns out longer than expected (a compressed file, a
document of many ranges), several, each of about the same text. The last one says that it is the
last: so a range is finished when its shards are there up to that one, and a rerun sees it.

A shard is written and flushed to the disk in a thread, while the next one is made.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import pyarrow as pa

import rust_tok
from raybert.corpus.background import Background
from raybert.corpus.content import PassedOver
from raybert.corpus.ranges import TextRange
from raybert.corpus.reading import BLOCK_BYTES, Reader
from raybert.corpus.sentences import document_ids, ids_of, sentences_of
from raybert.errors import UserError
from raybert.settings import CorpusSettings
from raybert.storage import Location, checksum_of_file
from raybert.tokens import ShardEntry, id_type, read_entry, write_shard
from raybert.tokens.format import DOCUMENT_ID_BYTES, SHARD_CHECKSUM, TOKENIZER_NAME

# A shard of an ordinary range holds up to the range and the documents' overhang.
_SHARD_FACTOR = 1.5

LAST = "last_of_range"
SKIPPED = "documents_skipped"
REPLACED = "documents_replaced"
WITHOUT_TOKENS = "documents_without_tokens"
TEXT_BYTES = "text_bytes"


@dataclass(frozen=True)
class ShardMaker:
    """Everything that decides the bytes of the shards; small, and picklable.

    Attributes:
        folder: the token folder; its tokenizer.json is there already.
        tokenizer: its fingerprint.
        settings: fingerprint of settings and tokenizer.
    """

    folder: Location
    corpus: CorpusSettings
    tokenizer: str
    settings: str

    @property
    def range_bytes(self) -> int:
        return int(self.corpus.range_mebibytes * 2**20)

    def make(
        self, ranges: Iterable[TextRange]
    ) -> Iterator[tuple[TextRange, tuple[ShardEntry, ...]]]:
        """Each range's shards, in order: those there already when they are whole, else made now.

        A range is given when its shards are committed. Two shards are held at a time.

        Raises:
            InvalidContent: the text is not as it should be; nothing is left of this shard.
            OSError: no space, no permission, no connection.
        """
        with Background() as writer:
            before: _Begun | None = None
            for text_range in ranges:
                try:
                    begun = self._begin(text_range, writer)
                finally:  # the error of an earlier range comes first
                    committed = before.committed() if before is not None else None
                if committed is not None:
                    yield committed
                before = begun
            if before is not None:
                yield before.committed()

    def _begin(self, text_range: TextRange, writer: Background) -> _Begun:
        entries = self.finished(text_range, verify=True)
        if entries:
            return _Begun(text_range, tuple(entries))
        return _Begun(text_range, (), tuple(self._written(text_range, writer)))

    def finished(self, text_range: TextRange, *, verify: bool) -> list[ShardEntry]:
        """The entries of the range's shards if all are there, else none.

        Args:
            verify: read the shards, too, and hold them against their checksums.
        """
        entries: list[ShardEntry] = []
        source = text_range.fingerprint
        while not entries or not entries[-1].notes[LAST]:
            entry = read_entry(self.folder, _shard_name(text_range, len(entries)))
            if entry is None or (entry.source, entry.settings) != (source, self.settings):
                return []
            shard = self.folder / entry.file_name
            if verify and checksum_of_file(shard, SHARD_CHECKSUM) != entry.checksum:
                return []
            entries.append(entry)
        return entries

    def _written(self, text_range: TextRange, writer: Background) -> Iterator[Future[ShardEntry]]:
        tokenizer = load_tokenizer(self.folder / TOKENIZER_NAME, self.tokenizer)
        passed_over = PassedOver()
        block_bytes = min(BLOCK_BYTES, self.range_bytes)
        reader = Reader(self.corpus.text_column, self.corpus.on_invalid, block_bytes)
        limit = int(self.range_bytes * _SHARD_FACTOR)
        number, content = 0, _Content(tokenizer, self.corpus)
        for texts in reader.read(text_range, passed_over):
            if content.num_bytes >= limit:
                yield writer.run(self._write(text_range, number, content, passed_over, last=False))
                number, content = number + 1, _Content(tokenizer, self.corpus)
            content.add(texts)
        yield writer.run(self._write(text_range, number, content, passed_over, last=True))

    def _write(
        self,
        text_range: TextRange,
        number: int,
        content: _Content,
        passed_over: PassedOver,
        *,
        last: bool,
    ) -> Callable[[], ShardEntry]:
        skipped, replaced = passed_over.take()
        return partial(
            write_shard,
            self.folder,
            _shard_name(text_range, number),
            document_ids=pa.concat_arrays(content.document_ids),
            sentences=pa.concat_arrays(content.sentences),
            source=text_range.fingerprint,
            settings=self.settings,
            held_out_share=self.corpus.held_out_share,
            notes={
                TEXT_BYTES: content.num_bytes,
                WITHOUT_TOKENS: content.without_tokens,
                SKIPPED: skipped,
                REPLACED: replaced,
                LAST: int(last),
            },
        )


@dataclass(frozen=True)
class _Begun:
    """A range whose shards are there or are being written."""

    text_range: TextRange
    there: tuple[ShardEntry, ...]
    being_written: tuple[Future[ShardEntry], ...] = ()

    def committed(self) -> tuple[TextRange, tuple[ShardEntry, ...]]:
        written = tuple(shard.result() for shard in self.being_written)
        return self.text_range, self.there + written


class _Content:
    """What a shard will hold; of the texts themselves nothing is kept."""

    def __init__(self, tokenizer: rust_tok.Tokenizer, corpus: CorpusSettings) -> None:
        self._tokenizer = tokenizer
        self._corpus = corpus
        kind = id_type(tokenizer.vocab_size)
        self.document_ids = [pa.array([], pa.binary(DOCUMENT_ID_BYTES))]
        self.sentences = [pa.array([], pa.list_(pa.list_(kind)))]
        self.num_bytes = 0
        self.without_tokens = 0

    def add(self, texts: pa.Array) -> None:
        sentences, kept = ids_of(sentences_of(texts, self._corpus), self._tokenizer)
        self.sentences.append(sentences.cast(self.sentences[0].type))
        self.document_ids.append(document_ids(texts).filter(pa.array(kept)))
        self.num_bytes += texts.nbytes
        self.without_tokens += len(texts) - len(sentences)


def _shard_name(text_range: TextRange, number: int) -> str:
    return f"shard-{text_range.name}-{number:03d}"


@lru_cache(maxsize=2)
def load_tokenizer(place: Location, fingerprint: str) -> rust_tok.Tokenizer:
    """The tokenizer with this fingerprint, once per process however many tasks it runs.

    Raises:
        UserError: the file holds another one, or none that rust_tok computes exactly.
    """
    tokenizer = read_tokenizer(place)
    if tokenizer.fingerprint != fingerprint:
        raise UserError(f"{place} has changed while the corpus was read: take another folder")
    return tokenizer


def read_tokenizer(place: Location) -> rust_tok.Tokenizer:
    """A tokenizer.json or vocab.txt, local or remote.

    Raises:
        UserError: not a tokenizer that rust_tok computes exactly; its message says why.
    """
    try:
        if place.name.endswith(".json"):
            return rust_tok.Tokenizer.from_json(place.read_text())
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / place.name
            path.write_bytes(place.read_bytes())
            return rust_tok.Tokenizer.from_file(path)
    except UnicodeDecodeError as error:
        raise UserError(f"{place}: not UTF-8 at byte {error.start}") from error
    except rust_tok.TokenizerError as error:
        raise UserError(f"{place}: {error}") from error
