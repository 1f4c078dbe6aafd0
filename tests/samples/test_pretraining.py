"""The laws of samples, seen from the batches that come out."""

import itertools
import tracemalloc
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from samples.corpora import (
    FIRST_TOKEN,
    Corpus,
    original_ids,
    random_lengths,
    segments,
    write_corpus,
)

from raybert.errors import InvalidContent, UserError
from raybert.samples import PretrainingSamples
from raybert.samples.chunk_counts import ChunkCounts
from raybert.samples.packing import deal, sample_lengths
from raybert.samples.window import cut_shard
from raybert.settings import SampleSettings
from raybert.tokens import TokenStore

MAX_LENGTH = 32


def samples_of(corpus, seed=1, split="train", **changes):
    return PretrainingSamples(
        corpus.store,
        SampleSettings(**({"max_length": MAX_LENGTH} | changes)),
        seed,
        split,
        special_tokens=corpus.special,
    )


def batches_equal(left, right):
    names = (
        "input_ids",
        "position_ids",
        "token_type_ids",
        "cu_seqlens",
        "masked_index",
        "masked_labels",
        "next_sentence_labels",
    )
    return left.lengths == right.lengths and all(
        torch.equal(getattr(left, name), getattr(right, name)) for name in names
    )


def epoch_of(samples, epoch=0):
    """All samples of an epoch in one batch."""
    (batch,) = samples.micro_shards(epoch * samples.num_samples, samples.num_samples, 1, range(1))
    return batch


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    shards = [random_lengths(seed, 60, tokens=8) for seed in range(7)]
    return write_corpus(tmp_path_factory.mktemp("corpus"), *shards, held_out=0.1)


@pytest.fixture(scope="module")
def samples(corpus):
    return samples_of(corpus, shuffle_shards=3)


class TestPurity:
    @given(
        position=st.integers(0, 10**12),
        batch_size=st.integers(1, 40),
        num_micro_shards=st.integers(1, 8),
    )
    @settings(max_examples=60, deadline=None)
    def test_a_position_gives_the_same_batches_whoever_asks(
        self, corpus, samples, position, batch_size, num_micro_shards
    ):
        num_micro_shards = min(num_micro_shards, batch_size)
        all_of_them = range(num_micro_shards)
        first = samples.micro_shards(position, batch_size, num_micro_shards, all_of_them)
        again = samples_of(corpus, shuffle_shards=3).micro_shards(
            position, batch_size, num_micro_shards, all_of_them
        )
        alone = [
            samples.micro_shards(position, batch_size, num_micro_shards, range(k, k + 1))[0]
            for k in reversed(all_of_them)
        ][::-1]
        for one, two, three in zip(first, again, alone, strict=True):
            assert batches_equal(one, two)
            assert batches_equal(one, three)

    def test_seeds_and_epochs_differ(self, corpus, samples):
        batches = [
            epoch_of(samples, 0),
            epoch_of(samples, 1),
            epoch_of(samples_of(corpus, seed=2, shuffle_shards=3)),
        ]
        for left, right in itertools.combinations(batches, 2):
            assert left.input_ids.tolist() != right.input_ids.tolist()
            assert left.num_sequences == right.num_sequences

    def test_samples_do_not_depend_on_the_batch_size(self, samples):
        # Two batches of 16 hold the sequences of one of 32, over an epoch's end.
        position = samples.num_samples - 20
        whole = samples.micro_shards(position, 32, 1, range(1))
        halves = samples.micro_shards(position, 16, 1, range(1)) + samples.micro_shards(
            position + 16, 16, 1, range(1)
        )
        one, two = (
            sorted(tuple(ids) for batch in batches for ids in original_ids(batch))
            for batches in (whole, halves)
        )
        assert one == two


@dataclass(frozen=True)
class Sample:
    """What one sample shows, masks undone."""

    first: np.ndarray
    second: np.ndarray
    label: int
    is_single: bool


def samples_in(samples, epoch=0):
    """The samples of an epoch, in any order."""
    batch = epoch_of(samples, epoch)
    rows = samples.rows(epoch * samples.num_samples, samples.num_samples)
    rows = rows.take(deal(sample_lengths(rows), 1)[0])
    assert batch.next_sentence_labels.tolist() == rows.label_B.tolist()
    return [
        Sample(first, second, label, single)
        for (first, second), label, single in zip(
            segments(batch), rows.label_B.tolist(), rows.single_B.tolist(), strict=True
        )
    ]


