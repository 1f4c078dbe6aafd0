"""One writer per run: a lease that its holder renews and that others may take over when it lapses.

The lease is a small file in the run folder that names its holder and when it was last renewed. A
second writer is refused while the holder lives. It may take over

- at once, if the holder was a process of the same machine that is gone;
- when the holder's last renewal is older than the lease's lifetime, by the clocks of both machines;
- when the file has not changed for a lifetime while it was watched: then no clock matters.

On a local file system taking and renewing happen under a file lock: two processes of one machine
never both succeed. An object store has no such lock. There a taker writes, waits, and reads back
whose name stands: the last one wins, the others are refused. A taker whose single write is delayed
by more than the waiting time can slip through; it or the other notices at its next renewal, and
`check`, called before each commit, stops it. Two writers can therefore overlap for at most one
renewal interval, and since checkpoints are committed whole, the damage is one written twice.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from raybert.errors import UserError
from raybert.storage import Location, write_file

FILE = "lease.json"
_LOCK = ".lease.lock"
_RENEWALS_PER_LIFETIME = 4
_REMOTE_SETTLE_S = 1.0
_POLL_S = 0.5


class LeaseHeld(UserError):
    """Somebody else writes to this run."""


class LeaseLost(UserError):
    """Somebody else has taken this run over, or the storage could not be reached for too long."""


@dataclass(frozen=True)
class Holder:
    """Who holds a lease.

    Attributes:
        token: unique to one acquisition.
        host: the machine, for people.
        machine: host, boot and process namespace: where `pid` means something.
        pid: the process.
        started: when it started, in the kernel's count, since pids are used again; or "".
        renewed_at: seconds since 1970 by the holder's clock.
        lifetime_s: the lease lapses so long after its last renewal.
    """

    token: str
    host: str
    machine: str
    pid: int
    started: str
    renewed_at: float
    lifetime_s: float

    @property
    def is_gone(self) -> bool:
        """Whether it is known to have ended: only on the same machine."""
        if self.machine != _machine():
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            pass  # another user's process: it lives
        return self.started != _started(self.pid)


def _machine() -> str:
    """Identifies what pids refer to: hostname, boot, and on Linux the process namespace."""
    parts = [socket.gethostname()]
    boot = Path("/proc/sys/kernel/random/boot_id")
    if boot.is_file():
        parts += [boot.read_text().strip(), str(Path("/proc/self/ns/pid").stat().st_ino)]
    return "/".join(parts)


def _started(pid: int) -> str:
    """Start time of a process in clock ticks since boot (proc(5), field 22); "" if not known."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    return stat.rpartition(")")[2].split()[19]


def _holder(file: Location) -> Holder | None:
    """Who holds the lease in a file; None where there is no such file."""
    if not file.is_file():
        return None
    content = file.read_bytes()
    try:
        return Holder(**json.loads(content))
    except (ValueError, TypeError) as error:
        raise UserError(
            f"{file} is no lease ({error}); if nobody writes to this run, delete it"
        ) from error


@dataclass(frozen=True)
class Permit:
    """A lease as the processes that work for its holder carry it: picklable, and not renewing.

    Attributes:
        run: the run's folder.
        token: of the acquisition that it stands for.
    """

    run: Location
    token: str

    def check(self) -> None:
        """Raises LeaseLost unless the holder still has the lease, by the file."""
        holder = _holder(self.run / FILE)
        if holder is None or holder.token != self.token:
            who = f"process {holder.pid} on {holder.host} has it" if holder else "it is given up"
            raise LeaseLost(
                f"{self.run}: the lease that this worker writes under is no longer its job's "
                f"({who}); it must not write any more"
            )


