import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raybert.samples.counter_hash import draws
from raybert.samples.masking import choose_masked, replace_masked
from raybert.samples.special_tokens import SpecialTokens

VOCAB_SIZE = 1000
UNKNOWN = 1
CONTINUATION = np.arange(VOCAB_SIZE) % 3 == 0
CONTINUATION[:5] = False
SPECIAL = SpecialTokens(2, 3, 4, 0, (UNKNOWN,), VOCAB_SIZE, CONTINUATION)


def batch_of(lengths, seed=0, unknown_share=0.0):
    """[CLS] first [SEP] second [SEP] of random tokens, and keys."""
    rng = np.random.default_rng(seed)
    ids = rng.integers(5, VOCAB_SIZE, (len(lengths), max(lengths))).astype(np.uint16)
    ids[rng.random(ids.shape) < unknown_share] = UNKNOWN
    ids[:, 0] = SPECIAL.cls
    for row, length in zip(ids, lengths, strict=True):
        row[length // 2] = row[length - 1] = SPECIAL.sep
    return ids, np.array(lengths), draws(seed, np.arange(len(lengths), dtype=np.uint64))


def choose(ids, lengths, keys, rate, whole_words=False, special=SPECIAL):
    is_token = np.arange(ids.shape[1]) < lengths[:, None]
    return choose_masked(ids, is_token, keys, rate, special, whole_words)


def rows_of(chosen, ids):
    return np.divmod(chosen, ids.shape[1])


def test_the_rate_is_what_was_asked_for_at_every_column():
    ids, lengths, keys = batch_of([128] * 5000)
    chosen = choose(ids, lengths, keys, 0.15)
    column = rows_of(chosen, ids)[1]
    counts = np.bincount(column, minlength=128)
    assert counts[[0, 64, 127]].tolist() == [0, 0, 0]
    text = np.delete(counts, [0, 64, 127])
    assert abs(text.sum() / (5000 * 125) - 0.15) < 5 * np.sqrt(0.15 * 0.85 / (5000 * 125))
    chi_square = ((text - text.mean()) ** 2 / (text.mean() * 0.85)).sum()
    assert abs(chi_square - 124) < 5 * np.sqrt(2 * 124)


def test_neighbours_are_chosen_independently():
    ids, lengths, keys = batch_of([128] * 5000)
    chosen = choose(ids, lengths, keys, 0.15)
    masked = np.zeros(ids.size, dtype=bool)
    masked[chosen] = True
    masked = masked.reshape(ids.shape)[:, 1:64]
    for distance in range(1, 9):
        both = (masked[:, distance:] & masked[:, :-distance]).mean()
        assert abs(both - 0.15**2) < 0.001


def test_eighty_ten_ten():
    ids, lengths, keys = batch_of([128] * 5000)
    chosen = choose(ids, lengths, keys, 0.15)
    changed = ids.copy()
    labels = replace_masked(changed, chosen, keys, SPECIAL)
    assert (labels == ids.ravel()[chosen]).all()
    now = changed.ravel()[chosen]
    is_mask, is_same = now == SPECIAL.mask, now == labels
    tolerance = 5 * 0.5 / np.sqrt(len(chosen))
    assert abs(is_mask.mean() - 0.8) < tolerance
    assert abs(is_same.mean() - 0.1) < tolerance
    random = now[~is_mask & ~is_same]
    assert abs(len(random) / len(chosen) - 0.1) < tolerance
    # Any token that is not special, each as likely.
    assert random.min() >= 5
    counts = np.bincount(random, minlength=VOCAB_SIZE)[5:]
    assert abs(((counts - counts.mean()) ** 2 / counts.mean()).sum() - 994) < 5 * np.sqrt(2 * 994)
    untouched = np.setdiff1d(np.arange(ids.size), chosen)
    assert (changed.ravel()[untouched] == ids.ravel()[untouched]).all()


@given(
    st.lists(st.integers(5, 40), min_size=1, max_size=30),
    st.booleans(),
    st.floats(0.01, 0.5),
    st.floats(0, 1),
    st.integers(0, 1000),
)
@settings(max_examples=150, deadline=None)
def test_choices(lengths, whole_words, rate, unknown_share, seed):
    ids, lengths, keys = batch_of(lengths, seed, unknown_share)
    chosen = choose(ids, lengths, keys, rate, whole_words)
    row, column = rows_of(chosen, ids)
    assert (np.diff(chosen) > 0).all()
    assert (column < lengths[row]).all()
    assert (ids[row, column] >= 5).all()
    # At least one per sample that has a token to predict.
    in_sample = np.arange(ids.shape[1]) < lengths[:, None]
    has_text = ((ids >= 5) & in_sample).any(axis=1)
    assert (np.isin(np.arange(len(lengths)), row) == has_text).all()


@given(st.lists(st.integers(5, 40), min_size=1, max_size=30), st.integers(0, 1000))
@settings(max_examples=100, deadline=None)
def test_the_tokens_of_a_word_are_chosen_together(lengths, seed):
    ids, lengths, keys = batch_of(lengths, seed)
    chosen = set(choose(ids, lengths, keys, 0.3, whole_words=True).tolist())
    for row, length in enumerate(lengths.tolist()):
        word_is_chosen = False
        for column in range(length):
            token = int(ids[row, column])
            if token < 5:
                continue
            is_chosen = row * ids.shape[1] + column in chosen
            if CONTINUATION[token] and ids[row, column - 1] >= 5:
                assert is_chosen == word_is_chosen
            word_is_chosen = is_chosen


def test_whole_words_are_chosen_at_the_same_rate():
    ids, lengths, keys = batch_of([128] * 5000)
    chosen = choose(ids, lengths, keys, 0.15, whole_words=True)
    assert abs(len(chosen) / (5000 * 125) - 0.15) < 0.002


def test_whole_words_need_to_know_what_a_word_is():
    ids, lengths, keys = batch_of([10])
    special = SpecialTokens(2, 3, 4, 0, (), VOCAB_SIZE)
    with pytest.raises(ValueError, match="continuation"):
        choose(ids, lengths, keys, 0.15, whole_words=True, special=special)


def test_a_sample_is_masked_alike_in_any_company():
    ids, lengths, keys = batch_of([20, 33, 8, 40])
    together = choose(ids, lengths, keys, 0.15)
    row, column = rows_of(together, ids)
    for i, length in enumerate(lengths):
        alone = choose(ids[i : i + 1, :length], lengths[i : i + 1], keys[i : i + 1], 0.15)
        assert alone.tolist() == column[row == i].tolist()
