"""A bounded folder on this machine for copies of remote shards, shared by all its processes."""

from __future__ import annotations

import fcntl
import os
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from raybert.errors import InvalidContent
from raybert.storage import Algorithm, Location, checksum_of_file

_PART_SUFFIX = ".part"
_ABANDONED_SECONDS = 24 * 3600
_BLOCK_BYTES = 1 << 22


def default_cache_folder() -> Path:
    """Where copies of shards go unless told otherwise: in the user's cache folder."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "raybert" / "shards"


@dataclass(frozen=True)
class NodeCache:
    """Copies of files by checksum; the least recently used go when there are too many bytes.

    Attributes:
        folder: made when first needed.
        max_bytes: of all copies together. One copy larger than that is still made.
    """

    folder: Path
    max_bytes: int = 32 << 30

    def map(
        self,
        location: Location,
        checksum: str,
        num_bytes: int,
        algorithm: Algorithm = "blake2b",
    ) -> pa.MemoryMappedFile:
        """A verified local copy of a remote file, mapped.

        The mapping outlives the copy: eviction does not disturb its readers.

        Raises:
            InvalidContent: what is stored there is not what the checksum says.
            OSError: storage not reachable, no space.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        copy = self.folder / checksum
        # One process per file downloads, the others wait for it; the stripes bound the lock files.
        with self._locked(f"stripe-{checksum[:1]}.lock"):
            with self._locked("index.lock"):
                if copy.is_file() and copy.stat().st_size == num_bytes:
                    os.utime(copy)
                    return pa.memory_map(str(copy))
            part = self.folder / f"{uuid.uuid4().hex}{_PART_SUFFIX}"
            try:
                _download(location, checksum, algorithm, part)
                with self._locked("index.lock"):
                    self._make_room(num_bytes)
                    part.replace(copy)
                    return pa.memory_map(str(copy))
            finally:
                part.unlink(missing_ok=True)

    def _make_room(self, num_bytes: int) -> None:
        """Remove the oldest copies, and what killed processes left, until num_bytes more fit."""
        copies: list[tuple[int, int, Path]] = []
        for path in self.folder.iterdir():
            if path.is_dir():
                continue
            status = path.stat()
            if path.suffix == _PART_SUFFIX and time.time() - status.st_mtime > _ABANDONED_SECONDS:
                path.unlink(missing_ok=True)
            elif path.suffix == "":
                copies.append((status.st_mtime_ns, status.st_size, path))
        held = sum(size for _, size, _ in copies)
        for _, size, path in sorted(copies):
            if held + num_bytes <= self.max_bytes:
                return
            path.unlink()
            held -= size

    @contextmanager
    def _locked(self, name: str) -> Iterator[None]:
        with (self.folder / name).open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _download(location: Location, checksum: str, algorithm: Algorithm, part: Path) -> None:
    with location.open_input_stream() as source, part.open("wb") as target:
        shutil.copyfileobj(source, target, _BLOCK_BYTES)
    found = checksum_of_file(Location.parse(part), algorithm)
    if found != checksum:
        raise InvalidContent(f"{location}: damaged: {algorithm} {found}, not {checksum}")
