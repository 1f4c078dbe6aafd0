import json
import os
import socket
import subprocess
import sys

import pytest

from raybert.cluster import RunningCluster, WorkerRequest, start
from raybert.errors import UserError
from raybert.settings import ClusterSettings

JOIN = """
import json
from raybert.cluster import WorkerRequest, start
from raybert.errors import UserError
from raybert.settings import ClusterSettings

with start(ClusterSettings(), WorkerRequest(2, 1)) as cluster:
    joined = {"address": cluster.address, "started_here": cluster.started_here}
try:
    with start(ClusterSettings(), WorkerRequest(99, 1)):
        pass
except UserError as error:
    joined["refusal"] = str(error)
print(json.dumps(joined))
"""


def test_more_workers_than_the_machine_has_are_refused_before_a_cluster_starts(monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    import ray

    started = []
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", lambda *args, **kwargs: started.append(kwargs))
    with (
        pytest.raises(UserError, match="999 workers"),
        start(ClusterSettings(), WorkerRequest(999, 1)),
    ):
        pass
    assert not started


def test_an_address_where_nothing_answers_is_refused_at_once(monkeypatch):
    import ray

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    with (
        pytest.raises(UserError, match=f"no Ray cluster answers at {address}"),
        start(ClusterSettings(address=address)),
    ):
        pass


@pytest.mark.cluster
def test_another_process_joins_and_leaves_the_cluster_running(ray_cluster: RunningCluster):
    done = subprocess.run(
        [sys.executable, "-c", JOIN],
        env=os.environ | ray_cluster.environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    joined = json.loads(done.stdout)
    assert joined["address"] == ray_cluster.address
    assert not joined["started_here"]
    assert (
        "99 workers with 1 CPU each were asked for, and the cluster has 4 CPUs" in joined["refusal"]
    )
    # Nothing of Ray's own reached the terminal, but what it says where there is no route.
    told = [line for line in done.stderr.splitlines() if "local IP via external" not in line]
    assert told == []


@pytest.mark.cluster
def test_the_connected_process_stays_connected(ray_cluster: RunningCluster):
    import ray

    with start(ClusterSettings(), WorkerRequest(1, 1)) as cluster:
        assert cluster.address == ray_cluster.address
    assert ray.is_initialized()
    with pytest.raises(UserError, match="5 workers"), start(ClusterSettings(), WorkerRequest(5, 1)):
        pass


@pytest.mark.cluster
def test_a_cluster_started_here_lets_nobody_in_without_its_token(ray_cluster: RunningCluster):
    """Ray binds its ports to every interface."""
    stranger = os.environ | ray_cluster.environment | {"RAY_AUTH_TOKEN": "0" * 64}
    done = subprocess.run(
        [sys.executable, "-c", JOIN], env=stranger, capture_output=True, text=True, timeout=120
    )
    assert done.returncode != 0
    assert "doesn't let this process in" in done.stderr


@pytest.mark.cluster
def test_processes_of_the_cluster_ask_its_own_dashboard(ray_cluster: RunningCluster):
    """Left to search, they ask the last cluster that was noted on this machine, for seconds."""
    import ray
    from ray.util.state import get_actor

    @ray.remote(num_cpus=0)
    class Curious:
        def state(self) -> str:
            found = get_actor(ray.get_runtime_context().get_actor_id(), timeout=20)
            return f"{os.environ['RAY_API_SERVER_ADDRESS']} {found.state}"  # pyright: ignore

    assert ray.get(Curious.remote().state.remote()) == f"{ray_cluster.dashboard_url} ALIVE"
    assert "RAY_API_SERVER_ADDRESS" not in os.environ
