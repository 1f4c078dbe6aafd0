"""Whatever is killed, and however many workers go on: finetuning ends with the same bytes."""

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
from finetuning.cases import sentences, settings, write_csv, write_model

from raybert.finetuning.data import prepare_data
from raybert.finetuning.driver import finetune
from raybert.finetuning.result import read_result
from raybert.finetuning.seeds import seed_run, with_seed
from raybert.finetuning.trainer import FinetuningTrainer
from raybert.settings import Settings
from raybert.settings.yaml_text import to_yaml
from raybert.storage import Location, write_file
from raybert.tracking import RunFolder, Tracker
from raybert.tracking.metrics_log import read_rows
from raybert.training.checkpoints import CheckpointStore

JOB = Path(__file__).parents[2] / "jobs" / "finetune.py"
FAULTY = Path(__file__).parent / "faulty_training.py"
SECTIONS = ("run", "model", "data", "finetuning", "cluster")
STEPS = 14
SEEDS = (42, 43)


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    folder = tmp_path_factory.mktemp("task")
    train = write_csv(folder / "t.csv", sentences(50))
    validation = write_csv(folder / "v.csv", sentences(20))
    return settings(
        write_model(folder / "model"),
        train,
        folder / "uninterrupted",
        data={"validation": str(validation), "cache": str(folder / "cache")},
        finetuning={"epochs": 2.2, "micro_shards": 4, "evaluate_every": 4, "log_every": 1},
    )


def changed(asked: Settings, run: Path, num_workers: int, seeds: int = 1) -> Settings:
    return asked.model_copy(
        update={
            "run": str(run),
            "cluster": asked.cluster.model_copy(update={"num_workers": num_workers}),
            "finetuning": asked.finetuning.model_copy(update={"seeds": seeds}),
        }
    )


