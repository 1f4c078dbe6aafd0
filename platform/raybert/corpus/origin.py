"""What an output folder was made from, kept in it: so that nothing else is mixed into it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass

from raybert.errors import InvalidContent, UserError
from raybert.settings.identity import difference
from raybert.storage import Location

ORIGIN_NAME = "origin.json"
_SHOWN_SOURCES = 5


@dataclass(frozen=True)
class Origin:
    """Settings by dotted name and fingerprints of files by address."""

    settings: Mapping[str, object]
    sources: Mapping[str, str]

    def to_json(self) -> bytes:
        return json.dumps(dataclasses.asdict(self), indent=1, sort_keys=True).encode() + b"\n"

    @classmethod
    def read(cls, place: Location) -> Origin:
        """Raises:
        InvalidContent: the file can't be read.
        """
        try:
            return cls(**json.loads(place.read_bytes()))
        except (ValueError, TypeError) as error:
            raise InvalidContent(f"{place}: not what raybert wrote there: {error}") from error


def is_from(origin: Origin, folder: Location, name: str = ORIGIN_NAME) -> bool:
    """Whether the folder was begun with just this; False when it is empty or not there.

    Args:
        name: of the file in the folder that holds the origin.

    Raises:
        UserError: it is a file, holds something else, or was made from something else (a diff).
    """
    place = folder / name
    if place.is_file():
        _refuse_difference(folder, Origin.read(place), origin)
        return True
    if folder.is_file():
        raise UserError(f"output {folder} is a file; a folder is needed")
    if folder.list_files() or folder.list_dirs():
        raise UserError(f"output {folder} holds something else; take an empty or a new folder")
    return False


def _refuse_difference(folder: Location, stored: Origin, asked: Origin) -> None:
    changes = difference(dict(stored.settings), dict(asked.settings))
    changes += _changed_sources(stored.sources, asked.sources)
    if changes:
        raise UserError(
            f"output {folder} was made from something else (there -> asked now):\n  "
            + "\n  ".join(changes)
            + "\ntake another folder, or the same files and settings"
        )


def _changed_sources(stored: Mapping[str, str], asked: Mapping[str, str]) -> list[str]:
    """One line per file, the first few of them."""
    lines = [
        f"{name}: {change}"
        for change, names in (
            ("no longer there", stored.keys() - asked.keys()),
            ("new", asked.keys() - stored.keys()),
            ("has changed", {n for n in stored.keys() & asked.keys() if stored[n] != asked[n]}),
        )
        for name in sorted(names)
    ]
    more = len(lines) - _SHOWN_SOURCES
    return lines[:_SHOWN_SOURCES] + ([f"and {more} more files"] if more > 0 else [])
