from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from bert.decoder_loss import decoder_cross_entropy


def inputs(dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        values = torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)
        return values.requires_grad_()

    return normal(23, 8), normal(37, 8), normal(37), torch.arange(23) + 7


@pytest.mark.parametrize("block_logits", [1, 200, 1 << 24])
def test_loss_and_gradients_are_those_of_the_plain_chain(
    block_logits: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bert.decoder_loss._BLOCK_LOGITS", block_logits)
    hidden, table, bias, labels = inputs()
    logits = F.linear(hidden, table, bias)
    expected = F.cross_entropy(logits, labels, reduction="sum")
    loss, correct = decoder_cross_entropy(hidden, table, bias, labels)
    torch.testing.assert_close(loss, expected, rtol=1e-6, atol=0)
    assert correct.item() == (logits.argmax(dim=1) == labels).sum()
    for found, wanted in zip(
        torch.autograd.grad(loss * 0.3, (hidden, table, bias)),
        torch.autograd.grad(expected * 0.3, (hidden, table, bias)),
        strict=True,
    ):
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)


def test_double_precision_gradient() -> None:
    *leaves, labels = inputs(torch.float64)
    assert torch.autograd.gradcheck(lambda *x: decoder_cross_entropy(*x, labels)[0], leaves)


def test_large_scores_neither_overflow_nor_vanish() -> None:
    hidden, table, bias, labels = inputs()
    loss, _ = decoder_cross_entropy(hidden * 1e4, table, bias, labels)
    expected = F.cross_entropy(F.linear(hidden * 1e4, table, bias), labels, reduction="sum")
    torch.testing.assert_close(loss, expected, rtol=1e-6, atol=0)


def test_no_labels_give_zeros() -> None:
    hidden, table, bias, _ = inputs()
    loss, correct = decoder_cross_entropy(
        hidden[:0], table, bias, torch.zeros(0, dtype=torch.int64)
    )
    assert (loss.item(), correct.item()) == (0, 0)
    for gradient in torch.autograd.grad(loss, (hidden, table, bias)):
        assert gradient.abs().sum() == 0


def test_autocast_agrees_with_float32_to_its_precision() -> None:
    hidden, table, bias, labels = inputs()
    exact, _ = decoder_cross_entropy(hidden, table, bias, labels)
    with torch.autocast("cpu", torch.bfloat16):
        loss, _ = decoder_cross_entropy(hidden, table, bias, labels)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, exact, rtol=1e-2, atol=0)
    found = torch.autograd.grad(loss, (hidden, table, bias))
    for gradient, wanted in zip(
        found, torch.autograd.grad(exact, (hidden, table, bias)), strict=True
    ):
        assert gradient.dtype == torch.float32
        torch.testing.assert_close(gradient, wanted, rtol=0.1, atol=0.1)
