"""Law 3: a checkpoint is committed or it does not exist; the newest whole one is never lost."""

import errno
import logging
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from training.cases import digest

from raybert.errors import InvalidContent
from raybert.storage import MANIFEST, Location
from raybert.training import checkpoints
from raybert.training.checkpoints import Checkpoint, CheckpointNotWritten, CheckpointStore, Snapshot
from raybert.training.engine import EngineState
from raybert.training.lease import LeaseLost

COUNTERS = {"updates": 3.0, "skipped_steps": 1, "loss_scale": 1.0}


def snapshot(step: int) -> Snapshot:
    """A small one, whose content says which step it is of."""
    flat = torch.arange(12.0) + step
    return Snapshot(
        step=step,
        weights={"bert.a": flat[:6].view(2, 3).clone(), "bert.b": flat[6:].clone()},
        engine=EngineState({"exp_avg.a": flat[:6], "exp_avg_sq.a": flat[6:]}, COUNTERS),
        run={"settings": "abc", "step": step},
        files={"config.json": b"{}"},
    )


def save(store: CheckpointStore, *steps: int) -> None:
    for step in steps:
        store.save(snapshot(step))
    store.close()


def newest(run: Path) -> Checkpoint:
    checkpoint = CheckpointStore(Location.parse(run)).newest_whole()
    assert checkpoint is not None
    return checkpoint


def damage(store: CheckpointStore, step: int) -> None:
    """Changes one byte of the weights."""
    file = store.location_of(step).local_path / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


@pytest.fixture
def store(tmp_path: Path) -> CheckpointStore:
    return CheckpointStore(Location.parse(tmp_path), keep_last=3)


def test_checkpoint_gives_back_what_was_saved(store: CheckpointStore):
    assert store.newest_whole() is None
    save(store, 7)
    checkpoint, expected = newest(store.run.local_path), snapshot(7)
    assert checkpoint.step == 7
    assert checkpoint.passed_over == ()
    assert checkpoint.location.path.endswith("checkpoints/step-00000007")
    assert digest(checkpoint.weights()) == digest(dict(expected.weights))
    assert digest(dict(checkpoint.engine().tensors)) == digest(dict(expected.engine.tensors))
    assert checkpoint.engine().counters == COUNTERS
    assert checkpoint.run() == expected.run
    assert (checkpoint.location / "config.json").read_bytes() == b"{}"


def test_checkpoints_on_an_object_store(s3_bucket: str):
    store = CheckpointStore(Location.parse(s3_bucket) / "checkpoint-test", keep_last=1)
    save(store, 1, 2)
    (store.location_of(3) / "model.safetensors").open_output_stream().close()
    checkpoint = store.newest_whole()
    assert checkpoint is not None
    assert (checkpoint.step, len(checkpoint.passed_over)) == (2, 1)
    assert digest(checkpoint.weights()) == digest(dict(snapshot(2).weights))
    assert store.steps() == [2]
    save(store, 3)
    assert store.steps() == [3]


def test_damaged_checkpoint_is_passed_over_and_said(
    store: CheckpointStore, caplog: pytest.LogCaptureFixture
):
    save(store, 1, 2, 3)
    damage(store, 3)
    (store.location_of(2) / MANIFEST).delete_file()
    with caplog.at_level(logging.WARNING):
        checkpoint = newest(store.run.local_path)
    assert checkpoint.step == 1
    assert len(checkpoint.passed_over) == 2
    assert "model.safetensors is damaged" in checkpoint.passed_over[0]
    assert "manifest.json" in checkpoint.passed_over[1]
    assert "passing over the checkpoint of step 3" in caplog.text


def test_saving_again_replaces_what_was_passed_over(store: CheckpointStore):
    save(store, 1, 2, 3)
    damage(store, 2)
    damage(store, 3)
    (store.location_of(3) / MANIFEST).delete_file()
    save(store, 2)
    assert store.steps() == [1, 2]
    assert newest(store.run.local_path).step == 2
    save(store, 3)
    assert newest(store.run.local_path).step == 3


def test_no_whole_checkpoint_among_damaged_ones_is_an_error(store: CheckpointStore):
    save(store, 1, 2)
    damage(store, 1)
    damage(store, 2)
    with pytest.raises(InvalidContent, match="no checkpoint is whole"):
        store.newest_whole()


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(1, 30), min_size=1, max_size=8, unique=True).map(sorted),
    st.integers(1, 4),
    st.none() | st.integers(1, 5),
)
def test_retention_keeps_the_last_and_every_mth(
    tmp_path_factory: pytest.TempPathFactory,
    steps: list[int],
    keep_last: int,
    keep_every: int | None,
):
    run = Location.parse(tmp_path_factory.mktemp("run"))
    store = CheckpointStore(run, keep_last=keep_last, keep_every=keep_every)
    save(store, *steps)
    every = [step for step in steps if keep_every and step % keep_every == 0]
    assert store.steps() == sorted({*steps[-keep_last:], *every})
    assert newest(run.local_path).step == steps[-1]


def test_retention_never_trusts_a_damaged_checkpoint(store: CheckpointStore):
    """A later, damaged one does not push out the one that was just saved."""
    store.keep_last = 1
    save(store, 1)
    save(CheckpointStore(store.run, keep_last=9), 5)
    damage(store, 5)
    save(store, 2)
    assert store.steps() == [2]


def test_full_disk_surfaces_and_leaves_the_previous_checkpoint(
    store: CheckpointStore, monkeypatch: pytest.MonkeyPatch
):
    save(store, 1)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "write_tensors", full)
        store.save(snapshot(2))
        with pytest.raises(CheckpointNotWritten, match=r"step 2 was not saved.*No space left"):
            store.save(snapshot(3))
    assert newest(store.run.local_path).step == 1
    save(store, 3)
    assert newest(store.run.local_path).step == 3


class LostLease:
    """Held when the saving starts, lost before the commit."""

    def __init__(self) -> None:
        self.answers = iter([False, True])

    def check(self) -> None:
        if next(self.answers):
            raise LeaseLost("taken over")


def test_nothing_is_committed_without_the_lease(store: CheckpointStore):
    save(store, 1)
    store.lease = LostLease()
    store.save(snapshot(2))
    with pytest.raises(LeaseLost):
        store.close()
    assert store.steps() == [1]
    assert store.folder.list_dirs() == ["step-00000001"]


KILLED_WHILE_SAVING = """
import os, signal, sys
from raybert.storage import Location
from raybert.training import checkpoints
from training.test_checkpoints import snapshot

store = checkpoints.CheckpointStore(Location.parse(sys.argv[1]))
store.save(snapshot(1))
store.wait()
write = checkpoints.write_tensors

def write_weights_and_die(location, tensors):
    write(location, tensors)
    os.kill(os.getpid(), signal.SIGKILL)

checkpoints.write_tensors = write_weights_and_die
store.save(snapshot(2))
store.close()
"""


def test_sigkill_while_saving_leaves_the_previous_checkpoint(store: CheckpointStore):
    killed = subprocess.run(
        [sys.executable, "-c", KILLED_WHILE_SAVING, store.run.path],
        cwd=Path(__file__).parents[1],
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL
    left = [path.name for path in store.folder.local_path.iterdir()]
    assert len(left) == 2  # the checkpoint of step 1 and what the killed writer had staged
    assert newest(store.run.local_path).step == 1
    save(store, 2)
    assert store.folder.list_dirs() == ["step-00000001", "step-00000002"]
    assert newest(store.run.local_path).step == 2
