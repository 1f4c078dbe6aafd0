"""Documents become chunks: whole sentences of one document up to the length limit.

Where a document is cut depends on its content and the rule alone, never on seed or epoch, so the
number of samples of a corpus is a fact about the corpus.

Legend: S sentences, P pieces, C chunks of one shard, D documents.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass

import numpy as np

from raybert.samples import compiled
from raybert.samples.counter_hash import below, derive_key, draws
from raybert.storage import checksum_of_bytes

# Raised when the same rule cuts the same document elsewhere than before.
_CHUNKING_VERSION = 1
_SHORT = derive_key(1)
_SHORT_LENGTH = derive_key(2)
_LEAST_TARGET = 2


@dataclass(frozen=True)
class ChunkRule:
    """How documents are cut.

    Attributes:
        limit: tokens of a chunk at most, special tokens not counted.
        pairs: chunks are to be cut in two. Then a sentence over the limit is split into pieces of
            half of it, which pair with each other, a share of the chunks is short, and a
            document's last sentence is not left alone where that can be helped.
        short_share: share of the chunks that stop at a random shorter length (Devlin et al. 2019,
            appendix A.2: short sequences, as finetuning sees them). Ignored without pairs.
    """

    limit: int
    pairs: bool
    short_share: float

    @classmethod
    def of(cls, max_length: int, next_sentence: bool, short_share: float) -> ChunkRule:
        """For samples of max_length tokens with [CLS] and one [SEP], or two for pairs."""
        num_special = 3 if next_sentence else 2
        return cls(max_length - num_special, next_sentence, short_share if next_sentence else 0.0)

    @property
    def fingerprint(self) -> str:
        """Names the rule together with the code that carries it out."""
        fields = {"version": _CHUNKING_VERSION, **dataclasses.asdict(self)}
        return checksum_of_bytes(json.dumps(fields, sort_keys=True).encode())


@dataclass(frozen=True)
class Chunks:
    """Chunks of (part of) a shard, in the order of their documents.

    A chunk is the tokens from its first piece's start to end_C; between its pieces nothing lies.

    Attributes:
        first_piece_C1: int64 (C+1,), a chunk's first piece; the next entry ends it.
        end_C: int32 (C,), the place after its last token in the shard.
        document_key_C: uint64 (C,), from the content of its document.
        piece_start_P: int32 (P,), the place of each piece's first token in the shard.
    """

    first_piece_C1: np.ndarray
    end_C: np.ndarray
    document_key_C: np.ndarray
    piece_start_P: np.ndarray

    def __len__(self) -> int:
        return len(self.end_C)


def cut_documents(
    sentence_offsets_S1: np.ndarray,
    document_offsets_D1: np.ndarray,
    document_keys_D: np.ndarray,
    selected_D: np.ndarray,
    rule: ChunkRule,
) -> Chunks:
    """Cut the selected documents of a shard into chunks.

    Args:
        sentence_offsets_S1: (S+1,), where sentences begin among the tokens.
        document_offsets_D1: (D+1,), where documents begin among the sentences.
        document_keys_D: uint64 (D,), see `document_keys`.
        selected_D: bool (D,), documents to take.
        rule: how to cut.
    """
    if compiled.usable():
        return Chunks(
            *compiled.cut_documents(
                sentence_offsets_S1,
                document_offsets_D1,
                document_keys_D,
                selected_D,
                limit=rule.limit,
                pairs=rule.pairs,
                short_below=int(rule.short_share * 2.0**64),
                short_keys=(_SHORT, _SHORT_LENGTH),
            )
        )
    start_P, end_P, document_P = _pieces(sentence_offsets_S1, document_offsets_D1, selected_D, rule)
    key_P = document_keys_D[document_P]
    next_P = _next_chunk(start_P, end_P, document_P, key_P, rule)
    first_C1 = _follow(next_P)
    first_C = first_C1[:-1]
    return Chunks(
        first_piece_C1=first_C1,
        end_C=end_P[first_C1[1:] - 1],
        document_key_C=key_P[first_C],
        piece_start_P=start_P,
    )


def document_keys(document_ids_D16: np.ndarray) -> np.ndarray:
    """uint64 (D,): the half of each content hash that did not decide the document's split."""
    return np.ascontiguousarray(document_ids_D16[:, 8:]).view("<u8").reshape(-1)


