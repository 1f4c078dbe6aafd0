import json
from collections import Counter
from pathlib import Path

import pytest

from raybert.demo import write_package_task
from raybert.errors import UserError

ROWS = {"train": 8, "validation": 2, "test": 3}


def write_corpus(folder: Path, num_packages: int, num_objects: int = 200) -> Path:
    rows = [
        {"text": f"What {name} of p{p} says, {part}.", "package": f"p{p}", "object": f"m.{name}"}
        for p in range(num_packages)
        for name in range(num_objects)
        for part in ("first", "second")
    ]
    file = folder / "corpus.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def read(file: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def objects(rows: list[dict[str, str]]) -> set[str]:
    return {row["text"].rsplit(",", 1)[0] for row in rows}


def test_parts_share_no_object_and_pretraining_has_seen_none_that_judges(tmp_path):
    task = write_package_task(write_corpus(tmp_path, 3), tmp_path / "data", ROWS)
    train, validation, test = (objects(read(f)) for f in (task.train, task.validation, task.test))
    assert not train & validation
    assert not (train | validation) & test
    pretraining = objects(read(task.pretraining))
    assert not pretraining & (validation | test)
    assert train <= pretraining
    assert len(pretraining) > 0.5 * 3 * 200


def test_every_package_has_as_many_rows_and_they_are_mixed(tmp_path):
    task = write_package_task(write_corpus(tmp_path, 3), tmp_path / "data", ROWS)
    assert task.packages == ("p0", "p1", "p2")
    for part, most in ROWS.items():
        labels = [row["package"] for row in read(getattr(task, part))]
        assert Counter(labels) == dict.fromkeys(task.packages, most)
    assert len(set(labels[:4])) > 1


def test_the_ten_largest_packages_are_the_labels(tmp_path):
    corpus = write_corpus(tmp_path, 12)
    with corpus.open("a") as file:
        for name in range(40):
            row = {"text": f"More of p11, {name}.", "package": "p11", "object": f"n.{name}"}
            file.write(json.dumps(row) + "\n")
    task = write_package_task(corpus, tmp_path / "data", ROWS)
    assert len(task.packages) == 10
    assert "p11" in task.packages


def test_written_again_the_files_stay_as_they_are(tmp_path):
    corpus = write_corpus(tmp_path, 2)
    first = write_package_task(corpus, tmp_path / "data", ROWS)
    before = first.pretraining.stat()
    assert write_package_task(corpus, tmp_path / "data", ROWS) == first
    assert first.pretraining.stat().st_mtime_ns == before.st_mtime_ns


def test_one_package_is_no_task(tmp_path):
    with pytest.raises(UserError, match="two packages are needed"):
        write_package_task(write_corpus(tmp_path, 1), tmp_path / "data", ROWS)


def test_a_package_without_test_rows_is_named(tmp_path):
    corpus = write_corpus(tmp_path, 2, num_objects=2)
    with pytest.raises(UserError, match="no document of p. for the"):
        write_package_task(corpus, tmp_path / "data", ROWS)
