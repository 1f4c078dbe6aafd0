"""Texts to ids, and ids to packed batches of neighbours in length.

Shape suffixes: T tokens of a batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch

import rust_tok
from bert.batch import PackedBatch

SEPARATOR = "[SEP]"
_SPECIAL_OF_PAIR = 3  # [CLS] first [SEP] second [SEP]


@dataclass(frozen=True)
class Encoded:
    """Sequences of ids, one after the other.

    Attributes:
        ids: uint16 or uint32, of all sequences.
        starts: int64, where each begins in `ids`.
        lengths: int64, tokens of each; 0: nothing to predict.
        second_starts: int64, place in its sequence where each one's second text begins; None
            without pairs.
        num_cut: sequences that were longer than allowed.
    """

    ids: np.ndarray
    starts: np.ndarray
    lengths: np.ndarray
    second_starts: np.ndarray | None
    num_cut: int

    def __len__(self) -> int:
        return len(self.lengths)


def encode(
    tokenizer: rust_tok.Tokenizer, texts: pa.Array, pairs: pa.Array | None, max_length: int
) -> Encoded:
    """Ids with special tokens, cut to `max_length`, pairs longest first.

    Args:
        texts: strings; a null gives a sequence of no tokens.
        pairs: strings as many as texts, or None.
    """
    encoded = pa.array(tokenizer.encode_arrow(texts, pairs, add_special_tokens=True))
    uncut = lengths = _lengths(encoded)
    num_cut = int((uncut > max_length).sum())
    if num_cut:
        encoded = pa.array(
            tokenizer.encode_arrow(texts, pairs, add_special_tokens=True, max_length=max_length)
        )
        lengths = _lengths(encoded)
    second_starts = None
    if pairs is not None:
        alone = _lengths(pa.array(tokenizer.encode_arrow(texts, add_special_tokens=False)))
        second_starts = 2 + _tokens_of_first(alone, uncut - _SPECIAL_OF_PAIR, max_length)
    starts = encoded.offsets.to_numpy()[:-1].astype(np.int64)
    return Encoded(encoded.values.to_numpy(), starts, lengths, second_starts, num_cut)


def _lengths(encoded: pa.Array) -> np.ndarray:
    offsets = encoded.offsets.to_numpy()
    return np.diff(offsets).astype(np.int64)


def _tokens_of_first(alone: np.ndarray, both: np.ndarray, max_length: int) -> np.ndarray:
    """How many tokens of a pair's first text are left when the longer text is cut first.

    Where both are cut, each keeps half, and the longer one what is over (`LongestFirst` of
    https://github.com/huggingface/tokenizers). Counted and not looked for, because a text may hold
    a [SEP] of its own.

    Args:
        alone: tokens of the first text.
        both: tokens of the two.
    """
    target = max_length - _SPECIAL_OF_PAIR
    shorter = np.minimum(alone, both - alone)
    half = target // 2
    longer_left = np.where(shorter <= half, target - shorter, half + target % 2)
    shorter_left = np.minimum(shorter, half)
    first_is_longer = alone > both - alone
    left = np.where(first_is_longer, longer_left, shorter_left)
    return np.where(both > target, left, alone)


def batches(encoded: Encoded, max_tokens: int) -> Iterator[tuple[np.ndarray, PackedBatch]]:
    """Batches of about `max_tokens` tokens, longest sequences first, and the rows in each.

    Rows without tokens are left out. Neighbours have equal lengths, so attention takes many at
    once; which rows meet depends on the lengths alone.
    """
    order = np.argsort(-encoded.lengths, kind="stable")
    order = order[: int((encoded.lengths > 0).sum())]
    ends = np.cumsum(encoded.lengths[order])
    first = 0
    while first < len(order):
        before = ends[first - 1] if first else 0
        last = max(first + 1, int(np.searchsorted(ends, before + max_tokens, side="right")))
        rows = order[first:last]
        yield rows, pack(encoded, rows)
        first = last


def pack(encoded: Encoded, rows: np.ndarray) -> PackedBatch:
    """These sequences, end to end."""
    lengths = encoded.lengths[rows]
    offsets = np.zeros(len(rows) + 1, dtype=np.int32)
    np.cumsum(lengths, out=offsets[1:])
    position_T = np.arange(offsets[-1]) - np.repeat(offsets[:-1], lengths)
    ids_T = encoded.ids[np.repeat(encoded.starts[rows], lengths) + position_T].astype(np.int64)
    types_T = np.zeros(len(ids_T), dtype=np.int64)
    if encoded.second_starts is not None:
        types_T = (position_T >= np.repeat(encoded.second_starts[rows], lengths)).astype(np.int64)
    return PackedBatch(
        input_ids=torch.from_numpy(ids_T),
        position_ids=torch.from_numpy(position_T),
        token_type_ids=torch.from_numpy(types_T),
        lengths=tuple(lengths.tolist()),
        cu_seqlens=torch.from_numpy(offsets),
    )
