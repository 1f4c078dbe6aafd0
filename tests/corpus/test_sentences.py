import pyarrow as pa
import pytest

import rust_tok
from raybert.corpus.sentences import document_ids, ids_of, sentences_of
from raybert.settings import CorpusSettings
from raybert.tokens import document_id

TEXTS = [
    "Dr. Jones left.  She\ndid not return. Why?",
    "",
    " \t ",
    "One line\r\n\r\nanother \u2028 one\n",
    "[MASK] is text, and so is [SEP].",
]


def test_a_line_is_a_sentence():
    found = sentences_of(pa.array(TEXTS), CorpusSettings(sentences="lines")).to_pylist()
    assert [[line for line in lines if line] for lines in found] == [
        ["Dr. Jones left.  She", "did not return. Why?"],
        [],
        [],
        ["One line", "another \u2028 one"],
        ["[MASK] is text, and so is [SEP]."],
    ]


@pytest.mark.parametrize("abbreviations", [True, False])
def test_sentences_are_found(abbreviations: bool):
    settings = CorpusSettings(abbreviations=abbreviations)
    found = sentences_of(pa.array(TEXTS), settings)[0].as_py()
    first = ["Dr. Jones left."] if abbreviations else ["Dr.", "Jones left."]
    assert found == [*first, "She did not return.", "Why?"]


def test_wrapping_changes_no_sentence():
    text = "One line of it and\nanother one.\nThen\nmore"
    wrapped = [text.replace("\n", end) for end in (" ", "\n", "\r\n")]
    found = sentences_of(pa.array(["", *wrapped]).slice(1), CorpusSettings()).to_pylist()
    assert found == [["One line of it and another one.", "Then more"]] * 3


@pytest.mark.parametrize("first", [0, 1, 3])
def test_ids_are_the_tokenizers_without_what_has_none(wordpiece: rust_tok.Tokenizer, first: int):
    sentences = [["", "the river", "\0"], [], [""], ["[MASK]", "", "old 東京"], ["", ""], ["x"]]
    column = pa.array(sentences).slice(first)
    found, kept = ids_of(column, wordpiece)
    expected = [
        [
            ids
            for text in document
            if (ids := wordpiece.encode(text, None, False, split_special_tokens=True))
        ]
        for document in sentences[first:]
    ]
    assert found.to_pylist() == [document for document in expected if document]
    assert kept.tolist() == [bool(document) for document in expected]
    assert wordpiece.token_to_id("[MASK]") not in found.values.values.to_pylist()
    found.validate(full=True)


def test_no_documents_at_all(wordpiece: rust_tok.Tokenizer):
    found, kept = ids_of(pa.array([], pa.list_(pa.string())), wordpiece)
    assert (len(found), len(kept)) == (0, 0)


def test_document_ids_are_of_the_text():
    texts = pa.array(["skipped", "", "one", "字🙂", "a\0b"])
    assert document_ids(texts.slice(1)).to_pylist() == [
        document_id(text) for text in ["", "one", "字🙂", "a\0b"]
    ]
    assert len(document_ids(texts.slice(0, 0))) == 0
