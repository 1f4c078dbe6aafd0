"""Refused at the door: one message, before a cluster starts."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from finetuning.cases import sentences, settings, write_csv, write_model

from raybert.errors import UserError
from raybert.settings import Settings, TuningSettings
from raybert.settings.layers import read_yaml
from raybert.settings.loading import load
from raybert.storage import Location
from raybert.tuning.disk import needed_bytes, refuse_without_space
from raybert.tuning.driver import prepare
from raybert.tuning.ledger import Ledger
from raybert.tuning.placement import Placement, WorkerRequest
from raybert.tuning.space import draw, with_values
from raybert.tuning.sweep_folder import record

SPACE = {"finetuning.learning_rate": {"uniform": (1e-5, 1e-3)}}


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("case")
    write_model(folder / "model")
    write_csv(folder / "train.csv", sentences(30))
    return folder


def asked(case: Path, run: Path, tuning: dict[str, Any] | None = None, **changes: Any) -> Settings:
    tree = settings(case / "model", case / "train.csv", run, **changes)
    return tree.model_copy(update={"tuning": TuningSettings(**{"space": SPACE} | (tuning or {}))})


def begun(case: Path, run: Path, **changes: Any) -> Settings:
    """A sweep that was started."""
    first = asked(case, run, **changes)
    prepared = prepare(first)
    record(prepared.sweep, first, prepared.identity)
    Ledger(prepared.sweep).add({"finetuning.learning_rate": 1e-4})
    return first


def test_a_run_and_a_space_have_to_be_given(case, tmp_path):
    tree = asked(case, tmp_path / "run")
    with pytest.raises(UserError, match="--run is missing"):
        prepare(tree.model_copy(update={"run": None}))
    with pytest.raises(UserError, match=r"tuning\.space is empty"):
        prepare(asked(case, tmp_path / "run", {"space": {}}))


def test_a_metric_of_another_task_is_refused(case, tmp_path):
    with pytest.raises(UserError, match=r"finetuning\.metric pearson is none of the task"):
        prepare(asked(case, tmp_path / "run", finetuning={"metric": "pearson"}))


def test_a_folder_of_other_things_is_refused(case, tmp_path):
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(UserError, match=r"holds other things \(thesis.tex\) and no sweep"):
        prepare(asked(case, tmp_path))
    with pytest.raises(UserError, match="is a file"):
        prepare(asked(case, tmp_path / "thesis.tex"))


@pytest.mark.parametrize(
    ("tuning", "changes", "difference"),
    [
        (
            {"space": {"finetuning.learning_rate": {"uniform": (1e-5, 1e-2)}}},
            {},
            r"space\.finetuning\.learning_rate: uniform \[1e-05, 0.001\] -> uniform \[1e-05, 0",
        ),
        ({"scheduler": "median"}, {}, r"tuning\.scheduler: asha -> median"),
        ({}, {"finetuning": {"epochs": 7}}, r"finetuning\.epochs: 3\.0 -> 7\.0"),
        ({}, {"finetuning": {"weight_decay": 0.5}}, r"finetuning\.weight_decay: 0\.01 -> 0\.5"),
        ({}, {"data": {"split_seed": 1}}, r"data\.split_seed: 42 -> 1"),
    ],
)
def test_a_sweep_of_other_settings_is_refused_with_a_diff(
    case, tmp_path, tuning, changes, difference
):
    begun(case, tmp_path / "run")
    with pytest.raises(UserError, match=difference):
        prepare(asked(case, tmp_path / "run", tuning, **changes))


def test_what_is_only_carried_out_otherwise_goes_on(case, tmp_path):
    begun(case, tmp_path / "run")
    tuning = {"num_trials": 30, "max_hours": 1, "keep_trials": 3, "retrain_seeds": 2}
    other_rate = {"finetuning": {"learning_rate": 7e-4}}  # it is searched
    assert prepare(asked(case, tmp_path / "run", tuning, **other_rate)).num_trials == 30


def test_a_schedule_is_not_trained_anew(case, tmp_path):
    tuning = {"scheduler": "pbt", "algorithm": "random", "retrain_seeds": 2}
    with pytest.raises(UserError, match=r"retrain_seeds 2: pbt finds a schedule"):
        prepare(asked(case, tmp_path / "run", tuning))


def test_a_disk_that_is_too_small_is_refused_with_the_numbers(case, tmp_path):
    tree = asked(case, tmp_path / "run")
    placement = Placement(2, {}, WorkerRequest(1, 1))
    needed = needed_bytes(tree, 10**12, placement, 16)
    # Two trials with best, newest and the one being written; the best of all; an export.
    assert needed == (2 * 3 + 1) * 3 * 4 * 10**12 + 4 * 10**12
    with pytest.raises(UserError, match=r"take up to 81956\.\d GiB, and .* GiB are free"):
        refuse_without_space(Location.parse(tmp_path / "run"), needed)
    refuse_without_space(Location.parse(tmp_path / "run"), 1)


def test_the_job_ends_with_2_and_one_message(case, tmp_path):
    config = tmp_path / "search.yaml"
    config.write_text("tuning:\n  space:\n    finetuning.learning_rat: {uniform: [0.1, 0.2]}\n")
    done = subprocess.run(
        [
            *(sys.executable, Path(__file__).parents[2] / "jobs" / "tune.py"),
            *("--config", config, "--model.init_from", case / "model"),
            *("--data.train", case / "train.csv", "--run", tmp_path / "run"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr == (
        f"error: {config} line 3: tuning.space: finetuning.learning_rat is not a setting; did you "
        "mean finetuning.learning_rate?\n"
    )
    assert not (tmp_path / "run").exists()


def test_the_example_is_a_space_that_can_be_searched():
    file = Path(__file__).parents[2] / "jobs" / "configs" / "search.yaml"
    tree = load(read_yaml(str(file)), ("model", "data", "finetuning", "tuning", "cluster"))
    values = draw(tree.tuning.space, 0, 0)
    assert with_values(tree, values).finetuning.learning_rate < 1e-3
