import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from raybert.samples.order import EpochOrder

COUNTS = st.lists(st.integers(0, 9), min_size=1, max_size=40)


@given(COUNTS, st.integers(1, 10), st.integers(0, 2**64 - 1))
def test_every_shard_is_in_one_window_and_windows_are_alike(counts, shuffle_shards, key):
    order = EpochOrder.of(np.array(counts), key, shuffle_shards)
    windows = [order.shards_of(w).tolist() for w in range(order.num_windows)]
    assert sorted(shard for window in windows for shard in window) == list(range(len(counts)))
    sizes = [len(window) for window in windows]
    assert max(sizes) <= shuffle_shards
    assert max(sizes) - min(sizes) <= 1
    assert order.num_samples == sum(counts)


@given(COUNTS, st.integers(1, 10), st.data())
def test_spans_cover_what_was_asked_for_in_order(counts, shuffle_shards, data):
    order = EpochOrder.of(np.array(counts), 1, shuffle_shards)
    first = data.draw(st.integers(0, order.num_samples))
    last = data.draw(st.integers(first, order.num_samples))
    places = []
    for window, begin, end in order.spans(first, last):
        assert begin < end
        size = sum(counts[shard] for shard in order.shards_of(window))
        assert 0 <= begin < end <= size
        places += [int(order.window_samples[window]) + place for place in range(begin, end)]
    assert places == list(range(first, last))


def test_another_key_orders_shards_otherwise():
    counts = np.ones(50, dtype=np.int64)
    first, second = (EpochOrder.of(counts, key, 5).shard_order.tolist() for key in (1, 2))
    assert first != second
    assert first != list(range(50))


def test_a_billion_samples_are_found_at_once():
    # 1,000 GB of text in shards of 32 MiB: 65,000 samples each. The order is all there is.
    order = EpochOrder.of(np.full(15_400, 65_000), 7, 16)
    assert order.num_samples == 1_001_000_000
    held = order.shard_order.nbytes + order.window_shards.nbytes + order.window_samples.nbytes
    assert held < 200_000
    for position in (0, 10, 999_999_999, order.num_samples - 1):
        ((window, begin, end),) = order.spans(position, position + 1)
        assert end == begin + 1
        assert order.window_samples[window] + begin == position
