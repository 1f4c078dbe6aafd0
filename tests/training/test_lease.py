"""One writer per run: refused while the holder lives, taken over when it is gone."""

import dataclasses
import json
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from raybert.errors import UserError
from raybert.storage import Location
from raybert.training import lease as lease_module
from raybert.training.lease import FILE, Holder, Lease, LeaseHeld, LeaseLost

HOLD = """
import sys, time
from raybert.storage import Location
from raybert.training.lease import Lease
Lease(Location.parse(sys.argv[1])).acquire()
print("held", flush=True)
time.sleep(600)
"""


@pytest.fixture
def run(tmp_path: Path) -> Location:
    return Location.parse(tmp_path / "run")


@pytest.fixture
def other_process(run: Location) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the lease."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, run.path], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def read(run: Location) -> Holder:
    return Holder(**json.loads((run / FILE).read_bytes()))


def write_foreign(run: Location, **changes: object) -> None:
    """A lease of a process on another machine, renewed just now."""
    holder = Holder("foreign", "elsewhere", "elsewhere/1/2", 12, "34", time.time(), 60.0)
    content = {**dataclasses.asdict(holder), **changes}
    run.create_dir()
    (run / FILE).local_path.write_text(json.dumps(content))


def check_until_lost(lease: Lease) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        lease.check()
        time.sleep(0.01)


def test_second_writer_is_refused_until_the_first_releases(run: Location):
    with Lease(run), pytest.raises(LeaseHeld, match="is being written by process"):
        Lease(run).acquire()
    assert not (run / FILE).exists()
    with Lease(run) as second:
        second.check()


def test_holder_that_was_killed_is_succeeded_at_once(
    run: Location, other_process: subprocess.Popen[str]
):
    with pytest.raises(LeaseHeld, match=f"process {other_process.pid} on"):
        Lease(run).acquire()
    other_process.send_signal(signal.SIGKILL)
    other_process.wait()
    with Lease(run) as ours:
        ours.check()


def test_pid_that_is_used_again_is_not_the_holder(
    run: Location, other_process: subprocess.Popen[str]
):
    (run / FILE).local_path.write_text(
        json.dumps({**dataclasses.asdict(read(run)), "started": "1"})
    )
    Lease(run).acquire()
    assert other_process.poll() is None


def test_lease_of_another_machine_lapses_by_the_clock(run: Location):
    write_foreign(run, renewed_at=time.time() - 30)
    with pytest.raises(LeaseHeld, match=r"process 12 on elsewhere, last seen [345]\d s ago"):
        Lease(run).acquire()
    write_foreign(run, renewed_at=time.time() - 61)
    with Lease(run) as ours:
        ours.check()


def test_lease_that_does_not_change_while_watched_lapses_whatever_the_clocks_say(run: Location):
    write_foreign(run, renewed_at=time.time() + 1e6, lifetime_s=0.3)
    with pytest.raises(LeaseHeld):
        Lease(run, lifetime_s=0.3).acquire()
    ours = Lease(run, lifetime_s=0.3)
    ours.acquire(wait_s=60)
    ours.release()


def test_lease_is_renewed_while_it_is_held(run: Location):
    with Lease(run, lifetime_s=0.2) as ours:
        first = read(run).renewed_at
        deadline = time.monotonic() + 60
        while read(run).renewed_at == first:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        ours.check()


def test_holder_notices_that_it_was_succeeded(run: Location):
    ours = Lease(run, lifetime_s=0.2)
    ours.acquire()
    write_foreign(run)
    with pytest.raises(LeaseLost, match="process 12 on elsewhere has taken it over"):
        check_until_lost(ours)
    ours.release()
    assert read(run).token == "foreign"  # another's lease is not ours to delete


def test_holder_that_slept_too_long_reads_before_it_writes(
    run: Location, monkeypatch: pytest.MonkeyPatch
):
    """The renewing thread may not have run since a suspended machine woke up."""
    ours = Lease(run, lifetime_s=1000)
    ours.acquire()
    ours.check()
    write_foreign(run)
    ours.check()  # not yet due: the file is not read for every step
    now = time.monotonic()
    monkeypatch.setattr(lease_module.time, "monotonic", lambda: now + 1001)
    with pytest.raises(LeaseLost):
        ours.check()
    monkeypatch.undo()
    ours.release()


def test_permit_stands_for_its_holder_in_other_processes(run: Location):
    ours = Lease(run)
    ours.acquire()
    permit = pickle.loads(pickle.dumps(ours.permit()))
    permit.check()
    write_foreign(run)
    with pytest.raises(LeaseLost, match="process 12 on elsewhere has it"):
        permit.check()
    (run / FILE).delete_file()
    with pytest.raises(LeaseLost, match="it is given up"):
        permit.check()
    ours.release()


def test_only_one_of_many_takers_succeeds(run: Location):
    write_foreign(run, renewed_at=0.0)
    leases = [Lease(run) for _ in range(8)]
    held: list[Lease] = []

    def take(lease: Lease) -> None:
        try:
            lease.acquire()
        except LeaseHeld:
            return
        held.append(lease)

    threads = [threading.Thread(target=take, args=(lease,)) for lease in leases]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(held) == 1
    held[0].check()
    held[0].release()


def test_lease_on_an_object_store(s3_bucket: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(lease_module, "_REMOTE_SETTLE_S", 0.1)
    run = Location.parse(s3_bucket) / "lease-test"
    with Lease(run), pytest.raises(LeaseHeld):
        Lease(run).acquire()
    assert not (run / FILE).exists()


def test_file_that_is_no_lease_is_refused(run: Location):
    run.create_dir()
    (run / FILE).local_path.write_text("hello")
    with pytest.raises(UserError, match="is no lease"):
        Lease(run).acquire()