@pytest.fixture(scope="module")
def uninterrupted(asked: Settings) -> Path:
    """A run of each seed in one process without Ray."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    run = Location.parse(str(asked.run))
    for seed in SEEDS:
        folder = RunFolder(seed_run(run, seed, len(SEEDS)))
        tracker = Tracker(folder)
        own = with_seed(asked, seed)
        trainer = FinetuningTrainer(own, prepare_data(own), folder.location, tracker)
        assert trainer.train().step == STEPS
        trainer.finish()
        tracker.close()
    torch.set_num_threads(threads)
    return run.local_path


def checkpoint_bytes(run: Path) -> list[bytes]:
    folder = CheckpointStore(Location.parse(run)).location_of(STEPS).local_path
    return [(folder / f"{name}.safetensors").read_bytes() for name in ("model", "optimizer")]


def assert_same(run: Path, reference: Path) -> None:
    """Weights, moments, figures, outputs, and each step logged once."""
    assert checkpoint_bytes(run) == checkpoint_bytes(reference)
    for name in ("outputs.safetensors", "result.json", "export/model.safetensors"):
        assert (run / name).read_bytes() == (reference / name).read_bytes()
    logged, expected = (read_rows(folder / "metrics.jsonl") for folder in (run, reference))
    assert [row.step for row in logged] == list(range(1, STEPS + 1))
    for name in ("train/loss", "eval/macro_f1"):
        assert [r.scalars.get(name) for r in logged] == [r.scalars.get(name) for r in expected]


def start(cluster, folder: Path, asked: Settings, fault: dict[str, Any]) -> subprocess.Popen[str]:
    config, spec = folder / "settings.yaml", folder / "fault.json"
    config.write_text(to_yaml(asked, SECTIONS))
    marker = {"job": "finetune", "marker": str(folder / "struck"), "run": str(asked.run)}
    spec.write_text(json.dumps(fault | marker))
    return subprocess.Popen(
        [sys.executable, str(FAULTY), str(spec), "--config", str(config)],
        env=os.environ | cluster.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.mark.cluster
def test_two_workers_of_which_one_is_killed(ray_cluster, asked, uninterrupted, tmp_path):
    fault = {"what": "worker", "rank": 1, "number": 9}
    process = start(ray_cluster, tmp_path, changed(asked, tmp_path / "run", 2), fault)
    output, _ = process.communicate(timeout=240)
    assert process.returncode == 0, output
    assert "worker 1 failed" in output
    assert re.findall(r"going on after step (\d+) of 14", output) == ["8"]
    assert re.search(r"validation  macro_f1 0\.\d{4} \(95 %: .*\), 20 rows", output)
    assert f"the model is in {tmp_path / 'run' / 'export'}" in output
    assert_same(tmp_path / "run", uninterrupted / "seed-42")


@pytest.mark.cluster
def test_several_seeds_whose_driver_is_killed(ray_cluster, asked, uninterrupted, tmp_path, capsys):
    fault = {"what": "driver", "rank": 1, "number": 9}
    process = start(ray_cluster, tmp_path, changed(asked, tmp_path / "run", 2, seeds=2), fault)
    output, _ = process.communicate(timeout=240)
    assert process.returncode == -signal.SIGKILL, output
    finetune(changed(asked, tmp_path / "run", num_workers=1, seeds=2))
    output = capsys.readouterr().out
    assert "going on after step 8 of 28" in output
    assert re.search(r"validation  macro_f1 0\.\d{4} ± 0\.\d{4} \(95 %", output)
    results = []
    for seed in SEEDS:
        assert_same(tmp_path / "run" / f"seed-{seed}", uninterrupted / f"seed-{seed}")
        results.append(read_result(Location.parse(uninterrupted / f"seed-{seed}")))
    summary = json.loads((tmp_path / "run" / "result.json").read_text())
    figures = [result.value for result in results]
    assert summary["validation"]["mean"]["macro_f1"] == pytest.approx(sum(figures) / 2)
    best = SEEDS[figures.index(max(figures))]
    assert summary["best_seed"] == best
    exported = tmp_path / "run" / "export" / "model.safetensors"
    theirs = uninterrupted / f"seed-{best}" / "export" / "model.safetensors"
    assert exported.read_bytes() == theirs.read_bytes()


@pytest.mark.cluster
@pytest.mark.parametrize(
    ("number", "name"), [(signal.SIGINT, "Ctrl-C"), (signal.SIGTERM, "SIGTERM")]
)
def test_a_signal_commits_a_checkpoint_and_says_how_to_go_on(
    ray_cluster, asked, tmp_path, number, name
):
    run = tmp_path / "run"
    endless = changed(asked, run, num_workers=1)
    rows = {"epochs": 1e6, "evaluate_every": 1_000_000, "checkpoint_every": 1_000_000}
    endless = endless.model_copy(
        update={"finetuning": asked.finetuning.model_copy(update=rows)},
    )
    config = tmp_path / "settings.yaml"
    config.write_text(to_yaml(endless, SECTIONS))
    process = subprocess.Popen(
        [sys.executable, str(JOB), "--config", str(config)],
        env=os.environ | ray_cluster.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    while not any(row.step >= 3 for row in read_rows(run / "metrics.jsonl")):
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.1)
    process.send_signal(number)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 128 + number, output
    checkpoint = CheckpointStore(Location.parse(run)).newest_whole()
    assert checkpoint is not None
    assert f"stopped by {name} after step {checkpoint.step:,}; its checkpoint" in output
    assert f"{JOB} --config {config}" in output.splitlines()[-1]
    assert read_rows(run / "metrics.jsonl")[-1].step == checkpoint.step


@pytest.mark.cluster
def test_data_model_and_run_on_s3(ray_cluster, asked, uninterrupted, s3_bucket):
    folder = Location.parse(s3_bucket) / "finetune"
    copies = {"t.csv": asked.data.train, "v.csv": asked.data.validation}
    for path in sorted(Path(asked.model.init_from).iterdir()):
        copies[f"model/{path.name}"] = str(path)
    for name, path in copies.items():
        write_file(folder / name, Path(path).read_bytes())
    data = {
        "train": (folder / "t.csv").address,
        "validation": (folder / "v.csv").address,
        "cache": None,
    }
    init = asked.model.model_copy(update={"init_from": (folder / "model").address})
    run = folder / "run"
    remote = changed(asked, Path("run"), num_workers=1).model_copy(
        update={
            "run": run.address,
            "data": asked.data.model_copy(update=data),
            "model": init,
        }
    )
    finetune(remote)
    reference = uninterrupted / "seed-42"
    for name in ("outputs.safetensors", "export/model.safetensors"):
        assert (run / name).read_bytes() == (reference / name).read_bytes()
    assert CheckpointStore(run).newest_whole().step == STEPS
