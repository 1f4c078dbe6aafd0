"""A file or folder, local or remote, through `pyarrow.fs`.

`s3://bucket/prefix` and `gs://bucket/prefix` take their credentials from the environment, and S3
its endpoint from `AWS_ENDPOINT_URL` or from the address itself
(`s3://bucket/prefix?endpoint_override=127.0.0.1:5000&scheme=http`).
"""

import os
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import pyarrow as pa
import pyarrow.fs as pafs

from raybert.errors import UserError

REMOTE_SCHEMES = ("s3", "gs", "gcs")

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
# The options at the end are told from a glob's or a key's `?` by their form, key=value.
_REMOTE = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<path>.*?)"
    r"(?P<options>\?\w+=[^&/?]*(?:&\w+=[^&/?]*)*)?",
    re.DOTALL,
)


def is_remote(address: str) -> bool:
    """Whether the address names a scheme (`s3://…`) and not a local path."""
    return _SCHEME.match(address) is not None and not address.startswith("file://")


def _split(address: str) -> tuple[str, str, str]:
    """Scheme, path with the bucket, options with their question mark or ""."""
    parts = _REMOTE.fullmatch(address)
    if parts is None:
        raise UserError(f"{address}: not an address of storage, such as s3://bucket/folder")
    return parts["scheme"], parts["path"], parts["options"] or ""


@lru_cache(maxsize=64)
def _remote_filesystem(root: str, _environment: tuple[str | None, ...]) -> pafs.FileSystem:
    """Opening one may ask the network for the bucket's region, so it is done once."""
    try:
        return pafs.FileSystem.from_uri(root)[0]
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{root}: this storage can't be opened: {error}") from error


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
            path = os.path.expanduser(text.removeprefix("file://"))  # noqa: PTH111 - never raises
            return cls(os.path.normpath(Path.cwd() / path))
        scheme, path, options = _split(text)
        if scheme not in REMOTE_SCHEMES:
            allowed = ", ".join(f"{known}://" for known in REMOTE_SCHEMES)
            raise UserError(f"{text}: unknown kind of storage; allowed: local paths, {allowed}")
        bucket = path.split("/", 1)[0]
        if not bucket:
            raise UserError(f"{text}: the name of a bucket is missing after {scheme}://")
        if "@" in bucket:  # it would be printed, and stored with a run's settings
            raise UserError(
                f"{scheme}://…@{bucket.rpartition('@')[2]}: credentials do not belong into an "
                "address; give them by the environment (AWS_ACCESS_KEY_ID, …)"
            )
        location = cls(f"{scheme}://{path.rstrip('/')}{options}")
        _ = location.filesystem
        return location

    @property
    def is_local(self) -> bool:
        return not is_remote(self.address)

    @property
    def filesystem(self) -> pafs.FileSystem:
        if self.is_local:
            return pafs.LocalFileSystem()
        scheme, path, options = _split(self.address)
        environment = tuple(os.environ.get(name) for name in ("AWS_ENDPOINT_URL", "AWS_REGION"))
        return _remote_filesystem(f"{scheme}://{path.split('/', 1)[0]}{options}", environment)

    @property
    def path(self) -> str:
        """The path inside `filesystem`."""
        return self.address if self.is_local else _split(self.address)[1]

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
        scheme, _, options = _split(self.address)
        return Location(f"{scheme}://{path}{options}")

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
