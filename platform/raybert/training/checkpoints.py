"""Checkpoints of a run: each is a committed folder, or it does not exist (DESIGN, law 3).

`checkpoints/step-00000100/` holds model.safetensors, config.json and the tokenizer's files, so that
transformers loads the folder as it is, besides optimizer.safetensors, state.json and the manifest.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import Tensor, nn

from bert.names import hf_views
from raybert.errors import InvalidContent, UserError
from raybert.storage import (
    MANIFEST,
    DamagedFile,
    IncompleteFolder,
    Location,
    committed_folder,
    remove_folder,
    remove_staging,
    verify_folder,
    write_file,
)
from raybert.training.engine import EngineState
from raybert.training.tensor_files import read_tensors, write_tensors

FOLDER = "checkpoints"
WEIGHTS = "model.safetensors"
_OPTIMIZER = "optimizer.safetensors"
_STATE = "state.json"
_FORMAT = 1
_STEP_FOLDER = re.compile(r"step-(\d{8,})")

logger = logging.getLogger(__name__)


class CheckpointNotWritten(UserError):
    """A checkpoint could not be saved; the ones before it stand."""


class _Permit(Protocol):
    def check(self) -> None: ...


@dataclass(frozen=True)
class Snapshot:
    """Everything a checkpoint holds, in host memory that training no longer touches.

    Attributes:
        step: steps taken so far, the number of the next one.
        weights: by Hugging Face's names.
        engine: what the engine carries.
        run: the caller's own entries of state.json.
        files: further files by name: config.json and the tokenizer's.
        pinned: steps whose checkpoints retention keeps, besides its own.
    """

    step: int
    weights: Mapping[str, Tensor]
    engine: EngineState
    run: Mapping[str, Any]
    files: Mapping[str, bytes]
    pinned: frozenset[int] = frozenset()


def weights_in_host_memory(model: nn.Module) -> dict[str, Tensor]:
    """Copies of a BERT's weights by Hugging Face's names: training may go on meanwhile."""
    return {name: view.to("cpu", copy=True) for name, view in hf_views(model).items()}


@dataclass(frozen=True)
class Checkpoint:
    """A committed checkpoint.

    Attributes:
        step: steps taken, the number of the next one.
        location: its folder.
        passed_over: newer ones that were not whole, with what is wrong with them.
    """

    step: int
    location: Location
    passed_over: tuple[str, ...] = ()

    def weights(self) -> dict[str, Tensor]:
        """By Hugging Face's names, for `bert.hf.from_hf_tensors`."""
        return read_tensors(self.location / WEIGHTS)

    def engine(self) -> EngineState:
        """For `Engine.restore`."""
        return EngineState(read_tensors(self.location / _OPTIMIZER), self._state()["engine"])

    def run(self) -> dict[str, Any]:
        """What the caller put into the snapshot."""
        return self._state()["run"]

    def _state(self) -> dict[str, Any]:
        state = json.loads((self.location / _STATE).read_bytes())
        if state["format"] != _FORMAT:
            raise InvalidContent(
                f"{self.location / _STATE} has format {state['format']}; this version of raybert "
                f"reads {_FORMAT}"
            )
        return state


