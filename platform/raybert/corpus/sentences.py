"""Documents to sentences to token ids, a column at a time; no Python object per sentence."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

import rust_tok
from raybert.settings import CorpusSettings

_CRLF = pc.ReplaceSubstringOptions("\r\n", "\n")
_LINE_ENDS_TO_BLANKS = bytes.maketrans(b"\r\n", b"  ")


def sentences_of(texts: pa.Array, corpus: CorpusSettings) -> pa.Array:
    """list<string>: the sentences of each document, found or one per line, trimmed, blank ones too.

    A line's end inside a sentence is a blank: a text reads the same however it is wrapped.

    Args:
        texts: strings without nulls.
    """
    if _has_carriage_return(texts):
        texts = pc.call_function("replace_substring", [texts], _CRLF)
    if corpus.sentences == "split":
        column = rust_tok.split_sentences(texts, abbreviations=corpus.abbreviations)
        sentences = pa.array(column)
    else:
        sentences = pc.call_function("split_pattern", [texts], pc.SplitPatternOptions("\n"))
    trimmed = pc.call_function("ascii_trim_whitespace", [sentences.values])
    return pa.ListArray.from_arrays(sentences.offsets, _unwrapped(trimmed))


def _has_carriage_return(texts: pa.Array) -> bool:
    data = np.frombuffer(texts.buffers()[2] or b"", dtype=np.uint8)
    return bool((data == ord("\r")).any())


def _unwrapped(sentences: pa.Array) -> pa.Array:
    """Line ends as blanks."""
    validity, offsets, data = sentences.buffers()
    if data is None:
        return sentences
    unwrapped = pa.py_buffer(data.to_pybytes().translate(_LINE_ENDS_TO_BLANKS))
    return pa.StringArray.from_buffers(len(sentences), offsets, unwrapped, validity)


def ids_of(sentences: pa.Array, tokenizer: rust_tok.Tokenizer) -> tuple[pa.Array, np.ndarray]:
    """Token ids of documents, without the sentences and documents that have none.

    What looks like a special token in the text is text.

    Args:
        sentences: list<string> (D,).

    Returns:
        list<list<uint16 | uint32>>, and which documents those are: bool (D,).
    """
    encoded = tokenizer.encode_arrow(sentences, add_special_tokens=False, split_special_tokens=True)
    return _without_empty(pa.array(encoded))


def _without_empty(documents: pa.Array) -> tuple[pa.Array, np.ndarray]:
    sentences = documents.values
    document_offsets = documents.offsets.to_numpy()
    sentence_offsets = sentences.offsets.to_numpy()
    full = np.diff(sentence_offsets) > 0
    # An empty sentence begins where the next one does: its bound goes, the ids stay as they are.
    bounds = np.append(sentence_offsets[:-1][full], sentence_offsets[-1])
    full_before = np.concatenate([[0], np.cumsum(full)])
    places = full_before[document_offsets]
    kept = np.diff(places) > 0
    places = np.append(places[:-1][kept], places[-1])
    inner = pa.ListArray.from_arrays(pa.array(bounds, pa.int32()), sentences.values)
    return pa.ListArray.from_arrays(pa.array(places, pa.int32()), inner), kept


def document_ids(texts: pa.Array) -> pa.Array:
    """`raybert.tokens.document_id` of each text: fixed_size_binary(16).

    Args:
        texts: strings without nulls.
    """
    return pa.array(rust_tok.xxh3_128(texts))
