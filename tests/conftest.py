"""Fixtures shared by all tests: a Ray cluster and an S3 server, started when first asked."""

import os
from collections.abc import Iterator
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
