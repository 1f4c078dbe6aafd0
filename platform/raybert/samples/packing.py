"""From rows to packed batches: dealing, gathering tokens from shards, laying them end to end.

Legend: B samples, L columns of a sample with its special tokens, T tokens of all samples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from bert.batch import PackedBatch
from raybert.samples.masking import choose_masked, replace_masked
from raybert.samples.special_tokens import SpecialTokens
from raybert.samples.window import SampleRows
from raybert.tokens import Shard

_NUM_SPECIAL_SINGLE, _NUM_SPECIAL_PAIR = 2, 3


def deal(length_B: np.ndarray, num_micro_shards: int) -> list[np.ndarray]:
    """Deal samples to micro-shards so that these have about equally many tokens, and samples.

    From the longest to the shortest, forward through the micro-shards and back again.

    Returns:
        For each micro-shard the places of its samples, longest first; equal lengths are
        neighbours, which attention makes use of.
    """
    longest_first = np.argsort(-length_B, kind="stable")
    rank = np.arange(len(length_B))
    turn, seat = rank // num_micro_shards, rank % num_micro_shards
    micro_shard = np.where(turn % 2 == 0, seat, num_micro_shards - 1 - seat)
    return [longest_first[micro_shard == k] for k in range(num_micro_shards)]


def sample_lengths(rows: SampleRows) -> np.ndarray:
    """Tokens of each sample with its special tokens: int64 (B,)."""
    has_second_B = rows.second_length_B > 0
    num_special_B = np.where(has_second_B, _NUM_SPECIAL_PAIR, _NUM_SPECIAL_SINGLE)
    return rows.first_length_B + rows.second_length_B + num_special_B


def pack(
    rows: SampleRows,
    parts: Sequence[int],
    shards: Mapping[int, Shard],
    special: SpecialTokens,
    *,
    masking_rate: float,
    whole_words: bool,
    pairs: bool,
) -> list[PackedBatch]:
    """Gather, mask and pack samples.

    Args:
        rows: the samples, those of one batch side by side.
        parts: how many samples each batch takes.
        shards: by number, those that the rows name.

    Returns:
        One batch per part; their tensors are views of common storage.
    """
    length_B = sample_lengths(rows)
    num_columns = int(length_B.max())
    column_L = np.arange(num_columns)
    is_token_BL = _less(column_L, length_B)
    in_second_BL = ~_less(column_L, rows.first_length_B + 2)
    ids_BL = gather(rows, length_B, in_second_BL, shards, special)
    chosen = choose_masked(ids_BL, is_token_BL, rows.key_B, masking_rate, special, whole_words)
    labels = replace_masked(ids_BL, chosen, rows.key_B, special)

    input_ids_T = torch.from_numpy(ids_BL[is_token_BL].astype(np.int64))
    position_ids_T = torch.from_numpy(np.broadcast_to(column_L, ids_BL.shape)[is_token_BL])
    token_type_ids_T = torch.from_numpy(in_second_BL[is_token_BL].astype(np.int64))
    offset_B1 = np.concatenate([[0], np.cumsum(length_B)])
    row = chosen // num_columns
    masked_index = chosen - row * num_columns + offset_B1[row]
    label_B = torch.from_numpy(rows.label_B)
    masked_labels = torch.from_numpy(labels)

    batches: list[PackedBatch] = []
    last = 0
    for size in parts:
        first, last = last, last + size
        begin, end = int(offset_B1[first]), int(offset_B1[last])
        tokens = slice(begin, end)
        masked = slice(*np.searchsorted(masked_index, [begin, end]).tolist())
        batches.append(
            PackedBatch(
                input_ids=input_ids_T[tokens],
                position_ids=position_ids_T[tokens],
                token_type_ids=token_type_ids_T[tokens],
                lengths=tuple(length_B[first:last].tolist()),
                cu_seqlens=torch.from_numpy((offset_B1[first : last + 1] - begin).astype(np.int32)),
                masked_index=torch.from_numpy(masked_index[masked] - begin),
                masked_labels=masked_labels[masked],
                next_sentence_labels=label_B[first:last] if pairs else None,
            )
        )
    return batches


def gather(
    rows: SampleRows,
    length_B: np.ndarray,
    in_second_BL: np.ndarray,
    shards: Mapping[int, Shard],
    special: SpecialTokens,
) -> np.ndarray:
    """[CLS] first [SEP], or [CLS] first [SEP] second [SEP].

    Each segment is read as a row of L neighbours in its shard, placed so that its tokens already
    stand in their columns: two copies per sample instead of an index per token.

    Args:
        in_second_BL: bool, columns from where a second segment begins or would begin.

    Returns:
        (B, L) in the id type of the shards; past a sample's length stand ids of no meaning.
    """
    num_samples, num_columns = in_second_BL.shape
    second_column_B = rows.first_length_B + 2
    has_second = np.flatnonzero(rows.second_length_B)
    segment_NL = _read(
        shards,
        np.concatenate([rows.first_shard_B, rows.second_shard_B[has_second]]),
        np.concatenate([rows.first_start_B, rows.second_start_B[has_second]]),
        np.concatenate([rows.first_length_B, rows.second_length_B[has_second]]),
        np.concatenate([np.ones_like(second_column_B), second_column_B[has_second]]),
        num_columns,
        special.pad,
    )
    ids_BL, second_NL = segment_NL[:num_samples], segment_NL[num_samples:]
    if len(second_NL) == num_samples:
        np.copyto(ids_BL, second_NL, where=in_second_BL)
    else:
        ids_BL[has_second] = np.where(in_second_BL[has_second], second_NL, ids_BL[has_second])
    sample_B = np.arange(num_samples)
    ids_BL[:, 0] = special.cls
    ids_BL[sample_B, second_column_B - 1] = special.sep
    ids_BL[sample_B, length_B - 1] = special.sep
    return ids_BL


def _read(
    shards: Mapping[int, Shard],
    shard_N: np.ndarray,
    start_N: np.ndarray,
    length_N: np.ndarray,
    column_N: np.ndarray,
    num_columns: int,
    filler: int,
) -> np.ndarray:
    """Rows of num_columns ids in which length_N tokens from start_N on stand at column_N."""
    by_shard = np.argsort(shard_N, kind="stable")
    numbers, first = np.unique(shard_N[by_shard], return_index=True)
    ends = np.append(first[1:], len(shard_N))
    columns_of_ids = [shards[number].ids_T for number in numbers.tolist()]
    id_type = np.result_type(*(ids_T.dtype for ids_T in columns_of_ids))
    # A row as one item of its own size, so that numpy copies it in one go.
    row_type = np.dtype((np.void, num_columns * id_type.itemsize))
    rows_NL = np.empty((len(shard_N), num_columns), dtype=id_type)
    rows_N = rows_NL.view(row_type).reshape(-1)

    num_starts = np.array([len(ids_T) - num_columns + 1 for ids_T in columns_of_ids])
    row_start = (start_N - column_N)[by_shard]
    last_start = np.repeat(num_starts, ends - first) - 1
    is_outside = (row_start < 0) | (row_start > last_start)
    inside_start = np.where(is_outside, 0, row_start)
    for ids_T, begin, end in zip(columns_of_ids, first.tolist(), ends.tolist(), strict=True):
        if len(ids_T) >= num_columns:
            neighbours = np.ndarray(
                (len(ids_T) - num_columns + 1,), row_type, ids_T, strides=(id_type.itemsize,)
            )
            rows_N[by_shard[begin:end]] = neighbours[inside_start[begin:end]]
    for place in np.flatnonzero(is_outside).tolist():  # at a shard's ends
        n = by_shard[place]
        ids_T = columns_of_ids[int(np.searchsorted(ends, place, side="right"))]
        rows_NL[n] = filler
        rows_NL[n, column_N[n] : column_N[n] + length_N[n]] = ids_T[start_N[n] :][: length_N[n]]
    return rows_NL


def _less(column_L: np.ndarray, bound_B: np.ndarray) -> np.ndarray:
    """bool (B, L): whether a column is below a sample's bound. Narrow numbers compare fastest."""
    return column_L.astype(np.uint16) < bound_B.astype(np.uint16)[:, None]
