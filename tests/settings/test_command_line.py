import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from raybert.errors import UserError
from raybert.settings import CorpusSettings, PretrainingSettings, Settings
from raybert.settings.command_line import parse, run_job
from raybert.settings.fields import allowed, leaf_fields
from raybert.settings.yaml_text import from_yaml, to_yaml

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
    paths = ("/[ab]*.txt", "/data/*.txt", "/{a,b}.txt", "s3://bucket/part-?.txt")
    assert parsed("--corpus.paths", *paths).corpus.paths == paths


def test_lists_given_twice_add_up():
    paths = parsed("--corpus.paths", "/a", "/b", "--corpus.paths", "/c").corpus.paths
    assert paths == ("/a", "/b", "/c")


def test_flags_and_none():
    settings = parsed(
        "--plan", "--samples.next_sentence", "false", "--pretraining.max_hours", "none"
    )
    assert settings.plan is True
    assert settings.samples.next_sentence is False
    assert settings.pretraining.max_hours is None


MISTAKES = {
    # names
    "--pretraining.step 3": "--pretraining.step is not a setting of this job; "
    "did you mean --pretraining.steps? (see --help)",
    "--steps 3": "did you mean --pretraining.steps?",
    "--cluster.num-workers 2": "did you mean --cluster.num_workers?",
    "--tokenizer DIR": "did you mean one of --tokenizer.path, --tokenizer.kind,",
    "stray": "'stray' stands alone",
    # values
    "--pretraining.steps x": "--pretraining.steps is 'x'; allowed: a whole number (at least 1)",
    "--pretraining.steps 0": "--pretraining.steps is '0'; allowed: a whole number (at least 1)",
    "--pretraining.steps 1.5": "allowed: a whole number",
    "--pretraining.steps": "--pretraining.steps: expected one argument",
    "--pretraining.learning_rate nan": "is 'nan'; allowed: a number (above 0)",
    "--pretraining.learning_rate inf": "is 'inf'; allowed: a number (above 0)",
    "--samples.masking_rate 0.9": "allowed: a number (above 0 and at most 0.5)",
    "--pretraining.seed -1": "allowed: a whole number (at least 0 and below 2^63)",
    "--corpus.on_invalid ignore": "is 'ignore'; allowed: fail, skip or replace",
    "--pretraining.micro_shards some": "allowed: auto or a whole number (at least 1)",
    "--cluster.gpus_per_worker 2": "allowed: auto or a whole number (at least 0 and at most 1)",
    "--pretraining.max_hours 0": "allowed: a number (above 0) or none",
    "--plan maybe": "--plan is 'maybe'; allowed: true or false",
    # settings against each other
    "--samples.max_length 600": "samples.max_length 600 is more than "
    "model.max_position_embeddings 512",
    "--samples.max_length 512 --pretraining.max_tokens_per_device 500": "not one sample fits",
    "--cluster.num_workers 9": "cluster.num_workers 9 is more than the 4 micro-shards of a step",
    "--cluster.min_workers 2": "cluster.min_workers 2 is more than cluster.num_workers 1",
    "--model.hidden_size 10 --model.num_attention_heads 3": "hidden_size 10 is not a multiple",
    "--model.size base --model.num_attention_heads 7": "model.hidden_size 768 is not a multiple of "
    "model.num_attention_heads 7",
    "--pretraining.batch_size 2 --pretraining.micro_shards 4": "each part needs a sample",
    "--pretraining.micro_shards 1": "makes forward passes of 32768 tokens",
    "--pretraining.steps 10 --pretraining.warmup_steps 11": "warmup_steps 11 is more than "
    "pretraining.steps 10",
    "--tokenizer.kind bpe --tokenizer.vocab_size 260": "at least 261",
    # the file
    "--config nowhere.yaml": "--config nowhere.yaml can't be read: No such file or directory",
    "--config .": "--config . is a folder; a YAML file is needed",
    "--config": "--config: expected one argument",
}


