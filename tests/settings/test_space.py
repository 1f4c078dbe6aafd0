from pathlib import Path

import pytest

from raybert.errors import UserError
from raybert.settings import Settings
from raybert.settings.command_line import parse
from raybert.settings.yaml_text import from_yaml, to_yaml


def read(space: str, *arguments: str) -> Settings:
    indented = "".join(f"    {line}\n" for line in space.splitlines())
    return from_yaml(f"tuning:\n  space:\n{indented}", "search.yaml")


def test_nested_and_dotted_names_are_the_same():
    space = read(
        "finetuning.learning_rate: {loguniform: [1e-5, 1.0e-3]}\n"
        "finetuning:\n"
        "  batch_size: {choice: [16, 32]}\n"
        "  head_dropout: {grid: [none, 0.1]}\n"
        "model: {hidden_dropout: {uniform: [0, 0.3]}}\n"
        "finetuning.frozen_layers: {randint: [0, 2]}"
    ).tuning.space
    assert space == {
        "finetuning.learning_rate": {"loguniform": (1e-5, 1e-3)},
        "finetuning.batch_size": {"choice": (16, 32)},
        "finetuning.head_dropout": {"grid": (None, 0.1)},
        "model.hidden_dropout": {"uniform": (0.0, 0.3)},
        "finetuning.frozen_layers": {"randint": (0, 2)},
    }


def test_what_is_written_reads_back():
    settings = read("finetuning.class_weights: {choice: [uniform, balanced]}")
    assert from_yaml(to_yaml(settings), "again") == settings


MISTAKES = {
    "finetuning.learning_rat: {uniform: [0.1, 0.2]}": "search.yaml line 3: tuning.space: "
    "finetuning.learning_rat is not a setting; did you mean finetuning.learning_rate?",
    "finetuning.batch_size: {choise: [8]}": "finetuning.batch_size has 'choise'; allowed: choice, "
    "grid, uniform, loguniform, randint; did you mean choice?",
    "finetuning.batch_size: 8": "finetuning.batch_size needs a distribution",
    "finetuning.batch_size: {choice: 8}": "choice is 8; a list is needed",
    "finetuning.batch_size: {choice: []}": "choice is empty",
    "finetuning.batch_size: {choice: [8, 8]}": "choice has 8 twice",
    "finetuning.batch_size: {choice: [8, 0]}": "choice has 0; allowed: a whole number (at least 1)",
    "finetuning.batch_size: {uniform: [8, 16]}": "takes whole numbers: randint or choice",
    "finetuning.class_weights: {choice: [uniform, odd]}": "choice has odd; allowed: uniform or bal",
    "finetuning.class_weights: {uniform: [uniform, balanced]}": "uniform is for numbers",
    "finetuning.learning_rate: {uniform: [0.1]}": "uniform has 1 values; [lowest, highest]",
    "finetuning.learning_rate: {uniform: [0.2, 0.1]}": "uniform [0.2, 0.1]: the lowest must be bel",
    "finetuning.weight_decay: {loguniform: [0, 0.1]}": "loguniform [0.0, 0.1]: the lowest must be "
    "above 0",
    "finetuning.weight_decay: {randint: [0.5, 2]}": "needs whole numbers",
    "model.hidden_dropout: {uniform: [0, 1.5]}": "uniform has 1.5; allowed: a number (at least 0 a",
    "cluster.num_workers: {choice: [1, 2]}": "is the sweep's, not a trial's",
    "data.train: {choice: [a, b]}": "has to be the same for all trials",
    "finetuning.metric: {choice: [loss]}": "has to be the same for all trials",
    "finetuning.batch_size: {choice: [8], grid: [16]}": "has a distribution already",
}


@pytest.mark.parametrize("space", MISTAKES)
def test_mistakes_are_named_with_their_place(space: str):
    with pytest.raises(UserError) as error:
        read(space)
    assert "search.yaml line 3" in str(error.value)
    assert MISTAKES[space] in str(error.value)


def test_all_mistakes_are_told_at_once():
    with pytest.raises(UserError) as error:
        read("a.b: {choice: [1]}\nmodel.size: {choice: [huge]}")
    assert len(str(error.value).splitlines()) == 2


def test_a_space_is_not_given_on_the_command_line(tmp_path: Path):
    with pytest.raises(UserError, match="in the file of --config"):
        parse(["--tuning.space", "x"], description="a job", sections=("tuning",))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("scheduler: pbt\n  algorithm: optuna", "can't follow tuning.algorithm optuna"),
        ("scheduler: pbt\n  algorithm: random\n  num_trials: 1", "at least 2"),
        (
            "scheduler: pbt\n  algorithm: random\n  space: {finetuning.batch_size: {choice: [8]}}",
            "finetuning.batch_size can't change then",
        ),
        (
            "scheduler: pbt\n  algorithm: random\ncluster:\n  num_workers: 2",
            "would start cluster.num_workers 2 anew",
        ),
    ],
)
def test_pbt_is_refused_where_it_can_not_work(settings: str, message: str):
    with pytest.raises(UserError, match=message):
        from_yaml(f"tuning:\n  {settings}\n", "search.yaml")
