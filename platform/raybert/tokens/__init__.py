"""Token shards: the on-disk format, its writer, and a memory-mapped reader."""

from raybert.tokens.cache import NodeCache
from raybert.tokens.format import document_id, id_type
from raybert.tokens.manifest import (
    Manifest,
    ShardEntry,
    build_manifest,
    read_entry,
    read_manifest,
)
from raybert.tokens.reader import Shard, TokenStore
from raybert.tokens.writer import write_shard

__all__ = [
    "Manifest",
    "NodeCache",
    "Shard",
    "ShardEntry",
    "TokenStore",
    "build_manifest",
    "document_id",
    "id_type",
    "read_entry",
    "read_manifest",
    "write_shard",
]
