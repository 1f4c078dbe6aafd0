"""Reading token shards: memory-mapped, checked once, any document or sentence at once.

Legend: T tokens, S sentences, D documents of a shard.
"""

from __future__ import annotations

import threading
import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from raybert.errors import InvalidContent, UserError
from raybert.storage import Location, checksum_of_bytes, write_file
from raybert.tokens.cache import NodeCache, default_cache_folder
from raybert.tokens.format import (
    DOCUMENT_ID_BYTES,
    MANIFEST_NAME,
    SHARD_CHECKSUM,
    TOKENIZER_NAME,
    id_type,
    shard_schema,
)
from raybert.tokens.manifest import Manifest, ShardEntry, read_manifest


@dataclass(frozen=True, eq=False)
class Shard:
    """Views of one mapped shard; nothing is read before it is looked at.

    Attributes:
        ids_T: uint16 or uint32, all token ids one after the other.
        sentence_offsets_S1: int32 (S+1,), where sentences begin in ids_T.
        document_offsets_D1: int32 (D+1,), where documents begin among the sentences.
        document_ids_D16: uint8 (D, 16).
        held_out_D: bool.
    """

    ids_T: np.ndarray
    sentence_offsets_S1: np.ndarray
    document_offsets_D1: np.ndarray
    document_ids_D16: np.ndarray
    held_out_D: np.ndarray

    @property
    def num_documents(self) -> int:
        return len(self.held_out_D)

    @property
    def num_sentences(self) -> int:
        return len(self.sentence_offsets_S1) - 1

    def sentence(self, index: int) -> np.ndarray:
        """Token ids of one sentence, by its place in the shard."""
        if not 0 <= index < self.num_sentences:
            raise IndexError(f"sentence {index} of {self.num_sentences}")
        return self.ids_T[self.sentence_offsets_S1[index] : self.sentence_offsets_S1[index + 1]]

    def document(self, index: int) -> list[np.ndarray]:
        """Token ids of each sentence of one document."""
        if not 0 <= index < self.num_documents:
            raise IndexError(f"document {index} of {self.num_documents}")
        first, last = self.document_offsets_D1[index : index + 2]
        return [self.sentence(i) for i in range(first, last)]


class TokenStore:
    """A finished token folder: its manifest, its tokenizer and its shards by number.

    Safe to use from several threads. A pickled store opens its shards anew.
    """

    def __init__(self, location: Location, manifest: Manifest, cache: NodeCache) -> None:
        self.location = location
        self.manifest = manifest
        self._cache = cache
        self._start()

    def _start(self) -> None:
        self._lock = threading.Lock()
        # Whoever uses a shard keeps it alive, so maps are as many as there are shards in use.
        self._open: weakref.WeakValueDictionary[int, Shard] = weakref.WeakValueDictionary()
        self._verified: set[int] = set()

    @classmethod
    def open(cls, location: Location | str | Path, cache: NodeCache | None = None) -> TokenStore:
        """Open a token folder.

        Args:
            location: local folder or remote address.
            cache: where remote shards are copied to; by default the user's cache folder.

        Raises:
            UserError: no finished token folder of this format there.
            InvalidContent: its manifest can't be read.
        """
        place = Location.parse(location)
        return cls(place, read_manifest(place), cache or NodeCache(default_cache_folder()))

    @property
    def vocab_size(self) -> int:
        return self.manifest.vocab_size

    @property
    def num_shards(self) -> int:
        return len(self.manifest.shards)

    @property
    def tokenizer_path(self) -> Path:
        """A local tokenizer.json; of a remote folder, a copy.

        Raises:
            UserError: the folder has none.
        """
        place = self.location / TOKENIZER_NAME
        if not place.is_file():
            raise UserError(f"{self.location}: no {TOKENIZER_NAME} beside {MANIFEST_NAME}")
        if place.is_local:
            return place.local_path
        content = place.read_bytes()
        copy = self._cache.folder / "tokenizers" / checksum_of_bytes(content) / TOKENIZER_NAME
        if not copy.is_file():
            write_file(Location.parse(copy), content)
        return copy

    def shard(self, index: int) -> Shard:
        """A shard by its number, mapped; its checksum is verified the first time.

        Raises:
            InvalidContent: the file is missing, damaged or not a token shard.
        """
        if not 0 <= index < self.num_shards:
            raise IndexError(f"shard {index} of {self.num_shards}")
        with self._lock:
            shard = self._open.get(index)
            if shard is None:
                shard = self._open[index] = self._map(index)
            return shard

    def _map(self, index: int) -> Shard:
        entry = self.manifest.shards[index]
        place = self.location / entry.file_name
        try:
            if place.is_local:
                mapped = pa.memory_map(str(place.local_path))
                if index not in self._verified:
                    _verify(mapped, entry, place)
            else:
                mapped = self._cache.map(place, entry.checksum, entry.num_bytes, SHARD_CHECKSUM)
        except FileNotFoundError as error:
            raise InvalidContent(f"{place}: missing, but its manifest names it") from error
        shard = _views(mapped, entry, place, id_type(self.vocab_size))
        self._verified.add(index)
        return shard

    def __getstate__(self) -> dict[str, Any]:
        return {"location": self.location, "manifest": self.manifest, "_cache": self._cache}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._start()


