import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from samples.corpora import CLS, SEP, original_ids, random_lengths, segments

from bert.config import BertConfig
from raybert.samples import PretrainingSamples
from raybert.samples.packing import deal, gather, pack, sample_lengths
from raybert.samples.window import SampleRows
from raybert.settings import SampleSettings


@given(st.lists(st.integers(3, 128), min_size=1, max_size=300), st.data())
def test_every_sample_is_dealt_once_longest_first(lengths, data):
    num_micro_shards = data.draw(st.integers(1, len(lengths)))
    dealt = deal(np.array(lengths), num_micro_shards)
    assert sorted(np.concatenate(dealt).tolist()) == list(range(len(lengths)))
    assert max(map(len, dealt)) - min(map(len, dealt)) <= 1
    for places in dealt:
        assert (np.diff(np.array(lengths)[places]) <= 0).all()
    sums = [sum(lengths[i] for i in places) for places in dealt]
    # Forward and back again: two micro-shards differ by one sample at most.
    assert max(sums) - min(sums) <= max(lengths)


def test_micro_shards_are_filled_alike():
    rng = np.random.default_rng(0)
    for _ in range(100):
        lengths = np.where(rng.random(256) < 0.2, rng.integers(5, 128, 256), 128)
        sums = [int(lengths[places].sum()) for places in deal(lengths, 4)]
        assert np.mean(sums) / max(sums) > 0.98


def row_of(shard, first, second, label=0):
    """One row; first and second are (start, length)."""
    arrays = {
        "key_B": np.zeros(1, np.uint64),
        "first_shard_B": np.array([shard]),
        "first_start_B": np.array([first[0]]),
        "first_length_B": np.array([first[1]]),
        "second_shard_B": np.array([shard]),
        "second_start_B": np.array([second[0]]),
        "second_length_B": np.array([second[1]]),
        "label_B": np.array([label]),
        "truncated_B": np.zeros(1, np.int64),
        "single_B": np.zeros(1, bool),
    }
    return SampleRows(**arrays)


@given(st.data())
def test_any_segments_of_a_shard_are_gathered(make_tiny, data):
    corpus = make_tiny
    shards = {0: corpus.store.shard(0)}
    num_tokens = len(shards[0].ids_T)
    rows = []
    for _ in range(data.draw(st.integers(1, 5))):
        first_start = data.draw(st.integers(0, num_tokens - 1))
        first_length = data.draw(st.integers(1, num_tokens - first_start))
        second_start = data.draw(st.integers(0, num_tokens))
        second_length = data.draw(st.integers(0, num_tokens - second_start))
        rows.append(row_of(0, (first_start, first_length), (second_start, second_length)))
    all_rows = SampleRows.concatenate(rows)
    length_B = sample_lengths(all_rows)
    column_L = np.arange(length_B.max())
    in_second_BL = column_L >= all_rows.first_length_B[:, None] + 2
    ids_BL = gather(all_rows, length_B, in_second_BL, shards, corpus.special)
    for i in range(len(all_rows)):
        tokens = shards[0].ids_T.tolist()
        first = tokens[all_rows.first_start_B[i] :][: all_rows.first_length_B[i]]
        second = tokens[all_rows.second_start_B[i] :][: all_rows.second_length_B[i]]
        expected = [CLS, *first, SEP, *second, *([SEP] if second else [])]
        assert ids_BL[i, : length_B[i]].tolist() == expected


@pytest.fixture(scope="module")
def make_tiny(tmp_path_factory):
    from samples.corpora import write_corpus

    return write_corpus(tmp_path_factory.mktemp("tiny"), [[3, 4], [5], [2, 2, 2]])


@pytest.mark.parametrize("next_sentence", [True, False])
@pytest.mark.parametrize("whole_words", [True, False])
def test_batches_are_what_the_model_takes(make_corpus, next_sentence, whole_words):
    corpus = make_corpus(random_lengths(0, 40), random_lengths(1, 40))
    special = corpus.special
    if whole_words:
        table = np.arange(special.vocab_size) % 2 == 0
        special = type(special)(2, 3, 4, 0, special.never_masked, special.vocab_size, table)
    samples = PretrainingSamples(
        corpus.store,
        SampleSettings(max_length=64, next_sentence=next_sentence, whole_word_masking=whole_words),
        seed=1,
        special_tokens=special,
    )
    config = BertConfig.named("tiny", vocab_size=special.vocab_size, max_position_embeddings=64)
    for batch in samples.micro_shards(0, 24, 3, range(3)):
        batch.validate(config)
        assert (batch.next_sentence_labels is not None) == next_sentence
        for ids, (first, second) in zip(original_ids(batch), segments(batch), strict=True):
            expected = [CLS, *first, SEP, *second, *([SEP] if len(second) else [])]
            assert ids.tolist() == expected
            assert (len(second) > 0) == next_sentence
        positions = np.concatenate([np.arange(n) for n in batch.lengths])
        assert batch.position_ids.tolist() == positions.tolist()


def test_parts_of_one_packing_are_the_batches_packed_alone(make_corpus):
    corpus = make_corpus(random_lengths(0, 40))
    samples = PretrainingSamples(
        corpus.store, SampleSettings(), seed=1, special_tokens=corpus.special
    )
    rows = samples.rows(0, 8)
    options = {"masking_rate": 0.15, "whole_words": False, "pairs": True}
    shards = {0: corpus.store.shard(0)}
    together = pack(rows, [3, 5], shards, corpus.special, **options)
    for batch, places in zip(together, (range(3), range(3, 8)), strict=True):
        (alone,) = pack(
            rows.take(np.array(places)), [len(places)], shards, corpus.special, **options
        )
        for name in ("input_ids", "position_ids", "token_type_ids", "masked_index"):
            assert getattr(batch, name).tolist() == getattr(alone, name).tolist()
        assert batch.lengths == alone.lengths
