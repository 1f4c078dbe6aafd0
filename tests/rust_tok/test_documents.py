"""Documents of plain text and their hashes: the laws of the splitter are in `tests/corpus`."""

import pyarrow as pa
import pytest
import xxhash

import rust_tok


def test_documents_come_when_they_are_complete() -> None:
    splitter = rust_tok.DocumentSplitter(0, 9, 1 << 20)
    found = pa.array(splitter.feed(b"\xef\xbb\xbfone\n \ntw"))
    assert found.type == pa.struct([("text", pa.string()), ("place", pa.int64())])
    assert found.to_pylist() == [{"text": "one", "place": 3}]
    assert not splitter.finished
    assert pa.array(splitter.feed(b"o\r\n")).to_pylist() == []
    # The blank line before the last document begins at byte 14, in the next range.
    assert pa.array(splitter.feed(b"\r\nthree")).to_pylist() == [{"text": "two", "place": 9}]
    assert splitter.finished
    following = rust_tok.DocumentSplitter(9, 100, 1 << 20)
    assert len(following.feed(b"\ntwo\r\n\r\nthree")) == 0
    assert pa.array(following.close()).to_pylist() == [{"text": "three", "place": 16}]


def test_documents_that_are_not_utf8_come_as_bytes() -> None:
    splitter = rust_tok.DocumentSplitter(0, 1 << 20, 1 << 20)
    found = pa.array(splitter.feed("naïve\n\nna".encode() + b"\xc3\n\n\xafve\n\n"))
    assert found.field("text").to_pylist() == ["naïve".encode(), b"na\xc3", b"\xafve"]


def test_a_length_of_nothing_is_refused() -> None:
    with pytest.raises(rust_tok.TokenizerError, match="max_bytes is 0"):
        rust_tok.DocumentSplitter(0, 1, 0)


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.string_view()])
def test_hashes_are_those_of_the_reference_implementation(kind: pa.DataType) -> None:
    texts = ["", "a", "東京", *("x" * (n * n) for n in range(60))]
    found = pa.array(rust_tok.xxh3_128(pa.array(["other", *texts], kind).slice(1)))
    assert found.type == pa.binary(16)
    assert found.to_pylist() == [xxhash.xxh3_128_digest(text.encode()) for text in texts]


def test_a_null_has_no_hash() -> None:
    with pytest.raises(rust_tok.TokenizerError, match="row 1 is null"):
        rust_tok.xxh3_128(pa.array(["a", None]))
