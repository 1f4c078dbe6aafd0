"""Every format through the same reader: batches, ranges, broken content."""

import gzip
import itertools
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raybert.corpus.content import PassedOver
from raybert.corpus.jsonl import split_lines
from raybert.corpus.ranges import plan_ranges
from raybert.corpus.reading import Reader
from raybert.corpus.sources import list_sources
from raybert.errors import InvalidContent, UserError
from raybert.storage import Location

HOSTILE = [
    "plain",
    "nul \0 inside",
    "line\u2028separator\u2029and\x85next",
    "字🙂é" * 50,
    "[MASK] [CLS] text",
    "tab\tand\x0bmore",
]


def read(paths: Path | str, range_bytes: int = 1 << 20, **options) -> tuple[list[str], PassedOver]:
    passed_over = PassedOver()
    reader = Reader(**options)
    ranges = plan_ranges(list_sources([str(paths)], "auto"), range_bytes, reader.text_column)
    batches = itertools.chain(*(reader.read(r, passed_over) for r in ranges))
    return [text for batch in batches for text in batch.to_pylist()], passed_over


def write_compressed(path: Path, data: bytes) -> None:
    with pa.CompressedOutputStream(
        str(path), {".gz": "gzip", ".zst": "zstd"}[path.suffix]
    ) as stream:
        stream.write(data)


@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz", "a.txt.zst"])
@pytest.mark.parametrize("ending", ["\n\n", "\r\n\r\n", "\n  \n\n"])
@pytest.mark.parametrize("block_bytes", [7, 1 << 20])
def test_text_files(tmp_path: Path, name: str, ending: str, block_bytes: int):
    data = ("\ufeff" + ending.join(HOSTILE)).encode()
    path = tmp_path / name
    if name == "a.txt.gz":
        # Two members, one after the other, are one file.
        path.write_bytes(gzip.compress(data[:99]) + gzip.compress(data[99:]))
    elif name == "a.txt.zst":
        write_compressed(path, data)
    else:
        path.write_bytes(data)
    for range_bytes in (50, 1 << 20):
        assert read(path, range_bytes, block_bytes=block_bytes)[0] == HOSTILE


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz"])
@pytest.mark.parametrize("block_bytes", [7, 1 << 20])
def test_json_lines(tmp_path: Path, name: str, block_bytes: int):
    texts = [*HOSTILE, "two\n\nparagraphs stay one document"]
    rows = [{"body": t, "n": 1} for t in texts] + [{"body": None}, {"body": ""}]
    lines = [json.dumps(r, ensure_ascii=i % 2 == 0) for i, r in enumerate(rows)]
    data = ("\ufeff" + "\r\n".join([*lines[:3], "  ", *lines[3:]])).encode()
    path = tmp_path / name
    path.write_bytes(gzip.compress(data) if name.endswith("gz") else data)
    for range_bytes in (40, 1 << 20):
        found, _ = read(path, range_bytes, text_column="body", block_bytes=block_bytes)
        assert found == texts


@given(
    st.lists(st.binary(max_size=12).map(lambda b: b.replace(b"\n", b"|")), max_size=12),
    st.booleans(),
    st.integers(1, 30),
    st.integers(1, 30),
)
@settings(max_examples=300, deadline=None)
def test_every_line_belongs_to_one_range(
    lines: list[bytes], ended: bool, range_bytes: int, block: int
):
    data = b"\n".join(lines) + (b"\n" if ended else b"")
    bounds = [*range(0, len(data), range_bytes), len(data)]
    found = []
    for start, end in itertools.pairwise(bounds):
        first = max(start - 1, 0)
        blocks = (data[at : at + block] for at in range(first, len(data), block))
        for batch, offsets in split_lines(blocks, start, end, "file"):
            for line, offset in zip(batch, offsets, strict=True):
                assert data[offset : offset + len(line)] == line
                assert start <= offset < end
            found += batch
    assert [line for line in found if line] == [line for line in data.split(b"\n") if line]


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.string_view()])
@pytest.mark.parametrize("range_bytes", [1, 400, 1 << 20])
def test_parquet(tmp_path: Path, kind: pa.DataType, range_bytes: int):
    texts = [*HOSTILE, None, "two\n\nparagraphs", *map(str, range(50))]
    table = pa.table({"n": list(range(len(texts))), "text": pa.array(texts, kind)})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=7)
    expected = [text for text in texts if text is not None]
    found, _ = read(tmp_path / "a.parquet", range_bytes, block_bytes=64)
    assert found == expected


def test_parquet_dictionary_column(tmp_path: Path):
    column = pa.array(["a", "b", "a", None]).dictionary_encode()
    pq.write_table(pa.table({"text": column}), tmp_path / "a.parquet")
    assert read(tmp_path)[0] == ["a", "b", "a"]


def test_small_files_share_a_range_and_large_ones_have_several(tmp_path: Path):
    for i in range(30):
        (tmp_path / f"{i:02}.txt").write_text(f"document {i}\n\n" * (1 if i != 17 else 100))
    sources = list_sources([str(tmp_path)], "auto")
    ranges = plan_ranges(sources, 200, "text")
    assert len(ranges) < len(sources)
    names = [r.name for r in ranges]
    assert names == sorted(set(names))
    assert [s.source for r in ranges for s in r.segments if s.start == 0] == list(sources)
    assert len([n for n in names if n.startswith("00017-")]) == 7
    assert len({r.fingerprint for r in ranges}) == len(ranges)


INVALID = b"first\n\nsecond \xff document\n\nthird\n\nfourth \xe5\xad"


