"""The corpus where a person gives none: documentation strings of the installed packages.

Read from the sources, nothing is imported. One document per object, labelled with its package.
"""

import json
import os
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator, Sequence
from importlib import metadata
from pathlib import Path

from raybert.storage import Location, checksum_of_bytes, write_file

# A change of what is kept must not meet an older cache.
_RECIPE_VERSION = 1
# What every installation of raybert brings, so that a contributor's corpus is a user's.
PACKAGES = (
    "fsspec",
    "jinja2",
    "networkx",
    "numpy",
    "optuna",
    "pandas",
    "pyarrow",
    "pydantic",
    "ray",
    "rich",
    "sqlalchemy",
    "sympy",
    "tensorboard",
    "torch",
    "torchmetrics",
)


def default_corpus(
    cache_folder: Path | None = None, on_making: Callable[[], None] = lambda: None
) -> Path:
    """The jsonl file of the default corpus (columns text, package, object), made when missing.

    Args:
        cache_folder: where to keep it; the user's cache folder when left out.
        on_making: called before the file is made, which takes most of a minute.
    """
    folder = cache_folder or user_cache_folder() / "default-corpus"
    packages = _packages()
    listing = json.dumps(
        [_RECIPE_VERSION, sys.version, [(name, version) for name, version, _ in packages]]
    )
    file = folder / f"{checksum_of_bytes(listing.encode())}.jsonl"
    if not file.is_file():
        on_making()
        write_file(Location.parse(file), "".join(f"{x}\n" for x in _collect(packages)).encode())
        # The name is a fingerprint of the content: made anew, it is the same source.
        os.utime(file, (0, 0))
    return file


def user_cache_folder() -> Path:
    """`$XDG_CACHE_HOME/raybert`, `~/Library/Caches/raybert` on macOS, else `~/.cache/raybert`."""
    if home := os.environ.get("XDG_CACHE_HOME"):
        return Path(home) / "raybert"
    base = "Library/Caches" if sys.platform == "darwin" else ".cache"
    return Path.home() / base / "raybert"


def _packages() -> list[tuple[str, str, list[str]]]:
    """(package, version, its .py files), sorted; the standard library is one package."""
    standard = Path(sysconfig.get_path("stdlib"))
    files = [
        str(file)
        for file in sorted(standard.rglob("*.py"))
        if not {"site-packages", "test", "tests", "idlelib", "lib2to3"} & set(file.parts)
    ]
    found = [("python", sys.version.split()[0], files)]
    for name in PACKAGES:
        try:
            distribution = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue  # an optional one: the corpus is what is installed
        sources = [
            str(distribution.locate_file(file))
            for file in distribution.files or ()
            if file.suffix == ".py" and not {"test", "tests", "testing"} & set(file.parts)
        ]
        found.append((name, distribution.version, sorted(sources)))
    return sorted(found)


def _collect(packages: Sequence[tuple[str, str, list[str]]]) -> Iterator[str]:
    """JSON lines in the order of the packages and their files, equal texts once.

    Parsing all sources takes a minute of one core, so a child process per core shares the files.
    """
    jobs = [(package, file) for package, _, files in packages for file in files]
    shares = min(os.cpu_count() or 1, 8)
    children = [_child(jobs[i::shares]) for i in range(shares)]
    try:
        per_share = [child.communicate()[0].split(b"\0") for child in children]
    finally:
        for child in children:
            child.kill()
    seen: set[str] = set()
    for i in range(len(jobs)):
        for line in per_share[i % shares][i // shares].decode().splitlines():
            text = json.loads(line)["text"]
            if text not in seen:
                seen.add(text)
                yield line


def _child(jobs: Sequence[tuple[str, str]]) -> "subprocess.Popen[bytes]":
    child = subprocess.Popen(
        [sys.executable, "-m", "raybert.corpus.docstrings"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert child.stdin is not None
    child.stdin.write(json.dumps(jobs).encode())
    child.stdin.close()
    child.stdin = None
    return child