def _verify(mapped: pa.MemoryMappedFile, entry: ShardEntry, place: Location) -> None:
    if mapped.size() != entry.num_bytes:
        raise InvalidContent(
            f"{place}: damaged: {mapped.size()} bytes, its manifest says {entry.num_bytes}"
        )
    found = checksum_of_bytes(memoryview(mapped.read_buffer()), SHARD_CHECKSUM)
    if found != entry.checksum:
        raise InvalidContent(f"{place}: damaged: {SHARD_CHECKSUM} {found}, not {entry.checksum}")


def _views(
    mapped: pa.MemoryMappedFile, entry: ShardEntry, place: Location, token_type: pa.DataType
) -> Shard:
    reader = pa.ipc.open_file(mapped)
    if not reader.schema.equals(shard_schema(token_type)) or reader.num_record_batches != 1:
        raise InvalidContent(
            f"{place}: not a token shard of one batch with {token_type} ids: {reader.schema}"
        )
    batch = reader.get_batch(0)
    documents = batch.column("sentences")
    sentences = documents.values
    document_ids = batch.column("id").buffers()[1]
    shard = Shard(
        ids_T=_numpy(sentences.values),
        sentence_offsets_S1=_offsets(sentences),
        document_offsets_D1=_offsets(documents),
        document_ids_D16=np.frombuffer(document_ids or b"", dtype=np.uint8).reshape(
            -1, DOCUMENT_ID_BYTES
        )[: batch.num_rows],
        held_out_D=_bits(batch.column("held_out")),
    )
    if (shard.num_documents, shard.num_sentences, len(shard.ids_T)) != (
        entry.documents,
        entry.sentences,
        entry.tokens,
    ):
        raise InvalidContent(f"{place}: not the shard that its manifest describes")
    return shard


def _offsets(lists: pa.ListArray) -> np.ndarray:
    """int32 (len + 1,); Arrow may leave out the only offset of an empty list."""
    return _numpy(lists.offsets) if len(lists) else np.zeros(1, dtype=np.int32)


def _numpy(numbers: pa.Array) -> np.ndarray:
    """A view, read-only. `to_numpy` would import pandas, a second before the first step."""
    return np.from_dlpack(numbers)


def _bits(flags: pa.BooleanArray) -> np.ndarray:
    """bool (len,), unpacked from Arrow's bitmap."""
    bitmap = flags.buffers()[1]
    if bitmap is None:
        return np.zeros(len(flags), dtype=bool)
    packed = np.frombuffer(bitmap, dtype=np.uint8)
    first = flags.offset
    return np.unpackbits(packed, count=first + len(flags), bitorder="little")[first:].astype(bool)
