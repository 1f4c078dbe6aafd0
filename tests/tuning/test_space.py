import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raybert.errors import UserError
from raybert.settings import Settings
from raybert.tuning.space import (
    clipped,
    combinations,
    draw,
    from_optuna,
    key_of,
    num_combinations,
    optuna_space,
    ray_space,
    to_optuna,
    with_values,
)

SPACE = {
    "finetuning.learning_rate": {"loguniform": (1e-5, 1e-3)},
    "finetuning.batch_size": {"choice": (8, 16, 32)},
    "finetuning.head_dropout": {"grid": (None, 0.1)},
    "finetuning.frozen_layers": {"randint": (0, 3)},
    "finetuning.epochs": {"randint": (2.0, 4.0)},
    "model.hidden_dropout": {"uniform": (0.0, 0.3)},
}
LISTS = {name: SPACE[name] for name in ("finetuning.batch_size", "finetuning.head_dropout")}


@given(st.integers(0, 2**63 - 1), st.integers(0, 10**6))
def test_draws_are_a_function_of_their_place_and_settings_take_them(seed, number):
    values = draw(SPACE, seed, number)
    assert values == draw(SPACE, seed, number)
    assert clipped(SPACE, values) == values
    trial = with_values(Settings(), values)
    assert trial.finetuning.batch_size == values["finetuning.batch_size"]
    assert {type(v) for v in values.values()} <= {int, float, type(None)}


def test_all_of_a_space_is_drawn():
    drawn = [draw(SPACE, 1, n) for n in range(200)]
    assert {v["finetuning.frozen_layers"] for v in drawn} == {0, 1, 2, 3}
    assert {v["finetuning.head_dropout"] for v in drawn} == {None, 0.1}
    rates = sorted(v["finetuning.learning_rate"] for v in drawn)
    assert rates[0] < 2e-5
    assert rates[-1] > 5e-4
    assert rates[100] == pytest.approx(1e-4, rel=0.5)  # even on a logarithmic scale


def test_optuna_and_ray_have_the_same_bounds():
    distributions = optuna_space(SPACE)
    assert distributions["finetuning.learning_rate"] == optuna.distributions.FloatDistribution(
        1e-5, 1e-3, log=True
    )
    assert distributions["finetuning.frozen_layers"] == optuna.distributions.IntDistribution(0, 3)
    domain = ray_space(SPACE)["finetuning.frozen_layers"]
    assert (domain.lower, domain.upper) == (0, 4)  # Ray's upper end is outside


def test_values_come_back_from_optuna():
    asked = optuna.create_study().ask(optuna_space(SPACE))
    values = from_optuna(SPACE, asked.params)
    assert to_optuna(SPACE, values) == asked.params


def test_a_grid_is_every_combination_once():
    found = list(combinations(LISTS))
    assert len({key_of(values) for values in found}) == len(found) == 6 == num_combinations(LISTS)
    with pytest.raises(UserError, match="finetuning.learning_rate has loguniform"):
        list(combinations(SPACE))


def test_a_trial_of_settings_that_contradict_is_refused():
    with pytest.raises(UserError, match=r"finetuning\.micro_shards 9 is more than"):
        with_values(Settings(), {"finetuning.micro_shards": 9, "finetuning.batch_size": 8})
