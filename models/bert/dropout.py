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
   high half for the odd one. An element is kept where its half, read as a signed 16-bit number,
   lies below 32768 - round(rate * 65536).

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


def keep_scale(rate: float) -> float:
    """The factor of kept elements: 1 / (1 - rate), for the rate as 16 bits can give it."""
    return _LEVELS / (_LEVELS - round(rate * _LEVELS))


def row_keys(key: SiteKey, counters: Tensor) -> Tensor:
    """The keys of rows: int32, of the counters' shape."""
    return _mix32_(counters ^ key.row_key)


def column_keys(key: SiteKey, num_columns: int, device: torch.device) -> Tensor:
    """The keys of column pairs: int32 (P,), P = num_columns / 2, rounded up."""
    pairs_P = torch.arange((num_columns + 1) // 2, dtype=torch.int32, device=device)
    return _mix32_(pairs_P ^ key.column_key)


def mix_bits_(sums_RP: Tensor) -> Tensor:
    """Sums of row and column keys, int32 (*R, P), to bits, int16 (*R, 2 P), in the same memory."""
    return _mix32_(sums_RP).view(torch.int16)


def hidden_bits(key: SiteKey, num_rows: int, num_columns: int, device: torch.device) -> Tensor:
    """The bits of a (R, C) tensor whose rows are counted from 0: int16 (R, C)."""
    counters_R = torch.arange(num_rows, dtype=torch.int32, device=device)
    columns_P = column_keys(key, num_columns, device)
    return mix_bits_(row_keys(key, counters_R)[:, None] + columns_P)[:, :num_columns]


# The two readings of bits below stay in float arithmetic: torch's CPU kernels for comparing int16,
# for where and for masked_fill take several times as long.


def keep_mask(bits: Tensor, rate: float) -> Tensor:
    """float32, 1 where bits keep the element and 0 where they drop it."""
    return bits.float().neg_().add_(keep_limit(rate)).clamp_(0, 1)


def keep_signs(bits: Tensor, rate: float) -> Tensor:
    """float32, positive where bits keep the element and negative where they drop it, never 0."""
    return bits.float().neg_().add_(keep_limit(rate) - 0.5)


def dropout(values_RC: Tensor, key: SiteKey | None, rate: float) -> Tensor:
    """Inverted dropout of a (R, C) tensor whose rows are counted from 0; None leaves it alone."""
    if key is None or rate == 0:
        return values_RC
    bits_RC = hidden_bits(key, values_RC.shape[0], values_RC.shape[1], values_RC.device)
    return values_RC * keep_mask(bits_RC, rate).mul_(keep_scale(rate)).to(values_RC.dtype)


def keep_limit(rate: float) -> int:
    """Bits below it, as signed numbers, keep their element."""
    return _LEVELS // 2 - round(rate * _LEVELS)


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