@pytest.mark.parametrize("arguments", MISTAKES)
def test_mistakes_have_one_clear_message(arguments: str):
    with pytest.raises(UserError) as told:
        parsed(*arguments.split())
    assert MISTAKES[arguments] in str(told.value)
    assert "\n" not in str(told.value)


YAML_MISTAKES = {
    "pretraining:\n  stepz: 3\n": "c.yaml line 2: pretraining.stepz is not a setting; "
    "did you mean pretraining.steps?",
    "pretraining:\n\n  steps: -1\n": "c.yaml line 3: pretraining.steps is -1; allowed: a whole "
    "number (at least 1)",
    "pretraining:\n  steps: yes\n": "c.yaml line 2: pretraining.steps is yes; allowed: a whole",
    "pretraining:\n  steps: 3\n  seed: 1\n  steps: 4\n": "c.yaml line 4: pretraining.steps stands "
    "in line 2 already",
    "pretraining:\n  steps: 3\n  warmup_steps: 4\n": "is more than pretraining.steps 3 "
    "(c.yaml line 3, c.yaml line 2)",
    "pretraining:\n  steps: [1, 2]\n": "c.yaml line 2: pretraining.steps is [1, 2]; allowed",
    "pretraining:\n  steps:\n    most: 1\n": "c.yaml line 3: pretraining.steps is one setting, "
    "not a group",
    "pretraining: 3\n": "c.yaml line 1: pretraining is 3; a group of settings is needed there",
    "pretrain:\n  steps: 3\n": "did you mean pretraining.steps?",
    "a: [1\nb: 2": "c.yaml line 2: not YAML",
    "a: !!python/name:os.system\n": "c.yaml line 1: not YAML",
    "a: \x07\n": "c.yaml: not YAML",
    "- 1\n": "c.yaml line 1: not a mapping of settings",
}


