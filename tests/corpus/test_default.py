import json
from pathlib import Path

import pytest

from raybert.corpus import default
from raybert.corpus.docstrings import prose


def test_prose_keeps_sentences_and_drops_code_tables_and_fields():
    docstring = """Return the largest of the values that were given to this function.

    It compares them one by one, and keeps the first of equal ones, as the language does.

    >>> largest(1, 2)
    2

    Parameters
    ----------
    values : list of int

    ====  ====
    a     b
    ====  ====
    """
    assert prose(docstring) == (
        "Return the largest of the values that were given to this function.\n"
        "It compares them one by one, and keeps the first of equal ones, as the language does."
    )


@pytest.mark.parametrize("docstring", ["", "Too short.", "x = 1; y = {2: 3}; z = [4, 5, 6]" * 9])
def test_what_is_no_prose_is_left_out(docstring: str):
    assert prose(docstring) == ""


def test_corpus_is_made_once_with_a_label_per_document(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(default, "PACKAGES", ("fsspec", "jinja2", "no-such-package"))
    file = default.default_corpus(tmp_path)
    made = file.stat().st_mtime_ns
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    assert {row["package"] for row in rows} == {"fsspec", "jinja2", "python"}
    texts = [row["text"] for row in rows]
    assert len(texts) == len(set(texts)) > 1000
    assert all(row["object"] for row in rows)
    told: list[str] = []
    assert default.default_corpus(tmp_path, on_making=lambda: told.append("making")) == file
    assert file.stat().st_mtime_ns == made
    assert told == []


def test_cache_follows_the_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(default, "_packages", lambda: [("a", "1", [])])
    first = default.default_corpus(tmp_path)
    monkeypatch.setattr(default, "_packages", lambda: [("a", "2", [])])
    assert default.default_corpus(tmp_path) != first
