"""Dropout whose bits are a pure function of where an element stands.

A mask is no generator's output but a hash of (seed, step, micro-shard, layer, site, element): any
process that computes the same element at the same step of the same run drops it or keeps it alike.
Nothing is carried from step to step, activation checkpointing needs no saved state, and how many
workers there are cannot matter.

The hash has three stages, all of them 32-bit integer arithmetic that torch, C and Triton share:

1. (seed, step, micro-shard, layer, site) folds by splitmix64 into two 32-bit keys, in Python.
2. A row counter and a column-pair counter each become a key: `row = mix32(counter ^ row_key)`,
   `column = mix32(counter ^ column_key)`. mix32 is a bijection, so no two rows share a key.
3. `mix32(row + column)` is 32 bits for two neighbouring columns: the low half for the even one, the
   high half for the odd one. An element is dropped where its half, read as a signed 16-bit number,
   lies below -32768 + round(rate * 65536).

A row of a hidden state is the token's place in the packed batch. A row of attention probabilities
is (sequence, head, query), its columns are the keys: which kernel computes them cannot matter.

mix32 is C. Wellons' "lowbias32" (https://nullprogram.com/blog/2018/07/31/); counter-based random
numbers are Salmon et al. 2011, "Parallel Random Numbers: As Easy as 1, 2, 3".

Shape suffixes: R rows, C columns, P column pairs.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import torch
from torch import Tensor

_MASK64 = (1 << 64) - 1
_LEVELS = 1 << 16


class Site(IntEnum):
    """The places of a layer where BERT drops. Values are part of the hash: never renumber."""

    EMBEDDINGS = 0
    ATTENTION_PROBS = 1
    ATTENTION_OUTPUT = 2
    FEED_FORWARD_OUTPUT = 3
    HEAD = 4


@dataclass(frozen=True)
class SiteKey:
    """The two 32-bit keys (signed, as torch's int32 holds them) of one site of one micro-shard."""

    row_key: int
    column_key: int


@dataclass(frozen=True)
class DropoutKey:
    """What selects a micro-shard's dropout bits: run seed, step, its place in the global batch."""

    seed: int
    step: int
    micro_shard: int

    def site(self, layer: int, site: Site) -> SiteKey:
        """The keys of one site of one layer."""
        state = 0
        for value in (self.seed, self.step, self.micro_shard, layer, int(site)):
            state = _mix64((state + value + 0x9E3779B97F4A7C15) & _MASK64)
        return SiteKey(_signed32(state & 0xFFFFFFFF), _signed32(state >> 32))


def threshold(rate: float) -> int:
    """The signed 16-bit level below which an element is dropped."""
    return round(rate * _LEVELS) - _LEVELS // 2


def keep_scale(rate: float) -> float:
    """The factor of kept elements: 1 / (1 - rate), for the rate as 16 bits can give it."""
    return _LEVELS / (_LEVELS - round(rate * _LEVELS))


def drop_mask(key: SiteKey, rows: Tensor, num_columns: int, rate: float) -> Tensor:
    """Which elements to drop.

    Args:
        key: the site's keys.
        rows: int32 row counters, any shape R.
        num_columns: C.
        rate: probability of dropping, to 16 bits.

    Returns:
        bool of shape (*R, C), True where dropped.
    """
    num_pairs = (num_columns + 1) // 2
    pairs_P = torch.arange(num_pairs, dtype=torch.int32, device=rows.device)
    keys_R = _mix32_(rows ^ key.row_key)
    keys_P = _mix32_(pairs_P ^ key.column_key)
    bits_RP = _mix32_(keys_R.unsqueeze(-1) + keys_P)
    return bits_RP.view(torch.int16)[..., :num_columns] < threshold(rate)


def hidden_rows(num_tokens: int, device: torch.device) -> Tensor:
    """Row counters of a packed hidden state: int32 (T,)."""
    return torch.arange(num_tokens, dtype=torch.int32, device=device)


def attention_rows(
    first_sequence: int,
    num_sequences: int,
    num_heads: int,
    length: int,
    max_length: int,
    device: torch.device,
) -> Tensor:
    """Row counters of the attention probabilities of consecutive sequences of one length.

    Args:
        max_length: the model's number of positions; it spaces the sequences' counters, so that they
            depend on the sequence, head and query alone.

    Returns:
        int32 (num_sequences, num_heads, length).
    """
    first = first_sequence * num_heads
    blocks = torch.arange(
        first, first + num_sequences * num_heads, dtype=torch.int32, device=device
    )
    queries = torch.arange(length, dtype=torch.int32, device=device)
    return (blocks.view(num_sequences, num_heads, 1) * max_length) + queries


def dropout(values_RC: Tensor, key: SiteKey | None, rate: float) -> Tensor:
    """Inverted dropout of a (R, C) tensor whose rows are counted from 0; None leaves it alone."""
    if key is None or rate == 0:
        return values_RC
    dropped_RC = drop_mask(
        key, hidden_rows(values_RC.shape[0], values_RC.device), values_RC.shape[1], rate
    )
    return values_RC.masked_fill(dropped_RC, 0) * keep_scale(rate)


def _mix32_(x: Tensor) -> Tensor:
    """lowbias32 in place on int32. torch shifts right arithmetically: the sign bits are masked."""
    shifted = x >> 16
    x ^= shifted.bitwise_and_(0xFFFF)
    x *= 0x7FEB352D
    torch.bitwise_right_shift(x, 15, out=shifted)
    x ^= shifted.bitwise_and_(0x1FFFF)
    x *= _signed32(0x846CA68B)
    torch.bitwise_right_shift(x, 16, out=shifted)
    x ^= shifted.bitwise_and_(0xFFFF)
    return x


def _mix64(x: int) -> int:
    """The finalizer of splitmix64 (Steele, Lea and Flood 2014)."""
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & _MASK64
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & _MASK64
    return x ^ (x >> 31)


def _signed32(x: int) -> int:
    return x - (1 << 32) if x >= 1 << 31 else x
