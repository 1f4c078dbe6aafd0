"""Laws of the blank-line splitter: ranges and blocks of any size give the documents of the file."""

import itertools
import re
from collections.abc import Iterator

import pyarrow as pa
from hypothesis import example, given, settings
from hypothesis import strategies as st

from raybert.corpus.txt import split_documents

ENDS = st.sampled_from(["\n", "\n\n", "\r\n", "\r\n\r\n", "\n \t\n", "\n\x0b\n\x0c\n", " \n"])
WORDS = st.sampled_from(["a", "  b", "é", "字", "🙂", "\0", "\u2028", "\r", " ", "long " * 9, "x "])
FILES = st.lists(st.one_of(ENDS, WORDS), max_size=60).map("".join)


def expected(data: bytes) -> list[bytes]:
    """The definition, by a regular expression over the whole file."""
    text = data.removeprefix(b"\xef\xbb\xbf")
    documents = re.split(rb"(?:(?<=\n)|^)(?:[ \t\r\x0b\x0c]*\n)+", text)
    documents = [document.rstrip(b"\r\n") for document in documents]
    return [document for document in documents if document.strip()]


def blocks_of(data: bytes, start: int, size: int) -> Iterator[bytes]:
    for at in range(max(start - 1, 0), len(data), size):
        yield data[at : at + size]


def read(data: bytes, bounds: list[int], block: int, longest: int = 1 << 20) -> list[list[bytes]]:
    ranges = []
    for start, end in itertools.pairwise(bounds):
        batches = list(split_documents(blocks_of(data, start, block), start, end, longest))
        documents = [d for batch, _ in batches for d in batch.cast(pa.binary()).to_pylist()]
        places = [int(place) for _, offsets in batches for place in offsets]
        for document, place in zip(documents, places, strict=True):
            assert data[place : place + len(document)] == document
        ranges.append(documents)
    return ranges


@given(FILES, st.booleans(), st.integers(1, 40), st.integers(1, 40))
@example("a\n\nb", False, 1, 1)
@example("\na", False, 1, 1)
@example("\n \nb\n \n \nc", True, 1, 1)
@settings(max_examples=400, deadline=None)
def test_ranges_of_any_size_give_every_document_once(
    text: str, marked: bool, range_bytes: int, block: int
):
    data = (b"\xef\xbb\xbf" if marked else b"") + text.encode()
    bounds = [*range(0, len(data), range_bytes), len(data)] if data else [0, 0]
    found = read(data, bounds, block)
    assert list(itertools.chain(*found)) == expected(data)


@given(FILES, st.integers(1, 30), st.integers(1, 30), st.integers(4, 24))
@settings(max_examples=300, deadline=None)
def test_a_long_document_goes_on_in_pieces_that_depend_on_nothing_else(
    text: str, range_bytes: int, block: int, longest: int
):
    data = text.encode()
    whole = read(data, [0, len(data)], max(1, len(data)), longest)[0]
    bounds = [*range(0, len(data), range_bytes), len(data)] if data else [0, 0]
    assert list(itertools.chain(*read(data, bounds, block, longest))) == whole
    assert all(len(piece) <= longest for piece in whole)
    for piece in whole:
        piece.decode()
    squeezed = b"".join(whole).translate(None, b" \t\r\n\x0b\x0c")
    assert squeezed == b"".join(expected(data)).translate(None, b" \t\r\n\x0b\x0c")


def test_no_more_is_read_than_the_range_needs():
    data = b"one line without an end " * 1000
    taken = []

    def counted(start: int) -> Iterator[bytes]:
        for block in blocks_of(data, start, 100):
            taken.append(len(block))
            yield block

    assert list(split_documents(counted(5000), 5000, 6000)) == []
    assert sum(taken) <= 1100


def test_a_range_without_a_document_start_is_empty():
    data = b"first\n" * 50 + b"\nsecond\n"
    assert read(data, [0, 100, 200, 301, len(data)], 16) == [
        [b"\n".join([b"first"] * 50)],
        [],
        [b"second"],
        [],
    ]
