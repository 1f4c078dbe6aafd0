"""Micro-shards by compiled code, from the optional package `bert_kernels`.

A batch of numpy calls costs more than its samples do, unless it is a large one. Here one call finds
a batch's samples and deals them, one builds them. `window`, `packing` and `masking` say what comes
out, to the bit, and make it where the package is missing or `bert.kernels` is told to go without.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from bert import kernels
from bert.batch import PackedBatch
from raybert.samples.special_tokens import SpecialTokens
from raybert.tokens import Shard

try:
    from bert_kernels import native as _native
except ImportError:
    _native = None

_CPU = torch.device("cpu")


def usable() -> bool:
    """Whether compiled code makes samples: it does wherever it computes for a model on the CPU."""
    return _native is not None and kernels.usable(_CPU)


class CompiledWindow:
    """A window's columns and shards as compiled code takes them: addresses, found once.

    Args:
        columns: first chunk of each shard (N+1,), then of each chunk (C,) start, cut, end, partner
            and the order; see `window.Window`.
        shards: by number, as many as N.
        limit: tokens of a sample at most, special tokens not counted.
        sample_key, truncation_key: of the epoch.
    """

    def __init__(
        self,
        first_chunk_N1: np.ndarray,
        columns: Sequence[np.ndarray],
        shards: Mapping[int, Shard],
        limit: int,
        sample_key: int,
        truncation_key: int,
    ) -> None:
        numbers_N = np.fromiter(shards, dtype=np.int64)
        wide = [
            np.ascontiguousarray(values, dtype=np.int64) for values in (first_chunk_N1, numbers_N)
        ]
        narrow = [np.ascontiguousarray(values, dtype=np.int32) for values in columns]
        ids = [np.ascontiguousarray(shard.ids_T) for shard in shards.values()]
        self.native = _loaded().SampleWindow(
            (wide, narrow, ids, shards),
            tuple(map(_memory, [*wide, *narrow])),
            [(_memory(ids_T), ids_T.dtype == np.uint32) for ids_T in ids],
            limit,
            sample_key,
            truncation_key,
        )


class CompiledMasking:
    """A vocabulary's tables as compiled code takes them.

    Args:
        special: see `masking.choose_masked`.
        rate, whole_words: the same.
    """

    def __init__(self, special: SpecialTokens, rate: float, whole_words: bool) -> None:
        tables = [
            special.never_masked_V.view(np.uint8),
            np.ascontiguousarray(special.replacements, dtype=np.int64),
        ]
        if whole_words:
            if special.continuation_V is None:
                raise ValueError("whole-word masking needs a table of continuation tokens")
            tables.append(np.ascontiguousarray(special.continuation_V, dtype=bool).view(np.uint8))
        never_masked, replacements, *continuation = map(_memory, tables)
        self.native = _loaded().SampleMasking(
            tables,
            (special.cls, special.sep, special.mask),
            round(rate * 2**16),
            never_masked,
            replacements,
            *(continuation or [None]),
        )


def cut_documents(
    sentence_offsets_S1: np.ndarray,
    document_offsets_D1: np.ndarray,
    document_keys_D: np.ndarray,
    selected_D: np.ndarray,
    *,
    limit: int,
    pairs: bool,
    short_below: int,
    short_keys: tuple[int, int],
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The fields of `chunks.Chunks` for the arguments of `chunks.cut_documents`.

    Args:
        limit, pairs: of the rule.
        short_below: a chunk is short where its draw is below this.
        short_keys: added to a document's key for that draw and for the one of the length.
    """
    documents = [
        np.ascontiguousarray(sentence_offsets_S1, dtype=np.int32),
        np.ascontiguousarray(document_offsets_D1, dtype=np.int32),
        np.ascontiguousarray(document_keys_D, dtype=np.uint64),
        np.ascontiguousarray(selected_D, dtype=bool).view(np.uint8),
    ]
    cut = _loaded().cut_documents(
        tuple(map(_memory, documents)), limit, pairs, short_below, short_keys
    )
    num_chunks, num_pieces = cut.sizes()
    fields = (
        np.empty(num_chunks + 1, dtype=np.int64),
        np.empty(num_chunks, dtype=np.int32),
        np.empty(num_chunks, dtype=np.uint64),
        np.empty(num_pieces, dtype=np.int32),
    )
    cut.copy_to(*map(_memory, fields))
    return fields


def micro_shards(
    spans: Sequence[tuple[CompiledWindow, int, int]],
    num_micro_shards: int,
    which: range,
    masking: CompiledMasking,
    pairs: bool,
) -> list[PackedBatch]:
    """Some micro-shards of the batch that takes places first ≤ n < last of each of these windows.

    Returns:
        What `packing.pack` gives of the samples that `packing.deal` dealt.
    """
    if not which:
        return []
    dealt, lengths, num_tokens = _loaded().deal_samples(
        [(window.native, first, last) for window, first, last in spans],
        num_micro_shards,
        list(which),
    )
    sizes = [len(part) for part in lengths]
    num_samples, total = sum(sizes), sum(num_tokens)

    numbers = torch.empty(3 * total + num_samples, dtype=torch.int64)
    tokens, labels_B = numbers.split_with_sizes([3 * total, num_samples])
    offsets = torch.empty(num_samples + len(sizes), dtype=torch.int32)
    room = np.empty(2 * total, dtype=np.int64)
    num_masked = dealt.pack(
        masking.native, *map(_memory_of_tensor, (tokens, offsets, labels_B)), _memory(room)
    )
    # A copy, for the room is several times as large as what was needed of it.
    masked = torch.from_numpy(room[: 2 * sum(num_masked)].copy())

    ids, positions, types = _split(tokens, num_tokens, 3)
    masked_index, masked_labels = _split(masked, num_masked, 2)
    next_sentence = labels_B.split_with_sizes(sizes) if pairs else [None] * len(sizes)
    cu_seqlens = offsets.split_with_sizes([size + 1 for size in sizes])
    return [
        PackedBatch(
            input_ids=ids[k],
            position_ids=positions[k],
            token_type_ids=types[k],
            lengths=lengths[k],
            cu_seqlens=cu_seqlens[k],
            masked_index=masked_index[k],
            masked_labels=masked_labels[k],
            next_sentence_labels=next_sentence[k],
        )
        for k in range(len(sizes))
    ]


def _split(values: torch.Tensor, sizes: list[int], times: int) -> list[list[torch.Tensor]]:
    """Parts of these sizes, and again for as many times as the values hold them."""
    parts = list(values.split_with_sizes(sizes * times))
    return [parts[i * len(sizes) : (i + 1) * len(sizes)] for i in range(times)]


def _loaded() -> Any:
    if _native is None:
        raise RuntimeError("the package bert-kernels is not installed")
    return _native


def _memory(values: np.ndarray) -> tuple[int, int]:
    assert values.flags.c_contiguous
    return values.ctypes.data, values.size


def _memory_of_tensor(tensor: torch.Tensor) -> tuple[int, int]:
    return tensor.data_ptr(), tensor.numel()
