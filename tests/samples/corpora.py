"""Corpora in which every token is unlike any other, so that a batch tells where it came from."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from bert.batch import PackedBatch
from raybert.samples import SpecialTokens
from raybert.storage import Location
from raybert.tokens import TokenStore, build_manifest, document_id, id_type, write_shard

CLS, SEP, MASK, PAD = 2, 3, 4, 0
FIRST_TOKEN = 5
# Sentence lengths of the documents of a shard.
Lengths = Sequence[Sequence[int]]


@dataclass(frozen=True)
class Corpus:
    """A token folder and where each id stands in it; special ids have document -1."""

    store: TokenStore
    special: SpecialTokens
    shard_of_id: np.ndarray
    document_of_id: np.ndarray
    sentence_of_id: np.ndarray

    @property
    def ids(self) -> np.ndarray:
        """Every token of the corpus."""
        return np.arange(FIRST_TOKEN, len(self.document_of_id))


def original_ids(batch: PackedBatch) -> list[np.ndarray]:
    """Each sequence's ids as they were before masking."""
    ids = batch.input_ids.numpy().copy()
    if batch.masked_index is not None and batch.masked_labels is not None:
        ids[batch.masked_index.numpy()] = batch.masked_labels.numpy()
    return np.split(ids, batch.cu_seqlens.numpy()[1:-1])


def segments(batch: PackedBatch) -> list[tuple[np.ndarray, np.ndarray]]:
    """Each sequence's first and second segment without special tokens."""
    types = np.split(batch.token_type_ids.numpy(), batch.cu_seqlens.numpy()[1:-1])
    found = []
    for ids, type_ids in zip(original_ids(batch), types, strict=True):
        text = ids >= FIRST_TOKEN
        found.append((ids[text & (type_ids == 0)], ids[text & (type_ids == 1)]))
    return found


def random_lengths(
    seed: int, num_documents: int, sentences: float = 6, tokens: float = 12
) -> Lengths:
    """Documents of about so many sentences of about so many tokens."""
    rng = np.random.default_rng(seed)
    return [
        rng.geometric(1 / tokens, rng.geometric(1 / sentences)).tolist()
        for _ in range(num_documents)
    ]


def write_corpus(path: Path, *shards: Lengths, held_out: float = 0.0) -> Corpus:
    """Shards of documents of sentences of these lengths."""
    folder = Location.parse(path)
    vocab_size = FIRST_TOKEN + sum(sum(map(sum, shard)) for shard in shards)
    token_type = id_type(vocab_size)
    shard_of_id, document_of_id, sentence_of_id = ([-1] * FIRST_TOKEN for _ in range(3))
    next_id = FIRST_TOKEN
    num_documents = num_sentences = 0
    names = []
    for number, documents in enumerate(shards):
        rows, ids = [], []
        for lengths in documents:
            row = []
            for length in lengths:
                row.append(range(next_id, next_id + length))
                next_id += length
                shard_of_id += [number] * length
                document_of_id += [num_documents] * length
                sentence_of_id += [num_sentences] * length
                num_sentences += 1
            rows.append(row)
            ids.append(document_id(str(num_documents)))
            num_documents += 1
        entry = write_shard(
            folder,
            f"shard-{number:03}",
            document_ids=pa.array(ids, pa.binary(16)),
            sentences=pa.array(rows, pa.list_(pa.list_(token_type))),
            source=str(number),
            settings="",
            held_out_share=held_out,
        )
        names.append(entry.name)
    build_manifest(
        folder,
        tokenizer="",
        vocab_size=vocab_size,
        settings="",
        held_out_share=held_out,
        sources={},
        shards=names,
    )
    return Corpus(
        store=TokenStore.open(folder),
        special=SpecialTokens(CLS, SEP, MASK, PAD, tuple(range(FIRST_TOKEN)), vocab_size),
        shard_of_id=np.array(shard_of_id),
        document_of_id=np.array(document_of_id),
        sentence_of_id=np.array(sentence_of_id),
    )
