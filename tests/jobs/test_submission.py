"""Every job by `ray job submit`: killed, changed, stopped, watched, and finished all the same."""

import json
import os
import re
import signal
import time
import urllib.request
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from finetuning.cases import sentences, write_csv, write_model
from folders import content
from submitting import ROOT, TRAVELS, Submitter, copy_project

from raybert.cluster import RunningCluster
from raybert.inference.bulk import in_process, prepare
from raybert.settings.command_line import parse
from raybert.storage import Location
from raybert.tracking.metrics_log import read_rows
from raybert.training.checkpoints import CheckpointStore
from raybert.tuning.ledger import Entry, Ledger

WORDS = [
    *("the", "river", "ran", "through", "old", "towns", "where", "nobody"),
    *("spoke", "of", "what", "had", "been", "before"),
]
# Small enough that a step takes milliseconds.
SETTINGS = """
tokenizer: {vocab_size: 200}
corpus: {held_out_share: 0.2, range_mebibytes: 0.02}
model: {num_hidden_layers: 1, hidden_size: 32, num_attention_heads: 2, max_position_embeddings: 64}
samples: {max_length: 32}
pretraining:
  {batch_size: 16, micro_shards: 4, checkpoint_every: 5, evaluate_every: 1000, log_every: 1,
   evaluation_samples: 16}
"""
# One trial after the other, so that the first is done when the next has hardly begun.
SEARCH = """
finetuning: {epochs: 2}
tuning:
  algorithm: random
  scheduler: none
  num_trials: 4
  concurrent_trials: 1
  space: {finetuning.learning_rate: {loguniform: [1.0e-4, 1.0e-2]}}
"""
LABELLED = (
    *("--model.init_from", "model", "--data.train", "train.csv"),
    *("--data.max_length", "32", "--finetuning.batch_size", "8"),
)
# Enough that a worker can be killed before the last.
NUM_PARTS = 200
ENDLESS = ("--pretraining.steps", "1000000")


@pytest.fixture(scope="module")
def submitter(
    ray_cluster: RunningCluster, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Submitter]:
    storage = tmp_path_factory.mktemp("storage")
    (storage / "texts").mkdir()
    for number in range(2):
        text = "\n\n".join(
            " ".join(
                " ".join(WORDS[(n * 7 + s * 3 + w) % len(WORDS)] for w in range(9)).capitalize()
                + f" {n}{number}."
                for s in range(6)
            )
            for n in range(150)
        )
        (storage / "texts" / f"{number}.txt").write_text(text, encoding="utf-8")
    project = copy_project(tmp_path_factory.mktemp("project"))
    (project / "settings.yaml").write_text(SETTINGS, encoding="utf-8")
    submitter = Submitter(ray_cluster, project, storage)
    yield submitter
    submitter.stop_all()


@pytest.fixture(scope="module")
def tokens(submitter: Submitter) -> dict[str, str]:
    """The logs of the jobs up to token shards, by job."""
    config = ("--config", "settings.yaml")
    text = ("--corpus.paths", "texts/*.txt")
    return {
        "train_tokenizer": submitter.run(
            "train_tokenizer", *config, *text, "--output", "tokenizer"
        ),
        "tokenize_corpus": submitter.run(
            *("tokenize_corpus", *config, *text, "--tokenizer.path", "tokenizer"),
            *("--output", "tokens"),
        ),
    }


@pytest.fixture(scope="module")
def labelled(submitter: Submitter) -> None:
    """A model to start from and rows to learn from, in the storage."""
    write_model(submitter.storage / "model")
    write_csv(submitter.storage / "train.csv", sentences(96))


def assert_readable(logs: str) -> None:
    """Lines, and nothing that only a terminal understands."""
    assert "\x1b" not in logs
    assert "\r" not in logs
    assert "━" not in logs


