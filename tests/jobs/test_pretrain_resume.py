"""Whatever is killed, and however many workers go on: the same bytes of weights and optimizer.

With dropout, four micro-shards, next sentences and evaluation, over several epochs' ends.
"""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_tokens import write_tokens

from raybert.cluster import RunningCluster
from raybert.samples import PretrainingSamples
from raybert.settings import ModelSettings, PretrainingSettings, SampleSettings, Settings
from raybert.settings.command_line import to_yaml
from raybert.storage import Location
from raybert.tokens import TokenStore
from raybert.tracking import RunFolder, Tracker
from raybert.tracking.metrics_log import read_rows
from raybert.training.checkpoints import CheckpointStore
from raybert.training.driver import pretrain
from raybert.training.pretrain import Trainer

JOBS = Path(__file__).parents[2] / "jobs"
FAULTY = Path(__file__).parent / "faulty_training.py"
STEPS = 12
SETTINGS = Settings(
    model=ModelSettings(
        size="tiny",
        num_hidden_layers=2,
        hidden_size=32,
        num_attention_heads=2,
        max_position_embeddings=64,
    ),
    samples=SampleSettings(max_length=32),
    pretraining=PretrainingSettings(
        precision="fp32",  # Runs of the same bits: `auto` would measure for each of them.
        steps=STEPS,
        batch_size=16,
        micro_shards=4,
        checkpoint_every=4,
        evaluate_every=3,
        log_every=1,
        evaluation_samples=24,
    ),
)
SECTIONS = ("model", "samples", "pretraining")


def files_of_last_checkpoint(run: Location) -> dict[str, bytes]:
    folder = CheckpointStore(run).location_of(STEPS)
    return {
        name: (folder / name).read_bytes()
        for name in ("model.safetensors", "optimizer.safetensors")
    }


def logged(run: Path) -> list[tuple[int, float, float | None]]:
    """What doesn't depend on time, of every row: step, loss, held-out loss."""
    return [
        (row.step, row.scalars["train/loss"], row.scalars.get("eval/loss"))
        for row in read_rows(run / "metrics.jsonl")
    ]


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Location:
    return write_tokens(Location.parse(tmp_path_factory.mktemp("corpus") / "tokens"))


