"""Sentence pairs: where a chunk is cut in two, and whose second half follows.

Half of the chunks of several sentences keep their true second half. The others exchange second
halves across documents, so that every sentence is still seen once. They exchange among chunks whose
second halves are about equally long: little is truncated, and a pair's length tells nothing about
its label. A chunk of one sentence has no second half and borrows one.

Legend: C chunks of a window, M of them that exchange, B blocks, R runs of one document in a block.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from raybert.samples.counter_hash import below, derive_key, draws, sort_order

# Chunks that exchange with each other. Small: halves of one length. Large: many documents.
_BLOCK: Final = 256
_CUT, _GROUPS, _ROTATION, _BORROW = range(4)


@dataclass(frozen=True)
class ChunkTable:
    """The chunks of a window, those of its shards one after the other.

    Attributes:
        counter_C: uint64, names each chunk among all of the corpus.
        document_key_C: uint64, equal for chunks of one document.
        num_pieces_C: int64, sentences of each chunk.
        first_piece_C: int64, the first of them in piece_start_P.
        start_C, end_C: int32, the chunk's tokens in its shard.
        piece_start_P: int32, where each sentence begins in its shard.
    """

    counter_C: np.ndarray
    document_key_C: np.ndarray
    num_pieces_C: np.ndarray
    first_piece_C: np.ndarray
    start_C: np.ndarray
    end_C: np.ndarray
    piece_start_P: np.ndarray


@dataclass(frozen=True)
class Pairs:
    """How each chunk of a window becomes a pair.

    Attributes:
        cut_C: int32, the place in its shard where the second half begins; of a chunk of one
            sentence, its end.
        partner_C: int32, the chunk whose second half follows the first half; the chunk itself
            where nothing was exchanged, also where there was no other document to borrow from.
        num_left_over: chunks that were to exchange, but one document had too many of them.
    """

    cut_C: np.ndarray
    partner_C: np.ndarray
    num_left_over: int


def make_pairs(key: int, table: ChunkTable, order_C: np.ndarray) -> Pairs:
    """Pair the chunks of a window.

    Args:
        key: of the epoch.
        table: the chunks.
        order_C: a permutation of them that has nothing to do with where they stand.
    """
    bits_C = draws(derive_key(key, _CUT), table.counter_C)
    cut_C = _cut(bits_C, table)
    exchanging_C = (table.num_pieces_C > 1) & (bits_C & np.uint64(1)).astype(bool)
    grouped = sort_order(draws(derive_key(key, _GROUPS), table.document_key_C))
    partner_C = np.arange(len(cut_C), dtype=np.int32)
    num_left_over = 0
    if exchanging_C.any():
        members = order_C[exchanging_C[order_C]]
        block_C = _blocks(members, table.end_C - cut_C)
        num_left_over = _exchange(
            derive_key(key, _ROTATION), exchanging_C, block_C, grouped, partner_C
        )
    borrow_bits_C = draws(derive_key(key, _BORROW), table.counter_C)
    _borrow(borrow_bits_C, table.num_pieces_C == 1, grouped, partner_C)
    return Pairs(cut_C, partner_C, num_left_over)


def _cut(bits_C: np.ndarray, table: ChunkTable) -> np.ndarray:
    """A place between two sentences, every one as likely; `below` takes the upper bits."""
    multi = np.flatnonzero(table.num_pieces_C > 1)
    rank = 1 + below(bits_C[multi], table.num_pieces_C[multi] - 1).astype(np.int64)
    cut_C = table.end_C.copy()
    cut_C[multi] = table.piece_start_P[table.first_piece_C[multi] + rank]
    return cut_C


def _blocks(members_M: np.ndarray, second_length_C: np.ndarray) -> np.ndarray:
    """Blocks of neighbours in second length: uint32 (C,), meaningful for members."""
    by_length = np.argsort(second_length_C[members_M].astype(np.uint16), kind="stable")
    num_blocks = max(1, len(members_M) // _BLOCK)
    block_C = np.zeros(len(second_length_C), dtype=np.uint32)
    block_C[members_M[by_length]] = np.arange(len(members_M)) * num_blocks // len(members_M)
    return block_C


def _exchange(
    key: int,
    exchanging_C: np.ndarray,
    block_C: np.ndarray,
    grouped: tuple[np.ndarray, np.ndarray],
    partner_C: np.ndarray,
) -> int:
    """Rotate second halves inside each block, out of every document; gives how many could not.

    In a block the chunks of a document stand side by side. Where the largest document has m of n,
    a rotation by r, m ≤ r ≤ n - m, leads each chunk to another document. Where it has more than
    half, what is too many of it stays out.

    Args:
        grouped: all chunks, documents side by side, and a number per document in that order. Two
            documents that share a number count as one.
        partner_C: written to.
    """
    chunk_C, document_C = grouped
    chosen = np.flatnonzero(exchanging_C[chunk_C])
    block_M = block_C[chunk_C[chosen]]
    by_block = np.argsort(block_M, kind="stable")
    chosen, block_M = chosen[by_block], block_M[by_block]
    chunk_M, document_M = chunk_C[chosen], document_C[chosen]

    begins = (document_M[1:] != document_M[:-1]) | (block_M[1:] != block_M[:-1])
    start_R = np.concatenate([[0], np.flatnonzero(begins) + 1])
    size_R = np.diff(start_R, append=len(chunk_M))
    block_R = block_M[start_R]
    num_blocks = int(block_R[-1]) + 1
    size_B = np.bincount(block_M, minlength=num_blocks)
    excess_R = np.maximum(2 * size_R - size_B[block_R], 0)
    first_run_B = np.searchsorted(block_R, np.arange(num_blocks))
    largest_B = np.maximum.reduceat(size_R - excess_R, first_run_B)
    num_left_over = int(excess_R.sum())
    if num_left_over:
        rank_M = np.arange(len(chunk_M)) - np.repeat(start_R, size_R)
        kept = rank_M >= np.repeat(excess_R, size_R)
        chunk_M, block_M = chunk_M[kept], block_M[kept]
        size_B = np.bincount(block_M, minlength=num_blocks)

    start_B = np.cumsum(size_B) - size_B
    counter_B = np.arange(num_blocks, dtype=np.uint64)
    rotation_B = largest_B + below(draws(key, counter_B), size_B - 2 * largest_B + 1).astype(
        np.int64
    )
    rank_M = np.arange(len(chunk_M)) - start_B[block_M] + rotation_B[block_M]
    rank_M -= np.where(rank_M >= size_B[block_M], size_B[block_M], 0)
    partner_C[chunk_M] = chunk_M[start_B[block_M] + rank_M]
    return num_left_over


def _borrow(
    bits_C: np.ndarray,
    single_C: np.ndarray,
    grouped: tuple[np.ndarray, np.ndarray],
    partner_C: np.ndarray,
) -> None:
    """Give each chunk of one sentence any chunk of another document as partner, if there is one.

    Args:
        grouped: see `_exchange`.
        partner_C: written to.
    """
    chunk_C, document_C = grouped
    place = np.flatnonzero(single_C[chunk_C])
    if len(place) == 0:
        return
    begins = np.concatenate([[0], np.flatnonzero(document_C[1:] != document_C[:-1]) + 1])
    run = np.searchsorted(begins, place, side="right") - 1
    size = np.diff(begins, append=len(chunk_C))[run]
    num_others = len(chunk_C) - size
    place, run, size, num_others = (part[num_others > 0] for part in (place, run, size, num_others))
    borrower = chunk_C[place]
    skip = below(bits_C[borrower], num_others).astype(np.int64)
    partner_C[borrower] = chunk_C[(begins[run] + size + skip) % len(chunk_C)]
