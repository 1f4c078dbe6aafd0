import os
from pathlib import Path

import pytest

from raybert.corpus.sources import fingerprint_of_sources, list_sources
from raybert.errors import UserError
from raybert.storage import Location


def write(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)


def names(root: Path, *patterns: str, format: str = "auto") -> list[str]:
    paths = [f"{root}/{pattern}" for pattern in patterns]
    return [
        source.location.address.removeprefix(f"{root}/")
        for source in list_sources(paths, format)  # pyright: ignore[reportArgumentType]
    ]


FILES = ("b.txt", "a.txt", "c.jsonl", "in/d.txt.gz", "in/deep/e.parquet", ".hidden.txt", "x.png")


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.txt", ["a.txt", "b.txt"]),
        ("[ab]*", ["a.txt", "b.txt"]),
        ("[!a].txt", ["b.txt"]),
        ("?.jsonl", ["c.jsonl"]),
        ("*/d*", ["in/d.txt.gz"]),
        ("i?/deep/*", ["in/deep/e.parquet"]),
        ("**/*.txt*", ["a.txt", "b.txt", "in/d.txt.gz"]),
        ("in/**", ["in/d.txt.gz", "in/deep/e.parquet"]),
        (".h*", [".hidden.txt"]),
        ("in", ["in/d.txt.gz", "in/deep/e.parquet"]),
        (".", ["a.txt", "b.txt", "c.jsonl", "in/d.txt.gz", "in/deep/e.parquet"]),
    ],
)
def test_files_are_found_by_pattern_and_folder(tmp_path: Path, pattern: str, expected: list[str]):
    write(tmp_path, *FILES)
    assert names(tmp_path, pattern) == expected


def test_each_file_once_in_the_order_of_names(tmp_path: Path):
    write(tmp_path, *FILES)
    assert names(tmp_path, "b.txt", "*.txt", "a.txt") == ["a.txt", "b.txt"]


def test_a_name_with_brackets_is_found_as_it_is(tmp_path: Path):
    write(tmp_path, "[ab].txt", "a.txt")
    assert names(tmp_path, "[ab].txt") == ["[ab].txt"]


def test_kinds_and_compression_come_from_the_name(tmp_path: Path):
    write(tmp_path, "a.txt", "b.jsonl.gz", "c.txt.zst", "d.parquet")
    kinds = [(s.format, s.compression) for s in list_sources([str(tmp_path)], "auto")]
    assert kinds == [("txt", None), ("jsonl", "gzip"), ("txt", "zstd"), ("parquet", None)]
    assert names(tmp_path, ".", format="txt")[:3] == ["a.txt", "b.jsonl.gz", "c.txt.zst"]


@pytest.mark.parametrize(
    ("pattern", "format", "message"),
    [
        ("nothing.txt", "auto", "nothing.txt does not exist"),
        ("*.text", "auto", r"\*.text matches no file"),
        ("x.png", "auto", "x.png doesn't tell its format; known: .txt, .jsonl, .ndjson, .parquet"),
        ("empty", "auto", "is a folder without a file of .txt"),
        ("void.txt", "auto", "the corpus is empty"),
        ("in/p.parquet.gz", "auto", "unpack the gzip around it"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, pattern: str, format: str, message: str):
    write(tmp_path, *FILES, "in/p.parquet.gz", "empty/.keep")
    (tmp_path / "void.txt").touch()
    with pytest.raises(UserError, match=message):
        names(tmp_path, pattern, format=format)


def test_fingerprint_follows_size_and_time_of_change(tmp_path: Path):
    write(tmp_path, "a.txt", "b.txt")

    def mark() -> str:
        return fingerprint_of_sources(list_sources([str(tmp_path)], "auto"))

    first = mark()
    assert mark() == first
    status = (tmp_path / "a.txt").stat()
    (tmp_path / "a.txt").write_text("a.tx!")
    os.utime(tmp_path / "a.txt", ns=(status.st_atime_ns, status.st_mtime_ns + 1_000_000_000))
    second = mark()
    assert second != first
    write(tmp_path, "c.txt")
    assert mark() not in (first, second)


def test_remote_files_are_found_by_pattern(s3_bucket: str):
    folder = Location.parse(s3_bucket) / "sources"
    for name in ("a.txt", "b.txt", "in/c.txt"):
        with (folder / name).open_output_stream() as stream:
            stream.write(b"text")
    found = {
        pattern: [s.location.path for s in list_sources([str(folder / pattern)], "auto")]
        for pattern in ("*.txt", "**/[bc].txt", "in")
    }
    assert found == {
        "*.txt": ["raybert/sources/a.txt", "raybert/sources/b.txt"],
        "**/[bc].txt": ["raybert/sources/b.txt", "raybert/sources/in/c.txt"],
        "in": ["raybert/sources/in/c.txt"],
    }
    with pytest.raises(UserError, match="does not exist"):
        list_sources([str(folder / "missing.txt")], "auto")
