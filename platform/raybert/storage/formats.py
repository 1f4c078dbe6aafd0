"""Files of known formats under paths, folders and globs: the name tells, or a setting does."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

from raybert.errors import UserError
from raybert.storage.compression import (
    COMPRESSION_SUFFIXES,
    Compression,
    compression_of,
    without_compression,
)
from raybert.storage.listing import FoundFile, find_files

FormatName = TypeVar("FormatName", bound=str)


@dataclass(frozen=True)
class FormattedFile(Generic[FormatName]):
    """A file that was found, and how it is read."""

    file: FoundFile
    format: FormatName
    compression: Compression | None


@dataclass(frozen=True)
class FileFormats(Generic[FormatName]):
    """The formats that a setting's files may have.

    Attributes:
        setting: that gives the paths, for messages.
        suffixes: end of a file's name, without that of a compression, and its format.
        otherwise: what to do about a name that doesn't tell, for the message.
    """

    setting: str
    suffixes: Mapping[str, FormatName]
    otherwise: str = ""

    def find(
        self, path: str, asked: Literal["auto"] | FormatName
    ) -> Iterator[FormattedFile[FormatName]]:
        """The files that a path, folder or glob names.

        Folders are searched at any depth for files of a known format (with `asked="auto"`) or for
        all files but hidden ones and those that begin with `_`.

        Raises:
            UserError: a path that isn't there, matches nothing or can't be listed, a file whose
                format its name doesn't tell, a parquet file inside a compression.
        """
        listing = find_files(path, self.setting)
        files = list(listing.files)
        if listing.is_folder and asked == "auto":
            files = [file for file in files if self._told_by(file.location.name)]
        if not files:
            within = f"a file of {self._known()}" if asked == "auto" else "files"
            what = f"is a folder without {within}" if listing.is_folder else "matches no file"
            raise UserError(f"{self.setting}: {path} {what}")
        for file in files:
            yield self._formatted(file, asked)

    def _formatted(
        self, file: FoundFile, asked: Literal["auto"] | FormatName
    ) -> FormattedFile[FormatName]:
        name = file.location.name
        known = self._told_by(name) if asked == "auto" else asked
        if known is None:
            raise UserError(
                f"{self.setting}: the name of {file.location} doesn't tell its format; known: "
                f"{self._known()}{self.otherwise}"
            )
        compression = compression_of(name)
        if known == "parquet" and compression is not None:
            raise UserError(
                f"{self.setting}: {file.location}: parquet compresses by itself and is read by "
                f"parts; unpack the {compression} around it"
            )
        return FormattedFile(file, known, compression)

    def _told_by(self, name: str) -> FormatName | None:
        name = without_compression(name)
        return next((f for suffix, f in self.suffixes.items() if name.endswith(suffix)), None)

    def _known(self) -> str:
        compressed = " or ".join(COMPRESSION_SUFFIXES)
        return f"{', '.join(self.suffixes)} (text also with {compressed})"
