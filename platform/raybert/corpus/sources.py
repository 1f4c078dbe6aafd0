"""Which files a corpus is made of: paths, folders and globs, local or remote, listed once, sorted.

A pattern's `*`, `?` and `[ab]` match inside one name, `**` any number of folders; a hidden name
(leading dot) must be named. A path that exists as written is taken literally. In an address
(`s3://…`) a `?` begins its options.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import pyarrow.fs as pafs

from raybert.errors import UserError
from raybert.storage import Location, checksum_of_bytes

Format = Literal["txt", "jsonl", "parquet"]
Compression = Literal["gzip", "zstd"]

_FORMATS: Final[dict[str, Format]] = {
    ".txt": "txt",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
}
_COMPRESSIONS: Final[dict[str, Compression]] = {".gz": "gzip", ".zst": "zstd"}
_MAGIC: Final = frozenset("*?[")


@dataclass(frozen=True)
class Source:
    """One file of the corpus.

    Attributes:
        num_bytes: size of the file as stored, so before decompression.
        fingerprint: of address, size and time of change; another one means another content.
    """

    location: Location
    format: Format
    compression: Compression | None
    num_bytes: int
    fingerprint: str

    def __str__(self) -> str:
        return str(self.location)


@dataclass(frozen=True)
class _File:
    location: Location
    num_bytes: int
    changed: int | None  # ns since 1970


def list_sources(paths: Sequence[str], format: Literal["auto"] | Format) -> tuple[Source, ...]:
    """The files that `paths` name, sorted by address, each once.

    Folders are searched at any depth for files of a known kind (with `format="auto"`) or for all
    files but hidden ones and those that begin with `_`.

    Raises:
        UserError: a path that isn't there, matches nothing or can't be listed, a file whose format
            its name doesn't tell, or no text at all.
    """
    files: dict[str, Source] = {}
    for path in paths:
        for source in _sources_of(path, format):
            files[source.location.address] = source
    sources = tuple(files[address] for address in sorted(files))
    if not any(source.num_bytes for source in sources):
        raise UserError(f"corpus.paths: the corpus is empty: {', '.join(paths)} hold no byte")
    return sources


def fingerprint_of_sources(sources: Sequence[Source]) -> str:
    """32 hexadecimal digits that name these files with their present content."""
    return checksum_of_bytes("\n".join(s.fingerprint for s in sources).encode())


def _sources_of(path: str, format: Literal["auto"] | Format) -> list[Source]:
    try:
        files, searched = _find(path)
    except OSError as error:
        raise UserError(f"corpus.paths: {path} can't be listed: {error}") from error
    if searched:
        files = [file for file in files if format != "auto" or _format_of(file.location.name)]
        if not files:
            raise UserError(
                f"corpus.paths: {path} is a folder without "
                f"{'a file of ' + _known() if format == 'auto' else 'files'}"
            )
    if not files:
        raise UserError(f"corpus.paths: {path} matches no file")
    return [_source(file, format) for file in files]


def _source(file: _File, format: Literal["auto"] | Format) -> Source:
    name = file.location.name
    known = _format_of(name) if format == "auto" else format
    if known is None:
        raise UserError(
            f"corpus.paths: the name of {file.location} doesn't tell its format; known: "
            f"{_known()}; or set corpus.format"
        )
    compression: Compression | None = next(
        (c for s, c in _COMPRESSIONS.items() if name.endswith(s)), None
    )
    if known == "parquet" and compression is not None:
        raise UserError(
            f"corpus.paths: {file.location}: parquet compresses by itself and is read by parts; "
            f"unpack the {compression} around it"
        )
    identity = f"{file.location.address}\0{file.num_bytes}\0{file.changed}"
    return Source(
        location=file.location,
        format=known,
        compression=compression,
        num_bytes=file.num_bytes,
        fingerprint=checksum_of_bytes(identity.encode("utf-8", "surrogateescape")),
    )


def _format_of(name: str) -> Format | None:
    for suffix in _COMPRESSIONS:
        name = name.removesuffix(suffix)
    return next((f for suffix, f in _FORMATS.items() if name.lower().endswith(suffix)), None)


def _known() -> str:
    return f"{', '.join(_FORMATS)} (text also with {' or '.join(_COMPRESSIONS)})"


def _find(path: str) -> tuple[list[_File], bool]:
    """The files, and whether they were searched for in a folder."""
    location = Location.parse(path)
    info = location.filesystem.get_file_info(location.path)
    if info.type == pafs.FileType.File:
        return [_file(location, info)], False
    if info.type == pafs.FileType.Directory:
        return list(_files_below(location)), True
    if not _MAGIC & set(location.path):
        raise UserError(f"corpus.paths: {path} does not exist")
    root, patterns = _split_pattern(location)
    return list(_matches(root, patterns)), False


def _file(location: Location, info: pafs.FileInfo) -> _File:
    return _File(location, info.size, info.mtime_ns)


def _children(folder: Location, recursive: bool = False) -> list[pafs.FileInfo]:
    selector = pafs.FileSelector(folder.path, recursive=recursive, allow_not_found=True)
    return folder.filesystem.get_file_info(selector)


def _at(folder: Location, info: pafs.FileInfo) -> Location:
    return folder / info.path[len(folder.path.rstrip("/")) + 1 :]


def _files_below(folder: Location) -> Iterator[_File]:
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


def _matches(folder: Location, patterns: Sequence[str]) -> Iterator[_File]:
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
