"""Writing token shards: one record batch, one atomic file, then the entry that commits it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import BinaryIO

import numpy as np
import pyarrow as pa

from raybert.storage import Location, committed_file, new_digest
from raybert.tokens.format import (
    DOCUMENT_ID_BYTES,
    SHARD_CHECKSUM,
    SHARD_SUFFIX,
    held_out_mask,
    shard_schema,
)
from raybert.tokens.manifest import ShardEntry, write_entry


def write_shard(
    folder: Location,
    name: str,
    *,
    document_ids: pa.Array,
    sentences: pa.Array,
    source: str,
    settings: str,
    held_out_share: float,
    notes: Mapping[str, int] | None = None,
) -> ShardEntry:
    """Write one shard and its entry. The same arguments give the same bytes.

    Args:
        folder: the token folder.
        name: of the shard, without suffix: letters, digits, `-`, `_` and `.`.
        document_ids: fixed_size_binary(16), one per document, no nulls (`format.document_id`).
        sentences: list<list<uint16>> or list<list<uint32>> of the same length, no nulls; slices
            and large lists are taken. The type should be `format.id_type(vocab_size)`.
        source, settings, notes: see `ShardEntry`.
        held_out_share: share of documents held out, by their hash.

    Raises:
        ValueError: lengths or types that do not fit.
        OSError: no space, no permission; there is no shard then.
    """
    if not name or not set(name) <= _NAME_CHARACTERS:
        raise ValueError(f"shard name {name!r}: allowed are letters, digits, '-', '_' and '.'")
    batch = _record_batch(document_ids, sentences, held_out_share)
    num_bytes, checksum = _write(batch, folder / (name + SHARD_SUFFIX))
    entry = ShardEntry(
        name=name,
        source=source,
        settings=settings,
        documents=batch.num_rows,
        held_out_documents=batch.column("held_out").true_count,
        sentences=len(batch.column("sentences").values),
        tokens=len(batch.column("sentences").values.values),
        num_bytes=num_bytes,
        checksum=checksum,
        notes=dict(notes or {}),
    )
    write_entry(folder, entry)
    return entry


_NAME_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.")


def _record_batch(
    document_ids: pa.Array, sentences: pa.Array, held_out_share: float
) -> pa.RecordBatch:
    if document_ids.type != pa.binary(DOCUMENT_ID_BYTES):
        raise ValueError(
            f"document ids are {document_ids.type}, not fixed_size_binary({DOCUMENT_ID_BYTES})"
        )
    if len(document_ids) != len(sentences):
        raise ValueError(f"{len(document_ids)} document ids for {len(sentences)} documents")
    inner = _list_of(sentences, "documents")
    flat = _list_of(inner, "sentences")
    if flat.type not in (pa.uint16(), pa.uint32()) or flat.null_count or document_ids.null_count:
        raise ValueError(f"token ids are {flat.type}; allowed: uint16 or uint32, without nulls")
    schema = shard_schema(flat.type)
    sentence_lists = pa.ListArray.from_arrays(_offsets(inner), flat)
    columns = [
        document_ids,
        pa.array(held_out_mask(_raw_ids(document_ids), held_out_share)),
        pa.ListArray.from_arrays(_offsets(sentences), sentence_lists),
    ]
    return pa.RecordBatch.from_arrays(
        [column.cast(field.type) for column, field in zip(columns, schema, strict=True)],
        schema=schema,
    )


def _list_of(lists: pa.Array, what: str) -> pa.Array:
    """The values that lists cover, first to last: a slice's own, not its parent's."""
    if not pa.types.is_list(lists.type) and not pa.types.is_large_list(lists.type):
        raise ValueError(f"{what} are {lists.type}, not lists")
    if lists.null_count:
        raise ValueError(f"{lists.null_count} of the {what} are null")
    if len(lists) == 0:
        return lists.values.slice(0, 0)
    first, last = lists.offsets[0].as_py(), lists.offsets[-1].as_py()
    return lists.values.slice(first, last - first)


def _offsets(lists: pa.Array) -> pa.Array:
    """int32 (len + 1,), from 0."""
    if len(lists) == 0:
        return pa.array([0], pa.int32())
    offsets = lists.offsets.to_numpy()
    offsets = offsets - offsets[0]
    if offsets[-1] >= 2**31:
        raise ValueError(f"{offsets[-1]} entries in one shard; allowed are fewer than 2**31")
    return pa.array(offsets.astype(np.int32))


def _raw_ids(document_ids: pa.Array) -> np.ndarray:
    """uint8 (D, 16)."""
    raw = np.frombuffer(document_ids.buffers()[1] or b"", dtype=np.uint8)
    first = document_ids.offset * DOCUMENT_ID_BYTES
    return raw[first : first + len(document_ids) * DOCUMENT_ID_BYTES].reshape(-1, DOCUMENT_ID_BYTES)


def _write(batch: pa.RecordBatch, location: Location) -> tuple[int, str]:
    """Bytes and checksum of the Arrow IPC file; its columns go to the disk without a copy."""
    with committed_file(location) as file:
        sink = _Sink(file)
        with pa.ipc.new_file(pa.PythonFile(sink, mode="w"), batch.schema) as writer:
            writer.write_batch(batch)
        return sink.num_bytes, sink.digest.hexdigest()


class _Sink:
    """A file for Arrow to write to that counts and hashes what goes by."""

    closed = False

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.num_bytes = 0
        self.digest = new_digest(SHARD_CHECKSUM)

    def write(self, data: bytes | pa.Buffer) -> int:
        view = memoryview(data)
        self.digest.update(view)
        self.num_bytes += view.nbytes
        return self._file.write(view)

    def tell(self) -> int:
        return self.num_bytes

    def flush(self) -> None:
        """Whoever opened the file flushes it."""

    def close(self) -> None:
        self.closed = True