def held_out_ids(corpus):
    """bool by id: the token's document is held out."""
    held_out = np.concatenate(
        [corpus.store.shard(i).held_out_D for i in range(corpus.store.num_shards)]
    )
    return np.append(held_out, False)[corpus.document_of_id]


class TestEpoch:
    @pytest.mark.parametrize("epoch", [0, 1, 5])
    def test_every_token_is_seen_once_but_what_is_truncated(self, corpus, samples, epoch):
        seen = np.zeros(len(corpus.document_of_id), dtype=int)
        for sample in samples_in(samples, epoch):
            seen[sample.first] += 1
            if not sample.is_single:
                seen[sample.second] += 1
        expected = ~held_out_ids(corpus)
        expected[:FIRST_TOKEN] = False
        assert (seen[~expected] == 0).all()
        assert seen[expected].max() == 1
        statistics = samples.statistics(epoch)
        assert expected.sum() - seen.sum() == statistics.truncated_tokens
        assert statistics.truncated_tokens < 0.05 * seen.sum()

    def test_true_pairs_go_on_and_others_come_from_another_document(self, corpus, samples):
        for sample in samples_in(samples):
            assert len(sample.first) >= 1
            assert len(sample.second) >= 1
            assert (np.diff(sample.first) == 1).all()
            assert (np.diff(sample.second) == 1).all()
            (first,) = np.unique(corpus.document_of_id[sample.first])
            (second,) = np.unique(corpus.document_of_id[sample.second])
            if sample.label == 0:
                assert sample.second[0] == sample.first[-1] + 1
                assert not sample.is_single
            else:
                assert first != second

    def test_statistics_count_what_is_there(self, samples):
        found = samples_in(samples, 2)
        statistics = samples.statistics(2)
        assert statistics.samples == len(found) == samples.num_samples
        assert statistics.next_pairs == sum(s.label == 0 for s in found)
        assert statistics.exchanged_pairs == sum(s.label == 1 and not s.is_single for s in found)
        assert statistics.borrowing_pairs == sum(s.is_single for s in found)
        assert statistics.unpaired == statistics.left_over == 0
        assert statistics.tokens == sum(len(s.first) + len(s.second) + 3 for s in found)
        assert statistics.borrowed_tokens == sum(len(s.second) for s in found if s.is_single)
        parts = samples.statistics(2, num_windows=1)
        assert 0 < parts.samples < statistics.samples

    def test_half_of_the_pairs_are_true(self, samples):
        statistics = samples.statistics(0) + samples.statistics(1) + samples.statistics(2)
        pairs = statistics.next_pairs + statistics.exchanged_pairs
        share = statistics.next_pairs / pairs
        assert abs(share - 0.5) < 4 * 0.5 / np.sqrt(pairs)

    def test_length_hardly_tells_the_label(self, samples):
        lengths = {0: [], 1: []}
        for epoch in range(3):
            for sample in samples_in(samples, epoch):
                if not sample.is_single:
                    lengths[sample.label].append(len(sample.first) + len(sample.second))
        # A second half from elsewhere is cut where it does not fit, so such pairs are a little
        # shorter. The chance that a true pair is the longer of two (AUC) stays near one half.
        true, other = (np.array(lengths[label]) for label in (0, 1))
        other.sort()
        shorter, not_longer = (np.searchsorted(other, true, side) for side in ("left", "right"))
        assert abs((shorter + not_longer).mean() / (2 * len(other)) - 0.5) < 0.08

    def test_lengths_stay_within_the_limit_and_reach_it(self, samples):
        lengths = np.array(epoch_of(samples).lengths)
        assert lengths.max() == MAX_LENGTH
        assert np.mean(lengths) > 0.7 * MAX_LENGTH

    def test_without_pairs_documents_are_cut_into_full_segments(self, corpus):
        samples = samples_of(corpus, next_sentence=False)
        batch = epoch_of(samples)
        assert batch.next_sentence_labels is None
        tokens = np.sort(np.concatenate([first for first, _ in segments(batch)]))
        expected = ~held_out_ids(corpus)
        expected[:FIRST_TOKEN] = False
        assert tokens.tolist() == np.flatnonzero(expected).tolist()
        assert not batch.token_type_ids.any()
        assert samples.statistics().unpaired == samples.num_samples

    @pytest.mark.parametrize("shuffle_shards", [1, 4])
    def test_a_sample_stands_anywhere_in_an_epoch(self, make_corpus, shuffle_shards):
        # Equal shards, so that every place is as likely whatever the windows are.
        corpus = make_corpus(*[[[10] * 6] * 5] * 4)
        samples = samples_of(corpus, short_share=0.0, shuffle_shards=shuffle_shards)
        num_samples, num_epochs = samples.num_samples, 300
        begins = [
            chunks.piece_start_P[chunks.first_piece_C1[:-1]]
            for i in range(4)
            for chunks in [cut_shard(corpus.store.shard(i), samples.rule, held_out=False)]
        ]
        assert num_samples == sum(map(len, begins)) == 4 * len(begins[0])
        counts = np.zeros((num_samples, num_samples))
        for epoch in range(num_epochs):
            rows = samples.rows(epoch * num_samples, num_samples)
            chunk = np.searchsorted(begins[0], rows.first_start_B, side="right") - 1
            counts[rows.first_shard_B * len(begins[0]) + chunk, np.arange(num_samples)] += 1
        assert (counts.sum(axis=1) == num_epochs).all()
        expected = num_epochs / num_samples
        chi_square = ((counts - expected) ** 2 / expected).sum()
        degrees = (num_samples - 1) ** 2
        assert abs(chi_square - degrees) < 5 * np.sqrt(2 * degrees)


