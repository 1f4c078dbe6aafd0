"""The environment variables of driver and workers, in one place.

Ray reads its own before it connects, so they are set in the driver's environment; what
workers need (allocator settings are read when a process starts) goes by runtime environment.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import sys
from collections.abc import Iterator

AUTH_MODE = "RAY_AUTH_MODE"
AUTH_TOKEN = "RAY_AUTH_TOKEN"

DRIVER_DEFAULTS = {
    # A killed worker is noticed after this many seconds (Ray's default of 2 makes it 13).
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",
    # Fills the dashboard's Train tab.
    "RAY_TRAIN_ENABLE_STATE_TRACKING": "1",
    # Workers import raybert from where the driver does; the uv hook would build environments.
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    # Silences a notice about a coming change of a default that we don't depend on.
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    # Ray's lines about killed workers are for `ray job logs` too, which is no terminal.
    "RAY_COLOR_PREFIX": "0",
}

# A step allocates and frees the same large buffers again and again. By default glibc gives
# each back to the kernel at once and pays the page faults anew in the next micro-shard.
TRAIN_WORKER_VARIABLES = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": "-1",
    # The page-reuse above is per arena, and holds in the first one alone: the others unmap what
    # lies at their end. Large tensors are few; their threads don't wait for each other here.
    "MALLOC_ARENA_MAX": "1",
}


def prepare_driver(joins: bool) -> None:
    """Set this process's environment for `ray.init`; what a person set stays as it is.

    RAY_AUTH_MODE is always set on purpose: left open, Ray's choice depends on whether some
    earlier cluster left a token in the home folder. A cluster that is joined gets a token where
    there is one. A cluster started here is reachable from the network (Ray binds all but the
    dashboard to every interface), so it asks for a token, which lives as long as this process.
    """
    for name, value in DRIVER_DEFAULTS.items():
        os.environ.setdefault(name, value)
    if not joins:
        # An actor of its own that waits for a cloud to take the node back.
        os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")
    if AUTH_MODE in os.environ:
        return
    if joins:
        os.environ[AUTH_MODE] = "token" if _has_token() else "disabled"
    else:
        os.environ[AUTH_MODE] = "token"
        os.environ.setdefault(AUTH_TOKEN, secrets.token_hex(32))
    if "ray" in sys.modules:
        # Ray cached the mode when it was imported.
        from ray._raylet import Config  # pyright: ignore[reportAttributeAccessIssue]

        Config.initialize("")


@contextlib.contextmanager
def temporarily(**variables: str) -> Iterator[None]:
    """Sets variables, and gives them back what they were at the end."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def authentication() -> dict[str, str]:
    """The variables that let another process of this person into the same cluster."""
    return {name: os.environ[name] for name in (AUTH_MODE, AUTH_TOKEN) if name in os.environ}


def _has_token() -> bool:
    from ray._raylet import (
        AuthenticationTokenLoader,  # pyright: ignore[reportAttributeAccessIssue]
    )

    return AuthenticationTokenLoader.instance().has_token(ignore_auth_mode=True)
