"""Nodes with other software or other disks are refused, each side named."""

from dataclasses import replace
from pathlib import Path

import pytest

from raybert.cluster import RunningCluster
from raybert.cluster.nodes import Expectation, Software, check_once, expecting
from raybert.errors import UserError
from raybert.storage import Location


def test_equal_software_passes():
    Expectation("10.0.0.1", Software.here()).check()


@pytest.mark.parametrize(
    ("part", "driver", "message"),
    [
        ("rust_tok", "0.1.0+aaaa", r"rust_tok 0\.1\.0\+[0-9a-f]{16} there, 0\.1\.0\+aaaa at"),
        ("bert_kernels", None, r"bert_kernels 0\.1\.0\+[0-9a-f]{16} there, missing at the driver"),
        ("raybert", "aaaa", r"raybert [0-9a-f]{12} there, aaaa at the driver"),
        ("python", "3.99", r"python 3\.\d+ there, 3\.99 at the driver"),
        ("ray", "1.0", r"ray \S+ there, 1\.0 at the driver"),
        ("torch", None, r"torch \S+ there, missing at the driver"),
    ],
)
def test_other_software_is_refused_with_both_versions(part, driver, message):
    expectation = Expectation("10.0.0.1", replace(Software.here(), **{part: driver}))
    with pytest.raises(UserError, match=rf"driver on 10\.0\.0\.1 runs: {message}.*make wheel"):
        expectation.check()


def test_storage_that_a_node_does_not_see_is_refused(tmp_path: Path):
    beacon = Location.parse(tmp_path / "elsewhere" / "beacon")
    expectation = Expectation("10.0.0.1", Software.here(), (beacon,))
    with pytest.raises(UserError, match=r"doesn't share \S+elsewhere with the driver.*storage"):
        expectation.check()


def test_work_begins_with_the_check(tmp_path: Path):
    good = Expectation("10.0.0.1", Software.here())
    assert good.around(lambda: 3)() == 3
    with pytest.raises(UserError):
        replace(good, software=replace(good.software, ray="1")).around(lambda: 3)()


@pytest.mark.cluster
def test_every_node_is_asked_and_nothing_is_left_of_it(ray_cluster: RunningCluster, tmp_path: Path):
    """A cluster that may grow: later nodes are held against what is found now."""
    import ray

    outputs = [Location.parse(tmp_path / "run"), Location.parse(tmp_path / "deep" / "er")]

    @ray.remote(num_cpus=1)
    def look(expectation: Expectation) -> None:
        check_once(expectation)

    with expecting(outputs, may_grow=True) as expectation:
        (beacon,) = expectation.beacons  # both lie below the same folder
        ray.get(look.remote(expectation))
        assert [path.name for path in tmp_path.iterdir()] == [beacon.name]
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(UserError, match="doesn't share"):
        ray.get(look.remote(replace(expectation, driver="another")))
