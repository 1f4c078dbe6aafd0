"""A window: some shards' chunks as samples of one epoch, and which tokens each sample takes.

Legend: C chunks of the window, B samples asked for.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np

from raybert.samples.chunks import ChunkRule, Chunks, cut_documents, document_keys
from raybert.samples.compiled import CompiledWindow
from raybert.samples.counter_hash import derive_key, draws, shuffled
from raybert.samples.pairs import ChunkTable, Pairs, make_pairs
from raybert.tokens import Shard

_ORDER, _PAIRS, _TRUNCATION, _SAMPLE = range(4)
NEXT: Final = 0
NOT_NEXT: Final = 1
NOT_COUNTED: Final = -100
# A borrowed second half takes the room that is left, but at least this part of the limit.
_LEAST_BORROWED: Final = 8


@dataclass(frozen=True)
class SampleRows:
    """Which tokens samples take: a first segment and, of pairs, a second one.

    Attributes:
        key_B: uint64, from seed, epoch and sample; the masks are drawn from it.
        first_shard_B, second_shard_B: int64, shard numbers.
        first_start_B, second_start_B: int64, places in the shard.
        first_length_B, second_length_B: int64, tokens; the second is 0 where there is none.
        label_B: int64, 0 = the true second half, 1 = another one, -100 = there is none.
        truncated_B: int64, tokens of either segment that did not fit.
        single_B: bool, the chunk is one sentence, its second half borrowed.
    """

    key_B: np.ndarray
    first_shard_B: np.ndarray
    first_start_B: np.ndarray
    first_length_B: np.ndarray
    second_shard_B: np.ndarray
    second_start_B: np.ndarray
    second_length_B: np.ndarray
    label_B: np.ndarray
    truncated_B: np.ndarray
    single_B: np.ndarray

    def __len__(self) -> int:
        return len(self.key_B)

    def take(self, places: np.ndarray) -> SampleRows:
        """The rows at these places."""
        return SampleRows(
            **{f.name: getattr(self, f.name)[places] for f in dataclasses.fields(self)}
        )

    @classmethod
    def concatenate(cls, parts: Sequence[SampleRows]) -> SampleRows:
        """Rows one after the other."""
        if len(parts) == 1:
            return parts[0]
        return cls(
            **{
                f.name: np.concatenate([getattr(part, f.name) for part in parts])
                for f in dataclasses.fields(cls)
            }
        )


@dataclass(frozen=True, eq=False)
class Window:
    """The chunks of some shards in one epoch: 20 bytes each.

    Attributes:
        shards: the mapped shards by number.
        rule: how documents were cut.
        key: of the epoch.
        num_left_over: see `pairs.Pairs`.
    """

    shards: Mapping[int, Shard]
    rule: ChunkRule
    key: int
    num_left_over: int
    _first_chunk_N: np.ndarray
    _start_C: np.ndarray
    _cut_C: np.ndarray
    _end_C: np.ndarray
    _partner_C: np.ndarray
    _order_C: np.ndarray

    @classmethod
    def build(
        cls, shards: Mapping[int, Shard], rule: ChunkRule, held_out: bool, key: int
    ) -> Window:
        """Cut, pair and shuffle the documents of one split of these shards."""
        parts = [cut_shard(shard, rule, held_out) for shard in shards.values()]
        table = _table(list(shards), parts)
        order_C = shuffled(derive_key(key, _ORDER), table.counter_C)
        if rule.pairs:
            pairs = make_pairs(derive_key(key, _PAIRS), table, order_C)
        else:
            itself = np.arange(len(order_C), dtype=np.int32)
            pairs = Pairs(cut_C=table.end_C, partner_C=itself, num_left_over=0)
        return cls(
            shards=shards,
            rule=rule,
            key=key,
            num_left_over=pairs.num_left_over,
            _first_chunk_N=np.cumsum([0, *map(len, parts)]),
            _start_C=table.start_C,
            _cut_C=pairs.cut_C,
            _end_C=table.end_C,
            _partner_C=pairs.partner_C,
            _order_C=order_C.astype(np.int32),
        )

    @property
    def num_samples(self) -> int:
        return len(self._order_C)

    @cached_property
    def compiled(self) -> CompiledWindow:
        """What `compiled.micro_shards` takes; needs the package bert-kernels."""
        return CompiledWindow(
            self._first_chunk_N,
            (self._start_C, self._cut_C, self._end_C, self._partner_C, self._order_C),
            self.shards,
            limit=self.rule.limit,
            sample_key=derive_key(self.key, _SAMPLE),
            truncation_key=derive_key(self.key, _TRUNCATION),
        )

    def rows(self, first: int, last: int) -> SampleRows:
        """The samples at places first ≤ n < last of the window."""
        chunk = self._order_C[first:last]
        shard_numbers = np.fromiter(self.shards, dtype=np.int64)
        slot = np.searchsorted(self._first_chunk_N, chunk, side="right") - 1
        counter = _counters(shard_numbers[slot], chunk - self._first_chunk_N[slot])
        start, cut = self._start_C[chunk].astype(np.int64), self._cut_C[chunk].astype(np.int64)
        single = cut == self._end_C[chunk]
        partner = self._partner_C[chunk]
        exchanged = partner != chunk
        partner_cut, partner_end = self._cut_C[partner], self._end_C[partner].astype(np.int64)
        # A partner of one sentence lends all of it. Who keeps a cut at the end has no second half.
        lends_all = exchanged & (partner_cut == partner_end)
        second_start = np.where(lends_all, self._start_C[partner], partner_cut).astype(np.int64)
        partner_slot = np.searchsorted(self._first_chunk_N, partner, side="right") - 1
        label = exchanged.astype(np.int64)
        label[single & ~exchanged] = NOT_COUNTED
        rows = SampleRows(
            key_B=draws(derive_key(self.key, _SAMPLE), counter),
            first_shard_B=shard_numbers[slot],
            first_start_B=start,
            first_length_B=cut - start,
            second_shard_B=shard_numbers[partner_slot],
            second_start_B=second_start,
            second_length_B=partner_end - second_start,
            label_B=label,
            truncated_B=np.zeros(len(chunk), dtype=np.int64),
            single_B=single,
        )
        return _truncated(rows, self.rule.limit, derive_key(self.key, _TRUNCATION), counter)


def cut_shard(shard: Shard, rule: ChunkRule, held_out: bool) -> Chunks:
    """Cut the documents of one split of a shard."""
    return cut_documents(
        shard.sentence_offsets_S1,
        shard.document_offsets_D1,
        document_keys(shard.document_ids_D16),
        shard.held_out_D if held_out else ~shard.held_out_D,
        rule,
    )


def _table(shard_numbers: Sequence[int], parts: Sequence[Chunks]) -> ChunkTable:
    num_pieces = np.cumsum([0, *(len(part.piece_start_P) for part in parts)])
    first_piece_C = np.concatenate(
        [part.first_piece_C1[:-1] + num_pieces[i] for i, part in enumerate(parts)]
    )
    piece_start_P = np.concatenate([part.piece_start_P for part in parts])
    return ChunkTable(
        counter_C=np.concatenate(
            [
                _counters(number, np.arange(len(part)))
                for number, part in zip(shard_numbers, parts, strict=True)
            ]
        ),
        document_key_C=np.concatenate([part.document_key_C for part in parts]),
        num_pieces_C=np.concatenate([np.diff(part.first_piece_C1) for part in parts]),
        first_piece_C=first_piece_C,
        start_C=piece_start_P[first_piece_C],
        end_C=np.concatenate([part.end_C for part in parts]),
        piece_start_P=piece_start_P,
    )


def _counters(shard_number: int | np.ndarray, chunk: np.ndarray) -> np.ndarray:
    """uint64 that name chunks among all of the corpus: shard number, then chunk of the shard."""
    return (np.uint64(1 << 32) * np.asarray(shard_number, dtype=np.uint64)) + chunk.astype(
        np.uint64
    )


def _truncated(rows: SampleRows, limit: int, key: int, counter: np.ndarray) -> SampleRows:
    """Shorten the longer segment until both fit, at its front or its back by a coin.

    As `truncate_seq_pair` of Devlin et al. 2019, with one coin per segment in place of one per
    token. A borrowed second half is shortened first: the sample's own sentence is what this epoch
    sees of it.
    """
    first, second = rows.first_length_B, rows.second_length_B
    room = np.maximum(limit - first, limit // _LEAST_BORROWED)
    second = np.where(rows.single_B, np.minimum(second, room), second)
    small = limit // 2
    kept_first = np.where(
        first + second <= limit,
        first,
        np.minimum(first, np.where(second <= small, limit - second, limit - small)),
    )
    kept_second = np.minimum(second, limit - kept_first)
    cut_first, cut_second = first - kept_first, second - kept_second
    coins = draws(key, counter)
    front_first = (coins & np.uint64(1)).astype(np.int64)
    front_second = ((coins >> np.uint64(1)) & np.uint64(1)).astype(np.int64)
    # What is taken of a loan is its begin; the rest of the loan is not lost, its owner sees it.
    return dataclasses.replace(
        rows,
        first_start_B=rows.first_start_B + cut_first * front_first,
        first_length_B=kept_first,
        second_start_B=rows.second_start_B + cut_second * front_second,
        second_length_B=kept_second,
        truncated_B=cut_first + np.where(rows.single_B, 0, cut_second),
    )
