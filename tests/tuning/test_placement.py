import pytest

from raybert.cluster.resources import NodeResources, WorkerRequest
from raybert.errors import UserError
from raybert.settings import TuningSettings
from raybert.tuning.placement import place

TUNING = TuningSettings()


def test_a_trial_of_one_worker_trains_where_it_runs():
    found = place(TUNING, WorkerRequest(1, 2), [NodeResources(5), NodeResources(3)], 16)
    assert (found.concurrent, found.actor) == (3, {"CPU": 2})


def test_actors_of_several_workers_take_none_of_their_cpus():
    found = place(TUNING, WorkerRequest(2, 1), [NodeResources(4)], 16)
    assert found.concurrent == 2
    assert "CPU" not in found.actor
    assert place(TUNING, WorkerRequest(3, 1), [NodeResources(4)], 16).concurrent == 1


def test_no_more_than_there_are_trials_or_are_wanted():
    nodes = [NodeResources(8)]
    assert place(TUNING, WorkerRequest(1, 1), nodes, 3).concurrent == 3
    two = TuningSettings(concurrent_trials=2)
    assert place(two, WorkerRequest(1, 1), nodes, 16).concurrent == 2


def test_what_can_never_run_is_refused():
    with pytest.raises(UserError, match="2 workers with 2 CPU each were asked for"):
        place(TUNING, WorkerRequest(2, 2), [NodeResources(3)], 16)
    three = TuningSettings(concurrent_trials=3)
    with pytest.raises(UserError, match=r"concurrent_trials 3 .* holds 2 at the same time"):
        place(three, WorkerRequest(1, 1), [NodeResources(2)], 16)
