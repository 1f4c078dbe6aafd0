"""Compiled code makes the very samples that numpy makes."""

import dataclasses
import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from samples.corpora import FIRST_TOKEN, random_lengths, write_corpus

from bert import kernels
from raybert.samples import PretrainingSamples, compiled
from raybert.samples.chunks import ChunkRule, cut_documents
from raybert.settings import SampleSettings

needs_package = pytest.mark.skipif(
    not compiled.usable(), reason="the package bert-kernels is not installed"
)


@pytest.fixture(scope="module")
def narrow(tmp_path_factory):
    """Several windows; sentences over the limit, documents of one sentence, held-out ones."""
    shards = [
        *(random_lengths(seed, 40, tokens=8) for seed in range(4)),
        [[70, 3], [1], [33], [200]],
        random_lengths(9, 80, sentences=1, tokens=20),
    ]
    corpus = write_corpus(tmp_path_factory.mktemp("narrow"), *shards, held_out=0.2)
    assert corpus.store.shard(0).ids_T.dtype == np.uint16
    return corpus


@pytest.fixture(scope="module")
def wide(tmp_path_factory):
    """Ids of 32 bits."""
    shards = [random_lengths(seed, 500, tokens=12) for seed in range(2)]
    corpus = write_corpus(tmp_path_factory.mktemp("wide"), *shards)
    assert corpus.store.shard(0).ids_T.dtype == np.uint32
    return corpus


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """One document of one sentence: nobody to borrow from, no second segment."""
    return write_corpus(tmp_path_factory.mktemp("alone"), [[9]])


def both(samples, *batch):
    """A batch by compiled code and by numpy."""
    by_code = samples.micro_shards(*batch)
    kernels.choose("torch")
    try:
        assert not compiled.usable()
        return by_code, samples.micro_shards(*batch)
    finally:
        kernels.choose("auto")


def assert_same(left, right):
    assert len(left) == len(right)
    for one, two in zip(left, right, strict=True):
        for field in dataclasses.fields(one):
            ours, theirs = getattr(one, field.name), getattr(two, field.name)
            if isinstance(theirs, torch.Tensor):
                assert ours.dtype == theirs.dtype, field.name
                assert torch.equal(ours, theirs), field.name
            else:
                assert ours == theirs, field.name


def special_of(corpus, share_never_masked):
    """Half of the ids go on with a word, special ones among them; a share is never masked."""
    rng = np.random.default_rng(5)
    vocab_size = corpus.special.vocab_size
    text = np.arange(FIRST_TOKEN, vocab_size)
    kept = text[rng.random(len(text)) < share_never_masked].tolist()[: vocab_size - FIRST_TOKEN - 1]
    return dataclasses.replace(
        corpus.special,
        never_masked=(*range(FIRST_TOKEN), *kept),
        continuation_V=rng.random(vocab_size) < 0.5,
    )


def cut_both(*documents):
    """Chunks by compiled code and by numpy."""
    by_code = cut_documents(*documents)
    kernels.choose("torch")
    try:
        return by_code, cut_documents(*documents)
    finally:
        kernels.choose("auto")


@needs_package
@given(data=st.data())
@settings(max_examples=200, deadline=None)
def test_documents_are_cut_as_by_numpy(data):
    sentence = st.integers(0, 40)
    lengths = data.draw(st.lists(st.lists(sentence, max_size=12), max_size=8))
    selected = data.draw(st.lists(st.booleans(), min_size=len(lengths), max_size=len(lengths)))
    keys = data.draw(
        st.lists(st.integers(0, 2**64 - 1), min_size=len(lengths), max_size=len(lengths))
    )
    rule = ChunkRule(
        limit=data.draw(st.integers(5, 30)),
        pairs=data.draw(st.booleans()),
        short_share=data.draw(st.sampled_from([0.0, 0.1, 0.9])),
    )
    ours, theirs = cut_both(
        np.cumsum([0, *itertools.chain(*lengths)]).astype(np.int32),
        np.cumsum([0, *map(len, lengths)]).astype(np.int32),
        np.array(keys, dtype=np.uint64),
        np.array(selected, dtype=bool),
        rule,
    )
    for field in dataclasses.fields(ours):
        one, two = getattr(ours, field.name), getattr(theirs, field.name)
        assert one.dtype == two.dtype, field.name
        assert one.tolist() == two.tolist(), field.name


@needs_package
@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_compiled_samples_are_those_of_numpy(narrow, wide, alone, data):
    corpus = data.draw(st.sampled_from([narrow, wide, alone]))
    samples = PretrainingSamples(
        corpus.store,
        SampleSettings(
            max_length=data.draw(st.sampled_from([8, 31, 64])),
            next_sentence=data.draw(st.booleans()),
            whole_word_masking=data.draw(st.booleans()),
            masking_rate=data.draw(st.sampled_from([0.001, 0.15, 0.5])),
            shuffle_shards=data.draw(st.integers(1, 4)),
        ),
        seed=data.draw(st.integers(0, 2**63)),
        split="held_out" if corpus is narrow and data.draw(st.booleans()) else "train",
        special_tokens=special_of(corpus, data.draw(st.sampled_from([0.0, 0.5, 1.0]))),
    )
    # Windows and epochs end within a batch.
    batch_size = data.draw(st.integers(1, 300))
    num_micro_shards = data.draw(st.integers(1, min(5, batch_size)))
    first = data.draw(st.integers(0, num_micro_shards))
    which = range(first, data.draw(st.integers(first, num_micro_shards)))
    position = data.draw(st.integers(0, 5 * samples.num_samples))
    assert_same(*both(samples, position, batch_size, num_micro_shards, which))


@needs_package
def test_a_large_batch_is_that_of_numpy(wide):
    samples = PretrainingSamples(wide.store, SampleSettings(), seed=3, special_tokens=wide.special)
    ours, theirs = both(samples, 17, 4096, 4, range(4))
    assert_same(ours, theirs)
    assert sum(batch.num_sequences for batch in ours) == 4096


@needs_package
def test_whole_words_need_a_table_of_them(narrow):
    samples = PretrainingSamples(
        narrow.store,
        SampleSettings(whole_word_masking=True),
        seed=3,
        special_tokens=narrow.special,
    )
    with pytest.raises(ValueError, match="table of continuation tokens"):
        samples.micro_shards(0, 4, 1, range(1))


def test_without_the_package_numpy_makes_them(narrow, monkeypatch):
    samples = PretrainingSamples(
        narrow.store, SampleSettings(), seed=3, special_tokens=narrow.special
    )
    before = samples.micro_shards(0, 16, 2, range(2))
    monkeypatch.setattr(compiled, "_native", None)
    assert not compiled.usable()
    assert_same(before, samples.micro_shards(0, 16, 2, range(2)))
