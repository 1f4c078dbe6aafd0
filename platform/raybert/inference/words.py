"""Texts as words, for tagging: a word's first piece carries its tag."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute

import rust_tok
from raybert.inference.encoding import SEPARATOR, Encoded

compute: Final[Any] = pyarrow.compute  # its functions are made when it is imported

_BEGIN = "[CLS]"


@dataclass(frozen=True)
class EncodedWords:
    """Sentences of words.

    Attributes:
        words: list<string>, as they were split.
        encoded: the sentences' ids.
        first_pieces: int64, places in `encoded.ids` of the words' first pieces, in order.
        num_tagged: int64, words of each sentence that have a piece; the rest was cut off.
    """

    words: pa.Array
    encoded: Encoded
    first_pieces: np.ndarray
    num_tagged: np.ndarray


def split_words(texts: pa.Array) -> pa.Array:
    """Strings split at white space; lists of words as they are."""
    if pa.types.is_list(texts.type) or pa.types.is_large_list(texts.type):
        return texts.cast(pa.list_(pa.string()))
    return compute.utf8_split_whitespace(compute.utf8_trim_whitespace(texts))


def encode_words(tokenizer: rust_tok.Tokenizer, words: pa.Array, max_length: int) -> EncodedWords:
    """Ids of [CLS] words [SEP], cut after the last piece that fits.

    Args:
        words: list<string>; a null or an empty list gives a sequence of no tokens.
    """
    pieces = pa.array(tokenizer.encode_arrow(words, add_special_tokens=False))
    begin, end = (tokenizer.token_to_id(token) for token in (_BEGIN, SEPARATOR))
    assert begin is not None
    assert end is not None
    ids: list[np.ndarray] = []
    starts, lengths, tagged = (np.zeros(len(words), dtype=np.int64) for _ in range(3))
    first_pieces: list[np.ndarray] = []
    at = num_cut = 0
    for row, sentence in enumerate(pieces):
        if not sentence.is_valid or not len(sentence.values):
            starts[row] = at
            continue
        flat = sentence.values.flatten().to_numpy()
        firsts = sentence.values.offsets.to_numpy()
        firsts = firsts - firsts[0]
        kept = flat[: max_length - 2]
        num_cut += len(kept) < len(flat)
        # A word without a piece (control characters alone) shares the next one's.
        here = firsts[:-1][firsts[:-1] < len(kept)]
        ids += [np.array([begin]), kept, np.array([end])]
        starts[row], lengths[row], tagged[row] = at, len(kept) + 2, len(here)
        first_pieces.append(at + 1 + here)
        at += len(kept) + 2
    flat_ids = np.concatenate(ids) if ids else np.zeros(0, dtype=np.int64)
    places = np.concatenate(first_pieces) if first_pieces else np.zeros(0, dtype=np.int64)
    return EncodedWords(words, Encoded(flat_ids, starts, lengths, None, num_cut), places, tagged)
