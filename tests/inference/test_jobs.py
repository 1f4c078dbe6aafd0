"""The job predict on a real cluster: the bytes of one process, and of a job that was killed."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from folders import content

from raybert.cluster import RunningCluster
from raybert.inference.bulk import in_process, prepare
from raybert.inference.jobs import predict_job
from raybert.settings import Settings
from raybert.settings.command_line import parse, run_job
from raybert.storage import Location, write_file

ROOT = Path(__file__).parents[2]
SECTIONS = ("output", "model", "input", "prediction", "cluster")
NUM_ROWS = 120
ROWS_PER_PART = 2


def settings_of(arguments: list[str]) -> Settings:
    settings = parse(arguments, description="", sections=SECTIONS)
    assert settings is not None
    return settings


@pytest.fixture
def line(tmp_path: Path, classifier: Path, texts: list[str]) -> Callable[[str], list[str]]:
    """The job's arguments for an output folder: 120 rows in 60 parts."""
    path = tmp_path / "rows.txt"
    path.write_text("".join(f"{text}\n" for text in texts * (NUM_ROWS // len(texts))))

    def arguments(output: str) -> list[str]:
        return [
            *("--model.path", str(classifier), "--input.paths", str(path)),
            *("--output", str(tmp_path / output)),
            *("--input.rows_per_part", str(ROWS_PER_PART)),
        ]

    return arguments


@pytest.fixture
def uninterrupted(tmp_path: Path, line: Callable[[str], list[str]]) -> dict[str, bytes]:
    """What one process writes that nobody disturbs."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as the workers have
    prepare(settings_of(line("whole"))).run(in_process)
    torch.set_num_threads(threads)
    return content(tmp_path / "whole")


def begun(arguments: list[str], cluster: RunningCluster, out: Path) -> subprocess.Popen:
    """The job in a process of its own, when its first parts are there."""
    job = subprocess.Popen(
        [sys.executable, str(ROOT / "jobs" / "predict.py"), *arguments],
        env={**os.environ, **cluster.environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    while len(list(out.glob("_raybert/part-*.json"))) < 3:
        assert job.poll() is None, job.communicate()[0]
        time.sleep(0.005)
    return job


@pytest.mark.cluster
def test_a_killed_job_run_again_does_what_is_missing(
    tmp_path: Path,
    line: Callable[[str], list[str]],
    uninterrupted: dict[str, bytes],
    ray_cluster: RunningCluster,
    capsys: pytest.CaptureFixture[str],
):
    out = tmp_path / "out"
    job = begun(line("out"), ray_cluster, out)
    job.send_signal(signal.SIGKILL)
    job.communicate()
    time.sleep(1)  # a part that was in the making may still be committed
    kept = {path: path.stat().st_mtime_ns for path in out.glob("_raybert/part-*.json")}
    assert 3 <= len(kept) < NUM_ROWS // ROWS_PER_PART
    assert not (out / "_raybert/manifest.json").exists()

    predict_job(settings_of(line("out")))
    assert content(out) == uninterrupted
    assert all(path.stat().st_mtime_ns == changed for path, changed in kept.items())
    assert f"{len(kept) * ROWS_PER_PART} of them done before" in capsys.readouterr().out
    predict_job(settings_of(line("out")))
    assert f"{out} is there already: 120 rows in 60 parts" in capsys.readouterr().out


@pytest.mark.cluster
def test_rows_model_and_output_on_s3(
    tmp_path: Path,
    line: Callable[[str], list[str]],
    uninterrupted: dict[str, bytes],
    classifier: Path,
    s3_bucket: str,
    ray_cluster: RunningCluster,
):
    folder = Location.parse(s3_bucket) / "predict"
    write_file(folder / "rows.txt", (tmp_path / "rows.txt").read_bytes())
    for path in classifier.iterdir():
        write_file(folder / "model" / path.name, path.read_bytes())
    arguments = [
        *("--model.path", str(folder / "model"), "--input.paths", str(folder / "rows.txt")),
        *("--output", str(folder / "out"), "--input.rows_per_part", str(ROWS_PER_PART)),
    ]
    predict_job(settings_of(arguments))
    parts = {name: found for name, found in uninterrupted.items() if name.endswith(".parquet")}
    assert len(parts) == NUM_ROWS // ROWS_PER_PART
    assert {name: (folder / "out" / name).read_bytes() for name in parts} == parts
    assert (folder / "out" / "_raybert" / "manifest.json").is_file()


@pytest.mark.cluster
def test_workers_that_never_fit_are_refused_with_the_numbers(
    tmp_path: Path,
    line: Callable[[str], list[str]],
    ray_cluster: RunningCluster,
    capsys: pytest.CaptureFixture[str],
):
    for option, message in (
        (("--prediction.workers", "5"), "4 CPUs. At most 4 such workers fit: lower --prediction.w"),
        (("--cluster.cpus_per_worker", "8"), "Not one such worker fits"),
    ):
        with pytest.raises(SystemExit) as exit_info:
            run_job(
                predict_job,
                description="",
                sections=SECTIONS,
                arguments=[*line("out"), *option],
            )
        assert exit_info.value.code == 2
        assert message in capsys.readouterr().err
