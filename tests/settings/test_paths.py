import pytest

from raybert.errors import UserError
from raybert.settings import Settings
from raybert.settings.paths import resolve_paths

JOB = {"RAY_JOB_CONFIG_JSON_ENV_VAR": "{}"}


def settings(**changes) -> Settings:
    return Settings.model_validate(changes)


def test_relative_paths_stay_outside_a_job():
    given = settings(tokens="tokens", run="runs/a")
    assert resolve_paths(given, {}) == given


def test_relative_paths_of_a_job_resolve_against_storage():
    given = settings(
        tokens="tokens",
        run="s3://b/run",
        corpus={"paths": ["a/*.txt", "/b.txt"]},
        cluster={"storage": "s3://bucket/x/"},
    )
    resolved = resolve_paths(given, JOB)
    assert resolved.tokens == "s3://bucket/x/tokens"
    assert resolved.run == "s3://b/run"
    assert resolved.corpus.paths == ("s3://bucket/x/a/*.txt", "/b.txt")


def test_relative_paths_of_a_job_without_storage_are_refused():
    with pytest.raises(UserError, match=r"run is 'runs/a', relative.*cluster\.storage"):
        resolve_paths(settings(run="runs/a"), JOB)