def test_what_travels_is_every_source_of_a_job_and_nothing_else(tmp_path: Path):
    from ray._private.runtime_env.packaging import create_package

    package = tmp_path / "package.zip"
    create_package(str(ROOT), package, include_gitignore=True)
    names = {Path(name) for name in zipfile.ZipFile(package).namelist() if name[-1] != "/"}
    sources = {
        source.relative_to(ROOT)
        for folder in TRAVELS
        for source in (ROOT / folder).rglob("*")
        if source.suffix in {".py", ".yaml", ".typed"}
    }
    assert sources <= names
    assert {name.parts[0] for name in names if len(name.parts) > 1} == set(TRAVELS)
    assert package.stat().st_size < 4 * 2**20


@pytest.mark.cluster
def test_outputs_of_submitted_jobs_lie_in_the_storage(submitter: Submitter, tokens: dict[str, str]):
    storage = submitter.storage
    assert f"{storage}/tokenizer: wordpiece tokenizer of " in tokens["train_tokenizer"]
    assert f"{storage}/tokens: " in tokens["tokenize_corpus"]
    assert (storage / "tokens" / "manifest.json").is_file()
    for logs in tokens.values():
        assert_readable(logs)


@pytest.mark.cluster
def test_pretraining_killed_changed_resumed_and_stopped(
    submitter: Submitter, tokens: dict[str, str], ray_cluster: RunningCluster
):
    run = submitter.storage / "run"
    line = ("pretrain", "--config", "settings.yaml", "--tokens", "tokens", "--run", "run")

    def logged() -> int:
        rows = read_rows(run / "metrics.jsonl")
        return rows[-1].step if rows else 0

    def committed() -> int:
        return max(CheckpointStore(Location.parse(run)).steps(), default=0)

    first = submitter.submit(*line, *ENDLESS)
    assert submitter.wait(first, lambda: committed() >= 10) == "RUNNING", submitter.logs(first)
    assert_watched(ray_cluster, first)
    os.kill(int(submitter.info(first).driver_info.pid), signal.SIGKILL)
    assert submitter.wait(first) == "FAILED"
    kept = committed()

    with (submitter.project / "platform" / "raybert" / "errors.py").open("a") as source:
        source.write("\n# A line more is another package, and another working directory.\n")
    second = submitter.submit(*line, *ENDLESS)
    assert packages_differ(submitter, first, second)
    assert submitter.wait(second, lambda: logged() > kept + 20) == "RUNNING"
    resumed = re.findall(r"going on after step ([\d,]+) of", submitter.logs(second))
    assert [int(step.replace(",", "")) for step in resumed] == [kept]

    submitter.ray_job("stop", second)
    assert submitter.wait(second) == "STOPPED"
    assert committed() == logged() > kept + 20
    logs = submitter.ray_job("logs", second)
    assert "SIGTERM: committing a checkpoint" in logs
    assert f"after step {committed():,}; its checkpoint is committed" in logs

    assert_readable(submitter.logs(second))
    steps = [row.step for row in read_rows(run / "metrics.jsonl")]
    assert steps == list(range(1, committed() + 1))


@pytest.mark.cluster
def test_finetuning(submitter: Submitter, labelled: None):
    logs = submitter.run("finetune", *LABELLED, "--run", "finetuned", "--finetuning.epochs", "1")
    assert_readable(logs)
    assert (submitter.storage / "finetuned" / "export" / "model.safetensors").is_file()


@pytest.mark.cluster
def test_a_sweep_whose_driver_was_killed_is_finished_by_submitting_it_again(
    submitter: Submitter, labelled: None
):
    """Nothing is lost, nothing is done twice."""
    (submitter.project / "search.yaml").write_text(SEARCH, encoding="utf-8")
    sweep = submitter.storage / "sweep"
    line = ("tune", "--config", "search.yaml", *LABELLED, "--run", "sweep")

    def finished() -> dict[str, Entry]:
        entries = Ledger(Location.parse(sweep)).entries()
        return {entry.key: entry for entry in entries if entry.state == "finished"}

    first = submitter.submit(*line)
    assert submitter.wait(first, lambda: len(finished()) > 0) == "RUNNING", submitter.logs(first)
    os.kill(int(submitter.info(first).driver_info.pid), signal.SIGKILL)
    assert submitter.wait(first) == "FAILED"
    before = finished()
    assert 0 < len(before) < 4

    assert_readable(submitter.run(*line))
    after = finished()
    assert len(after) == len(Ledger(Location.parse(sweep)).entries()) == 4
    assert all(after[key] == entry for key, entry in before.items())
    assert (sweep / "leaderboard.csv").read_text().count("\n") == 1 + 4


