"""Inference on a CPU with weights laid out once for oneDNN's matrix products.

torch's `F.linear` in float32 asks MKL, and hands it the weight as it lies in every call. oneDNN
with a weight reordered beforehand, bias and GELU applied while the product is in registers, was
measured 2.2 times as fast on an AMD EPYC with AVX-512; same dtype, another order of summation.
In bfloat16 products and what feeds them are bfloat16, the residual stream and norms float32, as in
`bert.compiled`.

Shape suffixes: T tokens, D hidden size, X three times that.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bert import kernels
from bert.attention import sdpa_attention
from bert.batch import SequenceLayout
from bert.dropout import DropoutKey
from bert.encoders import Encoder
from bert.fused import DropoutAddNorm

# Rows of a product that the layout is chosen for; others are computed as well.
_USUAL_ROWS = 2048


class PrepackedLinear(nn.Module):
    """A linear layer without gradients: x Wᵀ + b, then an exact GELU if asked for.

    Args:
        linear: on the CPU, in float32; its weight is copied into oneDNN's layout.
        gelu: whether the activation follows.
        dtype: of the product: float32 or bfloat16.
    """

    def __init__(
        self, linear: nn.Linear, *, gelu: bool = False, dtype: torch.dtype = torch.float32
    ) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        weight = linear.weight.detach().to(dtype)
        self._weight = torch.ops.mkldnn._reorder_linear_weight(weight, _USUAL_ROWS)
        self._bias = None if linear.bias is None else linear.bias.detach().to(dtype)
        self._dtype = dtype
        self._activation = ("gelu", "none") if gelu else ("none", "")

    def forward(self, values: Tensor) -> Tensor:
        """(T, in_features) of any dtype to (T, out_features) of the product's."""
        name, algorithm = self._activation
        return torch.ops.mkldnn._linear_pointwise(
            values.to(self._dtype), self._weight, self._bias, name, [], algorithm
        )


class PrepackedEncoder(nn.Module):
    """An encoder layer for inference: `Encoder` with prepacked products, GELU inside of one."""

    def __init__(self, layer: Encoder, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        attention, feed_forward = layer.attention, layer.feed_forward
        self.num_heads, self.max_length = attention.num_heads, attention.max_length
        self.qkv = PrepackedLinear(attention.qkv, dtype=dtype)
        self.output = PrepackedLinear(attention.output, dtype=dtype)
        self.attention_norm = layer.attention_norm
        self.up = PrepackedLinear(feed_forward.up, gelu=True, dtype=dtype)
        self.down = PrepackedLinear(feed_forward.down, dtype=dtype)
        self.feed_forward_norm = layer.feed_forward_norm
        self._compiled = kernels.usable(torch.device("cpu"), dtype)
        self._rounds = self._compiled and dtype == torch.bfloat16

    def forward(
        self, hidden_TD: Tensor, layout: SequenceLayout, dropout: DropoutKey | None = None
    ) -> Tensor:
        """float32 (T, D) to (T, D). Raises ValueError where something is to be dropped."""
        if dropout is not None:
            raise ValueError("a prepacked model is for inference and drops nothing")
        input_TD = kernels.round_bf16(hidden_TD) if self._rounds else hidden_TD
        attended_TD = self.output(self._attend(self.qkv(input_TD), layout))
        middle_TD, low_TD = self._norm(self.attention_norm, attended_TD, hidden_TD, self._rounds)
        narrowed_TD = self.down(self.up(low_TD if self._rounds else middle_TD))
        return self._norm(self.feed_forward_norm, narrowed_TD, middle_TD, False)[0]

    def _attend(self, qkv_TX: Tensor, layout: SequenceLayout) -> Tensor:
        if not self._compiled:
            return sdpa_attention(qkv_TX, layout, self.num_heads)
        return kernels.attention_forward(
            qkv_TX, layout, self.num_heads, self.max_length, None, 0.0
        )[0]

    def _norm(
        self, norm: DropoutAddNorm, values_TD: Tensor, residual_TD: Tensor, with_low: bool
    ) -> tuple[Tensor, Tensor]:
        """In float32, and in bfloat16 if wanted."""
        if not self._compiled:
            out_TD = norm(values_TD, residual_TD)
            return out_TD, out_TD
        return kernels.dropout_add_norm_forward(
            values_TD,
            residual_TD,
            norm.weight.detach(),
            norm.bias.detach(),
            norm.eps,
            None,
            norm.dropout,
            with_low,
        )[:2]


def can_prepack(dtype: torch.dtype = torch.float32) -> bool:
    """Whether this torch has oneDNN and the operations used here (they are torch.compile's), and
    they compute in a dtype on this CPU."""
    names = ("_reorder_linear_weight", "_linear_pointwise")
    if not torch.backends.mkldnn.is_available() or not all(
        hasattr(torch.ops.mkldnn, name) for name in names
    ):
        return False
    if dtype == torch.bfloat16:
        return torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return dtype == torch.float32


def prepack(model: nn.Module, dtype: torch.dtype = torch.float32) -> None:
    """Replaces the linear layers of a model by prepacked ones, in place; call under inference_mode.

    The model is for inference on the CPU in this dtype from then on (under autocast, if it is
    bfloat16: some parts stay as they are): its weights can't be trained, moved or saved.
    """
    for name, child in list(model.named_children()):
        if isinstance(child, Encoder):
            setattr(model, name, PrepackedEncoder(child, dtype))
        elif isinstance(child, nn.Linear):
            setattr(model, name, PrepackedLinear(child, dtype=dtype))
        else:
            prepack(child, dtype)