def train_in_plain_python(tokens: Location, run: Path) -> None:
    """One process without Ray, from the first step to the last."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        folder = RunFolder(Location.parse(run))
        tracker = Tracker(folder)
        samples = PretrainingSamples(TokenStore.open(tokens), SETTINGS.samples, 42)
        assert 2 * samples.num_samples < STEPS * 16  # the run crosses epochs' ends
        trainer = Trainer(SETTINGS, samples, folder.location, tracker)
        assert trainer.train().step == STEPS
        tracker.close()
    finally:
        torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def uninterrupted(tokens: Location, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("reference") / "run"
    train_in_plain_python(tokens, run)
    return run


def assert_same_as(uninterrupted: Path, run: Path) -> None:
    assert files_of_last_checkpoint(Location.parse(run)) == files_of_last_checkpoint(
        Location.parse(uninterrupted)
    )
    assert logged(run) == logged(uninterrupted)
    assert [row.step for row in read_rows(run / "metrics.jsonl")] == list(range(1, STEPS + 1))


def settings_of(tokens: Location, run: Path, num_workers: int) -> Settings:
    cluster = SETTINGS.cluster.model_copy(update={"num_workers": num_workers})
    return SETTINGS.model_copy(
        update={"tokens": tokens.address, "run": str(run), "cluster": cluster}
    )


class Job:
    """jobs/pretrain.py, or its faulty twin, in a process of its own on the session's cluster."""

    def __init__(
        self, cluster: RunningCluster, folder: Path, tokens: Location | str, run: Path | str
    ) -> None:
        self.environment = os.environ | cluster.environment
        self.folder = folder
        self.run = run
        config = folder / "settings.yaml"
        config.write_text(to_yaml(SETTINGS, SECTIONS))
        self.arguments = ["--config", str(config), "--tokens", str(tokens), "--run", str(run)]

    def start(self, *more: str, fault: dict[str, Any] | None = None) -> subprocess.Popen[str]:
        command = [sys.executable, str(JOBS / "pretrain.py")]
        if fault is not None:
            spec = self.folder / "fault.json"
            spec.write_text(
                json.dumps(
                    {**fault, "job": "pretrain", "marker": str(self.marker), "run": str(self.run)}
                )
            )
            command = [sys.executable, str(FAULTY), str(spec)]
        return subprocess.Popen(
            [*command, *self.arguments, *more],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    @property
    def marker(self) -> Path:
        return self.folder / "struck"

    def last_step_before_the_fault(self) -> int:
        return read_rows(self.marker)[-1].step


def finish(process: subprocess.Popen[str], code: int = 0) -> str:
    output, _ = process.communicate(timeout=180)
    assert process.returncode == code, output
    return output


def resumed_after(output: str) -> int:
    found = re.findall(r"going on after step (\d+) of", output)
    assert len(found) == 1, output
    return int(found[0])


@pytest.mark.cluster
@pytest.mark.parametrize("num_workers", [1, 2])
def test_any_number_of_workers_gives_the_same_bytes(
    ray_cluster, tokens, uninterrupted, tmp_path, num_workers
):
    pretrain(settings_of(tokens, tmp_path / "run", num_workers))
    assert_same_as(uninterrupted, tmp_path / "run")
    assert (tmp_path / "run" / "export" / "model.safetensors").read_bytes() == (
        files_of_last_checkpoint(Location.parse(uninterrupted))["model.safetensors"]
    )


@pytest.mark.cluster
def test_a_worker_killed_in_the_middle_of_a_step(ray_cluster, tokens, uninterrupted, tmp_path):
    job = Job(ray_cluster, tmp_path, tokens, tmp_path / "run")
    fault = {"what": "worker", "rank": 1, "number": 10}
    output = finish(job.start("--cluster.num_workers", "2", fault=fault))
    assert "worker 1 failed" in output
    assert 0 < resumed_after(output) < job.last_step_before_the_fault()
    assert_same_as(uninterrupted, tmp_path / "run")


@pytest.mark.cluster
def test_a_worker_killed_while_it_saves(ray_cluster, tokens, uninterrupted, tmp_path):
    job = Job(ray_cluster, tmp_path, tokens, tmp_path / "run")
    fault = {"what": "saving", "rank": 0, "number": 1}
    output = finish(job.start(fault=fault))
    assert resumed_after(output) == 4  # the second checkpoint, of step 8, never came to be
    assert job.last_step_before_the_fault() >= 8
    assert_same_as(uninterrupted, tmp_path / "run")


@pytest.mark.cluster
def test_a_driver_killed_in_the_middle_of_a_step_goes_on_with_one_worker_less(
    ray_cluster, tokens, uninterrupted, tmp_path, capsys
):
    job = Job(ray_cluster, tmp_path, tokens, tmp_path / "run")
    fault = {"what": "driver", "rank": 1, "number": 10}
    finish(job.start("--cluster.num_workers", "2", fault=fault), code=-signal.SIGKILL)
    pretrain(settings_of(tokens, tmp_path / "run", num_workers=1))
    assert 0 < resumed_after(capsys.readouterr().out) < job.last_step_before_the_fault()
    assert_same_as(uninterrupted, tmp_path / "run")


@pytest.mark.cluster
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_commits_a_checkpoint_and_says_how_to_go_on(ray_cluster, tokens, tmp_path, number):
    run = tmp_path / "run"
    job = Job(ray_cluster, tmp_path, tokens, run)
    # More steps than can be taken; only the signal ends it.
    process = job.start(
        "--pretraining.steps", "1000000", "--pretraining.checkpoint_every", "1000000"
    )
    _wait_for_step(run, 3, process)
    if number == signal.SIGINT:
        refused = finish(job.start(), code=2)
        assert f"{run} is being written by process {process.pid}" in refused
    process.send_signal(number)
    output = finish(process, code=128 + number)
    checkpoint = CheckpointStore(Location.parse(run)).newest_whole()
    assert checkpoint is not None
    assert f"after step {checkpoint.step:,}; its checkpoint is committed" in output
    assert f"--run {run}" in output.splitlines()[-1]
    assert read_rows(run / "metrics.jsonl")[-1].step == checkpoint.step


def _wait_for_step(run: Path, step: int, process: subprocess.Popen[str]) -> None:
    while not any(row.step >= step for row in read_rows(run / "metrics.jsonl")):
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.1)


@pytest.mark.cluster
def test_everything_on_s3(ray_cluster, s3_bucket, tmp_path):
    """Tokenise, pretrain, kill, resume, on a filesystem that is not local."""
    bucket, _, query = s3_bucket.partition("?")
    tokens, run = (f"{bucket}/pretrain/{name}?{query}" for name in ("tokens", "run"))
    _tokenize(ray_cluster, tmp_path, tokens)
    job = Job(ray_cluster, tmp_path, tokens, run)
    fault: dict[str, Any] = {"what": "driver", "rank": 0, "number": 10}
    finish(job.start(fault=fault), code=-signal.SIGKILL)
    # A worker whose driver is gone may still finish the checkpoint that it was writing.
    assert 0 < resumed_after(finish(job.start())) < fault["number"]
    place = Location.parse(run)
    reference = tmp_path / "reference"
    train_in_plain_python(Location.parse(tokens), reference)
    assert files_of_last_checkpoint(place) == files_of_last_checkpoint(Location.parse(reference))
    (tmp_path / "metrics.jsonl").write_bytes((place / "metrics.jsonl").read_bytes())
    assert logged(tmp_path) == logged(reference)


def _tokenize(cluster: RunningCluster, folder: Path, output: str) -> None:
    local = write_tokens(Location.parse(folder / "tokenizer"))
    words = [f"{'abcdefghij'[i % 10]}{i}" for i in range(120)]
    documents = [
        "\n".join(" ".join(words[(n * 7 + s * 3 + w) % 120] for w in range(8)) for s in range(6))
        for n in range(40)
    ]
    (folder / "corpus.txt").write_text("\n\n".join(documents), encoding="utf-8")
    done = subprocess.run(
        [
            *(sys.executable, str(JOBS / "tokenize_corpus.py")),
            *("--corpus.paths", str(folder / "corpus.txt"), "--corpus.sentences", "lines"),
            *("--corpus.held_out_share", "0.2"),
            *("--tokenizer.path", local.address, "--output", output),
        ],
        env=os.environ | cluster.environment,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stderr
