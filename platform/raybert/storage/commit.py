"""Commits: what is written is whole, or it does not exist (DESIGN, laws 3 and 4).

Locally, files are staged beside their place, flushed to the device and renamed. On an object store
a single put is atomic, and a folder exists from the moment its manifest does.
"""

import contextlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

from raybert.storage.checksum import checksum_of_file
from raybert.storage.location import Location

MANIFEST = "manifest.json"
_STAGING_PREFIX = ".staging-"


class IncompleteFolder(Exception):
    """A folder without a manifest: whoever wrote it did not finish."""


class DamagedFile(Exception):
    """A file that is not what its manifest says."""


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_file(location: Location, data: bytes) -> None:
    """Writes one file whole or not at all; an older one stays until the new one is durable.

    Raises:
        OSError: no space, no permission; what stood there before is untouched.
    """
    if not location.is_local:
        with location.open_output_stream() as stream:
            stream.write(data)
        return
    path = location.local_path
    path.parent.mkdir(parents=True, exist_ok=True)
    staged = path.with_name(f"{_STAGING_PREFIX}{path.name}-{uuid.uuid4().hex[:12]}")
    try:
        with staged.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        staged.replace(path)
    except BaseException:
        staged.unlink(missing_ok=True)
        raise
    _flush(path.parent)


def _manifest_of(folder: Location) -> bytes:
    files = {
        name: {
            "bytes": (folder / name).size(),
            "blake2b": checksum_of_file(folder / name),
        }
        for name in folder.list_files()
        if name != MANIFEST
    }
    return json.dumps({"files": files}, indent=1, sort_keys=True).encode()


@contextlib.contextmanager
def committed_folder(location: Location) -> Iterator[Location]:
    """Yields a staging folder to write flat files into; on a clean exit it becomes `location`.

    A folder that stood at `location` is replaced as a whole. After an exception nothing of the
    staging area remains and `location` is as it was.
    """
    if location.is_local:
        with _local_folder(location.local_path) as staging:
            yield staging
        return
    # Without a manifest the folder doesn't exist, so an old one goes first and the new one last.
    if (location / MANIFEST).exists():
        (location / MANIFEST).delete_file()
    try:
        yield location
        write_file(location / MANIFEST, _manifest_of(location))
    except BaseException:
        with contextlib.suppress(OSError):  # the first error is the one to tell
            location.delete_dir()
        raise


@contextlib.contextmanager
def _local_folder(path: Path) -> Iterator[Location]:
    path.parent.mkdir(parents=True, exist_ok=True)
    token = uuid.uuid4().hex[:12]
    staged = path.with_name(f"{_STAGING_PREFIX}{path.name}-{token}")
    replaced = path.with_name(f"{_STAGING_PREFIX}{path.name}-{token}-old")
    staged.mkdir()
    try:
        staging = Location(str(staged))
        yield staging
        manifest = _manifest_of(staging)
        for name in staging.list_files():
            _flush(staged / name)
        write_file(staging / MANIFEST, manifest)
        _flush(staged)
        if path.exists():
            path.rename(replaced)
        staged.rename(path)
    except BaseException:
        if replaced.exists() and not path.exists():
            replaced.rename(path)
        shutil.rmtree(staged, ignore_errors=True)
        raise
    _flush(path.parent)
    shutil.rmtree(replaced, ignore_errors=True)


def remove_staging(parent: Location) -> None:
    """Clears what killed writers left beside committed folders; only the owner of `parent` may."""
    if not parent.is_local:
        return
    for entry in parent.local_path.glob(f"{_STAGING_PREFIX}*"):
        if entry.is_dir():
            shutil.rmtree(entry, ignore_errors=True)
        else:
            entry.unlink(missing_ok=True)


def read_manifest(folder: Location) -> dict[str, dict[str, object]]:
    """The files of a committed folder: name to `bytes` and `blake2b`.

    Raises:
        IncompleteFolder: there is no manifest, or it can't be read.
    """
    manifest = folder / MANIFEST
    if not manifest.is_file():
        raise IncompleteFolder(f"{folder} has no {MANIFEST}: whoever wrote it did not finish")
    try:
        return json.loads(manifest.read_bytes())["files"]
    except (ValueError, KeyError, TypeError) as error:
        raise IncompleteFolder(f"{manifest} can't be read: {error}") from error


def verify_folder(folder: Location) -> dict[str, dict[str, object]]:
    """Checks size and checksum of every file of a committed folder and gives its manifest.

    Raises:
        IncompleteFolder: there is no readable manifest.
        DamagedFile: a file is missing, longer, shorter or altered.
    """
    files = read_manifest(folder)
    for name, expected in files.items():
        file = folder / name
        if not file.is_file():
            raise DamagedFile(f"{file} is missing")
        if (size := file.size()) != expected["bytes"]:
            raise DamagedFile(f"{file} has {size} bytes, its manifest says {expected['bytes']}")
        if (found := checksum_of_file(file)) != expected["blake2b"]:
            raise DamagedFile(f"{file} is damaged: blake2b {found}, not {expected['blake2b']}")
    return files


__all__ = [
    "MANIFEST",
    "DamagedFile",
    "IncompleteFolder",
    "committed_folder",
    "read_manifest",
    "remove_staging",
    "verify_folder",
    "write_file",
]
