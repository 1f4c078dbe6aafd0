"""Tables: every format read alike, whole or by parts; what is broken is named with its place."""

import csv
import gzip
import io
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from raybert.errors import UserError
from raybert.storage import Location
from raybert.tables import (
    Table,
    common_schema,
    open_table,
    open_tables,
    require_columns,
    text_column,
)
from raybert.tables.rows import RowScanner

ROWS = [
    {"text": "plain", "label": "a"},
    {"text": 'with "quotes", a comma', "label": "b"},
    {"text": "two\nlines\r\nand a third", "label": None},
    {"text": "", "label": "007"},
    {"text": "naïve — 日本語 \u2028 \x85", "label": "NA"},
]


def opened(path: Path, content: str | bytes, rows_per_part: int = 8192) -> Table:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    (table,) = open_tables([str(path)], setting="input.paths", rows_per_part=rows_per_part)
    return table


def mistake(path: Path, content: str | bytes) -> str:
    with pytest.raises(UserError) as error:
        opened(path, content).read()
    assert str(path) in str(error.value)
    return str(error.value)


def as_csv(rows: list[dict[str, str | None]], delimiter: str = ",", end: str = "\n") -> str:
    """With null as nothing and an empty string in quotes, which Python's writer can't."""

    def field(value: str | None) -> str:
        if value is None:
            return ""
        plain = value and not set(value) & set(f'"\r\n{delimiter}')
        return value if plain else '"' + value.replace('"', '""') + '"'

    lines = [list(rows[0]), *([field(v) for v in row.values()] for row in rows)]
    return "".join(delimiter.join(line) + end for line in lines)


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("rows_per_part", [1, 2, 100])
def test_csv_keeps_what_stands_in_it(tmp_path: Path, end: str, mark: bytes, rows_per_part: int):
    content = mark + as_csv(ROWS, end=end).encode()
    table = opened(tmp_path / "a.csv", content, rows_per_part)
    assert table.read().to_pylist() == ROWS
    assert table.num_rows == len(ROWS)
    parts = [table.read_part(part).to_pylist() for part in table.parts]
    assert [row for rows in parts for row in rows] == ROWS
    assert opened(tmp_path / "b.csv", content.rstrip(), rows_per_part).read().to_pylist() == ROWS


@pytest.mark.parametrize(
    "name", ["t.csv", "t.tsv", "t.jsonl", "t.parquet", "t.csv.gz", "t.tsv.zst"]
)
def test_formats_hold_the_same_rows(tmp_path: Path, name: str):
    path = tmp_path / name
    text = as_csv(ROWS, "\t" if "tsv" in name else ",")
    if name.endswith("jsonl"):
        text = "".join(json.dumps(row) + "\n\n" for row in ROWS)
    if name.endswith("gz"):
        path.write_bytes(gzip.compress(text.encode()))
    elif name.endswith("zst"):
        path.write_bytes(pa.Codec("zstd").compress(text.encode(), asbytes=True))
    elif name.endswith("parquet"):
        pq.write_table(pa.Table.from_pylist(ROWS), path, row_group_size=2)
    else:
        path.write_text(text, newline="")
    (table,) = open_tables([str(path)], setting="input.paths", rows_per_part=3)
    assert table.read().to_pylist() == ROWS
    assert table.read_part(table.parts[1], ["label"]).to_pylist() == [
        {"label": row["label"]} for row in ROWS[3:]
    ]


def test_lines_of_a_txt_file_are_its_rows(tmp_path: Path):
    table = opened(tmp_path / "a.txt", b'\xef\xbb\xbfone\r\n\n"three\x0c\xe2\x80\xa8\nfour', 2)
    assert table.read()["text"].to_pylist() == ["one", "", '"three\x0c\u2028', "four"]
    assert [part.num_rows for part in table.parts] == [2, 2]
    assert opened(tmp_path / "b.txt", "").num_rows == 0


FIELDS = st.text(st.sampled_from('ab,"\n\r\t;é '), max_size=6)