class TestMasks:
    def test_rates(self, samples):
        batches = [epoch_of(samples, epoch) for epoch in range(20)]
        num_text = sum(int((ids >= FIRST_TOKEN).sum()) for b in batches for ids in original_ids(b))
        masked = sum(batch.num_masked for batch in batches)
        # Short samples have at least one, which adds a little.
        assert 0.15 - 0.003 < masked / num_text < 0.15 + 0.006
        for batch in batches:
            assert (batch.masked_labels >= FIRST_TOKEN).all()
            sequence = np.searchsorted(
                batch.cu_seqlens.numpy(), batch.masked_index.numpy(), side="right"
            )
            assert len(np.unique(sequence)) == batch.num_sequences


class TestMixing:
    def test_a_batch_mixes_shards_of_a_corpus_sorted_by_topic(self, make_corpus):
        corpus = make_corpus(*[random_lengths(seed, 40) for seed in range(16)])
        samples = samples_of(corpus, shuffle_shards=8)
        (batch,) = samples.micro_shards(0, 64, 1, range(1))
        shards = [corpus.shard_of_id[first[0]] for first, _ in segments(batch)]
        counts = np.bincount(shards, minlength=16)
        assert (counts > 0).sum() == 8
        assert counts.max() <= 20

    def test_windows_are_of_other_shards_in_each_epoch(self, samples):
        first, second = (
            set(samples.rows(epoch * samples.num_samples, 50).first_shard_B.tolist())
            for epoch in (0, 1)
        )
        assert first != second


class TestHeldOut:
    def test_held_out_documents_and_only_these(self, corpus):
        held_out = samples_of(corpus, split="held_out")
        tokens = np.unique(np.concatenate([s.first for s in samples_in(held_out)]))
        assert held_out_ids(corpus)[tokens].all()

    def test_the_same_for_every_seed_and_epoch(self, corpus):
        one, two = (samples_of(corpus, seed=seed, split="held_out") for seed in (1, 2))
        (first,) = one.micro_shards(0, 16, 1, range(1))
        (second,) = two.micro_shards(0, 16, 1, range(1))
        (later,) = one.micro_shards(one.num_samples * 3, 16, 1, range(1))
        assert batches_equal(first, second)
        assert batches_equal(first, later)

    def test_there_may_be_none(self, make_corpus):
        held_out = samples_of(make_corpus([[3, 3]]), split="held_out")
        assert held_out.num_samples == 0
        assert held_out.statistics().samples == 0
        with pytest.raises(ValueError, match="no held_out samples"):
            held_out.micro_shards(0, 4, 1, range(1))


class TestSmallCorpora:
    def test_a_batch_larger_than_the_corpus_goes_through_several_epochs(self, make_corpus):
        samples = samples_of(make_corpus([[5, 5], [4, 4, 4]], [[6, 6]]))
        assert samples.num_samples == 3
        batches = samples.micro_shards(1, 30, 4, range(4))
        firsts = [tuple(ids) for batch in batches for ids in original_ids(batch)]
        assert len(firsts) == 30
        samples.prefetch(10)

    def test_documents_of_one_sentence_always_borrow(self, make_corpus):
        corpus = make_corpus([[7]] * 30, [[9]] * 30)
        found = samples_in(samples_of(corpus))
        assert all(sample.is_single and sample.label == 1 for sample in found)
        for sample in found:
            first, second = (corpus.document_of_id[s][0] for s in (sample.first, sample.second))
            assert first != second

    def test_a_long_sentence_leaves_some_room_for_what_it_borrows(self, make_corpus):
        limit = MAX_LENGTH - 3
        for sample in samples_in(samples_of(make_corpus([[limit]] * 10))):
            assert len(sample.second) == limit // 8
            assert len(sample.first) == limit - limit // 8

    def test_a_single_document_has_nobody_to_exchange_with(self, make_corpus):
        corpus = make_corpus([[8] * 50 + [29]])
        samples = samples_of(corpus, short_share=0.0)
        statistics = samples.statistics()
        assert statistics.exchanged_pairs == statistics.borrowing_pairs == 0
        assert statistics.left_over > 0
        assert statistics.unpaired == 1
        labels = sorted(set(epoch_of(samples).next_sentence_labels.tolist()))
        assert labels == [-100, 0]

    def test_an_empty_shard_is_passed_over(self, make_corpus):
        samples = samples_of(make_corpus([], [[5, 5]], [[]]), shuffle_shards=1)
        assert samples.num_samples == 1
        samples.micro_shards(0, 5, 1, range(1))


