"""Asking a run to stop: it finishes its step, commits a checkpoint and ends."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator

_SIGNALS = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM"}


class StopRequest:
    """Set once, by a signal or a caller; read between steps."""

    def __init__(self) -> None:
        self.reason: str | None = None
        self.signal: signal.Signals | None = None

    def ask(self, reason: str) -> None:
        self.reason = self.reason or reason


@contextlib.contextmanager
def stopping_on_signals() -> Iterator[StopRequest]:
    """Turns SIGINT and SIGTERM into a StopRequest; a second Ctrl-C interrupts at once.

    Outside the main thread, where Python allows no handlers, only callers can ask.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return

    def ask(number: int, _frame: object) -> None:
        if request.signal is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        request.signal = signal.Signals(number)
        request.ask(_SIGNALS[request.signal])

    before = {number: signal.signal(number, ask) for number in _SIGNALS}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
