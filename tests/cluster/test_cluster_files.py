"""cluster.yaml and the examples: held against Ray's own schema and against what they name."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from raybert.settings.layers import merge, read_environment
from raybert.settings.loading import load

ROOT = Path(__file__).parents[2]
FILES = (ROOT / "cluster.yaml", ROOT / "examples" / "cluster.local.yaml")


def prepared(file: Path) -> dict[str, Any]:
    from ray.autoscaler._private.util import prepare_config, validate_config

    config = prepare_config(yaml.safe_load(file.read_text(encoding="utf-8")))
    validate_config(config)
    return config


def commands(config: dict[str, Any]) -> list[str]:
    names = ("setup_commands", "head_start_ray_commands", "worker_start_ray_commands")
    return [command for name in names for command in config[name]]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_a_cluster_file_is_what_ray_takes(file: Path):
    config = prepared(file)
    for command in commands(config):
        subprocess.run(["bash", "-n", "-c", command], check=True)
    starts = [c for c in commands(config) if "ray start" in c]
    assert len(starts) == 2
    assert all("RAY_AUTH_MODE=token" in start for start in starts)
    assert any(target.endswith("/.ray/auth_token") for target in config["file_mounts"])
    assert "--dashboard-host=127.0.0.1" in starts[0]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_the_storage_of_a_cluster_file_is_a_setting(file: Path):
    (head,) = [c for c in prepared(file)["head_start_ray_commands"] if "--head" in c]
    exported = dict(re.findall(r"(RAYBERT__\w+)=(\S+?);?\s", head))
    settings = load(merge([read_environment(exported)]))
    assert settings.cluster.storage in ("s3://my-bucket/raybert", "/shared/raybert")


def test_the_cloud_has_a_head_without_work_and_spot_workers():
    types = prepared(ROOT / "cluster.yaml")["available_node_types"]
    assert types["head"]["resources"] == {"CPU": 0}
    for name in ("cpu", "gpu"):
        assert types[name]["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}
        assert types[name]["min_workers"] == 0
    assert types["gpu"]["resources"]["GPU"] > 0


def test_a_person_changes_five_lines_of_the_cloud_file():
    text = (ROOT / "cluster.yaml").read_text(encoding="utf-8")
    assert re.findall(r"# (\d):", text) == ["1", "2", "3", "4", "5"]


def test_the_slurm_script_is_a_script():
    script = ROOT / "examples" / "slurm.sh"
    subprocess.run(["bash", "-n", str(script)], check=True)
    assert script.stat().st_mode & 0o100
