"""Relative paths under a Ray job.

A submitted job runs in a package cache that changes with every edited line, so relative data and
output paths resolve against `cluster.storage` there; elsewhere they stay as they are.
"""

import os
from collections.abc import Mapping
from pathlib import PurePosixPath

from raybert.errors import UserError
from raybert.settings.tree import Settings

# The job supervisor sets this for the entrypoint (ray/dashboard/modules/job/job_supervisor.py).
_JOB_MARK = "RAY_JOB_CONFIG_JSON_ENV_VAR"
_PATHS = (
    (None, "tokens"),
    (None, "run"),
    (None, "output"),
    ("tokenizer", "path"),
    ("model", "init_from"),
)


def in_submitted_job(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether this process was started by `ray job submit`."""
    return _JOB_MARK in environment


def _is_relative(path: str) -> bool:
    return "://" not in path and not PurePosixPath(path).is_absolute() and path[:1] != "~"


def resolve_paths(settings: Settings, environment: Mapping[str, str] = os.environ) -> Settings:
    """Settings whose relative paths are joined to `cluster.storage` under a submitted job.

    Raises:
        UserError: a relative path in a submitted job without `cluster.storage`.
    """
    if not in_submitted_job(environment):
        return settings
    storage = settings.cluster.storage

    def resolved(name: str, path: str) -> str:
        if not _is_relative(path):
            return path
        if storage is None:
            raise UserError(
                f"{name} is {path!r}, relative, and a submitted job's working directory does not "
                "last: give an absolute path or a bucket, or set cluster.storage"
            )
        return f"{storage.rstrip('/')}/{path}"

    tree = settings.model_dump()
    for section, field in _PATHS:
        branch = tree if section is None else tree[section]
        if branch[field] is not None:
            name = field if section is None else f"{section}.{field}"
            branch[field] = resolved(name, branch[field])
    tree["corpus"]["paths"] = tuple(resolved("corpus.paths", p) for p in tree["corpus"]["paths"])
    return Settings.model_validate(tree)
