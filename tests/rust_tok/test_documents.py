"""Documents of plain text and their hashes: the laws of the splitter are in `tests/corpus`."""

import hashlib

import pyarrow as pa
import pytest

import rust_tok


def test_documents_come_when_they_are_complete() -> None:
    splitter = rust_tok.DocumentSplitter(0, 9, 1 << 20)
    found = pa.array(splitter.feed(b"\xef\xbb\xbfone\n \ntw"))
    assert found.type == pa.struct([("text", pa.binary()), ("place", pa.int64())])
    assert found.to_pylist() == [{"text": b"one", "place": 3}]
    assert not splitter.finished
    assert pa.array(splitter.feed(b"o\r\n")).to_pylist() == []
    # The blank line before the last document begins at byte 14, in the next range.
    assert pa.array(splitter.feed(b"\r\nthree")).to_pylist() == [{"text": b"two", "place": 9}]
    assert splitter.finished
    following = rust_tok.DocumentSplitter(9, 100, 1 << 20)
    assert len(following.feed(b"\ntwo\r\n\r\nthree")) == 0
    assert pa.array(following.close()).to_pylist() == [{"text": b"three", "place": 16}]


def test_a_length_of_nothing_is_refused() -> None:
    with pytest.raises(rust_tok.TokenizerError, match="max_bytes is 0"):
        rust_tok.DocumentSplitter(0, 1, 0)


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.string_view()])
def test_hashes_are_those_of_hashlib(kind: pa.DataType) -> None:
    texts = ["", "a", "東京", *("x" * (n * n) for n in range(60))]
    found = pa.array(rust_tok.blake2b_128(pa.array(["other", *texts], kind).slice(1)))
    assert found.type == pa.binary(16)
    assert found.to_pylist() == [
        hashlib.blake2b(text.encode(), digest_size=16).digest() for text in texts
    ]


def test_a_null_has_no_hash() -> None:
    with pytest.raises(rust_tok.TokenizerError, match="row 1 is null"):
        rust_tok.blake2b_128(pa.array(["a", None]))
