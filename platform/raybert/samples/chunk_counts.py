"""How many samples each shard has: counted once, then kept beside the tokens."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass

import numpy as np

from raybert.samples.chunks import ChunkRule
from raybert.samples.window import cut_shard
from raybert.storage import Location, checksum_of_bytes, write_file
from raybert.tokens import TokenStore

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ChunkCounts:
    """Chunks of each of N shards.

    Attributes:
        train_N, held_out_N: int64, by split.
    """

    train_N: np.ndarray
    held_out_N: np.ndarray


def chunk_counts(store: TokenStore, rule: ChunkRule) -> ChunkCounts:
    """Chunks per shard, from the file beside the tokens, which is written when it isn't there.

    Counting reads the offsets of every shard, some tens of milliseconds each.

    Raises:
        InvalidContent: a shard is damaged.
    """
    name = checksum_of_bytes(f"{store.manifest.fingerprint} {rule.fingerprint}".encode())
    place = store.location / f"samples-{name}.json"
    if place.is_file():
        return _from_json(place.read_bytes())
    train, held_out = [], []
    for index in range(store.num_shards):
        shard = store.shard(index)
        train.append(len(cut_shard(shard, rule, held_out=False)))
        held_out.append(len(cut_shard(shard, rule, held_out=True)))
    _keep(place, json.dumps({"train": train, "held_out": held_out}).encode())
    return ChunkCounts(np.array(train, dtype=np.int64), np.array(held_out, dtype=np.int64))


def _keep(place: Location, content: bytes) -> None:
    try:
        write_file(place, content)
    except OSError as error:
        # Tokens may lie where one can only read; the next start counts again.
        _logger.warning("%s: not kept, counted again at the next start: %s", place, error)


def _from_json(content: bytes) -> ChunkCounts:
    counts = json.loads(content)
    return ChunkCounts(
        train_N=np.array(counts["train"], dtype=np.int64),
        held_out_N=np.array(counts["held_out"], dtype=np.int64),
    )
