"""Tells a person's mistake from a fault of the program, also behind the errors of a cluster."""

import errno
import sys
from collections.abc import Iterator

from raybert.errors import UserError

# What a person can mend outside of raybert.
_SYSTEM_REFUSALS = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS)


def mistake_behind(error: BaseException) -> str | None:
    """The message of the person's mistake that led to an error, or None if it was none.

    Looks through the errors that Ray wraps around those of its workers.
    """
    for cause in _causes(error):
        wrapped = isinstance(getattr(cause, "cause", None), BaseException)
        if not wrapped and isinstance(cause, _mistakes()):
            return str(cause)
        if isinstance(cause, OSError) and cause.errno in _SYSTEM_REFUSALS:
            return f"{cause.filename}: {cause.strerror}" if cause.filename else str(cause)
    return None


def _causes(error: BaseException) -> Iterator[BaseException]:
    todo, seen = [error], set[int]()
    while todo:
        current = todo.pop()
        if id(current) in seen:
            continue
        seen.add(id(current))
        yield current
        # RayTaskError.cause, WorkerGroupError.worker_failures, ControllerError.controller_failure
        inner = [current.__cause__, getattr(current, "cause", None)]
        inner.append(getattr(current, "controller_failure", None))
        inner += list(getattr(current, "worker_failures", {}).values())
        todo += [cause for cause in inner if isinstance(cause, BaseException)]


def _mistakes() -> tuple[type[BaseException], ...]:
    # A tokenizer's file or training that is wrong; nothing is imported to find out.
    tokenizers = sys.modules.get("rust_tok")
    return (UserError,) if tokenizers is None else (UserError, tokenizers.TokenizerError)