def _pieces(
    sentence_offsets_S1: np.ndarray,
    document_offsets_D1: np.ndarray,
    selected_D: np.ndarray,
    rule: ChunkRule,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Start, end and document of every sentence, split where it is over the limit."""
    lengths_S = np.diff(sentence_offsets_S1)
    document_S = np.repeat(np.arange(len(selected_D), dtype=np.int32), np.diff(document_offsets_D1))
    kept = np.flatnonzero(selected_D[document_S] & (lengths_S > 0))
    start = sentence_offsets_S1[kept]
    end = sentence_offsets_S1[kept + 1]
    document = document_S[kept]
    length = end - start
    if not (length > rule.limit).any():
        return start, end, document
    size = rule.limit // 2 if rule.pairs else rule.limit
    num_pieces = np.where(length > rule.limit, -(-length // size), 1)
    first = np.cumsum(num_pieces) - num_pieces
    rank = np.arange(int(num_pieces.sum())) - np.repeat(first, num_pieces)
    piece_start = (np.repeat(start, num_pieces) + rank * size).astype(np.int32)
    piece_end = np.repeat(end, num_pieces)
    split_on = rank + 1 < np.repeat(num_pieces, num_pieces)
    piece_end = np.where(split_on, piece_start + np.int32(size), piece_end).astype(np.int32)
    return piece_start, piece_end, np.repeat(document, num_pieces)


def _next_chunk(
    start_P: np.ndarray,
    end_P: np.ndarray,
    document_P: np.ndarray,
    key_P: np.ndarray,
    rule: ChunkRule,
) -> np.ndarray:
    """If a chunk began at this piece, the piece that the next one would begin at: int64 (P,)."""
    num_pieces = len(start_P)
    if num_pieces == 0:
        return np.zeros(0, dtype=np.int64)
    stops = np.append(np.flatnonzero(document_P[1:] != document_P[:-1]) + 1, num_pieces)
    sizes = np.diff(stops, prepend=0)
    stop_P = np.repeat(stops, sizes)
    full_P = np.minimum(np.searchsorted(end_P, start_P + rule.limit, side="right"), stop_P)
    if not rule.pairs:
        return full_P
    next_P = full_P.copy()
    # A short chunk still takes two sentences where they fit: it is to be a pair.
    place_P = (start_P - np.repeat(start_P[stops - sizes], sizes)).astype(np.uint64)
    is_short = draws(key_P + np.uint64(_SHORT), place_P) < np.uint64(rule.short_share * 2.0**64)
    short = np.flatnonzero(is_short)
    target = _LEAST_TARGET + below(
        draws(key_P[short] + np.uint64(_SHORT_LENGTH), place_P[short]),
        rule.limit - _LEAST_TARGET + 1,
    ).astype(np.int32)
    reach = np.searchsorted(end_P, start_P[short] + target, side="right")
    next_P[short] = np.clip(reach, np.minimum(short + 2, full_P[short]), full_P[short])
    # Where a document's last sentence would be left alone, take it too or leave it another one.
    orphaning = np.flatnonzero(next_P == stop_P - 1)
    stop = stop_P[orphaning]
    takes_all = full_P[orphaning] == stop
    leaves_two = (stop - orphaning > 3) & (full_P[stop - 2] == stop)
    next_P[orphaning] = np.where(takes_all, stop, stop - 1 - leaves_two)
    return next_P


def _follow(next_P: np.ndarray) -> np.ndarray:
    """The chain 0, next[0], next[next[0]], ... up to the end: int64 (C+1,)."""
    num_pieces = len(next_P)
    following = next_P.tolist()
    piece, chain = 0, [0]
    while piece < num_pieces:
        piece = following[piece]
        chain.append(piece)
    return np.array(chain, dtype=np.int64)
