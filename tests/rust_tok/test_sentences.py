"""Sentence boundaries: the Rust tests hold them against the oracle, here is the column."""

import re

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from real_texts import docstrings

import rust_tok


def split(texts: list[str | None], **options: bool) -> list[list[str] | None]:
    return pa.array(rust_tok.split_sentences(pa.array(texts, pa.string()), **options)).to_pylist()


def test_a_text_falls_into_sentences() -> None:
    text = "Dr. Curie, e.g., wrote it.\nIt was (see Fig. 3) new! Was it?\n\nA Title\n\nThe end."
    assert split([text]) == [
        [
            "Dr. Curie, e.g., wrote it.\n",
            "It was (see Fig. 3) new! ",
            "Was it?\n",
            "\n",
            "A Title\n",
            "\n",
            "The end.",
        ]
    ]


def test_abbreviations_are_an_option() -> None:
    text = "Met Dr. Curie."
    assert split([text]) == [[text]]
    assert split([text], abbreviations=False) == [["Met Dr. ", "Curie."]]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.none() | st.text() | st.text("aA. !?\n\r1文。")), st.booleans())
def test_sentences_together_are_the_text(texts: list[str | None], abbreviations: bool) -> None:
    for text, sentences in zip(texts, split(texts, abbreviations=abbreviations), strict=True):
        if text is None:
            assert sentences is None
        else:
            assert sentences is not None
            assert "".join(sentences) == text
            assert all(sentences)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.none() | st.text() | st.text("aA. !?\n\r\t\v1文。")), st.booleans())
def test_sentences_of_one_line(texts: list[str | None], abbreviations: bool) -> None:
    found = split(texts, abbreviations=abbreviations, one_line=True)
    uniform = [text if text is None else text.replace("\r\n", "\n") for text in texts]
    for sentences, lines in zip(split(uniform, abbreviations=abbreviations), found, strict=True):
        if sentences is None:
            assert lines is None
        else:
            trimmed = [sentence.strip(" \t\n\v\f\r") for sentence in sentences]
            assert lines == [re.sub("[\r\n]", " ", sentence) for sentence in trimmed]


def test_every_layout_of_text_gives_the_same() -> None:
    texts = [*docstrings("email", 40), None, "", "Ä. Ö! 文。A"]
    expected = split(texts)
    for type_ in (pa.large_string(), pa.string_view()):
        column = rust_tok.split_sentences(pa.array(texts, type_))
        assert pa.array(column).to_pylist() == expected
    whole = pa.array(["cut", *texts])[1:]
    lines = split(texts, one_line=True)
    assert pa.array(rust_tok.split_sentences(whole, one_line=True)).to_pylist() == lines
    chunks = pa.chunked_array([whole[:7], whole[7:7], whole[7:]])
    assert pa.array(rust_tok.split_sentences(chunks)).to_pylist() == expected


def test_the_column_is_a_list_of_strings() -> None:
    column = rust_tok.split_sentences(pa.array(["One. Two"]))
    assert len(column) == 1
    assert pa.array(column).type == pa.list_(pa.string())
    pa.array(column).validate(full=True)
    assert pa.chunked_array(column).to_pylist() == [["One. ", "Two"]]


def test_what_is_no_column_of_text_is_refused() -> None:
    with pytest.raises(TypeError):
        rust_tok.split_sentences(pa.array([1]))
    with pytest.raises(TypeError):
        rust_tok.split_sentences(["a list"])  # pyright: ignore[reportArgumentType]
    with pytest.raises(rust_tok.TokenizerError, match="column of strings"):
        rust_tok.split_sentences(pa.array([["a"]]))
