"""Which files a path, a folder or a glob names, local or remote.

A pattern's `*`, `?` and `[ab]` match inside one name, `**` any number of folders; a hidden name
(leading dot) must be named. A path that exists as written is taken literally. In an address
(`s3://…`) a `?` begins its options.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import pyarrow.fs as pafs

from raybert.errors import UserError
from raybert.storage.checksum import checksum_of_bytes
from raybert.storage.location import Location

_MAGIC: Final = frozenset("*?[")


@dataclass(frozen=True)
class FoundFile:
    """A file as the listing told it.

    Attributes:
        num_bytes: as stored, so before decompression.
        changed: ns since 1970.
    """

    location: Location
    num_bytes: int
    changed: int | None

    @property
    def fingerprint(self) -> str:
        """Of address, size and time of change; another one means another content."""
        identity = f"{self.location.address}\0{self.num_bytes}\0{self.changed}"
        return checksum_of_bytes(identity.encode("utf-8", "surrogateescape"))


@dataclass(frozen=True)
class Listing:
    """The files of one path.

    Attributes:
        is_folder: the path was a folder, searched at any depth but for names that begin with a dot
            or `_`.
    """

    files: tuple[FoundFile, ...]
    is_folder: bool


def find_files(path: str, setting: str) -> Listing:
    """The files that `path` names, in no particular order; none where a pattern matches none.

    Args:
        setting: that gave the path, for messages.

    Raises:
        UserError: there is no such path, or it can't be listed.
    """
    try:
        return _find(path, setting)
    except OSError as error:
        raise UserError(f"{setting}: {path} can't be listed: {error}") from error


def _find(path: str, setting: str) -> Listing:
    location = Location.parse(path)
    info = location.filesystem.get_file_info(location.path)
    if info.type == pafs.FileType.File:
        return Listing((_file(location, info),), is_folder=False)
    if info.type == pafs.FileType.Directory:
        return Listing(tuple(_files_below(location)), is_folder=True)
    if not _MAGIC & set(location.path):
        raise UserError(f"{setting}: {path} does not exist")
    root, patterns = _split_pattern(location)
    return Listing(tuple(_matches(root, patterns)), is_folder=False)


def _file(location: Location, info: pafs.FileInfo) -> FoundFile:
    return FoundFile(location, info.size, info.mtime_ns)


def _children(folder: Location, recursive: bool = False) -> list[pafs.FileInfo]:
    selector = pafs.FileSelector(folder.path, recursive=recursive, allow_not_found=True)
    return folder.filesystem.get_file_info(selector)


def _at(folder: Location, info: pafs.FileInfo) -> Location:
    return folder / info.path[len(folder.path.rstrip("/")) + 1 :]


def _files_below(folder: Location) -> Iterator[FoundFile]:
    for info in _children(folder, recursive=True):
        location = _at(folder, info)
        names = location.path[len(folder.path) :].strip("/").split("/")
        if info.type == pafs.FileType.File and not any(name[0] in "._" for name in names):
            yield _file(location, info)


def _split_pattern(location: Location) -> tuple[Location, list[str]]:
    names = location.path.split("/")
    first = next(i for i, name in enumerate(names) if _MAGIC & set(name))
    root = location
    for _ in names[first:]:
        root = root.parent
    return root, names[first:]


def _matches(folder: Location, patterns: Sequence[str]) -> Iterator[FoundFile]:
    first, rest = patterns[0], patterns[1:]
    if first == "**":
        yield from _matches(folder, rest or ["*"])
    for info in _children(folder):
        name = info.base_name
        if name.startswith(".") and not first.startswith("."):
            continue
        if info.type == pafs.FileType.Directory and first == "**":
            yield from _matches(_at(folder, info), patterns)
        elif not fnmatch.fnmatchcase(name, first):
            continue
        elif info.type == pafs.FileType.Directory and rest:
            yield from _matches(_at(folder, info), rest)
        elif info.type == pafs.FileType.File and not rest:
            yield _file(_at(folder, info), info)
