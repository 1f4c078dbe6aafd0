from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from bert.dropout import DropoutKey, Site, hidden_bits, keep_mask, keep_scale
from bert.fused import DropoutAddNorm

KEY = DropoutKey(5, 6, 7).site(1, Site.ATTENTION_OUTPUT)


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.6])
def test_dropout_add_norm_is_its_three_parts(rate: float) -> None:
    norm = DropoutAddNorm(24, dropout=rate)
    torch.nn.init.normal_(norm.weight)
    torch.nn.init.normal_(norm.bias)
    values, residual = torch.randn(2, 13, 24).requires_grad_().unbind()
    inputs = (values, residual, norm.weight, norm.bias)
    keep = keep_mask(hidden_bits(KEY, 13, 24, values.device), rate) * keep_scale(rate)
    expected = F.layer_norm(residual + values * keep, (24,), norm.weight, norm.bias, norm.eps)
    out = norm(values, residual, KEY)
    torch.testing.assert_close(out, expected)
    weights = torch.randn_like(out)
    expected_grads = torch.autograd.grad((expected * weights).sum(), inputs)
    grads = torch.autograd.grad((out * weights).sum(), inputs)
    for grad, wanted in zip(grads, expected_grads, strict=True):
        torch.testing.assert_close(grad, wanted, rtol=1e-5, atol=1e-5)


def test_without_a_key_nothing_is_dropped() -> None:
    norm = DropoutAddNorm(8, dropout=0.5)
    values, residual = torch.randn(2, 3, 8)
    torch.testing.assert_close(
        norm(values, residual), F.layer_norm(values + residual, (8,), eps=1e-12)
    )