@dataclass(frozen=True)
class EndlessStore:
    """A store of one shard over and over: the size of a corpus without its bytes."""

    one: TokenStore
    num_shards: int

    def shard(self, index):
        assert 0 <= index < self.num_shards
        return self.one.shard(0)


def test_a_billion_samples_need_the_memory_of_a_window(make_corpus, monkeypatch):
    corpus = make_corpus([[4, 4]] * 10_000)
    shard_samples = samples_of(corpus).num_samples
    num_shards = 10**9 // shard_samples + 1
    counts = ChunkCounts(np.full(num_shards, shard_samples), np.zeros(num_shards, np.int64))
    monkeypatch.setattr("raybert.samples.pretraining.chunk_counts", lambda *_: counts)
    endless = Corpus(
        EndlessStore(corpus.store, num_shards), corpus.special, *[np.zeros(0, np.int64)] * 3
    )
    tracemalloc.start()
    samples = samples_of(endless, shuffle_shards=2)
    assert samples.num_samples >= 10**9
    peaks = []
    for position in (0, 5 * 10**8, 10**9 - 1, 10**15):
        tracemalloc.reset_peak()
        (batch,) = samples.micro_shards(position, 64, 4, range(1))
        assert batch.num_sequences == 16
        peaks.append(tracemalloc.get_traced_memory()[1])
    tracemalloc.stop()
    assert max(peaks) < 16 * 2**20


class TestRefusals:
    def test_no_document_to_train_on(self, tmp_path):
        corpus = write_corpus(tmp_path, [[2]] * 5, held_out=0.999)
        with pytest.raises(UserError, match="no document to train on"):
            samples_of(corpus)

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ((0, 4, 5, range(1)), "5 micro-shards of 4 samples"),
            ((0, 4, 0, range(0)), "0 micro-shards"),
            ((0, 4, 2, range(1, 3)), "micro-shards range"),
            ((-1, 4, 2, range(2)), "position -1"),
        ],
    )
    def test_what_cannot_be_dealt(self, samples, arguments, message):
        with pytest.raises(ValueError, match=message):
            samples.micro_shards(*arguments)

    def test_no_micro_shards_asked_for_are_none(self, samples):
        assert samples.micro_shards(0, 4, 2, range(0)) == []

    def test_a_damaged_shard_is_named(self, make_corpus):
        corpus = make_corpus([[5, 5]])
        path = (corpus.store.location / "shard-000.arrow").local_path
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
        with pytest.raises(InvalidContent, match=r"shard-000\.arrow: damaged"):
            samples_of(corpus)


class TestCounts:
    def test_counting_is_done_once_per_corpus_and_rule(self, make_corpus, monkeypatch):
        corpus = make_corpus(random_lengths(0, 20))
        counted = samples_of(corpus).num_samples
        monkeypatch.setattr(
            "raybert.samples.chunk_counts.cut_shard", lambda *_, **__: pytest.fail("counted again")
        )
        again = samples_of(corpus, seed=9, shuffle_shards=2)
        assert again.num_samples == counted
        with pytest.raises(pytest.fail.Exception):
            samples_of(corpus, max_length=64)

    def test_tokens_that_can_only_be_read_are_counted_each_time(self, make_corpus, monkeypatch):
        corpus = make_corpus(random_lengths(0, 20))

        def refuse(*_):
            raise PermissionError("read-only")

        monkeypatch.setattr("raybert.samples.chunk_counts.write_file", refuse)
        assert samples_of(corpus).num_samples == samples_of(corpus).num_samples
        assert corpus.store.location.list_files(".json") == ["manifest.json", "shard-000.json"]
