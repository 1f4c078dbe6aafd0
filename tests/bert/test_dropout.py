from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from bert.dropout import (
    DropoutKey,
    Site,
    SiteKey,
    column_keys,
    dropout,
    hidden_bits,
    keep_mask,
    keep_scale,
    keep_signs,
    mix_bits_,
    row_keys,
)

KEY = DropoutKey(seed=42, step=7, micro_shard=1)
CPU = torch.device("cpu")


def mask(key: SiteKey, rate: float = 0.1, num_rows: int = 512, num_columns: int = 512) -> Tensor:
    """True where dropped."""
    return keep_mask(hidden_bits(key, num_rows, num_columns, CPU), rate) == 0


def mix32(x: int) -> int:
    """lowbias32 on Python's integers."""
    x = ((x ^ (x >> 16)) * 0x7FEB352D) & 0xFFFFFFFF
    x = ((x ^ (x >> 15)) * 0x846CA68B) & 0xFFFFFFFF
    return x ^ (x >> 16)


def test_the_hash_is_the_documented_one() -> None:
    """Kernels in other languages must give these bits: a reference in plain integers."""
    key = KEY.site(3, Site.ATTENTION_OUTPUT)
    expected = []
    for row in range(5):
        row_key = mix32((row ^ key.row_key) & 0xFFFFFFFF)
        for column in range(7):
            pair_key = mix32(((column // 2) ^ key.column_key) & 0xFFFFFFFF)
            bits = mix32((row_key + pair_key) & 0xFFFFFFFF)
            half = bits >> 16 if column % 2 else bits & 0xFFFF
            signed = half - (1 << 16) if half >= 1 << 15 else half
            expected.append(signed >= 32768 - round(0.3 * 65536))
    assert mask(key, 0.3, 5, 7).flatten().tolist() == expected


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.5, 0.9])
def test_rate(rate: float) -> None:
    dropped = mask(KEY.site(0, Site.EMBEDDINGS), rate, 1024, 1024)
    deviation = math.sqrt(rate * (1 - rate) / dropped.numel())
    assert abs(dropped.double().mean().item() - rate) <= 4.5 * deviation + 1 / 65536


def test_scale_is_that_of_the_rate_used() -> None:
    """Over all 2**16 values a half can take, so that the expectation is exact."""
    every = torch.arange(-(2**15), 2**15).to(torch.int16)
    for rate in (0.0, 0.1, 1 / 3, 0.9):
        kept = keep_mask(every, rate)
        assert kept.double().mean().item() * keep_scale(rate) == pytest.approx(1, rel=1e-12)
        assert torch.equal(keep_signs(every, rate) > 0, kept == 1)
        assert torch.equal(keep_signs(every, rate) < 0, kept == 0)


def test_rows_and_columns_are_uniform() -> None:
    """Chi-square of the drops per row and per column: neither favours a place."""
    dropped = mask(KEY.site(1, Site.FEED_FORWARD_OUTPUT), 0.1, 1024, 768).double()
    for dim in (0, 1):
        counts = dropped.sum(dim)
        number = dropped.shape[dim]
        statistic = ((counts - number * 0.1) ** 2 / (number * 0.09)).sum().item()
        degrees = len(counts)
        assert abs(statistic - degrees) < 5 * math.sqrt(2 * degrees)


DIFFERING_IN_ONE_PART = {
    "seed": DropoutKey(43, 7, 1).site(2, Site.ATTENTION_PROBS),
    "step": DropoutKey(42, 8, 1).site(2, Site.ATTENTION_PROBS),
    "micro-shard": DropoutKey(42, 7, 2).site(2, Site.ATTENTION_PROBS),
    "layer": KEY.site(3, Site.ATTENTION_PROBS),
    "site": KEY.site(2, Site.ATTENTION_OUTPUT),
    "seed and step swapped": DropoutKey(7, 42, 1).site(2, Site.ATTENTION_PROBS),
}


@pytest.mark.parametrize("part", DIFFERING_IN_ONE_PART)
def test_masks_of_different_keys_are_independent(part: str) -> None:
    one = mask(KEY.site(2, Site.ATTENTION_PROBS), 0.5)
    assert_uncorrelated(one, mask(DIFFERING_IN_ONE_PART[part], 0.5))


@pytest.mark.parametrize("shift", [(1, 0), (0, 1), (0, 2), (1, 1), (16, 0), (0, 256), (256, 256)])
def test_neighbours_are_independent(shift: tuple[int, int]) -> None:
    one = mask(KEY.site(2, Site.ATTENTION_PROBS), 0.5, 1024, 1024)
    assert_uncorrelated(one, one.roll(shift, (0, 1)))


def test_rectangles_are_independent() -> None:
    """row + column keys must not survive the mixing: the XOR over the corners of a rectangle."""
    one = mask(KEY.site(2, Site.ATTENTION_PROBS), 0.5, 1024, 1024)
    for rows, columns in ((1, 2), (2, 4), (64, 128)):
        right, below = one.roll(columns, 1), one.roll(rows, 0)
        assert_uncorrelated(one ^ right, below ^ below.roll(columns, 1))


def assert_uncorrelated(one: Tensor, other: Tensor) -> None:
    agreement = (one == other).double().mean().item()
    assert abs(agreement - 0.5) < 4.5 * 0.5 / math.sqrt(one.numel())


def test_no_two_rows_are_alike() -> None:
    dropped = mask(KEY.site(0, Site.ATTENTION_PROBS), 0.5, 4096, 64)
    assert len(dropped.unique(dim=0)) == 4096


def test_an_element_does_not_depend_on_the_tensor_around_it() -> None:
    key = KEY.site(2, Site.ATTENTION_PROBS)
    whole = mask(key, 0.1, 64, 64)
    assert torch.equal(mask(key, 0.1, 17, 33), whole[:17, :33])
    rows = row_keys(key, torch.tensor([63, 0, 5], dtype=torch.int32))
    bits = mix_bits_(rows[:, None] + column_keys(key, 64, CPU))
    assert torch.equal(keep_mask(bits, 0.1) == 0, whole[[63, 0, 5]])


def test_dropout_scales_what_it_keeps_and_its_gradient_uses_the_same_mask() -> None:
    key = KEY.site(0, Site.EMBEDDINGS)
    values = torch.randn(50, 31, requires_grad=True)
    out = dropout(values, key, 0.25)
    dropped = mask(key, 0.25, 50, 31)
    assert torch.equal(out.detach(), torch.where(dropped, 0, values.detach() * keep_scale(0.25)))
    out.sum().backward()
    assert torch.equal(values.grad, torch.where(dropped, 0.0, keep_scale(0.25)))


def test_no_key_or_no_rate_changes_nothing() -> None:
    values = torch.randn(5, 4)
    assert dropout(values, None, 0.5) is values
    assert dropout(values, KEY.site(0, Site.HEAD), 0.0) is values
