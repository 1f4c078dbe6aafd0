"""Ids, segments and cuts are those of rust_tok and of transformers' truncation."""

import numpy as np
import pyarrow as pa
import pytest
from finetuning.cases import WORDS
from hypothesis import given
from hypothesis import strategies as st

import rust_tok
from raybert.finetuning.encoding import encode, encode_words, longest_first
from raybert.samples.special_tokens import SpecialTokens


@pytest.fixture(scope="module")
def tokenizer(model) -> rust_tok.Tokenizer:
    return rust_tok.Tokenizer.from_file(str(model / "tokenizer.json"))


def rows(encoded) -> list[list[int]]:
    return [ids.tolist() for ids in np.split(encoded.ids, np.cumsum(encoded.length_N)[:-1])]


TEXTS = st.lists(st.sampled_from([*WORDS[5:], "cats", "dogging", "unheard"]), max_size=12).map(
    " ".join
)


@given(st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=6), st.integers(8, 20))
def test_pairs_are_cut_as_the_tokenizer_cuts_them(tokenizer, pairs, max_length):
    first, second = (pa.array(texts, pa.string()) for texts in zip(*pairs, strict=True))
    special = SpecialTokens.from_tokenizer(tokenizer)
    encoded = encode(tokenizer, special, first, second, max_length)
    theirs = tokenizer.encode_arrow(first, second, True, max_length)
    whole = pa.array(tokenizer.encode_arrow(first, second, True)).to_pylist()
    assert rows(encoded) == pa.array(theirs).to_pylist()
    assert encoded.num_cut == sum(len(ids) > max_length for ids in whole)
    for ids, begin in zip(rows(encoded), encoded.second_N.tolist(), strict=True):
        assert ids[begin - 1] == special.sep
        assert ids.count(special.sep) == 2


@given(st.lists(TEXTS, min_size=1, max_size=6), st.integers(8, 20))
def test_texts_are_cut_as_the_tokenizer_cuts_them(tokenizer, texts, max_length):
    column = pa.array(texts, pa.string())
    special = SpecialTokens.from_tokenizer(tokenizer)
    encoded = encode(tokenizer, special, column, None, max_length)
    assert (
        rows(encoded)
        == pa.array(tokenizer.encode_arrow(column, None, True, max_length)).to_pylist()
    )
    assert not encoded.second_N.any()


@given(st.integers(0, 40), st.integers(0, 40), st.integers(4, 40))
def test_longest_first_leaves_what_fits_and_fills_the_rest(first, second, limit):
    kept = [int(n[0]) for n in longest_first(np.array([first]), np.array([second]), limit)]
    assert sum(kept) == min(first + second, limit)
    # Nothing is taken from the shorter part while the longer one has more.
    if kept[0] < first:
        assert kept[0] >= kept[1] - 1
    if kept[1] < second:
        assert kept[1] >= kept[0] - 1


def test_the_first_piece_of_a_word_carries_its_label(tokenizer):
    words = pa.array([["cats", "", "the", "doging"], ["pear"] * 10], pa.list_(pa.string()))
    label = np.arange(14, dtype=np.int32)
    special = SpecialTokens.from_tokenizer(tokenizer)
    encoded = encode_words(tokenizer, special, words, label, max_length=8)
    ids = tokenizer.get_vocab()
    expected = [ids[t] for t in ("[CLS]", "cat", "##s", "the", "dog", "##ing", "[SEP]")]
    assert rows(encoded.sequences)[0] == expected
    assert encoded.label_P[:7].tolist() == [-100, 0, -100, 2, 3, -100, -100]
    assert encoded.label_P[7:].tolist() == [-100, 4, 5, 6, 7, 8, 9, -100]
    assert encoded.word.tolist() == [0, 2, 3, 0, 1, 2, 3, 4, 5]
    assert (encoded.num_lost, encoded.sequences.num_cut) == (5, 1)
