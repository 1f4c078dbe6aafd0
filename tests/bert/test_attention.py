from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from bert import kernels
from bert.attention import MultiHeadSelfAttention, choose_backend, dense_attention, sdpa_attention
from bert.batch import SequenceLayout
from bert.dropout import (
    DropoutKey,
    Site,
    SiteKey,
    column_keys,
    keep_mask,
    keep_scale,
    mix_bits_,
    row_keys,
)

HEADS, HEAD_SIZE, MAX_LENGTH = 3, 4, 16
HIDDEN = HEADS * HEAD_SIZE
KEY = DropoutKey(1, 2, 3).site(0, Site.ATTENTION_PROBS)

lengths_strategy = st.lists(st.integers(1, 9), min_size=1, max_size=8)


def by_definition(
    qkv_TX: Tensor, lengths: list[int], key: SiteKey | None = None, rate: float = 0.0
) -> Tensor:
    """One head of one sequence at a time, dropping element by element as documented."""
    contexts, start = [], 0
    for sequence, length in enumerate(lengths):
        heads = []
        for head in range(HEADS):
            part = slice(head * HEAD_SIZE, (head + 1) * HEAD_SIZE)
            q, k, v = (x[:, part] for x in qkv_TX[start : start + length].chunk(3, dim=1))
            probs = torch.softmax(q @ k.T / math.sqrt(HEAD_SIZE), dim=-1)
            if key is not None:
                first_row = (sequence * HEADS + head) * MAX_LENGTH
                rows = torch.arange(first_row, first_row + length, dtype=torch.int32)
                columns = column_keys(key, length, rows.device)
                bits = mix_bits_(row_keys(key, rows)[:, None] + columns)[:, :length]
                probs = probs * keep_mask(bits, rate) * keep_scale(rate)
            heads.append(probs @ v)
        contexts.append(torch.cat(heads, dim=1))
        start += length
    return torch.cat(contexts)


