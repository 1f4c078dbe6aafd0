import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from raybert.errors import UserError
from raybert.settings import Settings
from raybert.settings.command_line import parse, run_job
from raybert.settings.loading import leaf_fields

EVERYTHING = tuple(Settings.model_fields)


def parsed(*arguments: str) -> Settings:
    settings = parse(arguments, description="a job", sections=EVERYTHING)
    assert settings is not None
    return settings


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("RAY_JOB_CONFIG_JSON_ENV_VAR", raising=False)


def test_precedence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    config = tmp_path / "c.yaml"
    config.write_text("pretraining:\n  steps: 1\n  batch_size: 1\n  seed: 1\n")
    monkeypatch.setenv("RAYBERT__PRETRAINING__BATCH_SIZE", "2")
    monkeypatch.setenv("RAYBERT__PRETRAINING__SEED", "2")
    settings = parsed("--config", str(config), "--pretraining.seed", "3")
    p = settings.pretraining
    assert (p.steps, p.batch_size, p.seed, p.learning_rate) == (1, 2, 3, 5e-4)


def test_globs_stay_text():
    paths = ("[ab]*.txt", "data/*.txt", "{a,b}.txt")
    assert parsed("--corpus.paths", *paths).corpus.paths == paths


def test_flags_and_none():
    settings = parsed(
        "--plan", "--samples.next_sentence", "false", "--pretraining.max_hours", "none"
    )
    assert settings.plan is True
    assert settings.samples.next_sentence is False
    assert settings.pretraining.max_hours is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--pretraining.step", "3"],
            r"not a setting of this job; did you mean pretraining\.steps",
        ),
        (["--steps", "3"], r"did you mean pretraining\.steps"),
        (["--pretraining.steps", "x"], r"--pretraining\.steps: .* 'x': .*integer"),
        (["--pretraining.steps", "0"], "greater than or equal to 1"),
        (["--pretraining.steps"], "expected one argument"),
        (["--corpus.on_invalid", "ignore"], "'fail', 'skip' or 'replace'"),
        (["--samples.max_length", "600"], r"samples\.max_length 600 .*512"),
        (["--cluster.num_workers", "9"], "9 is more than the 4 micro-shards"),
        (["--model.hidden_size", "10", "--model.num_attention_heads", "3"], "not a multiple"),
        (["--pretraining.batch_size", "2", "--pretraining.micro_shards", "4"], "between 1 and"),
        (["--pretraining.micro_shards", "1"], "raise micro_shards"),
        (["--cluster.min_workers", "2"], "min_workers 2 is more than num_workers 1"),
        (["--config", "nowhere.yaml"], "does not exist"),
        (["--config", "."], "is a folder"),
        (["stray"], "stands alone"),
    ],
)
def test_mistakes_have_one_clear_message(arguments: list[str], message: str):
    with pytest.raises(UserError, match=message):
        parsed(*arguments)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("pretraining:\n  stepz: 3\n", r"c\.yaml line 2: pretraining\.stepz .* pretraining\.steps"),
        ("a: [1\nb: 2", r"c\.yaml line 2: not YAML"),
        ("- 1\n", r"c\.yaml line 1: a mapping"),
        ("pretraining:\n\n  steps: -1\n", r"c\.yaml line 3: pretraining\.steps is -1"),
        ("pretraining: 3\n", "pretraining is 3"),
    ],
)
def test_yaml_mistakes_name_the_line(tmp_path: Path, text: str, message: str):
    config = tmp_path / "c.yaml"
    config.write_text(text)
    with pytest.raises(UserError, match=message):
        parsed("--config", str(config))


def test_unknown_environment_variable_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("RAYBERT__PRETRAINING__STEPZ", "2")
    with pytest.raises(UserError, match=r"RAYBERT__PRETRAINING__STEPZ: .*pretraining\.steps"):
        parsed()


def test_printed_config_loads_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    arguments = ["--pretraining.steps", "7", "--corpus.paths", "a", "b"]
    assert parse([*arguments, "--print-config"], description="", sections=EVERYTHING) is None
    config = tmp_path / "c.yaml"
    config.write_text(capsys.readouterr().out)
    assert yaml.safe_load(config.read_text())["pretraining"]["steps"] == 7
    assert parsed("--config", str(config)) == parsed(*arguments)


def test_help_names_every_setting_with_its_default(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as exit_info:
        parsed("--help")
    assert exit_info.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    for name, field in leaf_fields(Settings):
        assert f"--{name}" in text
        assert field.description
    assert text.count("(default: ") == len(list(leaf_fields(Settings)))


def test_exit_code_and_message_of_a_mistake(capsys: pytest.CaptureFixture[str]):
    def main(_: Settings) -> None:
        raise UserError("nothing at nowhere.txt")

    with pytest.raises(SystemExit) as exit_info:
        run_job(main, description="", sections=EVERYTHING, arguments=[])
    assert exit_info.value.code == 2
    assert capsys.readouterr().err == "error: nothing at nowhere.txt\n"


def test_settings_import_neither_torch_nor_ray():
    code = (
        "import sys, raybert.settings.command_line; "
        "print(sorted({'torch', 'ray', 'pyarrow'} & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "[]\n"


def test_ready_settings_load():
    folder = Path(__file__).parents[2] / "jobs" / "configs"
    names = [file.name for file in sorted(folder.glob("*.yaml"))]
    assert {"tiny.yaml", "small.yaml", "base.yaml"} <= set(names)
    for name in names:
        parsed("--config", str(folder / name))
