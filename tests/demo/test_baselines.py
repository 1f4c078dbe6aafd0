import json
from pathlib import Path

import pytest

from raybert.demo import majority, tfidf_logistic_regression


def write(file: Path, rows: list[tuple[str, str]]) -> Path:
    file.write_text("".join(json.dumps({"text": t, "package": p}) + "\n" for t, p in rows))
    return file


@pytest.fixture
def rows(tmp_path) -> tuple[Path, Path]:
    train = [(f"matrix of numbers {i}", "numpy") for i in range(6)]
    train += [(f"table with columns {i}", "pandas") for i in range(4)]
    test = [("a matrix", "numpy"), ("some columns", "pandas"), ("a table", "pandas")]
    return write(tmp_path / "train.jsonl", train), write(tmp_path / "test.jsonl", test)


def test_majority_gives_the_most_frequent_label(rows):
    found = majority(*rows)
    assert found.accuracy == pytest.approx(1 / 3)
    assert found.macro_f1 == pytest.approx((0.5 + 0.0) / 2)


def test_words_tell_the_packages_apart(rows):
    found = tfidf_logistic_regression(*rows)
    assert found.accuracy == found.macro_f1 == 1.0
