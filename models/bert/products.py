"""Matrix products of the compiled nodes, by whichever library is fast at them on this CPU.

torch's float32 products are MKL's, which on AMD CPUs with AVX-512 leaves half of the units idle;
oneDNN, which torch carries too, uses them (measured on a Zen 5: 2.1 times as fast in the shapes of
BERT). The choice depends on the kind of CPU alone, so that the bits do too. In bfloat16 torch
itself calls oneDNN.

Shape suffixes: R rows, I inner, C columns.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor


@functools.cache
def onednn_is_faster() -> bool:
    """Whether float32 products of this CPU should go to oneDNN."""
    cpu = torch.cpu.get_capabilities()
    return (
        "AMD" in str(cpu.get("cpu_name", ""))
        and bool(cpu.get("avx512_f"))
        and torch.backends.mkldnn.is_available()
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    )


@functools.cache
def _onednn_takes_bf16() -> bool:
    return (
        torch.backends.mkldnn.is_available()
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
        and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    )


def adds_bias_inside(values: Tensor) -> bool:
    """Whether `linear` is one pass over its result."""
    if values.dtype == torch.bfloat16 and values.device.type == "cpu" and values.numel() > 0:
        return _onednn_takes_bf16()
    return _goes_to_onednn(values)


def multiply(left_RI: Tensor, right_IC: Tensor) -> Tensor:
    """`left @ right`, without gradient."""
    if _goes_to_onednn(left_RI):
        return torch.ops.mkldnn._linear_pointwise(left_RI, right_IC.t(), None, "none", [], "")
    return left_RI @ right_IC


def linear(values_RI: Tensor, weight_CI: Tensor, bias_C: Tensor) -> Tensor:
    """`values @ weight.T + bias`, without gradient."""
    # torch's own call copies the bias over all rows before it multiplies.
    if adds_bias_inside(values_RI):
        return torch.ops.mkldnn._linear_pointwise(
            values_RI, weight_CI, bias_C.detach(), "none", [], ""
        )
    return torch.addmm(bias_C, values_RI, weight_CI.t())


def product_and_bias(
    values_RI: Tensor, weight_CI: Tensor, bias_C: Tensor
) -> tuple[Tensor, Tensor | None]:
    """`linear` for a kernel that adds a float32 bias as it reads: the product, and the bias if it
    is still to be added."""
    if values_RI.dtype != torch.float32 or adds_bias_inside(values_RI):
        return linear(values_RI, weight_CI, bias_C), None
    return values_RI @ weight_CI.t(), bias_C.detach()


def add_product_(out_RC: Tensor, left_RI: Tensor, right_IC: Tensor) -> bool:
    """`out += left @ right` in one call, if there is one; whether it was done."""
    if out_RC.dtype != left_RI.dtype or _goes_to_onednn(left_RI):
        return False
    out_RC.addmm_(left_RI, right_IC)
    return True


def _goes_to_onednn(left_RI: Tensor) -> bool:
    return (
        left_RI.dtype == torch.float32
        and left_RI.device.type == "cpu"
        and left_RI.numel() > 0
        and onednn_is_faster()
    )
