"""A scheduler that begins again with the ledger decides as one that never stopped."""

import math
from typing import Any

import pytest

from raybert.settings import TuningSettings
from raybert.storage import Location
from raybert.tuning.ledger import Evaluation, Ledger
from raybert.tuning.scheduling import EPOCH, EVAL, IS_LAST, scheduler_of

SPACE = {"finetuning.learning_rate": {"uniform": (0.1, 1.0)}}


class FakeTrial:
    def __init__(self, key: str) -> None:
        self.trial_id = key

    def is_finished(self) -> bool:
        return False


class FakeController:
    def get_live_trials(self) -> list[Any]:
        return []


def scheduler(ledger: Ledger, name: str) -> Any:
    tuning = TuningSettings(space=SPACE, scheduler=name, grace_epochs=1, reduction_factor=2)
    return scheduler_of(
        tuning,
        ledger,
        "accuracy",
        higher=True,
        most_epochs=4,
        record=lambda key, result: EPOCH in result,
        move=lambda entry, part: None,
    )


def tell(scheduler: Any, trial: FakeTrial, epoch: float, accuracy: float, last=False) -> str:
    result = {EPOCH: epoch, f"{EVAL}accuracy": accuracy, IS_LAST: last}
    return scheduler.on_trial_result(FakeController(), trial, result)


@pytest.fixture
def ledger(tmp_path) -> Ledger:
    """Four finished trials, of accuracy 0.6 to 0.9."""
    ledger = Ledger(Location.parse(tmp_path))
    for number in range(4):
        key = ledger.add({"finetuning.learning_rate": 0.1 + number / 10}).key
        for epoch in (1, 2, 3, 4):
            figure = {"accuracy": 0.6 + number / 10}
            ledger.evaluated(key, Evaluation(epoch, epoch, figure), state="finished")
    return ledger


@pytest.mark.parametrize("name", ["asha", "median"])
def test_finished_trials_of_earlier_launches_count(ledger, name):
    told = scheduler(ledger, name)
    for number, (accuracy, decision) in enumerate([(0.5, "STOP"), (0.95, "CONTINUE")]):
        trial = FakeTrial(ledger.add({"finetuning.learning_rate": 0.9 + number / 100}).key)
        told.on_trial_add(FakeController(), trial)
        assert tell(told, trial, 1.0, accuracy) == decision


@pytest.mark.parametrize("name", ["asha", "median"])
def test_an_open_trial_goes_on_whatever_was_learned_since(ledger, name):
    key = ledger.add({"finetuning.learning_rate": 0.9}).key
    ledger.evaluated(key, Evaluation(1, 1.0, {"accuracy": 0.1}))
    told, trial = scheduler(ledger, name), FakeTrial(key)
    told.on_trial_add(FakeController(), trial)
    assert tell(told, trial, 2.0, 0.99) == "CONTINUE"
    assert tell(told, trial, 4.0, 0.1, last=True) == "CONTINUE"  # it is at its end anyway


@pytest.mark.parametrize("name", ["asha", "median", "none"])
def test_a_figure_that_is_no_number_is_the_worst(ledger, name):
    told = scheduler(ledger, name)
    trial = FakeTrial(ledger.add({"finetuning.learning_rate": 0.9}).key)
    told.on_trial_add(FakeController(), trial)
    expected = "CONTINUE" if name == "none" else "STOP"
    assert tell(told, trial, 1.0, math.nan) == expected


def test_a_result_without_figures_decides_nothing(ledger):
    told = scheduler(ledger, "asha")
    trial = FakeTrial(ledger.add({"finetuning.learning_rate": 0.9}).key)
    told.on_trial_add(FakeController(), trial)
    assert told.on_trial_result(FakeController(), trial, {"failed": "out of memory"}) == "CONTINUE"
    told.on_trial_complete(FakeController(), trial, {"failed": "out of memory"})
