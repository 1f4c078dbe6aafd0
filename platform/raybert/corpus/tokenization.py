"""A corpus to a folder of token shards: checked, claimed, carried out, committed.

`tokenize` does it in this process, range by range; `raybert.corpus.ray_tasks.tokenize_ranges`,
handed in as `carry_out`, on a Ray cluster. The bytes are the same, and whatever was finished before
a job died is found and kept.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import rust_tok
from raybert.corpus.corpus import Corpus
from raybert.corpus.origin import ORIGIN_NAME, Origin, is_from
from raybert.corpus.ranges import TextRange
from raybert.corpus.shards import ShardMaker, read_tokenizer
from raybert.errors import UserError
from raybert.settings.identity import identity_of
from raybert.storage import Location, checksum_of_bytes, write_file
from raybert.storage.commit import remove_staging
from raybert.tokens import Manifest, ShardEntry, build_manifest, read_manifest
from raybert.tokens.format import FORMAT_VERSION, MANIFEST_NAME, TOKENIZER_NAME


@dataclass(frozen=True)
class Finished:
    """A range that is done.

    Attributes:
        shards: in order.
        seconds: that passed in its task, by the clock, since the range before was done.
    """

    text_range: TextRange
    shards: tuple[ShardEntry, ...]
    seconds: float = 0.0


CarryOut = Callable[[ShardMaker, Sequence[TextRange]], Iterable[Finished]]
"""Does the work of all ranges and gives each once, in any order; raises `UserError`."""


def in_process(maker: ShardMaker, ranges: Sequence[TextRange]) -> Iterator[Finished]:
    """One range after the other, here, with all threads of the tokenizer."""
    begin = time.perf_counter()
    for text_range, shards in maker.make(ranges):
        end = time.perf_counter()
        yield Finished(text_range, shards, end - begin)
        begin = time.perf_counter()


@dataclass(frozen=True)
class Tokenization:
    """A corpus, a tokenizer and a folder, found to fit together.

    Attributes:
        finished: the folder's manifest when all was done before.
    """

    maker: ShardMaker
    corpus: Corpus
    vocab_size: int
    ranges: tuple[TextRange, ...]
    finished: Manifest | None

    def run(
        self,
        carry_out: CarryOut = in_process,
        on_finished: Callable[[Finished], None] = lambda finished: None,
    ) -> Manifest:
        """Writes the shards that are missing, then the manifest.

        Args:
            on_finished: hears of every range when it is done.

        Raises:
            UserError: broken text (`InvalidContent`), or a corpus without a single token. What is
                finished stays, and another run begins from there.
        """
        if self.finished is not None:
            return self.finished
        remove_staging(self.maker.folder)
        shards: dict[str, tuple[ShardEntry, ...]] = {}
        for finished in carry_out(self.maker, self.ranges):
            shards[finished.text_range.name] = finished.shards
            on_finished(finished)
        # A worker killed while it wrote leaves what it had begun.
        remove_staging(self.maker.folder)
        return build_manifest(
            self.maker.folder,
            tokenizer=self.maker.tokenizer,
            vocab_size=self.vocab_size,
            settings=self.maker.settings,
            held_out_share=self.maker.corpus.held_out_share,
            sources=self.corpus.fingerprints,
            shards=[s.name for r in self.ranges for s in shards[r.name] if s.tokens],
        )


def tokenize(
    corpus: Corpus, tokenizer: rust_tok.Tokenizer, folder: str | Path | Location
) -> Manifest:
    """All of `prepare` and `Tokenization.run` in this process."""
    return prepare(corpus, tokenizer, folder).run()


def prepare(
    corpus: Corpus, tokenizer: rust_tok.Tokenizer, folder: str | Path | Location
) -> Tokenization:
    """Checks what can be checked without reading the corpus, and claims the folder.

    Raises:
        UserError: the folder holds something else, or shards of other settings, another tokenizer
            or other sources, shown as a diff.
    """
    place = Location.parse(folder)
    identity = identity_of(corpus.settings) | {
        "tokenizer": tokenizer.fingerprint,
        "token shards, format version": FORMAT_VERSION,
    }
    ranges = corpus.ranges()
    origin = Origin(identity, corpus.fingerprints)
    if not is_from(origin, place):
        write_file(place / ORIGIN_NAME, origin.to_json())
    if not (place / TOKENIZER_NAME).is_file():
        write_file(place / TOKENIZER_NAME, tokenizer.to_json().encode())
    settings = checksum_of_bytes(json.dumps(identity, sort_keys=True).encode())
    return Tokenization(
        maker=ShardMaker(place, corpus.settings, tokenizer.fingerprint, settings),
        corpus=corpus,
        vocab_size=tokenizer.vocab_size,
        ranges=ranges,
        finished=read_manifest(place) if (place / MANIFEST_NAME).is_file() else None,
    )


def open_tokenizer(path: str | None) -> rust_tok.Tokenizer:
    """The tokenizer at `tokenizer.path`: a file, or a folder with one.

    Raises:
        UserError: no path, nothing there, or a file that rust_tok doesn't compute exactly.
    """
    if path is None:
        raise UserError(
            "tokenizer.path is missing: the folder that jobs/train_tokenizer.py wrote, or a "
            "Hugging Face tokenizer.json or BERT vocab.txt"
        )
    location = Location.parse(path)
    names = (TOKENIZER_NAME, "vocab.txt")
    for place in [location] if location.is_file() else [location / name for name in names]:
        if place.is_file():
            return read_tokenizer(place)
    what = f"holds no {' or '.join(names)}" if location.is_dir() else "does not exist"
    raise UserError(f"tokenizer.path {path}: {what}")