@pytest.mark.parametrize("range_bytes", [10, 1 << 20])
def test_not_utf8(tmp_path: Path, range_bytes: int):
    path = tmp_path / "a.txt"
    path.write_bytes(INVALID)
    with pytest.raises(InvalidContent, match=r"a.txt: not UTF-8 at byte 14: 0xff, invalid start"):
        read(path, range_bytes)
    found, passed_over = read(path, range_bytes, on_invalid="skip")
    assert (found, passed_over) == (["first", "third"], PassedOver(skipped=2))
    found, passed_over = read(path, range_bytes, on_invalid="replace")
    assert found == ["first", "second \ufffd document", "third", "fourth \ufffd"]
    assert passed_over == PassedOver(replaced=2)


def test_utf16_is_recognised(tmp_path: Path):
    (tmp_path / "a.txt").write_bytes("text".encode("utf-16"))
    with pytest.raises(InvalidContent, match=r"byte 0: 0xff, .*it looks like UTF-16"):
        read(tmp_path)


BROKEN_LINES = {
    '{"text": "cut': "line 3: not JSON: Unterminated string",
    "[1, 2]": "line 3: expected a JSON object, found list",
    '{"body": 1, "id": 2}': r"line 3: no 'text' \(corpus.text_column\); it has 'body', 'id'",
    '{"text": 5}': "line 3: 'text' is int, not a string",
    '{"text": "half \\ud83d"}': "line 3: 'text' holds half of a surrogate pair",
    "[" * 200_000: "line 3: JSON that can't be read",
    '{"text": ' + "9" * 5000 + "}": "line 3: JSON that can't be read",
}


@pytest.mark.parametrize(("line", "message"), BROKEN_LINES.items(), ids=range(len(BROKEN_LINES)))
@pytest.mark.parametrize("range_bytes", [12, 1 << 20])
def test_broken_json_lines(tmp_path: Path, line: str, message: str, range_bytes: int):
    path = tmp_path / "a.jsonl"
    path.write_text(f'{{"text": "one"}}\n\n{line}\n{{"text": "two"}}\n')
    with pytest.raises(InvalidContent, match=f"a.jsonl: {message}"):
        read(path, range_bytes)
    for on_invalid in ("skip", "replace"):
        found, passed_over = read(path, range_bytes, on_invalid=on_invalid)
        assert (found, passed_over) == (["one", "two"], PassedOver(skipped=1))


def test_json_line_that_is_not_utf8(tmp_path: Path):
    (tmp_path / "a.jsonl").write_bytes(b'{"text": "one"}\n{"text": "t\xffo"}\n')
    with pytest.raises(InvalidContent, match="not UTF-8 at byte 27"):
        read(tmp_path)
    assert read(tmp_path, on_invalid="skip")[0] == ["one"]
    assert read(tmp_path, on_invalid="replace")[0] == ["one", "t\ufffdo"]


def test_a_line_too_long_for_any_row():
    blocks = (b"x" * 100 for _ in range(100))
    with pytest.raises(InvalidContent, match=r"a.jsonl: the line that begins at byte 0 is longer"):
        list(split_lines(blocks, 0, 1 << 20, "a.jsonl", 1000))


def test_parquet_that_is_not_utf8(tmp_path: Path):
    data = pa.array([b"one", b"t\xffo", b"three"])
    text = pa.StringArray.from_buffers(3, *data.buffers()[1:])
    pq.write_table(pa.table({"text": text}), tmp_path / "a.parquet")
    with pytest.raises(InvalidContent, match="not UTF-8 in row group 0, rows from 0, byte 1"):
        read(tmp_path)
    assert read(tmp_path, on_invalid="skip")[0] == ["one", "three"]
    assert read(tmp_path, on_invalid="replace")[0] == ["one", "t\ufffdo", "three"]


def test_wrong_parquet(tmp_path: Path):
    pq.write_table(pa.table({"n": [1], "body": ["a"]}), tmp_path / "a.parquet")
    with pytest.raises(UserError, match=r"no column 'text' \(corpus.text_column\); it has 'n', 'b"):
        read(tmp_path)
    with pytest.raises(UserError, match="column 'n' is int64, not strings"):
        read(tmp_path, text_column="n")
    (tmp_path / "a.parquet").write_bytes(b"no parquet at all")
    with pytest.raises(InvalidContent, match=r"a.parquet: not a parquet file"):
        read(tmp_path)


def test_damaged_parquet_page(tmp_path: Path):
    path = tmp_path / "a.parquet"
    texts = [f"text {i} " * 30 for i in range(500)]
    pq.write_table(pa.table({"text": texts}), path, use_dictionary=False)
    data = bytearray(path.read_bytes())
    data[1000:3000] = b"\xff" * 2000
    path.write_bytes(data)
    with pytest.raises(InvalidContent, match="row group 0 is damaged"):
        read(path)


@pytest.mark.parametrize("cut", [slice(None, -9), slice(50, None)])
@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_compressed_file_that_is_not_whole(tmp_path: Path, suffix: str, cut: slice):
    path = tmp_path / f"a.txt{suffix}"
    write_compressed(path, "".join(map(chr, range(32, 20_000))).encode())
    path.write_bytes(path.read_bytes()[cut])
    with pytest.raises(InvalidContent, match=r"a.txt.* not whole (gzip|zstd)"):
        read(path)


def test_remote_file(s3_bucket: str):
    folder = Location.parse(s3_bucket) / "reading"
    with (folder / "a.txt").open_output_stream() as stream:
        stream.write("\n\n".join(HOSTILE).encode())
    assert read(str(folder), 60)[0] == HOSTILE
