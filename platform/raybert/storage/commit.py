"""Commits: what is written is whole, or it does not exist (DESIGN, laws 3 and 4).

Locally, files are staged beside their place, flushed to the device and renamed. On an object store
a put is atomic, and a folder exists from the moment its manifest does, which is put last; its files
are staged on the local disk, so that a writer that fails half way has put nothing.
"""

import contextlib
import errno
import io
import json
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO, Final, get_args

import pyarrow.fs as pafs

from raybert.errors import InvalidContent, UserError
from raybert.storage.checksum import Algorithm, checksum_of_file
from raybert.storage.location import Location
from raybert.storage.swap import swap

MANIFEST = "manifest.json"
# A checkpoint is read again for it while training goes on; blake2b takes ten times the CPU.
_ALGORITHM: Final[Algorithm] = "xxh3"
_STAGING_PREFIX = ".staging-"
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class IncompleteFolder(UserError):
    """A folder without a manifest: whoever wrote it did not finish."""


class DamagedFile(InvalidContent):
    """A file that is not what its manifest says."""


class NoSpaceLeft(UserError, OSError):
    """The disk is full; what stood there before is as it was."""


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _no_space_told(location: Location) -> Iterator[None]:
    """Turns the many ways in which libraries say "disk full" into one that people understand."""
    try:
        yield
    except NoSpaceLeft:
        raise
    except Exception as error:
        told_by_system = isinstance(error, OSError) and error.errno in _NO_SPACE
        # safetensors raises an error of its own, with the system's words.
        if told_by_system or os.strerror(errno.ENOSPC) in str(error):
            raise NoSpaceLeft(
                f"{location} could not be written: {error}. What stood there before is untouched"
            ) from error
        raise


def write_file(location: Location, data: bytes) -> None:
    """Writes one file whole or not at all; an older one stays until the new one is durable.

    Raises:
        NoSpaceLeft: what stood there before is untouched.
        OSError: no permission, no connection; what stood there before is untouched.
    """
    with committed_file(location) as file:
        file.write(data)


@contextlib.contextmanager
def committed_file(location: Location) -> Iterator[BinaryIO]:
    """Yields a file to write to; on a clean exit it stands at `location`, durable, in one step.

    Until then, and after an exception, `location` is as it was. For an object store the bytes are
    gathered in memory, since a stream to it that is given up may leave a part.

    Raises:
        NoSpaceLeft, OSError: as `write_file`.
    """
    with _no_space_told(location):
        if location.is_local:
            with _staged_file(location.local_path) as file:
                yield file
        else:
            gathered = io.BytesIO()
            yield gathered
            with location.open_output_stream() as stream:
                stream.write(gathered.getbuffer())


@contextlib.contextmanager
def _staged_file(path: Path) -> Iterator[BinaryIO]:
    path.parent.mkdir(parents=True, exist_ok=True)
    staged = _staging_path(path)
    try:
        with staged.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        staged.replace(path)
    except BaseException:
        staged.unlink(missing_ok=True)
        raise
    _flush(path.parent)


def _staging_path(path: Path) -> Path:
    return path.with_name(f"{_STAGING_PREFIX}{path.name}-{uuid.uuid4().hex[:12]}")


@contextlib.contextmanager
def committed_folder(location: Location) -> Iterator[Location]:
    """Yields a local staging folder; on a clean exit its files become the folder `location`.

    A committed folder that stood at `location` is replaced: locally in one step, so that it is
    the old one or the new one at any moment; on an object store it does not exist while the new
    files are put. After an exception nothing of the staging folder remains and `location` is as it
    was, unless it was a put that failed.

    Raises:
        UserError: before anything is written, if a folder of other content stands at `location`.
        NoSpaceLeft: the disk is full.
    """
    _refuse_other_content(location)
    with _no_space_told(location):
        if location.is_local:
            path = location.local_path.resolve()  # a link stays, what it points to is replaced
            path.parent.mkdir(parents=True, exist_ok=True)
            staged = _staging_path(path)
            staged.mkdir()
        else:
            staged = Path(tempfile.mkdtemp(prefix="raybert-staging-"))
        try:
            yield Location(str(staged))
            manifest = _manifest_of(staged)
            if location.is_local:
                _commit_locally(staged, location.local_path.resolve(), manifest)
            else:
                _put(staged, location, manifest)
        finally:
            shutil.rmtree(staged, ignore_errors=True)


