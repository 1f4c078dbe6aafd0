"""What a token shard looks like on disk.

A shard is an Arrow IPC file, uncompressed so that it maps, of one record batch. One row is a
document:

    id         fixed_size_binary(16)           content hash of its text, as written in the source
    held_out   bool                            its split, decided by that hash alone
    sentences  list<list<uint16 | uint32>>     token ids, no special tokens

Beside `shard-x.arrow` lies `shard-x.json`, its entry: counts, checksum and what it was made from.
The entry is written last, so a shard with an entry is whole. `manifest.json` gathers the entries of
a finished folder.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import pyarrow as pa
import xxhash

from raybert.storage import Algorithm

# 2: hashes and checksums by XXH3; version 1 had blake2b.
FORMAT_VERSION: Final = 2
MANIFEST_NAME: Final = "manifest.json"
TOKENIZER_NAME: Final = "tokenizer.json"
SHARD_SUFFIX: Final = ".arrow"
ENTRY_SUFFIX: Final = ".json"
DOCUMENT_ID_BYTES: Final = 16
SHARD_CHECKSUM: Final[Algorithm] = "xxh3"


def document_id(text: str | bytes) -> bytes:
    """The 16-byte content hash that names a document, whatever tokenizer reads it.

    XXH3, 128 bits: by chance no two documents of any corpus share one. It is not cryptographic:
    texts that do can be crafted, which harms but the corpus of who does it.
    """
    content = text.encode() if isinstance(text, str) else text
    return xxhash.xxh3_128_digest(content)


def held_out_mask(ids_D16: np.ndarray, share: float) -> np.ndarray:
    """Which documents are held out of training: bool (D,), true for about `share` of them.

    Depends on the content alone, so copies of a document land on one side, in any corpus.

    Args:
        ids_D16: uint8 (D, 16), document ids.
        share: 0 ≤ share < 1.
    """
    if not 0 <= share < 1:
        raise ValueError(f"held-out share is {share}; allowed is 0 ≤ share < 1")
    leading_D = np.ascontiguousarray(ids_D16[:, :8]).view("<u8").reshape(-1)
    return leading_D < np.uint64(round(share * 2.0**64))


def id_type(vocab_size: int) -> pa.DataType:
    """uint16 where every id of the vocabulary fits, else uint32."""
    if vocab_size < 1:
        raise ValueError(f"vocabulary size is {vocab_size}; it must be positive")
    return pa.uint16() if vocab_size <= 2**16 else pa.uint32()


def shard_schema(token_type: pa.DataType) -> pa.Schema:
    """Columns of a shard whose ids have this type."""
    return pa.schema(
        [
            pa.field("id", pa.binary(DOCUMENT_ID_BYTES), nullable=False),
            pa.field("held_out", pa.bool_(), nullable=False),
            pa.field("sentences", pa.list_(pa.list_(token_type)), nullable=False),
        ],
        metadata={"raybert.token_shard": str(FORMAT_VERSION)},
    )