@pytest.mark.parametrize("text", YAML_MISTAKES)
def test_yaml_mistakes_name_the_line(tmp_path: Path, text: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    Path("c.yaml").write_text(text)
    with pytest.raises(UserError) as told:
        parsed("--config", "c.yaml")
    assert YAML_MISTAKES[text] in str(told.value)


def test_yaml_that_is_not_text(tmp_path: Path):
    (tmp_path / "c.yaml").write_bytes(b"pretraining:\n  steps: \xff\n")
    with pytest.raises(UserError, match=r"c\.yaml: not YAML: .*invalid start byte.*position"):
        parsed("--config", str(tmp_path / "c.yaml"))


def test_yaml_takes_what_people_write(tmp_path: Path):
    config = tmp_path / "c.yaml"
    config.write_text(
        "run: 2026-01-01\n"  # YAML would make a date of it
        "samples:\n"  # all of it commented out
        "pretraining: {learning_rate: 1e-4, max_hours: null, steps: 1_000}\n"
        "corpus:\n  paths: /data/*.txt\n  text_column: no\n"
    )
    settings = parsed("--config", str(config))
    assert Path(settings.run or "").name == "2026-01-01"
    assert settings.pretraining.learning_rate == 1e-4
    assert settings.pretraining.steps == 1000
    assert settings.corpus.paths == ("/data/*.txt",)
    assert settings.corpus.text_column == "no"


def test_several_mistakes_are_told_together(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("RAYBERT__PRETRAINING__STEPS", "many")
    with pytest.raises(UserError) as told:
        parsed("--pretraining.batch_size", "few")
    assert sorted(str(told.value).splitlines()) == [
        "--pretraining.batch_size is 'few'; allowed: a whole number (at least 1)",
        "RAYBERT__PRETRAINING__STEPS: pretraining.steps is 'many'; "
        "allowed: a whole number (at least 1)",
    ]


def test_unknown_environment_variable_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("RAYBERT__PRETRAINING__STEPZ", "2")
    with pytest.raises(UserError, match=r"RAYBERT__PRETRAINING__STEPZ: .*pretraining\.steps"):
        parsed()


def test_a_job_takes_its_own_sections_only(tmp_path: Path):
    def parsed_by_tokenizer_job(*arguments: str) -> Settings | None:
        return parse(arguments, description="", sections=("output", "tokenizer", "cluster"))

    with pytest.raises(UserError, match="is a setting of other jobs; this one has: output, "):
        parsed_by_tokenizer_job("--pretraining.steps", "3")
    # One file may serve all jobs, and what this job does not use need not agree with it.
    config = tmp_path / "c.yaml"
    config.write_text("pretraining:\n  steps: 3\n")
    assert parsed_by_tokenizer_job("--config", str(config), "--cluster.num_workers", "99")


def test_what_is_needed_is_asked_for():
    def parsed_with(*arguments: str) -> Settings | None:
        return parse(arguments, description="", sections=EVERYTHING, required=("tokens", "run"))

    with pytest.raises(UserError, match="--run is needed: folder of the run"):
        parsed_with("--tokens", "a", "--run", "")
    assert parsed_with("--tokens", "a", "--run", "b")


def test_printed_config_loads_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    arguments = ["--pretraining.steps", "7", "--corpus.paths", "a", "b"]
    assert parse([*arguments, "--print-config"], description="", sections=EVERYTHING) is None
    config = tmp_path / "c.yaml"
    config.write_text(capsys.readouterr().out)
    assert yaml.safe_load(config.read_text())["pretraining"]["steps"] == 7
    assert parsed("--config", str(config)) == parsed(*arguments)


@settings(deadline=None, max_examples=50)
@example(seed=0, rate=1.0, paths=["a\x85b\u2028c"], hours=None)
@given(
    seed=st.integers(0, 2**63 - 1),
    rate=st.floats(1e-300, 1e300),
    paths=st.lists(st.text(st.characters(codec="utf-8"), min_size=1), max_size=3),
    hours=st.none() | st.floats(1e-6, 1e6),
)
def test_settings_survive_yaml(seed: int, rate: float, paths: list[str], hours: float | None):
    written = Settings(
        corpus=CorpusSettings(paths=tuple(paths)),
        pretraining=PretrainingSettings(seed=seed, learning_rate=rate, max_hours=hours),
    )
    assert from_yaml(to_yaml(written), "settings.yaml") == written


def test_help_names_every_setting(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as exit_info:
        parsed("--help")
    assert exit_info.value.code == 0
    shown = capsys.readouterr().out
    text = " ".join(shown.split())
    for name, field in leaf_fields(Settings):
        assert f"--{name} " in text
        assert " ".join((field.description or "?").split()[:3]) in text
        assert len(allowed(field)) > 3
    assert text.count("default: ") == len(list(leaf_fields(Settings)))
    assert "* everything random in a run follows from it (at least 0 and below 2^63" in text
    assert max(map(len, shown.splitlines())) <= 100


def test_exit_code_and_message_of_a_mistake(capsys: pytest.CaptureFixture[str]):
    def main(_: Settings) -> None:
        raise UserError("nothing at nowhere.txt")

    with pytest.raises(SystemExit) as exit_info:
        run_job(main, description="", sections=EVERYTHING, arguments=[])
    assert exit_info.value.code == 2
    assert capsys.readouterr().err == "error: nothing at nowhere.txt\n"


def test_a_fault_of_the_program_is_no_mistake():
    def main(_: Settings) -> None:
        raise ValueError("a bug")

    with pytest.raises(ValueError, match="a bug"):
        run_job(main, description="", sections=EVERYTHING, arguments=[])


def test_settings_import_neither_torch_nor_ray():
    code = (
        "import sys, raybert.settings.command_line; "
        "print(sorted({'torch', 'ray', 'pyarrow'} & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "[]\n"


CONFIGS = sorted((Path(__file__).parents[2] / "jobs" / "configs").glob("*.yaml"))


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.stem)
def test_ready_settings_load(config: Path):
    parsed("--config", str(config))


def test_ready_settings_are_there():
    assert {"tiny", "small", "base"} <= {config.stem for config in CONFIGS}
    base = str(next(config for config in CONFIGS if config.stem == "base"))
    arguments = ("--model.init_from", "runs/a", "--samples.max_length", "512")
    assert parsed("--config", base, *arguments, "--cluster.num_workers", "16")
