import math

import pytest

from raybert.errors import InvalidContent
from raybert.storage import Location
from raybert.tuning.ledger import Evaluation, Ledger, Part


@pytest.fixture
def sweep(tmp_path) -> Location:
    return Location.parse(tmp_path)


def test_what_is_committed_is_read_back(sweep):
    ledger = Ledger(sweep)
    first = ledger.add({"finetuning.learning_rate": 0.1, "finetuning.head_dropout": None})
    second = ledger.add({"finetuning.learning_rate": 0.2, "finetuning.head_dropout": 0.1})
    ledger.evaluated(first.key, Evaluation(4, 1.0, {"loss": 0.5, "auroc": math.nan}), seconds=2.5)
    ledger.update(first.key, state="failed", reason="out of memory")
    part = Part({"finetuning.learning_rate": 0.3}, 4, (first.key, 0))
    ledger.update(second.key, parts=(*second.parts, part))
    again = Ledger(sweep)
    assert [entry.name for entry in again.entries()] == [first.name, second.name]
    assert again[second.key] == ledger[second.key]
    assert again[first.key].reason == "out of memory"
    assert math.isnan(again[first.key].evaluations[0].metrics["auroc"])
    assert again[second.key].values == {"finetuning.learning_rate": 0.3}


def test_a_step_that_is_done_again_replaces_what_came_after_it(sweep):
    ledger = Ledger(sweep)
    key = ledger.add({"a": 1}).key
    for step in (2, 4, 6):
        ledger.evaluated(key, Evaluation(step, step / 2, {"loss": float(step)}))
    entry = ledger.evaluated(key, Evaluation(4, 2.0, {"loss": 9.0}))
    assert [(e.step, e.metrics["loss"]) for e in entry.evaluations] == [(2, 2.0), (4, 9.0)]


def test_the_best_evaluation_by_either_direction(sweep):
    ledger = Ledger(sweep)
    key = ledger.add({"a": 1}).key
    for step, value in ((1, 0.5), (2, math.nan), (3, 0.7), (4, 0.7)):
        entry = ledger.evaluated(key, Evaluation(step, 1.0, {"accuracy": value}))
    assert entry.best("accuracy", higher=True).step == 3
    assert entry.best("accuracy", higher=False).step == 1
    assert entry.best("pearson", higher=True) is None


def test_a_file_that_is_no_entry_is_named(sweep):
    (sweep / "ledger").create_dir()
    (sweep / "ledger").local_path.joinpath("0000-x.json").write_text("{}")
    with pytest.raises(InvalidContent, match=r"0000-x\.json is no entry"):
        Ledger(sweep)