class Lease:
    """The right to write to a run. Use as a context manager, or `acquire` and `release`.

    Args:
        run: the run's folder.
        lifetime_s: how long after its holder's last renewal the lease lapses; it is renewed four
            times as often by a thread.
    """

    def __init__(self, run: Location, *, lifetime_s: float = 60.0) -> None:
        self._run = run
        self._file = run / FILE
        self._lifetime_s = lifetime_s
        self._token = uuid.uuid4().hex
        self._renewed = 0.0
        self._lost: str | None = None
        self._stopping = threading.Event()
        self._renewer: threading.Thread | None = None
        self._seen: tuple[Holder, float] | None = None

    def permit(self) -> Permit:
        """For processes that write on behalf of this one."""
        return Permit(self._run, self._token)

    def __enter__(self) -> Lease:
        self.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def acquire(self, wait_s: float = 0.0) -> None:
        """Takes the lease and keeps renewing it.

        Args:
            wait_s: how long to wait for another holder's lease to lapse.

        Raises:
            LeaseHeld: it is still another's after that.
        """
        deadline = time.monotonic() + wait_s
        while (holder := self._try_to_take()) is not None:
            if time.monotonic() >= deadline:
                age_s = max(0.0, time.time() - holder.renewed_at)
                raise LeaseHeld(
                    f"{self._run} is being written by process {holder.pid} on {holder.host}, last "
                    f"seen {age_s:.0f} s ago. Stop it first, or choose another run folder; a lease "
                    f"lapses {holder.lifetime_s:.0f} s after its holder's death"
                )
            time.sleep(min(_POLL_S, self._lifetime_s / _RENEWALS_PER_LIFETIME))
        self._stopping.clear()
        self._renewer = threading.Thread(target=self._keep_renewing, name="lease", daemon=True)
        self._renewer.start()

    def check(self) -> None:
        """Raises LeaseLost unless this process still holds the lease.

        After a pause longer than its lifetime (a suspended machine, a blocked process) the file is
        read again first.
        """
        if self._lost is None and time.monotonic() - self._renewed > self._lifetime_s:
            self._renew()
        if self._lost is not None:
            raise LeaseLost(f"{self._run}: {self._lost}; this process must not write any more")

    def release(self) -> None:
        """Gives the lease up; nothing happens if it is not held."""
        if self._renewer is None:
            return
        self._stopping.set()
        self._renewer.join()
        self._renewer = None
        with self._exclusively():
            holder = self._read()
            if holder is not None and holder.token == self._token:
                self._file.delete_file()

    @contextlib.contextmanager
    def _exclusively(self) -> Iterator[None]:
        """Locks out the other processes of this machine, where the run lies on a file system."""
        if not self._run.is_local:
            yield
            return
        self._run.create_dir()
        with (self._run.local_path / _LOCK).open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _try_to_take(self) -> Holder | None:
        """None if the lease is ours now, else who holds it."""
        with self._exclusively():
            holder = self._read()
            if holder is not None and not self._has_lapsed(holder):
                return holder
            self._write()
            if not self._run.is_local:
                time.sleep(_REMOTE_SETTLE_S)
                holder = self._read()
                if holder is not None and holder.token != self._token:
                    return holder
        return None

    def _has_lapsed(self, holder: Holder) -> bool:
        if self._seen is None or self._seen[0] != holder:
            self._seen = (holder, time.monotonic())
        watched_s = time.monotonic() - self._seen[1]
        age_s = time.time() - holder.renewed_at
        return holder.is_gone or max(watched_s, age_s) > holder.lifetime_s

    def _read(self) -> Holder | None:
        return _holder(self._file)

    def _write(self) -> None:
        holder = Holder(
            token=self._token,
            host=socket.gethostname(),
            machine=_machine(),
            pid=os.getpid(),
            started=_started(os.getpid()),
            renewed_at=time.time(),
            lifetime_s=self._lifetime_s,
        )
        write_file(self._file, json.dumps(dataclasses.asdict(holder), indent=1).encode())
        self._renewed = time.monotonic()

    def _renew(self) -> None:
        """Renews the lease if it is still ours; else remembers why it is lost."""
        try:
            with self._exclusively():
                holder = self._read()
                if holder is not None and holder.token == self._token:
                    self._write()
                elif holder is None:
                    self._lost = f"its lease {self._file} was deleted"
                else:
                    self._lost = f"process {holder.pid} on {holder.host} has taken it over"
        except OSError as error:
            # The storage may come back before the lease lapses.
            if time.monotonic() - self._renewed > self._lifetime_s:
                self._lost = f"its lease could not be renewed for {self._lifetime_s:.0f} s: {error}"

    def _keep_renewing(self) -> None:
        interval_s = self._lifetime_s / _RENEWALS_PER_LIFETIME
        while self._lost is None and not self._stopping.wait(interval_s):
            self._renew()
