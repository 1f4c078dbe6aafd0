"""The folder of a run.

    settings.yaml     the resolved settings, loadable with --config
    identity.yaml     what makes this run this run; another launch is held against it
    launches.jsonl    a line per launch: when, where, how, with which versions
    metrics.jsonl     a line per logged step
    tensorboard/      the same for TensorBoard
    logs/<launch>/    what driver, workers and Ray had to say
    checkpoints/      step-*/, each whole and loadable with transformers
    export/           the finished model
    .ray/             Ray Train's own notes, of no use afterwards

What is appended to can't be appended to on an object store: there it is kept in a local folder and
copied at each checkpoint.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path

from raybert.storage import Location, write_file
from raybert.tracking import metrics_log, tensorboard

LAUNCHES = "launches.jsonl"
LOGS = "logs"
RAY = ".ray"


class RunFolder:
    """A run's folder as one process sees it.

    Args:
        location: where the run lies.

    Attributes:
        local: where this process writes what is appended to; the run itself when it is local.
    """

    def __init__(self, location: Location) -> None:
        self.location = location
        self._staged: dict[Path, tuple[int, int]] = {}
        if location.is_local:
            self.local = location.local_path
        else:
            self._temporary = tempfile.TemporaryDirectory(prefix="raybert-run-")
            self.local = Path(self._temporary.name)

    @property
    def name(self) -> str:
        return self.location.name

    def fetch(self) -> None:
        """Brings the metrics log of a remote run here, to be shortened and gone on with."""
        log = self.location / metrics_log.FILE
        if not self.location.is_local and log.is_file():
            (self.local / metrics_log.FILE).write_bytes(log.read_bytes())

    def sync(self) -> None:
        """Copies what has changed here to a remote run, and drops what TensorBoard replaced."""
        if self.location.is_local:
            return
        for path in sorted(p for p in self.local.rglob("*") if p.is_file()):
            stat = path.stat()
            if self._staged.get(path) != (stat.st_size, stat.st_mtime_ns):
                remote = self.location / path.relative_to(self.local).as_posix()
                write_file(remote, path.read_bytes())
                self._staged[path] = (stat.st_size, stat.st_mtime_ns)
        events = self.local / tensorboard.FOLDER
        if events.is_dir():
            here = {path.name for path in events.iterdir()}
            remote = self.location / tensorboard.FOLDER
            for name in remote.list_files():
                if name not in here:
                    (remote / name).delete_file()

    def close(self) -> None:
        """Copies what is left to copy and removes the local folder of a remote run."""
        if not self.location.is_local:
            self.sync()
            self._temporary.cleanup()

    def logs(self, launch: str) -> Path:
        """Where this process puts its log files of a launch."""
        folder = self.local / LOGS / launch
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def record_launch(self, facts: Mapping[str, object]) -> None:
        """Adds a line to launches.jsonl."""
        file = self.location / LAUNCHES
        before = file.read_bytes() if file.is_file() else b""
        write_file(file, before + json.dumps(dict(facts)).encode() + b"\n")
