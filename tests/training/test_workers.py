"""Law 2: any number of workers ends with the same bytes, and reports the same numbers."""

from typing import Any

import pytest
from training.engine_workers import MICRO_SHARDS, RESUMED_MICRO_SHARDS, SAVED_AT, SIDE_BY_SIDE
from training.groups import run_group


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[int, list[dict[str, Any]]]:
    """By size of the group. The group of 2 saves a checkpoint that those of 1 and 3 resume."""
    folder = tmp_path_factory.mktemp("groups")
    return {
        size: run_group("training.engine_workers", folder / str(size), size) for size in (2, 1, 3)
    }


@pytest.mark.parametrize("size", [2, 3])
def test_any_number_of_workers_gives_the_same_bytes(
    outcomes: dict[int, list[dict[str, Any]]], size: int
):
    compared = 0
    for num_micro_shards in MICRO_SHARDS:
        if num_micro_shards < size:
            continue
        name = f"canonical {num_micro_shards}"
        alone, first = outcomes[1][0][name], outcomes[size][0][name]
        assert first == alone, name
        for other in outcomes[size][1:]:
            for what in ("weights", "reports", "metrics"):
                assert other[name][what] == alone[what], (name, what)
        compared += 1
    assert compared == len(MICRO_SHARDS) - size + 1


@pytest.mark.parametrize("size", [1, 2, 3])
def test_micro_shards_side_by_side_in_every_worker_change_nothing(
    outcomes: dict[int, list[dict[str, Any]]], size: int
):
    expected = outcomes[1][0][f"canonical {SIDE_BY_SIDE}"]
    assert outcomes[size][0]["side by side"] == expected
    for worker in outcomes[size]:
        assert worker["side by side"]["weights"] == expected["weights"]


def test_number_of_micro_shards_is_part_of_the_arithmetic(
    outcomes: dict[int, list[dict[str, Any]]],
):
    weights = {outcomes[1][0][f"canonical {k}"]["weights"] for k in MICRO_SHARDS}
    assert len(weights) == len(MICRO_SHARDS)


@pytest.mark.parametrize("size", [2, 3])
def test_fast_reduction_agrees_among_workers_and_closely_with_one(
    outcomes: dict[int, list[dict[str, Any]]], size: int
):
    alone, group = outcomes[1][0]["fast 8"], outcomes[size]
    assert len({worker["fast 8"]["weights"] for worker in group}) == 1
    for ours, theirs in zip(group[0]["fast 8"]["reports"], alone["reports"], strict=True):
        assert ours == pytest.approx(theirs, rel=1e-4)


@pytest.mark.parametrize("size", [1, 3])
def test_resumed_by_another_number_of_workers_ends_with_the_same_bytes(
    outcomes: dict[int, list[dict[str, Any]]], size: int
):
    resumed = outcomes[size][0]["resumed"]
    whole = outcomes[2][0][f"canonical {RESUMED_MICRO_SHARDS}"]
    assert whole["reports"][SAVED_AT:] == resumed["reports"]
    for what in ("weights", "optimizer", "counters", "metrics"):
        assert resumed[what] == whole[what], what


def test_worker_zero_gives_its_weights_to_all(outcomes: dict[int, list[dict[str, Any]]]):
    for worker in outcomes[3]:
        assert worker["other seeds"]["weights"] == outcomes[1][0]["canonical 4"]["weights"]


def test_a_worker_needs_neither_ray_nor_the_compiler(outcomes: dict[int, list[dict[str, Any]]]):
    assert outcomes[1][0]["modules"] == []