@settings(deadline=None, max_examples=25)
@given(lengths_strategy, st.sampled_from([0.0, 0.1, 0.5]))
def test_dense_attention_and_its_gradient_are_the_definition(
    lengths: list[int], rate: float
) -> None:
    qkv = torch.randn(sum(lengths), 3 * HIDDEN, dtype=torch.float32, requires_grad=True)
    weights = torch.randn(sum(lengths), HIDDEN)
    key = KEY if rate else None
    expected = by_definition(qkv, lengths, key, rate)
    (expected_grad,) = torch.autograd.grad((expected * weights).sum(), qkv)
    out = dense_attention(qkv, SequenceLayout.of(lengths), HEADS, MAX_LENGTH, key, rate)
    (grad,) = torch.autograd.grad((out * weights).sum(), qkv)
    torch.testing.assert_close(out, expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(grad, expected_grad, rtol=1e-4, atol=1e-5)


def test_portions_do_not_change_the_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Long runs are split between sequences, short ones taken together: same bits and sums."""
    lengths = [2, 7, 7, 7, 3, 3, 9]
    qkv = torch.randn(sum(lengths), 3 * HIDDEN)
    layout = SequenceLayout.of(lengths)
    outputs = []
    for num_scores in (1, HEADS * 7 * 7 * 2, 1 << 20):
        monkeypatch.setattr("bert.attention._PORTION_SCORES", num_scores)
        outputs.append(dense_attention(qkv, layout, HEADS, MAX_LENGTH, KEY, 0.3))
    for output in outputs[1:]:
        torch.testing.assert_close(output, outputs[0], rtol=1e-6, atol=1e-7)


@settings(deadline=None, max_examples=25)
@given(lengths_strategy)
def test_sdpa_attention_is_the_definition(lengths: list[int]) -> None:
    qkv = torch.randn(sum(lengths), 3 * HIDDEN)
    out = sdpa_attention(qkv, SequenceLayout.of(lengths), HEADS)
    torch.testing.assert_close(out, by_definition(qkv, lengths), rtol=1e-5, atol=1e-6)


@settings(deadline=None, max_examples=25)
@given(lengths_strategy, st.data(), st.sampled_from(["dense", "sdpa"]))
def test_attention_never_crosses_a_sequence(
    lengths: list[int], data: st.DataObject, backend: str
) -> None:
    """Whatever stands in the other sequences, a sequence's output has the same bits."""
    chosen = data.draw(st.integers(0, len(lengths) - 1))
    start = sum(lengths[:chosen])
    here = slice(start, start + lengths[chosen])
    module = MultiHeadSelfAttention(HIDDEN, HEADS, max_length=MAX_LENGTH, backend=backend)
    layout = SequenceLayout.of(lengths)
    dropout = KEY if backend == "dense" else None
    hidden = torch.randn(sum(lengths), HIDDEN)
    others = torch.full_like(hidden, torch.nan)
    others[here] = hidden[here]
    with torch.no_grad():
        assert torch.equal(
            module(others, layout, dropout)[here], module(hidden, layout, dropout)[here]
        )


def test_gradients_do_not_cross_a_sequence() -> None:
    lengths = [3, 5, 5, 2]
    qkv = torch.randn(15, 3 * HIDDEN, requires_grad=True)
    out = dense_attention(qkv, SequenceLayout.of(lengths), HEADS, MAX_LENGTH, KEY, 0.1)
    (grad,) = torch.autograd.grad(out[3:8].sum(), qkv)
    assert grad[3:8].abs().min() > 0
    assert grad[:3].abs().max() == 0
    assert grad[8:].abs().max() == 0


def test_double_precision_gradient() -> None:
    layout = SequenceLayout.of([2, 2, 3])
    qkv = torch.randn(7, 3 * HIDDEN, dtype=torch.float64, requires_grad=True)
    torch.autograd.gradcheck(lambda x: dense_attention(x, layout, HEADS, MAX_LENGTH, KEY, 0.3), qkv)


def test_the_backend_is_chosen_in_one_place() -> None:
    assert choose_backend(dropping=True, training=True) == "dense"
    assert choose_backend(dropping=False, training=True) == "dense"
    assert choose_backend(dropping=False, training=False) == "sdpa"
    assert choose_backend(dropping=False, training=True, override="sdpa") == "sdpa"
    with pytest.raises(ValueError, match="cannot drop"):
        choose_backend(dropping=True, training=True, override="sdpa")
    with pytest.raises(ValueError, match="auto, dense, sdpa, flash"):
        choose_backend(dropping=False, training=False, override="fast")  # pyright: ignore


def test_flash_is_taken_where_it_can_run_unless_told_otherwise() -> None:
    assert choose_backend(dropping=True, training=True, flash=True) == "flash"
    assert choose_backend(dropping=False, training=False, flash=True) == "flash"
    assert choose_backend(True, True, "dense", flash=True) == "dense"
    assert not kernels.flash_usable(torch.device("cpu"), torch.float32, 64)
    module = MultiHeadSelfAttention(HIDDEN, HEADS, backend="flash")
    with pytest.raises(ValueError, match="'flash': Triton's are for CUDA and this is cpu"):
        module(torch.randn(3, HIDDEN), SequenceLayout.of([3]), KEY)


def test_on_cuda_the_device_decides_and_the_log_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = torch.device("cuda", 7)
    for capability, usable, said in (((7, 5), False, "7.5 is below 8.0"), ((9, 0), True, "flash")):
        monkeypatch.setattr("torch.cuda.get_device_capability", lambda _, found=capability: found)
        kernels._triton_obstacle_once.cache_clear()
        assert kernels.flash_usable(cuda, torch.bfloat16, 64) is usable
        assert said in kernels.describe(cuda)
    assert not kernels.flash_usable(cuda, torch.float64, 64)
    assert not kernels.flash_usable(cuda, torch.bfloat16, 8)
    monkeypatch.setattr(kernels, "_choice", "torch")
    assert not kernels.flash_usable(cuda, torch.bfloat16, 64)
    assert "as asked for" in kernels.describe(cuda)
    kernels._triton_obstacle_once.cache_clear()


def test_heads_must_divide_the_hidden_size() -> None:
    with pytest.raises(ValueError, match="5 heads do not divide a hidden size of 12"):
        MultiHeadSelfAttention(12, 5)
