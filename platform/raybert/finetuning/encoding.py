"""Texts to the ids of sequences: [CLS] text [SEP], or [CLS] text [SEP] pair [SEP].

Texts are encoded once, whole; what is longer than the limit is cut here, so that it can be
counted. The ids are those of `rust_tok.Tokenizer.encode_arrow` with special tokens and max_length.

Legend: N rows, P ids of all rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

import rust_tok
from bert.batch import IGNORED_LABEL
from raybert.samples.special_tokens import SpecialTokens

_BATCH_ROWS = 1 << 16
_NUM_SPECIAL_SINGLE, _NUM_SPECIAL_PAIR = 2, 3


@dataclass(frozen=True)
class Lists:
    """Lists of numbers laid end to end.

    Attributes:
        values: all of them.
        length_N: int64 (N,), per list.
    """

    values: np.ndarray
    length_N: np.ndarray

    @property
    def start_N(self) -> np.ndarray:
        return np.cumsum(self.length_N) - self.length_N


@dataclass(frozen=True)
class Encoded:
    """Sequences of ids with their special tokens.

    Attributes:
        ids: (P,) laid end to end.
        length_N: int64 (N,), tokens of each.
        second_N: int32 (N,), where the second segment begins; 0: there is none.
        num_cut: how many lost tokens to the limit.
    """

    ids: np.ndarray
    length_N: np.ndarray
    second_N: np.ndarray
    num_cut: int


@dataclass(frozen=True)
class EncodedWords:
    """Sequences of words, with the place of each word's first piece.

    Attributes:
        sequences: their ids.
        label_P: int32 (P,), a word's label at its first piece, elsewhere -100.
        word: int32, which word of its row each label belongs to, in the order of label_P.
        num_lost: words without a piece of their own, cut off or of nothing that is a token.
    """

    sequences: Encoded
    label_P: np.ndarray
    word: np.ndarray
    num_lost: int


def encode(
    tokenizer: rust_tok.Tokenizer,
    special: SpecialTokens,
    text: pa.Array,
    pair: pa.Array | None,
    max_length: int,
) -> Encoded:
    """Encodes texts or pairs; of a pair the longer part is cut first.

    Args:
        text, pair: strings without nulls, N each.
        max_length: of a sequence, special tokens included.
    """
    first = _ids_of(tokenizer, text)
    if pair is None:
        kept_N = np.minimum(first.length_N, max_length - _NUM_SPECIAL_SINGLE)
        num_cut = int((kept_N < first.length_N).sum())
        return _assemble(first, kept_N, None, None, special, num_cut)
    second = _ids_of(tokenizer, pair)
    kept_N, kept_second_N = longest_first(
        first.length_N, second.length_N, max_length - _NUM_SPECIAL_PAIR
    )
    is_cut_N = (kept_N < first.length_N) | (kept_second_N < second.length_N)
    return _assemble(first, kept_N, second, kept_second_N, special, int(is_cut_N.sum()))


def encode_words(
    tokenizer: rust_tok.Tokenizer,
    special: SpecialTokens,
    words: pa.Array,
    label: np.ndarray,
    max_length: int,
) -> EncodedWords:
    """Encodes lists of words, each word for itself.

    Args:
        words: lists of strings, N.
        label: int32, of all words laid end to end.
        max_length: of a sequence, special tokens included.
    """
    words_N = np.diff(np.asarray(words.offsets)).astype(np.int64)
    pieces = _ids_of(tokenizer, words.flatten())
    row_of_word = np.repeat(np.arange(len(words_N)), words_N)
    length_N = np.bincount(row_of_word, pieces.length_N, len(words_N)).astype(np.int64)
    rows = Lists(pieces.values, length_N)
    kept_N = np.minimum(length_N, max_length - _NUM_SPECIAL_SINGLE)
    num_cut = int((kept_N < length_N).sum())
    sequences = _assemble(rows, kept_N, None, None, special, num_cut)

    # A word's first piece, counted from its row's begin; past [CLS] in the sequence.
    place = pieces.start_N - rows.start_N[row_of_word]
    has_piece = (pieces.length_N > 0) & (place < kept_N[row_of_word])
    start_N = np.cumsum(sequences.length_N) - sequences.length_N
    label_P = np.full(len(sequences.ids), IGNORED_LABEL, dtype=np.int32)
    label_P[start_N[row_of_word[has_piece]] + 1 + place[has_piece]] = label[has_piece]
    word = np.arange(len(row_of_word)) - (np.cumsum(words_N) - words_N)[row_of_word]
    lost = int((~has_piece).sum())
    return EncodedWords(sequences, label_P, word[has_piece].astype(np.int32), lost)


def longest_first(
    first_N: np.ndarray, second_N: np.ndarray, limit: int
) -> tuple[np.ndarray, np.ndarray]:
    """Lengths after the longer part of each pair gave up ids until both fit.

    The arithmetic of `tokenizers`' LongestFirst: where both are long each gets half, the one that
    was longer the odd id.
    """
    short_N = np.minimum(first_N, second_N)
    fits_N = first_N + second_N <= limit
    kept_long_N = np.where(short_N > limit, short_N, np.maximum(short_N, limit - short_N))
    over_N = short_N + kept_long_N > limit
    kept_short_N = np.where(over_N, limit // 2, short_N)
    kept_long_N = np.where(over_N, limit // 2 + limit % 2, kept_long_N)
    swapped_N = first_N > second_N
    kept_first_N = np.where(swapped_N, kept_long_N, kept_short_N)
    kept_second_N = np.where(swapped_N, kept_short_N, kept_long_N)
    return np.where(fits_N, first_N, kept_first_N), np.where(fits_N, second_N, kept_second_N)


def _ids_of(tokenizer: rust_tok.Tokenizer, texts: pa.Array) -> Lists:
    """The ids of each text, without special tokens."""
    values, lengths = [], []
    for begin in range(0, len(texts), _BATCH_ROWS):
        column = tokenizer.encode_arrow(texts.slice(begin, _BATCH_ROWS), add_special_tokens=False)
        ids = pa.array(column)
        values.append(np.asarray(ids.flatten()))
        lengths.append(np.diff(np.asarray(ids.offsets)).astype(np.int64))
    if not values:
        return Lists(np.zeros(0, np.uint32), np.zeros(0, np.int64))
    return Lists(np.concatenate(values), np.concatenate(lengths))


def _assemble(
    first: Lists,
    kept_N: np.ndarray,
    second: Lists | None,
    kept_second_N: np.ndarray | None,
    special: SpecialTokens,
    num_cut: int,
) -> Encoded:
    """Lays down the kept ids with special tokens between them."""
    if second is None or kept_second_N is None:
        length_N = kept_N + _NUM_SPECIAL_SINGLE
        second_N = np.zeros(len(kept_N), np.int32)
        content = _ranges(first.values, first.start_N, kept_N)
    else:
        length_N = kept_N + kept_second_N + _NUM_SPECIAL_PAIR
        second_N = (kept_N + 2).astype(np.int32)
        values = np.concatenate([first.values, second.values])
        starts = np.stack([first.start_N, second.start_N + len(first.values)], axis=1)
        lengths = np.stack([kept_N, kept_second_N], axis=1)
        content = _ranges(values, starts.ravel(), lengths.ravel())
    end_N = np.cumsum(length_N)
    begin_N = end_N - length_N
    ids = np.empty(int(length_N.sum()), dtype=content.dtype)
    is_content = np.ones(len(ids), dtype=bool)
    places = [(begin_N, special.cls), (end_N - 1, special.sep)]
    if second is not None:
        places.append((begin_N + second_N - 1, special.sep))
    for where, number in places:
        ids[where] = number
        is_content[where] = False
    ids[is_content] = content
    return Encoded(ids, length_N, second_N, num_cut)


def _ranges(values: np.ndarray, starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """values[start : start + length] of every range, one behind the other."""
    ends = np.cumsum(lengths)
    total = int(ends[-1]) if len(ends) else 0
    return values[np.arange(total) + np.repeat(starts - (ends - lengths), lengths)]