def _refuse_other_content(location: Location) -> None:
    if not location.exists():
        return
    if location.is_file():
        raise UserError(f"{location} is a file; a folder is to be written there")
    if not location.is_local:
        return  # nothing but the files of the same names is replaced there
    names = sorted(entry.name for entry in location.local_path.iterdir())
    if not names or (MANIFEST in names and _may_be_ours(location / MANIFEST)):
        return
    shown = ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
    raise UserError(
        f"{location} holds other content ({shown}) and would be replaced as a whole: "
        "take another folder or remove it"
    )


def _may_be_ours(manifest: Location) -> bool:
    try:
        content = json.loads(manifest.read_bytes())
    except ValueError:
        return True  # a committed folder whose manifest was damaged
    return isinstance(content, dict) and isinstance(content.get("files"), dict)


def _manifest_of(folder: Path) -> bytes:
    files = {
        path.relative_to(folder).as_posix(): {
            "bytes": path.stat().st_size,
            _ALGORITHM: checksum_of_file(Location(str(path)), _ALGORITHM),
        }
        for path in folder.rglob("*")
        if path.is_file()
    }
    return json.dumps({"files": files}, indent=1, sort_keys=True).encode()


def _commit_locally(staged: Path, path: Path, manifest: bytes) -> None:
    for inside in staged.rglob("*"):
        _flush(inside)
    with _staged_file(staged / MANIFEST) as file:
        file.write(manifest)
    if path.exists():
        swap(staged, path)
    else:
        staged.rename(path)
    _flush(path.parent)


def _put(staged: Path, location: Location, manifest: bytes) -> None:
    if (location / MANIFEST).exists():
        (location / MANIFEST).delete_file()
    pafs.copy_files(
        str(staged),
        location.path,
        source_filesystem=pafs.LocalFileSystem(),
        destination_filesystem=location.filesystem,
    )
    write_file(location / MANIFEST, manifest)


def remove_folder(location: Location) -> None:
    """Removes a committed folder: it stops to exist in one step, whenever this is cut off."""
    if location.is_local:
        if location.exists():
            doomed = _staging_path(location.local_path)
            location.local_path.rename(doomed)
            shutil.rmtree(doomed)
        return
    if (location / MANIFEST).exists():
        (location / MANIFEST).delete_file()
    location.delete_dir()


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
    """The files of a committed folder: name to `bytes` and checksum, see `recorded_checksum`.

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


def recorded_checksum(file: Location, entry: Mapping[str, object]) -> tuple[Algorithm, str]:
    """What a manifest's entry says of a file: by XXH3, or by blake2b where that is older.

    Raises:
        InvalidContent: by neither.
    """
    for algorithm in get_args(Algorithm):
        if algorithm in entry:
            return algorithm, str(entry[algorithm])
    raise InvalidContent(f"{file}: its manifest has no checksum that is known here: {dict(entry)}")


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
        algorithm, checksum = recorded_checksum(file, expected)
        if (found := checksum_of_file(file, algorithm)) != checksum:
            raise DamagedFile(f"{file} is damaged: {algorithm} {found}, not {checksum}")
    return files


__all__ = [
    "MANIFEST",
    "DamagedFile",
    "IncompleteFolder",
    "NoSpaceLeft",
    "committed_file",
    "committed_folder",
    "read_manifest",
    "recorded_checksum",
    "remove_folder",
    "remove_staging",
    "verify_folder",
    "write_file",
]
