"""Relative paths become absolute at the door, so that they mean the same in every process.

They start in the working directory. A submitted job's working directory is a package cache that
changes with every edited line, so there they start in `cluster.storage`, and are refused without.
"""

import os
from collections.abc import Mapping
from pathlib import Path

from raybert.errors import UserError
from raybert.settings.fields import is_list, leaf_fields
from raybert.settings.marks import flatten, is_path
from raybert.settings.tree import Settings

# The job supervisor sets this for the entrypoint (ray/dashboard/modules/job/job_supervisor.py).
_JOB_MARK = "RAY_JOB_CONFIG_JSON_ENV_VAR"
_STORAGE = "cluster.storage"


def in_submitted_job(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether this process was started by `ray job submit`."""
    return _JOB_MARK in environment


def resolve_paths(settings: Settings, environment: Mapping[str, str] = os.environ) -> Settings:
    """Settings with all paths absolute.

    Raises:
        UserError: a relative path in a submitted job without `cluster.storage`, or a
            `cluster.storage` that is itself relative there or can't be opened.
    """
    submitted = in_submitted_job(environment)
    values = {name: value for name, value, _ in flatten(settings)}
    storage = values[_STORAGE]
    tree = settings.model_dump()

    def resolved(name: str, path: str) -> str:
        if "://" in path:
            return path
        path = os.path.expanduser(path)  # noqa: PTH111 - leaves the home of nobody as it is
        if os.path.isabs(path):  # noqa: PTH117 - a Path would drop a trailing slash
            return path
        if submitted and name == _STORAGE:
            raise UserError(f"cluster.storage is {path!r}; in a submitted job it must be absolute")
        if submitted:
            return _in_storage(name, path, storage if isinstance(storage, str) else None)
        return str(Path.cwd() / path)

    for name, field in leaf_fields(Settings):
        value = values[name]
        if not is_path(field) or not value:
            continue
        *sections, leaf = name.split(".")
        branch = tree
        for section in sections:
            branch = branch[section]
        if is_list(field):
            branch[leaf] = tuple(resolved(name, path) for path in branch[leaf])
        else:
            branch[leaf] = resolved(name, branch[leaf])
    return Settings.model_validate(tree)


def _in_storage(name: str, path: str, storage: str | None) -> str:
    if storage is None:
        raise UserError(
            f"{name} is {path!r}, relative, and a submitted job's working directory does not "
            "last: give an absolute path or a bucket, or set cluster.storage"
        )
    from raybert.storage import Location  # slow to import, and needed only here

    return str(Location(storage) / path)
