"""Documents to sentences to token ids, a column at a time; no Python object per sentence."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

import rust_tok
from raybert.settings import CorpusSettings

_CARRIAGE_RETURN = pc.ReplaceSubstringOptions("\r", " ")


def sentences_of(texts: pa.Array, corpus: CorpusSettings) -> pa.Array:
    """list<string>: the sentences of each document, found or one per line, trimmed, blank ones too.

    A line's end inside a sentence is a blank: a text reads the same however it is wrapped.

    Args:
        texts: strings without nulls.
    """
    if corpus.sentences == "split":
        column = rust_tok.split_sentences(texts, abbreviations=corpus.abbreviations, one_line=True)
        return pa.array(column)
    lines = pc.call_function("split_pattern", [texts], pc.SplitPatternOptions("\n"))
    trimmed = pc.call_function("ascii_trim_whitespace", [lines.values])
    return pa.ListArray.from_arrays(lines.offsets, _without_carriage_returns(trimmed))


def _without_carriage_returns(lines: pa.Array) -> pa.Array:
    """Blanks in their place, where there are any."""
    data = lines.buffers()[2]
    if data is None or not (np.frombuffer(data, dtype=np.uint8) == ord("\r")).any():
        return lines
    return pc.call_function("replace_substring", [lines], _CARRIAGE_RETURN)


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
    if full.all() and (np.diff(document_offsets) > 0).all():
        return documents, np.ones(len(documents), dtype=bool)
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