@pytest.mark.cluster
def test_a_prediction_one_of_whose_workers_is_killed_ends_with_the_same_files(
    submitter: Submitter, labelled: None
):
    """Its successor and the other worker do every part, and none is doubled."""
    storage = submitter.storage
    write_csv(storage / "rows.csv", sentences(NUM_PARTS))

    def line(output: str) -> list[str]:
        return [
            *("--model.path", str(storage / "model"), "--input.paths", str(storage / "rows.csv")),
            *("--output", str(storage / output), "--prediction.kind", "embeddings"),
            *("--input.rows_per_part", "1", "--prediction.workers", "2"),
        ]

    def num_done() -> int:
        return len(list(storage.glob("embedded/_raybert/part-*.json")))

    job = submitter.submit("predict", *line("embedded"))
    workers: list[int] = []

    def both_are_there() -> bool:
        workers[:] = prediction_workers(submitter.url)
        return len(workers) == 2

    assert submitter.wait(job, both_are_there) == "RUNNING", submitter.logs(job)
    assert submitter.wait(job, lambda: num_done() > 2, every_s=0.005) == "RUNNING"
    os.kill(workers[0], signal.SIGKILL)
    assert num_done() < NUM_PARTS
    assert submitter.wait(job) == "SUCCEEDED", submitter.logs(job)
    assert_readable(submitter.logs(job))

    predict_in_this_process(line("whole"))
    assert content(storage / "embedded") == content(storage / "whole")


def prediction_workers(dashboard: str) -> list[int]:
    """Process ids of those that have a model, or are loading it."""
    from ray.util.state import list_actors

    actors: Any = list_actors(dashboard, filters=[("state", "=", "ALIVE")], detail=True)
    return [int(actor.pid) for actor in actors if "_PredictionWorker" in actor.class_name]


def predict_in_this_process(arguments: list[str]) -> None:
    import torch

    sections = ("output", "model", "input", "prediction", "cluster")
    settings = parse(arguments, description="", sections=sections)
    assert settings is not None
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as the workers have
    prepare(settings).run(in_process)
    torch.set_num_threads(threads)


def packages_differ(submitter: Submitter, *names: str) -> bool:
    packages = [submitter.info(name).runtime_env["working_dir"] for name in names]
    return len(set(packages)) == len(packages)


def assert_watched(cluster: RunningCluster, submission: str) -> None:
    """The dashboard's Train tab knows the run; Prometheus would see its figures."""
    runs = json.loads(read_dashboard(cluster, "/api/train/v2/runs/v1"))["train_runs"]
    assert [run["status"] for run in runs if run["status"] == "RUNNING"], runs
    import ray

    (node,) = [node for node in ray.nodes() if node["Alive"]]
    port = node["MetricsExportPort"]
    expected = {
        "step": "steps taken",
        "train_loss": "loss of the global batch",
        "tokens_per_second": "real tokens",
        "data_wait_fraction": "share of time",
    }
    deadline = time.monotonic() + 60
    while True:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as response:
            page = response.read().decode()
        missing = [name for name in expected if f"ray_raybert_{name}{{" not in page]
        if not missing:
            break
        assert time.monotonic() < deadline, missing
        time.sleep(0.5)
    for name, description in expected.items():
        assert re.search(rf"# HELP ray_raybert_{name} {description}", page)


def read_dashboard(cluster: RunningCluster, path: str) -> Any:
    headers = {"Authorization": f"Bearer {cluster.environment['RAY_AUTH_TOKEN']}"}
    request = urllib.request.Request(f"{cluster.dashboard_url}{path}", headers=headers)
    with urllib.request.urlopen(request, timeout=30) as response:
        return response.read()
