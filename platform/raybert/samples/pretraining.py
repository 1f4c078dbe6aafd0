"""Samples for pretraining as a pure function of seed and position.

    store = TokenStore.open("tokens")
    samples = PretrainingSamples(store, SampleSettings(), seed=42)
    batches = samples.micro_shards(step * 256, 256, 4, range(0, 4))

There is no state: any position gives the same batches at any time, in any order, in any process.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Final, Literal

import numpy as np

import rust_tok
from bert.batch import PackedBatch
from raybert.errors import UserError
from raybert.samples import compiled
from raybert.samples.chunk_counts import chunk_counts
from raybert.samples.chunks import ChunkRule
from raybert.samples.compiled import CompiledMasking
from raybert.samples.counter_hash import derive_key
from raybert.samples.order import EpochOrder
from raybert.samples.packing import deal, pack, sample_lengths
from raybert.samples.recent import Recent
from raybert.samples.special_tokens import SpecialTokens
from raybert.samples.statistics import SampleStatistics
from raybert.samples.window import SampleRows, Window
from raybert.settings import SampleSettings
from raybert.tokens import Shard, TokenStore

Split = Literal["train", "held_out"]
_TRAIN, _HELD_OUT = 1, 2
_SHARDS, _SAMPLES = 1, 2
# A batch across a window's end needs two, and so does making one ahead.
_KEPT: Final = 2


class PretrainingSamples:
    """The samples of one split of a token folder, in the order of a seed.

    Training samples come in another order with other pairs and masks in each epoch; positions run
    on across epochs. Held-out samples are the same in every epoch and for every seed, so that
    evaluations compare.

    Safe to use from several threads. Memory: two windows (20 bytes per sample of shuffle_shards
    shards) and a number per shard.

    Args:
        store: the token folder.
        settings: length, masking, pairs, shuffling.
        seed: of the order, the pairs and the masks; not used for held-out samples.
        split: "train" or "held_out".
        special_tokens: by default those of the folder's tokenizer.

    Raises:
        UserError: there is no document to train on, or the tokenizer lacks a special token.
        InvalidContent: a shard is damaged.
    """

    def __init__(
        self,
        store: TokenStore,
        settings: SampleSettings,
        seed: int,
        split: Split = "train",
        *,
        special_tokens: SpecialTokens | None = None,
    ) -> None:
        self.store = store
        self.settings = settings
        self.split: Split = split
        self.special_tokens = special_tokens or SpecialTokens.from_tokenizer(
            rust_tok.Tokenizer.from_file(str(store.tokenizer_path))
        )
        self.rule = ChunkRule.of(settings.max_length, settings.next_sentence, settings.short_share)
        counts = chunk_counts(store, self.rule)
        self._num_samples_N = counts.held_out_N if split == "held_out" else counts.train_N
        self.num_samples = int(self._num_samples_N.sum())
        if split == "train" and self.num_samples == 0:
            raise UserError(f"{store.location}: no document to train on")
        self._key = derive_key(_HELD_OUT) if split == "held_out" else derive_key(_TRAIN, seed)
        self._orders: Recent[EpochOrder] = Recent(_KEPT)
        self._windows: Recent[Window] = Recent(_KEPT)

    def micro_shards(
        self, position: int, batch_size: int, num_micro_shards: int, which: range
    ) -> list[PackedBatch]:
        """Some micro-shards of the global batch at a position.

        Args:
            position: of the batch's first sample, counted from the begin of training:
                step * batch_size.
            batch_size: samples of the global batch.
            num_micro_shards: K; the batch is dealt to them balanced by length.
            which: the micro-shards to build. A micro-shard is the same whoever builds it.

        Returns:
            One batch per micro-shard asked for.

        Raises:
            ValueError: more micro-shards than samples, micro-shards that don't exist, or no
                samples in this split.
        """
        if not 1 <= num_micro_shards <= batch_size:
            raise ValueError(
                f"{num_micro_shards} micro-shards of {batch_size} samples; each needs one"
            )
        if any(not 0 <= k < num_micro_shards for k in which):
            raise ValueError(f"micro-shards {which} of {num_micro_shards}")
        spans = self._spans(position, batch_size)
        if compiled.usable():
            return compiled.micro_shards(
                [(window.compiled, first, last) for window, first, last in spans],
                num_micro_shards,
                which,
                self._compiled_masking,
                self.settings.next_sentence,
            )
        rows, shards = _rows(spans)
        dealt = deal(sample_lengths(rows), num_micro_shards)
        chosen = [dealt[k] for k in which]
        if not chosen:
            return []
        return pack(
            rows.take(np.concatenate(chosen)),
            [len(places) for places in chosen],
            shards,
            self.special_tokens,
            masking_rate=self.settings.masking_rate,
            whole_words=self.settings.whole_word_masking,
            pairs=self.settings.next_sentence,
        )

    def rows(self, position: int, num_samples: int) -> SampleRows:
        """Which tokens the samples at position, position + 1, ... take."""
        return _rows(self._spans(position, num_samples))[0]

    def statistics(self, epoch: int = 0, num_windows: int | None = None) -> SampleStatistics:
        """What an epoch's samples, or those of its first windows, are made of."""
        order = self._order(self._fixed(epoch))
        total = SampleStatistics()
        for number in range(min(order.num_windows, num_windows or order.num_windows)):
            window = self._window(self._fixed(epoch), number)
            total += SampleStatistics.of(window.rows(0, window.num_samples), window.num_left_over)
        return total

    def prefetch(self, position: int) -> None:
        """Build the window after that of a position, so that a later call need not wait for it."""
        epoch, place = divmod(position, self.num_samples)
        order = self._order(self._fixed(epoch))
        window = order.spans(place, place + 1)[0][0]
        if window + 1 < order.num_windows:
            self._window(self._fixed(epoch), window + 1)
        else:
            self._window(self._fixed(epoch + 1), 0)

    def _spans(self, position: int, num_samples: int) -> list[tuple[Window, int, int]]:
        """The windows that samples lie in; of each the first place and the one after the last."""
        if self.num_samples == 0:
            raise ValueError(f"{self.store.location}: no {self.split} samples")
        if position < 0 or num_samples < 1:
            raise ValueError(f"{num_samples} samples at position {position}")
        found: list[tuple[Window, int, int]] = []
        while num_samples > 0:
            epoch, first = divmod(position, self.num_samples)
            last = min(first + num_samples, self.num_samples)
            epoch = self._fixed(epoch)
            for number, begin, end in self._order(epoch).spans(first, last):
                found.append((self._window(epoch, number), begin, end))
            position += last - first
            num_samples -= last - first
        return found

    @cached_property
    def _compiled_masking(self) -> CompiledMasking:
        return CompiledMasking(
            self.special_tokens, self.settings.masking_rate, self.settings.whole_word_masking
        )

    def _fixed(self, epoch: int) -> int:
        return 0 if self.split == "held_out" else epoch

    def _order(self, epoch: int) -> EpochOrder:
        return self._orders.get(
            epoch,
            lambda: EpochOrder.of(
                self._num_samples_N,
                derive_key(self._key, epoch, _SHARDS),
                self.settings.shuffle_shards,
            ),
        )

    def _window(self, epoch: int, number: int) -> Window:
        return self._windows.get((epoch, number), lambda: self._build(epoch, number))

    def _build(self, epoch: int, number: int) -> Window:
        numbers = self._order(epoch).shards_of(number).tolist()
        return Window.build(
            {shard: self.store.shard(shard) for shard in numbers},
            self.rule,
            held_out=self.split == "held_out",
            key=derive_key(self._key, epoch, _SAMPLES),
        )


def _rows(spans: Sequence[tuple[Window, int, int]]) -> tuple[SampleRows, dict[int, Shard]]:
    """The samples at these places of windows, and the shards that they name."""
    parts: list[SampleRows] = []
    shards: dict[int, Shard] = {}
    for window, first, last in spans:
        parts.append(window.rows(first, last))
        shards.update(window.shards)
    return SampleRows.concatenate(parts), shards
