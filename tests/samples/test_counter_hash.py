import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raybert.samples.counter_hash import below, derive_key, draws, shuffled, sort_order


def counters(count):
    return np.arange(count, dtype=np.uint64)


def chi_square(counts):
    expected = counts.sum() / counts.size
    return ((counts - expected) ** 2 / expected).sum()


def test_draws_are_splitmix64():
    # The generator's first outputs from seed 0: draw c is output c - 1.
    assert [hex(n) for n in draws(0, counters(4)[1:]).tolist()] == [
        "0xe220a8397b1dcdaf",
        "0x6e789e6aa1b965f4",
        "0x6c45d188009454f",
    ]


@given(st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=4))
def test_a_derived_key_depends_on_every_part_and_their_order(parts):
    key = derive_key(*parts)
    assert 0 <= key < 2**64
    assert derive_key(*parts, 0) != key
    if parts != parts[::-1]:
        assert derive_key(*parts[::-1]) != key


def test_neighbouring_keys_and_counters_are_unrelated():
    bits = draws(np.arange(64, dtype=np.uint64)[:, None], counters(64))
    assert len(np.unique(bits)) == 64 * 64
    ones = np.unpackbits(bits.view(np.uint8)).reshape(64 * 64, 64).mean(axis=0)
    assert np.abs(ones - 0.5).max() < 5 * 0.5 / 64


@pytest.mark.parametrize("limit", [1, 2, 7, 1000])
def test_below_is_uniform(limit):
    drawn = below(draws(1, counters(100_000)), limit)
    counts = np.bincount(drawn.astype(np.int64), minlength=limit)
    assert len(counts) == limit
    assert chi_square(counts) < limit - 1 + 5 * np.sqrt(2 * limit)


@given(st.integers(0, 2**64 - 1), st.integers(0, 300))
def test_a_shuffle_is_a_permutation(key, count):
    assert sorted(shuffled(key, counters(count)).tolist()) == list(range(count))


def test_every_permutation_is_as_likely():
    found = np.array([shuffled(key, counters(4)) for key in range(24_000)]) @ [64, 16, 4, 1]
    counts = np.unique(found, return_counts=True)[1]
    assert len(counts) == 24
    assert chi_square(counts) < 23 + 5 * np.sqrt(2 * 23)


@given(st.lists(st.integers(0, 2**64 - 1), max_size=50))
def test_the_sort_order_is_stable_by_the_bits_it_keeps(values):
    array = np.array(values, dtype=np.uint64)
    order, kept = sort_order(array)
    bits = max(1, (len(values) - 1).bit_length())
    expected = sorted(range(len(values)), key=lambda i: values[i] >> bits)
    assert order.tolist() == expected
    assert kept.tolist() == [values[i] >> bits for i in expected]
