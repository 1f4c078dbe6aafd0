"""Between the driver, which a person watches and stops, and worker 0, which knows how it goes.

Rows and words go one way, a wish to stop the other. An actor of the driver's carries them: it needs
no CPU, lives on the driver's node and ends with the driver.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from raybert.training.stopping import StopRequest

if TYPE_CHECKING:
    from raybert.tracking.row import Row

_EXCHANGE_S = 0.2

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Note:
    """Something worth a line at the terminal."""

    text: str


@dataclass(frozen=True)
class Started:
    """A group of workers is about to take its first step.

    Attributes:
        step: steps taken before.
        num_workers: in the group.
    """

    step: int
    num_workers: int


Event = Any  # Row | Note | Started, pickled


class Mailbox:
    """The actor's class; see `open_mailbox`."""

    def __init__(self) -> None:
        self._events: list[Event] = []
        self._stop: str | None = None

    def exchange(self, events: Sequence[Event]) -> str | None:
        """Worker 0 hands in what is new and learns why it should stop, if it should."""
        self._events.extend(events)
        return self._stop

    def take(self) -> list[Event]:
        """The driver takes what has come in."""
        events, self._events = self._events, []
        return events

    def ask_to_stop(self, reason: str) -> None:
        self._stop = self._stop or reason


def open_mailbox() -> Any:
    """An actor handle of a new `Mailbox` on this node."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    return ray.remote(Mailbox).options(num_cpus=0, scheduling_strategy=here).remote()


class Correspondent:
    """Worker 0's end: a tracker's sink that also turns the driver's wish into a StopRequest.

    Args:
        mailbox: the driver's actor.
        stop: asked when the driver wants to stop.
    """

    def __init__(self, mailbox: Any, stop: StopRequest) -> None:
        self._mailbox = mailbox
        self._stop = stop
        self._waiting: list[Event] = []
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._correspond, name="mailbox", daemon=True)
        self._thread.start()

    def post(self, event: Event) -> None:
        with self._lock:
            self._waiting.append(event)

    def resume(self, history: Sequence[Row]) -> None:
        """What came before is the driver's already, or another launch's."""

    def log(self, row: Row) -> None:
        self.post(row)

    def flush(self) -> None:
        """What waits goes out within a moment."""

    def close(self) -> None:
        """Sends what waits and ends the correspondence."""
        self._closing.set()
        self._thread.join()

    def _correspond(self) -> None:
        while self._exchange() and not self._closing.wait(_EXCHANGE_S):
            pass
        self._exchange()

    def _exchange(self) -> bool:
        """False when there is nobody to write to any more."""
        import ray
        from ray.exceptions import RayActorError

        with self._lock:
            events, self._waiting = self._waiting, []
        try:
            reason: str | None = ray.get(self._mailbox.exchange.remote(events))  # pyright: ignore[reportAssignmentType]
        except RayActorError:
            logger.warning("the driver is gone; this worker is about to be ended")
            return False
        if reason is not None:
            self._stop.ask(reason)
        return True


def drain(mailbox: Any, see: Callable[[Event], None]) -> None:
    """Shows the driver what has come in."""
    import ray

    for event in ray.get(mailbox.take.remote()):
        see(event)
