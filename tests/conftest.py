"""Fixtures shared by all tests: a Ray cluster and an S3 server, started when first asked."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from raybert.cluster import RunningCluster

pytest_plugins = ["s3_server"]

# Of the S3 server; set before a cluster starts, so that its workers inherit them.
os.environ["AWS_ACCESS_KEY_ID"] = "test"
os.environ["AWS_SECRET_ACCESS_KEY"] = "test"
# The cluster below is the tests' own, whatever the person who runs them has set.
for name in ("RAY_ADDRESS", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN"):
    os.environ.pop(name, None)
# The cluster's processes run a submitted job's `python …`, which has to be this one.
os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
# Metrics are at the node's port after a moment, not after ten seconds.
os.environ["RAY_metrics_report_interval_ms"] = "500"  # noqa: SIM112 - Ray's own spelling
# Ray's default of 15 lets whatever else the machine does starve the workers that tests wait for.
os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112 - Ray's own spelling


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Every test on the cluster has its mark, without which others would run beside it."""
    for item in items:
        if "ray_cluster" in getattr(item, "fixturenames", ()):
            item.add_marker("cluster")


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator["RunningCluster"]:
    """A local cluster of four logical CPUs that this process is connected to.

    Two clusters on one host disturb each other, so every test shares this one. Jobs run in
    processes of their own join it with `ray_cluster.environment`. Logical CPUs exceed the
    machine's, so that a killed job's resources, freed seconds later, don't hold up the next.
    """
    from raybert.cluster import start
    from raybert.settings import ClusterSettings

    settings = ClusterSettings(address="local")
    with start(settings, num_cpus=4, object_store_bytes=200 * 2**20) as cluster:
        yield cluster