@dataclass
class CheckpointStore:
    """The checkpoints of a run. Any process may read; one, the lease's holder, may save.

    Writing happens in a thread of its own, one checkpoint at a time; an error surfaces with the
    next `save` or `close`.

    Attributes:
        run: the run's folder.
        keep_last: newest checkpoints to keep.
        keep_every: also keep those whose step is a multiple of this.
        lease: asked before anything is written and again before it is committed.
    """

    run: Location
    keep_last: int = 2
    keep_every: int | None = None
    lease: _Permit | None = None
    _writer: ThreadPoolExecutor | None = field(default=None, init=False, repr=False)
    _in_flight: Future[None] | None = field(default=None, init=False, repr=False)

    @property
    def folder(self) -> Location:
        return self.run / FOLDER

    def location_of(self, step: int) -> Location:
        return self.folder / f"step-{step:08d}"

    def steps(self) -> list[int]:
        """Steps of the committed checkpoints, ascending. Their files are not verified."""
        return [step for step in self._folders() if (self.location_of(step) / MANIFEST).is_file()]

    def _folders(self) -> list[int]:
        """Steps that have a folder, whole or not, ascending."""
        names = self.folder.list_dirs()
        return sorted(int(found[1]) for name in names if (found := _STEP_FOLDER.fullmatch(name)))

    def newest_whole(self) -> Checkpoint | None:
        """The newest checkpoint whose every file has the size and checksum it was committed with.

        Newer ones that are damaged or were never finished are passed over with a warning.

        Returns:
            None if no checkpoint was ever committed.

        Raises:
            InvalidContent: there are committed checkpoints, and all of them are damaged.
        """
        passed_over: list[str] = []
        any_damaged = False
        for step in reversed(self._folders()):
            try:
                verify_folder(self.location_of(step))
            except (DamagedFile, IncompleteFolder) as error:
                any_damaged |= isinstance(error, DamagedFile)
                passed_over.append(str(error))
                logger.warning("passing over the checkpoint of step %d: %s", step, error)
                continue
            return Checkpoint(step, self.location_of(step), tuple(passed_over))
        if any_damaged:
            raise InvalidContent(
                f"{self.folder}: no checkpoint is whole, so the run can't be resumed "
                f"({'; '.join(passed_over)}). Delete the folder to start from the beginning"
            )
        return None

    def save(self, snapshot: Snapshot) -> None:
        """Starts to write a checkpoint, after waiting for the one before.

        Once it is committed, older ones are removed as retention says.

        Raises:
            CheckpointNotWritten: the one before failed.
            UserError: the lease is lost.
        """
        self.wait()
        if self.lease is not None:
            self.lease.check()
        if self._writer is None:
            remove_staging(self.folder)
            self._writer = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._in_flight = self._writer.submit(self._write, snapshot)

    def wait(self) -> None:
        """Waits for the checkpoint being written; raises what went wrong with it."""
        if self._in_flight is not None:
            done, self._in_flight = self._in_flight, None
            done.result()

    def close(self) -> None:
        """Waits for the checkpoint being written and ends the writing thread; raises as `wait`."""
        try:
            self.wait()
        finally:
            if self._writer is not None:
                self._writer.shutdown()
                self._writer = None

    def _write(self, snapshot: Snapshot) -> None:
        location = self.location_of(snapshot.step)
        state = {
            "format": _FORMAT,
            "step": snapshot.step,
            "engine": dict(snapshot.engine.counters),
            "run": dict(snapshot.run),
        }
        files = {**snapshot.files, _STATE: json.dumps(state, indent=1, sort_keys=True).encode()}
        try:
            if location.is_dir() and not (location / MANIFEST).is_file():
                remove_folder(location)  # the rest of a checkpoint that was not committed
            with committed_folder(location) as staging:
                for name, content in files.items():
                    write_file(staging / name, content)
                write_tensors(staging / WEIGHTS, snapshot.weights)
                write_tensors(staging / _OPTIMIZER, snapshot.engine.tensors)
                if self.lease is not None:
                    self.lease.check()
        except OSError as error:
            raise CheckpointNotWritten(
                f"the checkpoint of step {snapshot.step} was not saved: {error}. Earlier "
                "checkpoints stand"
            ) from error
        try:
            self._retain(snapshot.step, snapshot.pinned)
        except OSError as error:  # what is left over goes with the next checkpoint
            logger.warning("an old checkpoint could not be removed: %s", error)

    def _retain(self, newest: int, pinned: frozenset[int]) -> None:
        """Removes what retention does not keep. `newest` was just committed, so it is whole."""
        committed = [step for step in self.steps() if step <= newest]
        kept = {*committed[-self.keep_last :], newest, *pinned}
        if self.keep_every is not None:
            kept |= {step for step in committed if step % self.keep_every == 0}
        # Steps beyond the newest were passed over as damaged when the run came back; folders
        # without a manifest belong to writers that are gone.
        for step in self._folders():
            if step not in kept:
                remove_folder(self.location_of(step))
