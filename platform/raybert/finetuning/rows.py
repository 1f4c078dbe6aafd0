"""Tokenized rows as a source of packed batches; which row stands where is a pure function.

Row n of epoch e is a permutation keyed by (seed, e); a step takes the positions from step x batch
size on, over an epoch's end into the next. Nothing is remembered (DESIGN, law 1).

Legend: N rows, S rows of a batch, T their tokens, C outputs.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pyarrow as pa
import torch

from bert.batch import PackedBatch
from raybert.samples.counter_hash import derive_key, shuffled
from raybert.samples.packing import deal
from raybert.settings.data import Task

_ORDER = 0x0F17E


class LabelledRows:
    """A part of tokenized data.

    Args:
        table: of `raybert.finetuning.data`, one chunk.
        task: says what its labels are.
        num_outputs: C.

    Attributes:
        length_N: int64 (N,), tokens per row.
    """

    def __init__(self, table: pa.Table, task: Task, num_outputs: int, vocab_size: int) -> None:
        self.task: Task = task
        self.num_outputs = num_outputs
        self.vocab_size = vocab_size
        self._table = table
        ids = _chunk(table, "ids")
        self._start_N1 = np.asarray(ids.offsets)
        self._ids = np.asarray(ids.values)
        self.length_N = np.diff(self._start_N1)
        self._second_N = np.asarray(_chunk(table, "second"))
        label = _chunk(table, "label")
        self._is_list = task in ("multi_label", "tokens")
        self._label = np.asarray(label.values if self._is_list else label)
        self._label_start_N1 = np.asarray(label.offsets) if self._is_list else None

    def __len__(self) -> int:
        return len(self.length_N)

    @property
    def num_tokens(self) -> int:
        return len(self._ids)

    def column(self, name: str) -> pa.Array:
        """A column of the table: `text`, `pair`, `row`, `word`."""
        return _chunk(self._table, name)

    def has(self, name: str) -> bool:
        """Whether there is such a column."""
        return name in self._table.column_names

    def batch(self, places: np.ndarray) -> PackedBatch:
        """Some rows as one packed batch, in the given order: best by length."""
        length_S = self.length_N[places]
        end_S = np.cumsum(length_S)
        column_T = np.arange(int(end_S[-1])) - np.repeat(end_S - length_S, length_S)
        source_T = np.repeat(self._start_N1[places], length_S) + column_T
        second_S = self._second_N[places]
        # Without a second segment no column reaches it.
        second_S = np.where(second_S == 0, np.iinfo(np.int32).max, second_S)
        return PackedBatch(
            input_ids=torch.from_numpy(self._ids[source_T].astype(np.int64)),
            position_ids=torch.from_numpy(column_T),
            token_type_ids=torch.from_numpy(
                (column_T >= np.repeat(second_S, length_S)).astype(np.int64)
            ),
            lengths=tuple(length_S.tolist()),
            cu_seqlens=torch.from_numpy(np.concatenate([[0], end_S]).astype(np.int32)),
            labels=torch.from_numpy(self._labels(places, source_T)),
        )

    def _labels(self, places: np.ndarray, source_T: np.ndarray) -> np.ndarray:
        if self.task == "classification":
            return self._label[places].astype(np.int64)
        if self.task == "regression":
            return self._label[places].astype(np.float32)
        if self.task == "tokens":
            return self._label[source_T].astype(np.int64)
        assert self._label_start_N1 is not None  # the labels of multi_label are lists
        label_SC = np.zeros((len(places), self.num_outputs), dtype=np.float32)
        for i, place in enumerate(places.tolist()):
            label_SC[i, self._label[slice(*self._label_start_N1[place : place + 2])]] = 1
        return label_SC

    def targets(self) -> np.ndarray:
        """What evaluation compares with, of all rows in order.

        (N,) ids or numbers, (N, C) of 0 and 1, or the ids of all labelled words laid end to end.
        """
        if self.task == "tokens":
            return self._label[self._label >= 0].astype(np.int64)
        return self._labels(np.arange(len(self)), np.zeros(0, np.int64))

    def units_N1(self) -> np.ndarray:
        """int64 (N+1,), where each row's units begin: rows themselves, or labelled words."""
        if self.task != "tokens":
            return np.arange(len(self) + 1)
        labelled = np.concatenate([[0], np.cumsum(self._label >= 0)])
        return labelled[self._start_N1]


class TrainingOrder:
    """The rows of all epochs, for `BatchLoader`.

    Args:
        rows: of the training part.
        seed: of the run.
    """

    def __init__(self, rows: LabelledRows, seed: int) -> None:
        self._rows = rows
        self._seed = seed
        self._epoch = lru_cache(maxsize=2)(self._permutation)

    def _permutation(self, epoch: int) -> np.ndarray:
        counters = np.arange(len(self._rows), dtype=np.uint64)
        return shuffled(derive_key(_ORDER, self._seed, epoch), counters)

    def places(self, position: int, count: int) -> np.ndarray:
        """Row numbers of so many positions, counted over all epochs."""
        found = []
        while count > 0:
            epoch, first = divmod(position, len(self._rows))
            part = self._epoch(epoch)[first : first + count]
            found.append(part)
            position, count = position + len(part), count - len(part)
        return np.concatenate(found)

    def micro_shards(
        self, position: int, batch_size: int, num_micro_shards: int, which: range
    ) -> list[PackedBatch]:
        """Those of a global batch that `which` names; see `raybert.samples.loader.BatchSource`."""
        places = self.places(position, batch_size)
        dealt = deal(self._rows.length_N[places], num_micro_shards)
        return [self._rows.batch(places[dealt[shard]]) for shard in which]

    def prefetch(self, position: int) -> None:
        """An epoch's order is made in a moment."""
        self._epoch(position // len(self._rows))


def evaluation_batches(rows: LabelledRows, max_tokens: int, max_rows: int) -> list[np.ndarray]:
    """All rows, longest first, cut into batches: the same list for any number of workers."""
    order = np.argsort(-rows.length_N, kind="stable")
    batches: list[np.ndarray] = []
    begin = 0
    while begin < len(order):
        fitting = max(1, max_tokens // int(rows.length_N[order[begin]]))
        end = begin + min(fitting, max_rows)
        batches.append(order[begin:end])
        begin = end
    return batches


def _chunk(table: pa.Table, name: str) -> pa.Array:
    column = table.column(name)
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
