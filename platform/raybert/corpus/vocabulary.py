"""A vocabulary from a corpus: words are counted range by range, then a trainer merges.

What is counted are the sentences that tokenization will encode, so a vocabulary is learned from
what it will be used on. Counting is a sum: on one process or on a cluster, in any order and in any
number of partitions, the counts and so the tokenizer are the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import rust_tok
from raybert.corpus.content import PassedOver
from raybert.corpus.corpus import Corpus
from raybert.corpus.ranges import TextRange, plan_ranges
from raybert.corpus.reading import Reader
from raybert.corpus.sentences import sentences_of
from raybert.errors import UserError
from raybert.settings import CorpusSettings, TokenizerSettings

# Up to here (about 1 GB) the trainer sees every word. A corpus with more keeps the words that stand
# in it at least min_frequency times and the characters of the others; rust_tok tells what it means.
MAX_WORDS = 1 << 24

# A sample is drawn in this many pieces at least, so that it is spread over the corpus.
_SAMPLE_PIECES = 64
_MIN_PIECE_BYTES = 1 << 16
_MAX_PIECE_BYTES = 1 << 26


@dataclass(frozen=True)
class WordCounter:
    """Counts the words of ranges; small, and picklable."""

    corpus: CorpusSettings
    tokenizer: TokenizerSettings
    max_words: int = MAX_WORDS

    def empty(self) -> rust_tok.WordCounts:
        if self.tokenizer.kind == "bpe":
            return rust_tok.WordCounts("bpe", add_prefix_space=self.tokenizer.add_prefix_space)
        return rust_tok.WordCounts("wordpiece", lowercase=self.tokenizer.lowercase)

    def count(self, text_range: TextRange, passed_over: PassedOver) -> rust_tok.WordCounts:
        """The words of one range.

        Raises:
            InvalidContent: the text is not as it should be.
        """
        counts = self.empty()
        reader = Reader(self.corpus.text_column, self.corpus.on_invalid)
        for texts in reader.read(text_range, passed_over):
            counts.count(sentences_of(texts, self.corpus))
        return counts


@dataclass(frozen=True)
class Counted:
    """All words of the ranges, or the frequent ones of too many.

    Attributes:
        num_words: distinct words of the corpus.
        pruned: whether `counts` lacks the rare ones.
    """

    counts: rust_tok.WordCounts
    num_words: int
    pruned: bool
    passed_over: PassedOver


OnCounted = Callable[[TextRange], None]
CountAll = Callable[[WordCounter, Sequence[TextRange], OnCounted], Counted]
"""Counts all ranges; hears of each when it is counted; raises `UserError`."""


def count_in_process(
    counter: WordCounter, ranges: Sequence[TextRange], on_counted: OnCounted = lambda _: None
) -> Counted:
    """One range after the other, here."""
    counts, passed_over = counter.empty(), PassedOver()
    for text_range in ranges:
        counts.merge(counter.count(text_range, passed_over))
        on_counted(text_range)
    pruned = len(counts) > counter.max_words
    kept = counts.prune(counter.tokenizer.min_frequency) if pruned else counts
    return Counted(kept, len(counts), pruned, passed_over)


def train_tokenizer(
    corpus: Corpus,
    settings: TokenizerSettings | None = None,
    count_all: CountAll = count_in_process,
    on_counted: OnCounted = lambda _: None,
) -> rust_tok.Tokenizer:
    """A tokenizer for this corpus.

    Raises:
        UserError: broken text, no word at all, a vocabulary too small for its alphabet.
    """
    settings = settings or TokenizerSettings()
    counter = WordCounter(corpus.settings, settings)
    counted = count_all(counter, sample_of(corpus, settings.sample_bytes), on_counted)
    return train(counted, settings)


def train(counted: Counted, settings: TokenizerSettings) -> rust_tok.Tokenizer:
    """The trainer alone.

    Raises:
        UserError: no word at all, a vocabulary too small for its alphabet.
    """
    if counted.num_words == 0:
        raise UserError("the corpus is empty: there is no word in it")
    try:
        if settings.kind == "bpe":
            return rust_tok.train_bpe(
                counted.counts,
                vocab_size=settings.vocab_size,
                min_frequency=settings.min_frequency,
                add_prefix_space=settings.add_prefix_space,
            )
        return rust_tok.train_wordpiece(
            counted.counts,
            vocab_size=settings.vocab_size,
            min_frequency=settings.min_frequency,
            lowercase=settings.lowercase,
            limit_alphabet=settings.limit_alphabet,
        )
    except rust_tok.TokenizerError as error:
        raise UserError(f"tokenizer: {error}") from error


def sample_of(corpus: Corpus, sample_bytes: int | None) -> tuple[TextRange, ...]:
    """The ranges of the corpus, or some of about `sample_bytes` in all, spread evenly over it.

    A compressed file can't be entered in the middle: it counts as one piece.
    """
    ranges = corpus.ranges()
    total = sum(text_range.text_bytes for text_range in ranges)
    if sample_bytes is None or sample_bytes >= total:
        return ranges
    piece_bytes = min(max(_MIN_PIECE_BYTES, sample_bytes // _SAMPLE_PIECES), _MAX_PIECE_BYTES)
    ranges = plan_ranges(corpus.sources, piece_bytes, corpus.settings.text_column)
    return tuple(_spread(ranges, sample_bytes, total))


def _spread(ranges: Sequence[TextRange], wanted: int, total: int) -> Iterator[TextRange]:
    """Takes a range whenever the share taken falls behind the share asked for."""
    seen, taken = 0, 0
    for text_range in ranges:
        seen += text_range.text_bytes
        if taken * total < seen * wanted:
            taken += text_range.text_bytes
            yield text_range
