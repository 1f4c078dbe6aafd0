"""Whole sweeps on a cluster: real finetuning, tiny."""

import csv
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
from finetuning.cases import sentences, settings, write_csv, write_model
from transformers import AutoModelForSequenceClassification

from raybert.settings import Settings, TuningSettings
from raybert.settings.yaml_text import to_yaml
from raybert.storage import Location
from raybert.tracking.metrics_log import read_rows
from raybert.tuning.driver import tune
from raybert.tuning.ledger import Entry, Ledger
from raybert.tuning.sweep_folder import SECTIONS
from raybert.tuning.trial import part_folder

JOB = Path(__file__).parents[2] / "jobs" / "tune.py"


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("case")
    write_model(folder / "model")
    write_csv(folder / "train.csv", sentences(60))
    write_csv(folder / "test.csv", sentences(30))
    return folder


def sweep(case: Path, run: Path, tuning: dict[str, Any], **finetuning: Any) -> Settings:
    data = {"test": str(case / "test.csv"), "validation_share": 0.2}
    asked = settings(case / "model", case / "train.csv", run, data=data, finetuning=finetuning)
    return asked.model_copy(update={"tuning": TuningSettings(**tuning)})


def entries(run: Path) -> list[Entry]:
    return Ledger(Location.parse(run)).entries()


def versions(run: Path) -> list[str]:
    return sorted(
        p.parent.relative_to(run / "trials").as_posix()
        for p in run.glob("trials/*/part-*/checkpoints/step-*/manifest.json")
    )


@pytest.mark.cluster
def test_a_sweep_from_space_to_scored_model(ray_cluster, case, tmp_path, capsys):
    run = tmp_path / "run"
    space = {
        "finetuning.learning_rate": {"grid": (1e-9, 3e-3, 1e30)},
        "finetuning.batch_size": {"grid": (8, 16)},
    }
    tuning = {"space": space, "algorithm": "grid", "scheduler": "asha", "reduction_factor": 2}
    asked = sweep(case, run, tuning, epochs=4, max_nonfinite_steps=1)
    tune(asked)
    found = entries(run)
    assert len(found) == len({entry.key for entry in found}) == 6
    for entry in found:
        rate = entry.values["finetuning.learning_rate"]
        if rate == 1e30:  # diverges, is marked, and the sweep goes on
            assert entry.state == "failed"
            assert re.search("finite", entry.reason or "")
        else:
            assert entry.state in ("finished", "stopped")
            assert [e.step for e in entry.evaluations] == sorted(
                {e.step for e in entry.evaluations}
            )
    rows = list(csv.DictReader((run / "leaderboard.csv").open()))
    assert len(rows) == 6
    assert rows[0]["finetuning.learning_rate"] == "0.003"
    best = json.loads((run / "best.json").read_text())
    assert best["values"]["finetuning.learning_rate"] == 3e-3
    assert 0 <= best["models"][0]["test"]["macro_f1"] <= 1
    model = AutoModelForSequenceClassification.from_pretrained(run / "export")
    assert set(model.config.id2label.values()) == {"animal", "fruit", "stone"}
    (kept,) = versions(run)  # the best version of the best trial, nothing else
    assert kept.endswith(f"step-{best['models'][0]['step']:08d}")
    assert best["trial"][1] in kept

    before = {p: p.read_bytes() for p in (run / "ledger").iterdir()}
    capsys.readouterr()
    tune(asked)  # all is done: nothing is trained again
    assert {p: p.read_bytes() for p in (run / "ledger").iterdir()} == before
    assert "6 trials are done, 0 half done" in capsys.readouterr().out


@pytest.mark.cluster
def test_pbt_goes_on_from_the_weights_of_another_trial(ray_cluster, case, tmp_path):
    run = tmp_path / "run"
    # A trial with a rate of next to nothing keeps its weights: what it evaluates after an exchange
    # are the weights that it was given.
    space = {"finetuning.learning_rate": {"choice": (1e-12, 2e-12, 3e-3)}}
    tuning = {
        "space": space,
        "algorithm": "random",
        "scheduler": "pbt",
        "num_trials": 3,
        "exchange_share": 0.5,
        "seed": 5,
    }
    # Who meets whom is a matter of time: exchanges enough that one of them gives such a rate.
    tune(sweep(case, run, tuning, epochs=10))
    found = {entry.key: entry for entry in entries(run)}
    assert {entry.state for entry in found.values()} == {"finished"}
    same = 0
    for entry in found.values():
        for part in entry.parts[1:]:
            assert part.donor is not None
            donor = found[part.donor[0]]
            after = next(e for e in entry.evaluations if e.step > part.first_step)
            given = next(e for e in donor.evaluations if e.step == part.first_step)
            if part.values["finetuning.learning_rate"] < 1e-6:
                assert after.metrics["loss"] == pytest.approx(given.metrics["loss"], abs=1e-5)
                same += 1
    assert same


class Job:
    """jobs/tune.py in a process of its own on the session's cluster."""

    def __init__(self, cluster: Any, folder: Path, asked: Settings) -> None:
        self._environment = os.environ | cluster.environment
        self._config = folder / "search.yaml"
        self._config.write_text(to_yaml(asked, SECTIONS))
        self.run = Path(asked.run or "")

    def start(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, str(JOB), "--config", str(self._config)],
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def wait_for(self, process: subprocess.Popen[str], condition: Any) -> list[Entry]:
        while True:
            found = entries(self.run)
            if condition(found):
                return found
            assert process.poll() is None, process.communicate()[0]
            time.sleep(0.1)


