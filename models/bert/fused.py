"""Elementwise chains of an encoder layer as single autograd nodes: fewer passes, less to keep.

Shape suffixes: T tokens, D hidden size.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from bert.dropout import SiteKey, hidden_bits, keep_mask, keep_scale


def dropout_add_norm(
    values_TD: Tensor,
    residual_TD: Tensor,
    weight_D: Tensor,
    bias_D: Tensor,
    eps: float,
    key: SiteKey | None,
    rate: float,
) -> Tensor:
    """LayerNorm(residual + dropout(values)): the end of both halves of a post-norm layer.

    Devlin et al. 2018 after Vaswani et al. 2017, section 5.4. All tensors are (T, D) but the
    affine pair (D,); `key` None drops nothing. The result has the residual's dtype.
    """
    if key is None:
        rate = 0.0
    return _DropoutAddNorm.apply(values_TD, residual_TD, weight_D, bias_D, eps, key, rate)


class _DropoutAddNorm(torch.autograd.Function):
    """Keeps the sum before the norm and, with dropout, two bytes of bits per element."""

    @staticmethod
    def forward(ctx, values_TD, residual_TD, weight_D, bias_D, eps, key, rate):
        bits_TD = None
        if rate > 0:
            bits_TD = hidden_bits(key, values_TD.shape[0], values_TD.shape[1], values_TD.device)
            mask_TD = keep_mask(bits_TD, rate)
            sum_TD = torch.addcmul(residual_TD, values_TD, mask_TD, value=keep_scale(rate))
        else:
            sum_TD = residual_TD + values_TD
        normed_TD, mean_T, rstd_T = torch.native_layer_norm(
            sum_TD, weight_D.shape, weight_D, bias_D, eps
        )
        ctx.save_for_backward(sum_TD, mean_T, rstd_T, weight_D, bias_D, bits_TD)
        ctx.rate, ctx.values_dtype = rate, values_TD.dtype
        return normed_TD

    @staticmethod
    @once_differentiable
    def backward(ctx, *grad_outputs):  # pyright: ignore[reportIncompatibleMethodOverride]
        (grad_TD,) = grad_outputs
        sum_TD, mean_T, rstd_T, weight_D, bias_D, bits_TD = ctx.saved_tensors
        grad_sum_TD, grad_weight_D, grad_bias_D = torch.ops.aten.native_layer_norm_backward(
            grad_TD, sum_TD, weight_D.shape, mean_T, rstd_T, weight_D, bias_D, [True, True, True]
        )
        grad_values_TD = grad_sum_TD
        if bits_TD is not None:
            mask_TD = keep_mask(bits_TD, ctx.rate).mul_(keep_scale(ctx.rate))
            grad_values_TD = mask_TD.mul_(grad_sum_TD)
        grad_values_TD = grad_values_TD.to(ctx.values_dtype)
        return grad_values_TD, grad_sum_TD, grad_weight_D, grad_bias_D, None, None, None


class DropoutAddNorm(torch.nn.LayerNorm):
    """LayerNorm(residual + dropout(values)) with its weights; see `dropout_add_norm`."""

    def __init__(self, hidden_size: int, eps: float = 1e-12, dropout: float = 0.1) -> None:
        super().__init__(hidden_size, eps=eps)
        self.dropout = dropout

    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, values_TD: Tensor, residual_TD: Tensor, dropout: SiteKey | None = None
    ) -> Tensor:
        """(T, D) and (T, D) to (T, D)."""
        return dropout_add_norm(
            values_TD, residual_TD, self.weight, self.bias, self.eps, dropout, self.dropout
        )


def gelu(values: Tensor) -> Tensor:
    """Exact GELU, x Φ(x) by erf (Hendrycks and Gimpel 2016), not the tanh approximation."""
    return F.gelu(values)
