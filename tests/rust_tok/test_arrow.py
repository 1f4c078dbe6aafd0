"""Columns in and out: every layout of text, nulls, slices, chunks, lists; width of the ids."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import rust_tok

TEXTS = ["hello world", None, "", "a" * 40 + " [MASK] é", "中文", None, "x"]


@pytest.fixture(scope="module")
def tokenizer(oracle_files: dict[str, Path]) -> rust_tok.Tokenizer:
    return rust_tok.Tokenizer.from_file(oracle_files["bert-base-uncased"])


def expected(tokenizer: rust_tok.Tokenizer, texts: list[str | None]) -> list[list[int] | None]:
    return [None if text is None else tokenizer.encode(text, None, False) for text in texts]


def imported(column: rust_tok.ArrowColumn) -> pa.Array:
    array = pa.array(column)
    array.validate(full=True)
    return array


@pytest.mark.parametrize("type", [pa.string(), pa.large_string(), pa.string_view()])
def test_every_layout_of_text(tokenizer: rust_tok.Tokenizer, type: pa.DataType) -> None:
    array = pa.array(TEXTS, type)
    for column in (
        array,
        array[2:6],
        array[6:],
        array[:0],
        pa.chunked_array([array[1:3], array[:0], array]),
        pa.chunked_array([], type),
        pa.array(TEXTS[3:4], type),
    ):
        ids = imported(tokenizer.encode_arrow(column))
        assert ids.type == pa.list_(pa.uint16())
        assert ids.to_pylist() == expected(tokenizer, column.to_pylist())


def test_all_null(tokenizer: rust_tok.Tokenizer) -> None:
    assert imported(tokenizer.encode_arrow(pa.nulls(3))).to_pylist() == [None] * 3


@pytest.mark.parametrize("outer", [pa.list_, pa.large_list])
def test_lists_of_text(tokenizer: rust_tok.Tokenizer, outer: Any) -> None:
    rows = [["hello world", None], None, [], ["a", "b", "中文"], [""]]
    for text in (pa.string(), pa.large_string(), pa.string_view()):
        array = pa.array(rows, outer(text))
        for column in (array, array[1:4], array[3:], pa.chunked_array([array[2:], array[:2]])):
            ids = imported(tokenizer.encode_arrow(column))
            assert ids.type == pa.list_(pa.list_(pa.uint16()))
            assert ids.to_pylist() == [
                None if row is None else expected(tokenizer, row) for row in column.to_pylist()
            ]


def test_wide_ids(oracle_files: dict[str, Path], tmp_path: Path) -> None:
    file = json.loads(oracle_files["gpt2"].read_text())
    file["added_tokens"].append({**file["added_tokens"][0], "content": "wide", "id": 70_000})
    file["model"]["vocab"]["wide"] = 70_000
    (tmp_path / "wide.json").write_text(json.dumps(file))
    tokenizer = rust_tok.Tokenizer.from_file(tmp_path / "wide.json")
    ids = imported(tokenizer.encode_arrow(pa.array(["x wide"])))
    assert ids.type == pa.list_(pa.uint32())
    assert ids.to_pylist() == [tokenizer.encode("x wide")]
    assert 70_000 in ids.to_pylist()[0]


def test_special_tokens_and_cutting(tokenizer: rust_tok.Tokenizer) -> None:
    firsts = pa.array(["a b c d", "a", None, "a b c"])
    seconds = pa.array(["x y", "x y z w", "x", None])
    column = tokenizer.encode_arrow(firsts, seconds, add_special_tokens=True, max_length=7)
    rows = imported(column).to_pylist()
    a, b, x, y, z = (tokenizer.encode(text, None, False)[0] for text in "abxyz")
    assert rows == [[2, a, b, 3, x, y, 3], [2, a, 3, x, y, z, 3], None, None]
    with pytest.raises(rust_tok.TokenizerError, match="max_length 2 is less than the 3 special"):
        tokenizer.encode_arrow(firsts, seconds, add_special_tokens=True, max_length=2)


def test_literal_special_tokens(tokenizer: rust_tok.Tokenizer) -> None:
    column = pa.array(["the [MASK]"])
    mask = tokenizer.token_to_id("[MASK]")
    assert mask in imported(tokenizer.encode_arrow(column)).to_pylist()[0]
    text = imported(tokenizer.encode_arrow(column, split_special_tokens=True)).to_pylist()[0]
    assert mask not in text
    assert tokenizer.decode(text) == "the [ mask ]"


def test_result_is_an_array_and_a_stream(tokenizer: rust_tok.Tokenizer) -> None:
    column = tokenizer.encode_arrow(pa.array(TEXTS))
    assert len(column) == len(TEXTS)
    assert pa.chunked_array(column).to_pylist() == imported(column).to_pylist()
    assert pa.DataType._import_from_c_capsule(column.__arrow_c_schema__()) == pa.list_(pa.uint16())
    first, second = imported(column), imported(column)
    del column
    assert first == second


def test_threads_and_many_chunks_change_nothing(
    tokenizer: rust_tok.Tokenizer, strings: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = strings[1000:41_000]
    monkeypatch.setenv("RAYON_NUM_THREADS", "1")
    alone = imported(tokenizer.encode_arrow(pa.array(texts)))
    monkeypatch.setenv("RAYON_NUM_THREADS", "3")
    chunks = [pa.array(texts[start : start + 777]) for start in range(0, len(texts), 777)]
    assert imported(tokenizer.encode_arrow(pa.chunked_array(chunks))) == alone


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (pa.array([1, 2]), 'format "l"'),
        (pa.array(["a"]).dictionary_encode(), "dictionary-encoded"),
        (pa.array([[1]]), 'format "\\+l"'),
        (pa.array([b"a"]), 'format "z"'),
        (["a"], "a list of str goes to encode_batch"),
        (pa.table({"text": ["a"]}), 'format "\\+s"'),
    ],
)
def test_other_columns_are_refused(
    tokenizer: rust_tok.Tokenizer, column: Any, message: str
) -> None:
    with pytest.raises(TypeError, match=message):
        tokenizer.encode_arrow(column)


def test_damaged_columns_are_refused(tokenizer: rust_tok.Tokenizer) -> None:
    buffers = [None, pa.array([0, 2, 3], pa.int32()).buffers()[1], pa.py_buffer(b"a\xffb")]
    invalid = pa.StringArray.from_buffers(2, buffers[1], buffers[2])
    with pytest.raises(rust_tok.TokenizerError, match="row 0 is not UTF-8 at byte 1"):
        tokenizer.encode_arrow(invalid)
    backwards = pa.array([0, 3, 1], pa.int32()).buffers()[1]
    with pytest.raises(rust_tok.TokenizerError, match="row 0: Arrow offsets that lead outside"):
        tokenizer.encode_arrow(pa.StringArray.from_buffers(2, backwards, pa.py_buffer(b"abc")))
    with pytest.raises(rust_tok.TokenizerError, match="pair has 2 rows, column has 1"):
        tokenizer.encode_arrow(pa.array(["a"]), pa.array(["b", "c"]))