def trial_processes() -> list[int]:
    """Of all sweeps on the cluster."""
    from ray._private.state import actors

    rows: list[dict[str, Any]] = list(actors().values())
    return [
        r["Pid"]
        for r in rows
        if r["ActorClassName"].endswith("ImplicitFunc") and r["State"] == "ALIVE"
    ]


@pytest.mark.cluster
def test_whatever_is_killed_the_sweep_is_finished_by_starting_it_again(ray_cluster, case, tmp_path):
    run = tmp_path / "run"
    tuning = {
        "space": {"finetuning.learning_rate": {"uniform": (1e-4, 3e-3)}},
        "algorithm": "optuna",
        "scheduler": "none",
        "num_trials": 4,
        "startup_trials": 2,
        "concurrent_trials": 2,
    }
    asked = sweep(case, run, tuning, epochs=30, log_every=1)
    job = Job(ray_cluster, tmp_path, asked)
    process = job.start()
    job.wait_for(process, lambda found: any(len(e.evaluations) >= 2 for e in found))
    os.kill(trial_processes()[0], signal.SIGKILL)
    job.wait_for(
        process,
        lambda found: (
            any(e.state != "open" for e in found)
            and any(e.state == "open" and len(e.evaluations) >= 2 for e in found)
        ),
    )
    process.kill()
    process.communicate()
    killed_at = time.time()
    before = {entry.key: entry for entry in entries(run)}
    process = job.start()
    output, _ = process.communicate(timeout=240)
    assert process.returncode == 0, output
    after = {entry.key: entry for entry in entries(run)}
    assert len(after) == 4
    assert {entry.state for entry in after.values()} == {"finished"}
    for key, entry in before.items():
        if entry.state == "finished":
            assert after[key] == entry
        else:
            assert after[key].evaluations[: len(entry.evaluations)] == entry.evaluations
    steps = asked.finetuning.num_steps(48)
    for entry in after.values():
        folder = part_folder(Location.parse(run), entry, 0).local_path
        logged = read_rows(folder / "metrics.jsonl")
        assert [row.step for row in logged] == list(range(1, steps + 1))
        if entry.key in before and before[entry.key].state == "open":
            assert logged[0].time < killed_at < logged[-1].time  # gone on, not begun again
    assert "half done" in output


@pytest.mark.cluster
def test_ctrl_c_leaves_a_sweep_that_is_gone_on_with(ray_cluster, case, tmp_path):
    tuning = {
        "space": {"finetuning.learning_rate": {"grid": (1e-3, 3e-3)}},
        "algorithm": "grid",
        "scheduler": "none",
        "concurrent_trials": 1,
    }
    asked = sweep(case, tmp_path / "run", tuning, epochs=1000)
    job = Job(ray_cluster, tmp_path, asked)
    process = job.start()
    job.wait_for(process, lambda found: any(len(e.evaluations) >= 2 for e in found))
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 128 + signal.SIGINT, output
    assert "stopped by Ctrl-C; what is done stands. To go on:" in output
    assert f"{JOB} --config {tmp_path / 'search.yaml'}" in output.splitlines()[-1]
    (left,) = [entry for entry in entries(job.run) if entry.evaluations]
    assert left.state == "open"

    process = job.start()
    job.wait_for(
        process, lambda found: any(len(e.evaluations) > len(left.evaluations) for e in found)
    )
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 128 + signal.SIGTERM, output
    assert "1 half done" in output
    (after,) = [entry for entry in entries(job.run) if entry.evaluations]
    assert after.evaluations[: len(left.evaluations)] == left.evaluations


@pytest.mark.cluster
def test_a_budget_failed_trials_and_new_seeds(ray_cluster, case, tmp_path, capsys):
    run = tmp_path / "run"
    tuning = {
        "space": {"finetuning.learning_rate": {"grid": (3e-3, 1e30)}},
        "algorithm": "grid",
        "scheduler": "none",
    }
    changed = [{"max_hours": 1e-6}, {}, {}, {"retry_failed": True, "retrain_seeds": 2}]
    short, whole, again, more = (
        sweep(case, run, tuning | changes, epochs=1, max_nonfinite_steps=1) for changes in changed
    )
    tune(short)
    output = capsys.readouterr().out
    assert "the time budget ended the search; more --tuning.max_hours goes on with it" in output
    assert not any(entry.evaluations for entry in entries(run))

    tune(whole)
    good, failed = entries(run)
    assert (good.state, failed.state) == ("finished", "failed")
    error = part_folder(Location.parse(run), failed, 0).local_path / "error.txt"
    assert "finite" in error.read_text()
    error.unlink()
    tune(again)
    assert not error.exists()

    tune(more)
    assert "finite" in error.read_text()  # it was tried again
    assert entries(run)[0] == good
    best = json.loads((run / "best.json").read_text())
    assert [model["seed"] for model in best["models"]] == [43, 44]
    models = [Path(model["run"]) / "export" / "model.safetensors" for model in best["models"]]
    exported = (run / "export" / "model.safetensors").read_bytes()
    assert exported == models[best["exported"]].read_bytes()
    assert models[0].read_bytes() != models[1].read_bytes()


@pytest.mark.cluster
def test_a_trial_of_two_workers(ray_cluster, case, tmp_path):
    run = tmp_path / "run"
    tuning = {
        "space": {"finetuning.learning_rate": {"grid": (3e-3,)}},
        "algorithm": "grid",
        "scheduler": "none",
    }
    asked = sweep(case, run, tuning, epochs=2)
    tune(asked.model_copy(update={"cluster": asked.cluster.model_copy(update={"num_workers": 2})}))
    assert [(e.state, len(e.evaluations)) for e in entries(run)] == [("finished", 2)]