@given(st.lists(st.tuples(FIELDS, FIELDS), max_size=12), st.integers(1, 5), st.integers(1, 9))
@example([("a\r", "")], 1, 1)
@settings(max_examples=60, deadline=None)
def test_parts_of_any_size_give_every_row_once(
    tmp_path_factory: pytest.TempPathFactory,
    rows: list[tuple[str, str]],
    rows_per_part: int,
    block: int,
):
    text = io.StringIO()
    writer = csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\n")
    writer.writerows([("first", "second"), *rows])
    data = text.getvalue().encode()
    table = opened(tmp_path_factory.mktemp("csv") / "a.csv", data, rows_per_part)
    parts = [table.read_part(part) for part in table.parts]
    found = [tuple(row.values()) for part in parts for row in part.to_pylist()]
    assert found == rows
    assert all(part.num_rows <= rows_per_part for part in parts)

    blocks = [data[i : i + block] for i in range(0, len(data), block)]
    scanned = list(RowScanner("a.csv", ",", keep_blank=False).scan(blocks))
    assert b"".join(rows.data for rows in scanned) == data
    assert sum(len(rows.ends) for rows in scanned) == len(rows) + 1


def test_what_is_cut_depends_on_the_file_alone(tmp_path: Path):
    first = opened(tmp_path / "a.csv", as_csv(ROWS * 20), 7)
    assert open_table(first.file, 7) == first
    assert open_table(first.file, 8).parts != first.parts


def test_types_of_jsonl_are_those_of_the_whole_file(tmp_path: Path):
    lines = ['{"text": "a", "n": 1, "x": null}', '{"text": "b", "n": 2.5, "tags": ["t"]}']
    table = opened(tmp_path / "a.jsonl", "\n".join(lines), 1)
    assert table.schema.types == [pa.string(), pa.float64(), pa.string(), pa.list_(pa.string())]
    assert table.read_part(table.parts[0]).to_pylist() == [
        {"text": "a", "n": 1.0, "x": None, "tags": None}
    ]


def test_tsv_without_quoting_keeps_its_quotes(tmp_path: Path):
    table = opened(tmp_path / "a.tsv", 'text\tlabel\n"Hello" she said\t1\n"open\t2\n')
    assert table.read()["text"].to_pylist() == ['"Hello" she said', '"open']


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "text,label\nx,1\n\ny\n", "row 2 has 1 fields, its header 2: 'y'"),
        ("a.csv", 'text,label\n"x\n",1\ny,2,3\n', "row 2 has 3 fields, its header 2: 'y,2,3'"),
        ("a.csv", 'text,label\nx,1\n"y\n,2\nz,3\n', "the quote of line 3 is never closed"),
        ("a.csv", 'text,label\nx,1\n"y"y,2\n', "line 3: a quoted field goes on behind"),
        ("a.csv", b'text,label\nx,1\n"\n",1\ny\xe9,2\n', "line 5 is not UTF-8 (0xe9"),
        ("a.csv", b"t\xe9xt\nx\n", "line 1 is not UTF-8"),
        ("a.csv", "text\nx\n".encode("utf-16"), "it looks like UTF-16"),
        ("a.csv", "", "is empty"),
        ("a.csv", "\n\r\n", "is empty"),
        ("a.csv", "text,text\nx,1\n", "names the column 'text' twice"),
        ("a.csv", "text\nx\ry\n", "bare carriage return"),
        ("a.jsonl", '{"text": "a"}\n\n{"text": \n', "line 3 is not JSON"),
        ("a.jsonl", '{"text": "a"}\n["b"]\n', "line 2: expected a JSON object, found list"),
        ("a.jsonl", '{"text": "\\ud83d"}\n', "line 1 holds half of a surrogate pair"),
        ("a.jsonl", '{"a": 1}\n{"a": 2}\n{"a": "x"}\n', "row 3: 'a' is \"x\", which doesn't fit"),
        ("a.jsonl", '{"a": 100000000000000000000}\n', "row 1: 'a' is 100000000000000000000"),
        ("a.txt", b"fine\n\xff\n", "line 2 is not UTF-8"),
        ("a.parquet", "text,label\n", "not a parquet file"),
        ("a.csv.gz", "text,label\n", "not whole gzip"),
    ],
)
def test_broken_rows_are_named(tmp_path: Path, name: str, content: str | bytes, message: str):
    assert message in mistake(tmp_path / name, content)


