"""A task made of the default corpus: which package does this documentation come from?

Objects are split, not documents: an object's texts all learn, or all judge. The judging ones are
left out of the pretraining text too, or the model would have seen the answers' wording.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from raybert.errors import UserError
from raybert.storage import Location, checksum_of_bytes, write_file

NUM_PACKAGES = 10
ROWS_PER_PACKAGE: Mapping[str, int] = {"train": 200, "validation": 40, "test": 60}
# Shares of the objects; the first two stay out of pretraining.
_TEST_SHARE, _VALIDATION_SHARE = 0.1, 0.06


@dataclass(frozen=True)
class PackageTask:
    """Files of JSON lines with the columns text and package.

    Attributes:
        pretraining: all documents but those of objects that judge.
        train, validation, test: as many rows of every package.
        packages: the labels, those with the most documents, sorted.
    """

    pretraining: Path
    train: Path
    validation: Path
    test: Path
    packages: tuple[str, ...]


def write_package_task(
    corpus: Path, folder: Path, rows_per_package: Mapping[str, int] = ROWS_PER_PACKAGE
) -> PackageTask:
    """Splits the default corpus; the same corpus gives the same files.

    Args:
        corpus: JSON lines with text, package and object.
        folder: where the files go.
        rows_per_package: at most, of train, validation and test.

    Raises:
        UserError: fewer than two packages, or one that has no document in some part.
    """
    rows = [json.loads(line) for line in corpus.read_text(encoding="utf-8").splitlines()]
    counts = Counter(row["package"] for row in rows)
    packages = tuple(sorted(name for name, _ in counts.most_common(NUM_PACKAGES)))
    if len(packages) < 2:
        raise UserError(f"{corpus} holds documents of {packages}; two packages are needed")
    parts = {part: [row for row in rows if _part(row) == part] for part in rows_per_package}
    for part, members in parts.items():
        missing = set(packages) - {row["package"] for row in members}
        if missing:
            raise UserError(f"{corpus} has no document of {min(missing)} for the {part} part")
    task = PackageTask(
        pretraining=folder / "pretraining.jsonl",
        train=folder / "train.jsonl",
        validation=folder / "validation.jsonl",
        test=folder / "test.jsonl",
        packages=packages,
    )
    _write(task.pretraining, (row for row in rows if _part(row) == "train"))
    for part, most in rows_per_package.items():
        _write(getattr(task, part), _drawn(parts[part], packages, most))
    return task


def _part(row: Mapping[str, str]) -> str:
    share = _hash(row["package"], row["object"]) / 2**64
    if share < _TEST_SHARE:
        return "test"
    return "validation" if share < _TEST_SHARE + _VALIDATION_SHARE else "train"


def _drawn(
    rows: Sequence[Mapping[str, str]], packages: Sequence[str], most: int
) -> Iterator[Mapping[str, str]]:
    """So many rows of each package, in an order that mixes the packages."""
    chosen: list[Mapping[str, str]] = []
    for package in packages:
        members = [row for row in rows if row["package"] == package]
        chosen += sorted(members, key=lambda row: _hash(row["text"]))[:most]
    return iter(sorted(chosen, key=lambda row: _hash(row["text"], row["package"])))


def _hash(*parts: str) -> int:
    return int(checksum_of_bytes("\0".join(parts).encode())[:16], 16)


def _write(file: Path, rows: Iterable[Mapping[str, str]]) -> None:
    lines = (json.dumps({"text": row["text"], "package": row["package"]}) for row in rows)
    data = "".join(f"{line}\n" for line in lines).encode()
    # An equal file keeps its time stamp, by which a rerun knows its source.
    if not file.is_file() or file.read_bytes() != data:
        write_file(Location.parse(file), data)
