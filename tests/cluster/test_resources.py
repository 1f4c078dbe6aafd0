import json

import pytest

from raybert.cluster.resources import Growth, NodeResources, WorkerRequest, refuse_unschedulable
from raybert.errors import UserError


def test_what_fits_passes():
    refuse_unschedulable(WorkerRequest(4, 2), [NodeResources(4), NodeResources(5)], "the cluster")


def test_too_many_workers_are_refused_with_the_numbers():
    with pytest.raises(UserError, match=r"3 workers with 1 CPU each .* this machine has 2 CPUs"):
        refuse_unschedulable(WorkerRequest(3, 1), [NodeResources(2)], "this machine")


def test_a_worker_needs_its_cpus_on_one_node():
    """Ten CPUs in all, yet no node has four twice: three workers, not two of them, fit."""
    nodes = [NodeResources(5), NodeResources(5)]
    refuse_unschedulable(WorkerRequest(2, 4), nodes, "the cluster")
    with pytest.raises(UserError, match="At most 2 such workers fit"):
        refuse_unschedulable(WorkerRequest(3, 3), nodes, "the cluster")


def test_a_worker_larger_than_every_node_is_refused():
    with pytest.raises(UserError, match="Not one such worker fits"):
        refuse_unschedulable(WorkerRequest(1, 8), [NodeResources(4), NodeResources(4)], "here")


def test_missing_gpus_are_named():
    with pytest.raises(UserError, match=r"1 GPU each .* 16 CPUs and 1 GPUs.*gpus_per_worker 0"):
        refuse_unschedulable(WorkerRequest(2, 1, num_gpus=1), [NodeResources(16, 1)], "here")


def test_what_an_autoscaler_may_bring_counts(tmp_path, monkeypatch):
    """Of the file that `ray up` leaves on the head: at most 3 workers, of which 2 with GPUs."""
    assert Growth.of_cluster("auto") is None
    assert Growth.of_cluster("on") == Growth(None)
    config = {
        "provider": {"type": "aws"},
        "max_workers": 3,
        "head_node_type": "head",
        "available_node_types": {
            "head": {"resources": {"CPU": 0}},
            "cpu": {"resources": {"CPU": 16}, "max_workers": 9},
            "gpu": {"resources": {"CPU": 8, "GPU": 1}, "max_workers": 2},
        },
    }
    (tmp_path / "ray_bootstrap_config.yaml").write_text(json.dumps(config))
    monkeypatch.setenv("HOME", str(tmp_path))
    growth = Growth.of_cluster("auto")
    assert growth is not None
    cpu, gpu = NodeResources(16), NodeResources(8, 1)
    assert growth.nodes == (NodeResources(0), cpu, cpu, cpu, gpu, gpu)
    assert WorkerRequest(2, 1, "auto").settled(growth.nodes).gpus == 1
    assert Growth.of_cluster("off") is None
    config["provider"] = {"type": "local"}
    (tmp_path / "ray_bootstrap_config.yaml").write_text(json.dumps(config))
    assert Growth.of_cluster("auto") is None


def test_workers_get_a_gpu_each_where_there_are_any():
    asked = WorkerRequest(2, 1, num_gpus="auto")
    assert asked.settled([NodeResources(4), NodeResources(4)]).bundle == {"CPU": 1}
    assert asked.settled([NodeResources(4), NodeResources(4, 8)]).bundle == {"CPU": 1, "GPU": 1}


def test_an_elastic_job_needs_only_its_fewest_workers():
    refuse_unschedulable(WorkerRequest(8, 1, min_workers=2), [NodeResources(2)], "here")
    with pytest.raises(UserError):
        refuse_unschedulable(WorkerRequest(8, 1, min_workers=3), [NodeResources(2)], "here")