def test_a_bad_cut_off_file_is_named(tmp_path: Path):
    whole = gzip.compress(as_csv(ROWS * 500).encode())
    assert "not whole gzip" in mistake(tmp_path / "a.csv.gz", whole[:-20])


def test_columns_that_are_missing_are_named_with_the_nearest(tmp_path: Path):
    table = opened(tmp_path / "a.csv", "txt,label\nx,1\n")
    with pytest.raises(UserError, match=r"no column 'text' \(data.text_column\); .*mean txt"):
        require_columns(table, {"data.label_column": "label", "data.text_column": "text"})
    other = opened(tmp_path / "b.csv", "text;label\nx;1\n")
    with pytest.raises(UserError, match="is ';' the delimiter, not ','"):
        require_columns(other, {"data.text_column": "text"})
    (table,) = open_tables([str(tmp_path / "b.csv")], setting="data.train", delimiter=";")
    require_columns(table, {"data.text_column": "text"})


def test_paths_are_refused_by_the_setting_that_gave_them(tmp_path: Path):
    (tmp_path / "a.xlsx").write_text("x")
    for path, message in (
        ("no.csv", "data.train: .*no.csv does not exist"),
        ("no*.csv", "matches no file"),
        ("a.xlsx", "doesn't tell its format; known: .csv"),
        (".", "is a folder without a file of .csv"),
    ):
        with pytest.raises(UserError, match=message):
            open_tables([str(tmp_path / path)], setting="data.train")
    with pytest.raises(UserError, match="delimiter '::'"):
        open_tables([str(tmp_path)], setting="data.train", delimiter="::")


def test_text_columns_are_strings(tmp_path: Path):
    rows = pa.table(
        {
            "words": pa.array(["a", None, "b"]).dictionary_encode(),
            "number": [1, 2, 3],
            "broken": pa.Array.from_buffers(
                pa.string(),
                3,
                pa.array([b"a", b"\xff", b"b"], pa.binary()).buffers(),
            ),
        }
    )
    pq.write_table(rows, tmp_path / "a.parquet")
    (table,) = open_tables([str(tmp_path / "a.parquet")], setting="input.paths")
    batch = table.read_part(table.parts[0])
    assert text_column(table, batch, "words", 0).to_pylist() == ["a", None, "b"]
    with pytest.raises(UserError, match="'number' is int64, not text"):
        text_column(table, batch, "number", 0)
    with pytest.raises(UserError, match=r"a.parquet, row 12: 'broken' is not UTF-8"):
        text_column(table, batch, "broken", 10)


def test_tables_of_several_files_have_one_schema(tmp_path: Path):
    first = opened(tmp_path / "a.jsonl", '{"text": "x", "n": 1}')
    second = opened(tmp_path / "b.jsonl", '{"text": "y", "n": 0.5, "more": true}')
    assert common_schema([first, second]).names == ["text", "n", "more"]
    third = opened(tmp_path / "c.csv", "text,n\nz,1\n")
    with pytest.raises(UserError, match=r"c.csv and .*a.jsonl don't fit each other"):
        common_schema([first, third])


def test_remote_files(s3_bucket: str):
    place = Location.parse(s3_bucket.replace("raybert?", "raybert/tables?"))
    with (place / "a.csv").open_output_stream() as stream:
        stream.write(as_csv(ROWS).encode())
    (table,) = open_tables(
        [s3_bucket.replace("raybert?", "raybert/tables/*.csv?")], setting="", rows_per_part=2
    )
    assert table.read().to_pylist() == ROWS
    assert open_table(table.file, 2) == table
