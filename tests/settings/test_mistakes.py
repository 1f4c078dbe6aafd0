import errno

import pytest
from ray.exceptions import RayTaskError
from ray.train import ControllerError, WorkerGroupError

import rust_tok
from raybert.errors import InvalidContent, UserError
from raybert.settings.mistakes import mistake_behind
from raybert.storage import NoSpaceLeft


def from_a_task(cause: Exception) -> BaseException:
    """What a driver catches when a task raises `cause`."""
    error = RayTaskError("task", "Traceback: many lines", cause, "ray::task", 1, "127.0.0.1")
    return error.as_instanceof_cause()


def chained(cause: Exception) -> Exception:
    error = RuntimeError("outside")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    "mistake",
    [
        UserError("what, where"),
        InvalidContent("a.txt byte 7: not UTF-8"),
        NoSpaceLeft("disk full"),
        rust_tok.TokenizerError("unknown model"),
    ],
)
def test_mistakes_are_found_behind_what_a_cluster_wraps_around_them(mistake: Exception):
    message = str(mistake)
    assert mistake_behind(mistake) == message
    assert mistake_behind(chained(mistake)) == message
    assert mistake_behind(from_a_task(mistake)) == message
    assert mistake_behind(from_a_task(chained(mistake))) == message
    assert mistake_behind(WorkerGroupError("", {0: from_a_task(mistake)})) == message  # pyright: ignore[reportArgumentType]
    assert mistake_behind(ControllerError(from_a_task(mistake))) == message  # pyright: ignore[reportArgumentType]


def test_what_the_system_refuses_is_told_with_its_file():
    assert mistake_behind(PermissionError(errno.EACCES, "Permission denied", "/x")) == (
        "/x: Permission denied"
    )


@pytest.mark.parametrize(
    "fault", [ValueError("a bug"), OSError(errno.EBADF, "Bad file"), KeyError("x")]
)
def test_faults_of_the_program_are_none(fault: Exception):
    assert mistake_behind(fault) is None
    assert mistake_behind(from_a_task(fault)) is None
    assert mistake_behind(WorkerGroupError("", {0: fault, 1: fault})) is None


def test_a_mistake_raised_while_handling_another_error_counts_itself():
    error = UserError("outer")
    error.__cause__ = UserError("inner")
    assert mistake_behind(error) == "outer"
