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
    lengths = _lengths(encoded)
    num_cut = int((lengths > max_length).sum())
    if num_cut:
        encoded = pa.array(
            tokenizer.encode_arrow(texts, pairs, add_special_tokens=True, max_length=max_length)
        )
        lengths = _lengths(encoded)
    ids, starts = _flat(encoded)
    second_starts = None
    if pairs is not None:
        second_starts = _second_starts(tokenizer, texts, ids, starts, lengths)
    return Encoded(ids, starts, lengths, second_starts, num_cut)


def _lengths(encoded: pa.Array) -> np.ndarray:
    offsets = encoded.offsets.to_numpy()
    return np.diff(offsets).astype(np.int64)


def _flat(encoded: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    return encoded.values.to_numpy(), encoded.offsets.to_numpy()[:-1].astype(np.int64)


def _second_starts(
    tokenizer: rust_tok.Tokenizer,
    texts: pa.Array,
    ids: np.ndarray,
    starts: np.ndarray,
    lengths: np.ndarray,
) -> np.ndarray:
    """Behind the first text's own [SEP]: a text may hold more of them, so its tokens are counted.

    Of a pair that was cut, the first text may be shorter; there it is the first [SEP] that stands
    no later than the count says.
    """
    alone = _lengths(pa.array(tokenizer.encode_arrow(texts, add_special_tokens=True)))
    second = np.minimum(alone, lengths)
    separator = tokenizer.token_to_id(SEPARATOR)
    last = starts + np.maximum(second, 1) - 1
    for row in np.flatnonzero((lengths > 0) & (ids[np.minimum(last, len(ids) - 1)] != separator)):
        own = ids[starts[row] : starts[row] + lengths[row]]
        found = np.flatnonzero(own == separator)
        second[row] = found[0] + 1 if len(found) else lengths[row]
    return second


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
