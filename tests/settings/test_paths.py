from pathlib import Path

import pytest

from raybert.errors import UserError
from raybert.settings import Settings
from raybert.settings.paths import resolve_paths

JOB = {"RAY_JOB_CONFIG_JSON_ENV_VAR": "{}"}


def settings(**changes) -> Settings:
    return Settings.model_validate(changes)


def test_paths_become_absolute_outside_a_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/me")
    given = settings(
        tokens="tokens",
        run="/runs/a",
        output="s3://bucket/x",
        corpus={"paths": ["[ab]*.txt", "~/b.txt"], "text_column": "text"},
        model={"init_from": "runs/a"},
    )
    resolved = resolve_paths(given, {})
    assert resolved.tokens == f"{tmp_path}/tokens"
    assert resolved.run == "/runs/a"
    assert resolved.output == "s3://bucket/x"
    assert resolved.corpus.paths == (f"{tmp_path}/[ab]*.txt", "/home/me/b.txt")
    assert resolved.corpus.text_column == "text"
    assert resolved.model.init_from == f"{tmp_path}/runs/a"


@pytest.mark.parametrize(
    ("storage", "joined"),
    [
        ("s3://bucket/x/", "s3://bucket/x/{}"),
        ("s3://bucket/x?region=eu-west-1", "s3://bucket/x/{}?region=eu-west-1"),
        ("/shared", "/shared/{}"),
    ],
)
def test_relative_paths_of_a_job_start_in_storage(storage: str, joined: str):
    given = settings(
        tokens="tokens",
        run="s3://b/run",
        corpus={"paths": ["a/*.txt", "/b.txt"]},
        cluster={"storage": storage},
    )
    resolved = resolve_paths(given, JOB)
    assert resolved.tokens == joined.format("tokens")
    assert resolved.run == "s3://b/run"
    assert resolved.corpus.paths == (joined.format("a/*.txt"), "/b.txt")


def test_relative_paths_of_a_job_without_storage_are_refused():
    with pytest.raises(UserError, match=r"run is 'runs/a', relative.*cluster\.storage"):
        resolve_paths(settings(run="runs/a"), JOB)


def test_relative_storage_of_a_job_is_refused():
    with pytest.raises(UserError, match="in a submitted job it must be absolute"):
        resolve_paths(settings(cluster={"storage": "shared"}), JOB)
