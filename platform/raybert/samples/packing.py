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
    ids_BL = gather(rows, length_B, shards, special)
    chosen = choose_masked(ids_BL, length_B, rows.key_B, masking_rate, special, whole_words)
    labels = replace_masked(ids_BL, chosen, rows.key_B, special)

    num_columns = ids_BL.shape[1]
    column_L = np.arange(num_columns, dtype=np.uint16)
    is_token_BL = column_L < length_B.astype(np.uint16)[:, None]
    in_second_BL = column_L > (rows.first_length_B + 1).astype(np.uint16)[:, None]
    input_ids_T = torch.from_numpy(ids_BL[is_token_BL].astype(np.int64))
    position_ids_T = torch.from_numpy(
        np.broadcast_to(column_L, ids_BL.shape)[is_token_BL].astype(np.int64)
    )
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
    shards: Mapping[int, Shard],
    special: SpecialTokens,
) -> np.ndarray:
    """[CLS] first [SEP], or [CLS] first [SEP] second [SEP].

    Each segment is read as a row of L neighbours in its shard, placed so that its tokens already
    stand in their columns: two copies per sample instead of an index per token.

    Returns:
        (B, L) in the id type of the shards; past a sample's length stand ids of no meaning.
    """
    num_samples, num_columns = len(rows), int(length_B.max())
    second_column_B = rows.first_length_B + 2
    segment_2BL = _read(
        shards,
        np.concatenate([rows.first_shard_B, rows.second_shard_B]),
        np.concatenate([rows.first_start_B, rows.second_start_B]),
        np.concatenate([rows.first_length_B, rows.second_length_B]),
        np.concatenate([np.ones_like(second_column_B), second_column_B]),
        num_columns,
        special.pad,
    )
    ids_BL, second_BL = segment_2BL[:num_samples], segment_2BL[num_samples:]
    column_L = np.arange(num_columns, dtype=np.uint16)
    in_second_BL = column_L >= second_column_B.astype(np.uint16)[:, None]
    np.copyto(ids_BL, second_BL, where=in_second_BL)
    ids_BL[:, 0] = special.cls
    ids_BL[np.arange(num_samples), second_column_B - 1] = special.sep
    ids_BL[np.arange(num_samples), length_B - 1] = special.sep
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
    numbers = np.unique(shard_N).tolist()
    id_type = np.result_type(*(shards[number].ids_T.dtype for number in numbers))
    rows_NL = np.empty((len(shard_N), num_columns), dtype=id_type)
    # A row as one item of its own size, so that numpy copies it in one go.
    row_type = np.dtype((np.void, num_columns * id_type.itemsize))
    rows_N = rows_NL.view(row_type).reshape(-1)
    for number in numbers:
        ids_T = shards[number].ids_T
        chosen = np.flatnonzero(shard_N == number)
        row_start = start_N[chosen] - column_N[chosen]
        num_starts = len(ids_T) - num_columns + 1
        inside = (row_start >= 0) & (row_start < num_starts)
        if num_starts > 0:
            neighbours = np.ndarray(
                (num_starts,), dtype=row_type, buffer=ids_T, strides=(id_type.itemsize,)
            )
            rows_N[chosen[inside]] = neighbours[row_start[inside]]
        for n in chosen[~inside].tolist():  # at a shard's ends
            start, length, column = int(start_N[n]), int(length_N[n]), int(column_N[n])
            rows_NL[n] = filler
            rows_NL[n, column : column + length] = ids_T[start : start + length]
    return rows_NL
