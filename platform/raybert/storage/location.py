"""A file or folder, local or remote, through `pyarrow.fs`.

`s3://bucket/prefix` and `gs://bucket/prefix` take their credentials from the environment, and S3
its endpoint from `AWS_ENDPOINT_URL` or from the address itself
(`s3://bucket/prefix?endpoint_override=127.0.0.1:5000&scheme=http`).
"""

import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from urllib.parse import urlencode, urlsplit

import pyarrow as pa
import pyarrow.fs as pafs

from raybert.errors import UserError

REMOTE_SCHEMES = ("s3", "gs", "gcs")


def is_remote(address: str) -> bool:
    """Whether the address names a scheme (`s3://…`) and not a local path."""
    return "://" in address and not address.startswith("file://")


@lru_cache(maxsize=64)
def _remote_filesystem(address: str) -> tuple[pafs.FileSystem, str]:
    parts = urlsplit(address)
    if parts.scheme not in REMOTE_SCHEMES:
        allowed = ", ".join(f"{scheme}://" for scheme in REMOTE_SCHEMES)
        raise UserError(f"{address}: unknown kind of storage; allowed: local paths, {allowed}")
    endpoint = os.environ.get("AWS_ENDPOINT_URL")
    if parts.scheme == "s3" and endpoint and "endpoint_override" not in parts.query:
        server = urlsplit(endpoint)
        override = urlencode({"endpoint_override": server.netloc, "scheme": server.scheme})
        address += ("&" if parts.query else "?") + override
    try:
        return pafs.FileSystem.from_uri(address)
    except (pa.ArrowInvalid, OSError) as error:
        raise UserError(f"{address}: this storage can't be opened: {error}") from error


@dataclass(frozen=True)
class Location:
    """A place in some storage. Nothing is touched until a method asks for it.

    Attributes:
        address: what a person wrote, made absolute when local; picklable and printable.
    """

    address: str

    @classmethod
    def parse(cls, address: "str | Path | Location") -> "Location":
        """A local path (absolute or relative to the working directory) or a remote address.

        Raises:
            UserError: a scheme that is not known or a storage that can't be opened.
        """
        if isinstance(address, Location):
            return address
        text = str(address)
        if not is_remote(text):
            path = Path(text.removeprefix("file://")).expanduser()
            return cls(os.path.normpath(Path.cwd() / path))
        location = cls(text.rstrip("/"))
        _ = location.filesystem
        return location

    @property
    def is_local(self) -> bool:
        return not is_remote(self.address)

    @property
    def filesystem(self) -> pafs.FileSystem:
        return pafs.LocalFileSystem() if self.is_local else _remote_filesystem(self._root)[0]

    @property
    def path(self) -> str:
        """The path inside `filesystem`."""
        if self.is_local:
            return self.address
        parts = urlsplit(self.address)
        return f"{parts.netloc}{parts.path}"

    @property
    def _root(self) -> str:
        parts = urlsplit(self.address)
        return f"{parts.scheme}://{parts.netloc}" + (f"?{parts.query}" if parts.query else "")

    @property
    def uri(self) -> str:
        """What to print: the local path, or the remote address."""
        return self.address

    @property
    def name(self) -> str:
        return self.path.rsplit("/", 1)[-1]

    @property
    def parent(self) -> "Location":
        return self._with_path(self.path.rsplit("/", 1)[0])

    @property
    def local_path(self) -> Path:
        if not self.is_local:
            raise ValueError(f"{self.address} is not a local path")
        return Path(self.address)

    def _with_path(self, path: str) -> "Location":
        if self.is_local:
            return Location(path or "/")
        parts = urlsplit(self.address)
        query = f"?{parts.query}" if parts.query else ""
        return Location(f"{parts.scheme}://{path}{query}")

    def __truediv__(self, name: str) -> "Location":
        return self._with_path(f"{self.path.rstrip('/')}/{name}")

    def sibling(self, name: str) -> "Location":
        return self.parent / name

    def __str__(self) -> str:
        return self.address

    def _info(self) -> pafs.FileInfo:
        return self.filesystem.get_file_info(self.path)

    def exists(self) -> bool:
        return self._info().type != pafs.FileType.NotFound

    def is_file(self) -> bool:
        return self._info().type == pafs.FileType.File

    def is_dir(self) -> bool:
        return self._info().type == pafs.FileType.Directory

    def size(self) -> int:
        """Bytes of a file."""
        info = self._info()
        if info.type != pafs.FileType.File:
            raise FileNotFoundError(f"{self.address} is not a file")
        return info.size

    def _children(self) -> list[pafs.FileInfo]:
        selector = pafs.FileSelector(self.path, recursive=False, allow_not_found=True)
        return self.filesystem.get_file_info(selector)

    def list_files(self, suffix: str = "") -> list[str]:
        """Names of the files directly inside, sorted; empty when there is no such folder."""
        infos = self._children()
        files = (info.base_name for info in infos if info.type == pafs.FileType.File)
        return sorted(name for name in files if name.endswith(suffix))

    def list_dirs(self) -> list[str]:
        """Names of the folders directly inside, sorted."""
        infos = self._children()
        return sorted(info.base_name for info in infos if info.type == pafs.FileType.Directory)

    def open_input_file(self) -> pa.NativeFile:
        """Random access."""
        return self.filesystem.open_input_file(self.path)

    def open_input_stream(self) -> pa.NativeFile:
        """Sequential access; never decompresses by the file's name."""
        return self.filesystem.open_input_stream(self.path, compression=None)

    def open_output_stream(self) -> pa.NativeFile:
        """Writes in place: for staging areas. Use `write_file` for what others may read."""
        return self.filesystem.open_output_stream(self.path, compression=None)

    def read_bytes(self) -> bytes:
        with self.open_input_stream() as stream:
            return stream.read()

    def read_text(self) -> str:
        return self.read_bytes().decode("utf-8")

    def create_dir(self) -> None:
        self.filesystem.create_dir(self.path, recursive=True)

    def delete_file(self) -> None:
        self.filesystem.delete_file(self.path)

    def delete_dir(self) -> None:
        """Deletes the folder and all in it; nothing happens when it isn't there."""
        if self.is_dir():
            self.filesystem.delete_dir(self.path)
