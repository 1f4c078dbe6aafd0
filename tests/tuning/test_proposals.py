import pytest

from raybert.errors import UserError
from raybert.settings import Settings, TuningSettings
from raybert.storage import Location
from raybert.tuning.ledger import Evaluation, Ledger
from raybert.tuning.proposals import num_trials, proposer_of

RATES = {"finetuning.learning_rate": {"uniform": (0.0001, 1.0)}}
LISTS = {
    "finetuning.batch_size": {"grid": (8, 16)},
    "finetuning.class_weights": {"choice": ("uniform", "balanced")},
}


def settings(algorithm: str, space: dict, **changes) -> Settings:
    return Settings(
        tuning=TuningSettings(space=space, algorithm=algorithm, startup_trials=3, **changes)
    )


def propose_all(asked: Settings, ledger: Ledger, number: int, forget: bool = False) -> list[float]:
    """Proposes and evaluates trials; the best learning rate is 0.5."""
    proposer = proposer_of(asked, "accuracy", higher=True)
    proposed = []
    for _ in range(number):
        if forget:
            proposer = proposer_of(asked, "accuracy", higher=True)
        values = proposer.propose(ledger.entries())
        if values is None:
            break
        rate = values.get("finetuning.learning_rate", 0.0)
        key = ledger.add(values).key
        evaluation = Evaluation(1, 1.0, {"accuracy": 1 - abs(rate - 0.5)})
        ledger.evaluated(key, evaluation, state="finished")
        proposed.append(rate)
    return proposed


@pytest.mark.parametrize("algorithm", ["random", "optuna"])
def test_a_restart_changes_nothing(tmp_path, algorithm):
    asked = settings(algorithm, RATES)
    once = propose_all(asked, Ledger(Location.parse(tmp_path / "a")), 8)
    again = propose_all(asked, Ledger(Location.parse(tmp_path / "b")), 8, forget=True)
    assert once == again
    assert len(set(once)) == 8


def test_tpe_learns_from_the_ledger(tmp_path):
    learned = propose_all(settings("optuna", RATES), Ledger(Location.parse(tmp_path / "a")), 25)
    drawn = propose_all(settings("random", RATES), Ledger(Location.parse(tmp_path / "b")), 25)

    def distance(rates: list[float]) -> float:
        return sum(abs(rate - 0.5) for rate in rates[10:]) / 15

    assert distance(learned) < 0.7 * distance(drawn)


@pytest.mark.parametrize("algorithm", ["random", "grid", "optuna"])
def test_a_small_space_is_used_up_and_nothing_is_proposed_twice(tmp_path, algorithm):
    ledger = Ledger(Location.parse(tmp_path))
    propose_all(settings(algorithm, LISTS), ledger, 9)
    assert len(ledger) == 4


def test_optuna_takes_stopped_failed_and_open_trials(tmp_path):
    asked = settings("optuna", RATES | LISTS)
    ledger = Ledger(Location.parse(tmp_path))
    proposer = proposer_of(asked, "accuracy", higher=True)
    for state in ("finished", "stopped", "failed", "open", "finished"):
        key = ledger.add(proposer.propose(ledger.entries())).key
        if state != "failed":
            ledger.evaluated(key, Evaluation(3, 1.0, {"accuracy": 0.5}), state=state)
        ledger.update(key, state=state)
    assert proposer.propose(ledger.entries()) is not None


def test_combinations_that_contradict_are_left_out(tmp_path):
    space = {
        "finetuning.batch_size": {"grid": (8, 16)},
        "finetuning.micro_shards": {"grid": (4, 12)},
    }
    ledger = Ledger(Location.parse(tmp_path))
    propose_all(settings("grid", space), ledger, 9)
    assert len(ledger) == 3
    with pytest.raises(UserError, match=r"no combination agrees: finetuning\.micro_shards 12"):
        proposer_of(
            settings(
                "grid",
                space
                | {
                    "finetuning.batch_size": {"grid": (2, 3)},
                    "finetuning.micro_shards": {"grid": (12, 13)},
                },
            ),
            "accuracy",
            higher=True,
        )


def test_the_number_of_trials():
    assert num_trials(settings("grid", LISTS).tuning) == 4
    assert num_trials(settings("grid", LISTS, num_trials=3).tuning) == 3
    assert num_trials(settings("random", LISTS).tuning) == 4
    assert num_trials(settings("random", RATES).tuning) == 16
