import threading
import time
from collections import deque

import pytest
from samples.corpora import random_lengths

from raybert.samples import BatchLoader, PretrainingSamples
from raybert.settings import SampleSettings


class Source:
    """Counts what is asked of it; a batch is its position."""

    def __init__(self, fails_at=None, prefetch_fails=False):
        self.asked = []
        self.fails_at = fails_at
        self.prefetch_fails = prefetch_fails
        self.prefetched = threading.Event()

    def micro_shards(self, position, batch_size, num_micro_shards, which):
        self.asked.append((position, batch_size, num_micro_shards, which))
        if position == self.fails_at:
            raise OSError("the disk is gone")
        return [position]

    def prefetch(self, position):
        if self.prefetch_fails:
            raise OSError("no next window")
        self.prefetched.set()


def num_threads():
    return sum(t.name.startswith(("batch-loader", "window-ahead")) for t in threading.enumerate())


def test_steps_come_in_order_from_the_first():
    source = Source()
    with BatchLoader(source, 8, 4, range(2, 4), first_step=5) as loader:
        taken = [next(loader) for _ in range(4)]
    assert taken == [(step, [step * 8]) for step in range(5, 9)]
    assert source.asked[0] == (40, 8, 4, range(2, 4))
    assert source.prefetched.is_set()
    assert loader.wait_seconds > 0
    assert num_threads() == 0


def test_it_runs_ahead_by_its_depth_and_no_further():
    source = Source()
    with BatchLoader(source, 8, 4, range(4), depth=3) as loader:
        next(loader)
        # One taken, three ready, one made that waits for its place.
        deadline = time.monotonic() + 60
        while len(source.asked) < 5 and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.2)
        assert len(source.asked) == 5


def test_an_error_is_raised_after_what_was_made_before_it():
    with BatchLoader(Source(fails_at=16), 8, 4, range(4)) as loader:
        assert next(loader) == (0, [0])
        assert next(loader) == (1, [8])
        with pytest.raises(OSError, match="the disk is gone"):
            next(loader)
        with pytest.raises(RuntimeError, match="closed"):
            next(loader)
    assert num_threads() == 0


def test_an_error_while_making_the_next_window_is_raised():
    with (
        BatchLoader(Source(prefetch_fails=True), 8, 4, range(4)) as loader,
        pytest.raises(OSError, match="no next window"),
    ):
        deque(loader, maxlen=0)


def test_closing_does_not_wait_for_a_reader():
    loader = BatchLoader(Source(), 8, 4, range(4), depth=1)
    next(loader)
    loader.close()
    loader.close()
    assert num_threads() == 0
    with pytest.raises(RuntimeError, match="closed"):
        next(loader)


def test_a_loader_needs_room_for_one_step():
    with pytest.raises(ValueError, match="depth"):
        BatchLoader(Source(), 8, 4, range(4), depth=0)


def test_loaded_batches_are_those_of_the_position(make_corpus):
    corpus = make_corpus(*[random_lengths(seed, 20) for seed in range(6)])
    samples = PretrainingSamples(
        corpus.store,
        SampleSettings(max_length=32, shuffle_shards=2),
        seed=1,
        special_tokens=corpus.special,
    )
    num_steps = 3 * samples.num_samples // 16
    with BatchLoader(samples, 16, 2, range(2)) as loader:
        for step, batches in loader:
            expected = samples.micro_shards(step * 16, 16, 2, range(2))
            for batch, other in zip(batches, expected, strict=True):
                assert batch.input_ids.tolist() == other.input_ids.tolist()
            if step == num_steps:
                break
