"""How the threads of a worker are shared out among its micro-shards."""

import pytest

from raybert.settings import PretrainingSettings


@pytest.mark.parametrize(
    ("num_micro_shards", "num_workers", "cpus", "threads"),
    [
        (4, 1, 2, 1),
        (4, 2, 4, 2),
        (4, 1, 8, 2),
        (4, 4, 8, "all"),
        (4, 1, 1, "all"),
        (1, 1, 2, "all"),
    ],
)
def test_threads_of_a_worker_are_shared_out_among_its_micro_shards(
    num_micro_shards, num_workers, cpus, threads
):
    asked = PretrainingSettings()
    assert asked.fitting_threads(num_micro_shards, num_workers, cpus) == threads
    given = PretrainingSettings(micro_shard_threads=3)
    assert given.fitting_threads(num_micro_shards, num_workers, cpus) == 3
