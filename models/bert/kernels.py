"""Compiled kernels for the CPU, from the optional package `bert_kernels`, called on tensors.

On CUDA there are `bert.triton_attention` and `bert.triton_cross_entropy`; whether they run is
decided here too.

Samples are made by the same package (`raybert.samples.compiled`) where kernels are usable.

Everything here has a plain-torch equivalent in this package, which is what runs where a kernel
can't: on another device, in another number format, without the package, or when told so. This
module is the one place that decides it (`usable`, `choose`) and says why (`describe`).

Activations are float32, or bfloat16 where the forward pass runs in it; weights, sums and statistics
are float32. A float32 bias that a matrix product left out is added by the kernel that reads the
product, where it takes one. Tensors must be contiguous. Results don't depend on the number of
threads.

Shape suffixes: T tokens, S sequences, D hidden size, H heads, F feed-forward width, V vocabulary, R
rows, N elements of a flat buffer, B blocks of rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from bert.batch import SequenceLayout
from bert.dropout import SiteKey, keep_limit, keep_scale

try:
    from bert_kernels import native as _native
except ImportError:
    _native = None

Choice = Literal["auto", "native", "torch"]

# Kernels take these; the GEMMs beside them run in the same format.
_FORMATS = (torch.float32, torch.bfloat16)

# What Triton's kernels take, where tensor cores know bfloat16.
_TRITON_CAPABILITY = (8, 0)
_TRITON_FORMATS = (torch.float32, torch.bfloat16, torch.float16)
_FLASH_HEAD_SIZES = range(16, 129)

_choice: Choice = "auto"


def choose(choice: Choice) -> None:
    """Has this process use the compiled kernels where they can be ("auto"), or never ("torch").

    Raises:
        ValueError: another word, or "native" where the package is missing.
    """
    global _choice
    if choice not in get_args(Choice):
        raise ValueError(f"kernels must be one of {', '.join(get_args(Choice))}, not {choice!r}")
    if choice == "native" and _native is None:
        raise ValueError("kernels 'native' needs the package bert-kernels, which is not installed")
    _choice = choice


def usable(device: torch.device, dtype: torch.dtype = torch.float32) -> bool:
    """Whether kernels compute with tensors of this device and number format."""
    return _native is not None and _choice != "torch" and device.type == "cpu" and dtype in _FORMATS


def triton_obstacle(device: torch.device) -> str | None:
    """Why `bert.triton_attention` and the like can't run on a device; None where they can."""
    if device.type != "cuda":
        return f"Triton's are for CUDA and this is {device.type}"
    if find_spec("triton") is None:
        return "Triton is not installed"
    capability = torch.cuda.get_device_capability(device)
    if capability < _TRITON_CAPABILITY:
        return f"compute capability {capability[0]}.{capability[1]} is below 8.0"
    return None


def flash_usable(device: torch.device, dtype: torch.dtype, head_size: int) -> bool:
    """Whether attention runs by `bert.triton_attention` unless told otherwise."""
    return head_size in _FLASH_HEAD_SIZES and _triton_usable(device, dtype)


def cross_entropy_usable(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether logits of this format become losses by `bert.triton_cross_entropy`."""
    return _triton_usable(device, dtype)


def _triton_usable(device: torch.device, dtype: torch.dtype) -> bool:
    fits = dtype in _TRITON_FORMATS
    return fits and _choice != "torch" and _triton_obstacle_once(device) is None


@cache
def _triton_obstacle_once(device: torch.device) -> str | None:
    return triton_obstacle(device)


def describe(device: torch.device) -> str:
    """Which kernels run on a device, and why, for the log."""
    if device.type != "cpu":
        if _choice == "torch":
            return "torch's, as asked for"
        obstacle = triton_obstacle(device)
        if obstacle is not None:
            return f"torch's, since {obstacle}"
        return (
            "Triton's for attention (flash, with our dropout) and for the vocabulary's "
            "cross-entropy, torch's for the rest"
        )
    if _choice == "torch":
        return "torch's, as asked for"
    if _native is None:
        return "torch's, since the package bert-kernels is not installed"
    threads = "OpenMP threads" if _native.has_openmp() else "one thread, for want of OpenMP"
    return f"compiled ones ({_native.instruction_set()}, {threads})"


@dataclass(frozen=True)
class SavedNorm:
    """What a norm's backward pass needs.

    Attributes:
        sums_TD: what was normed, float32.
        means_T, inverse_deviations_T: float32.
    """

    sums_TD: Tensor
    means_T: Tensor
    inverse_deviations_T: Tensor

    @classmethod
    def empty(cls, num_rows: int, width: int) -> SavedNorm:
        return cls(torch.empty(num_rows, width), torch.empty(num_rows), torch.empty(num_rows))

    @property
    def tensors(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.sums_TD, self.means_T, self.inverse_deviations_T


@dataclass(frozen=True)
class NormGradients:
    """Attributes: gradients of residual (float32) and values (T, D), weight, bias and the sum of
    the values' gradient over tokens (D,)."""

    residual_TD: Tensor
    values_TD: Tensor
    weight_D: Tensor
    bias_D: Tensor
    values_sum_D: Tensor


def attention_forward(
    qkv_TX: Tensor,
    layout: SequenceLayout,
    num_heads: int,
    max_length: int,
    key: SiteKey | None,
    rate: float,
    qkv_bias_X: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """`bert.attention.dense_attention` of values, plus their bias if given: (T, 3D) to (T, D), and
    for the backward pass (T, H)."""
    num_tokens, hidden_size = qkv_TX.shape[0], qkv_TX.shape[1] // 3
    context_TD = qkv_TX.new_empty(num_tokens, hidden_size)
    log_sums_TH = torch.empty(num_tokens, num_heads)
    _loaded().attention_forward(
        torch.get_num_threads(),
        _is_low(qkv_TX),
        _shape(layout, num_heads, hidden_size, max_length),
        _drop(key, rate),
        _rows(qkv_TX, qkv_bias_X),
        _memory(context_TD),
        _memory(log_sums_TH),
    )
    return context_TD, log_sums_TH


def attention_backward(
    qkv_TX: Tensor,
    context_TD: Tensor,
    log_sums_TH: Tensor,
    grad_context_TD: Tensor,
    layout: SequenceLayout,
    max_length: int,
    key: SiteKey | None,
    rate: float,
    qkv_bias_X: Tensor | None = None,
) -> Tensor:
    """The gradient (T, 3D) of what `attention_forward` was given."""
    grad_TX = torch.empty_like(qkv_TX)
    _loaded().attention_backward(
        torch.get_num_threads(),
        _is_low(qkv_TX),
        _shape(layout, log_sums_TH.shape[1], context_TD.shape[1], max_length),
        _drop(key, rate),
        _rows(qkv_TX, qkv_bias_X),
        _memory(context_TD),
        _memory(log_sums_TH),
        _memory(grad_context_TD),
        _memory(grad_TX),
    )
    return grad_TX


def dropout_add_norm_forward(
    values_TD: Tensor,
    residual_TD: Tensor,
    weight_D: Tensor,
    bias_D: Tensor,
    eps: float,
    key: SiteKey | None,
    rate: float,
    with_low: bool = False,
    values_bias_D: Tensor | None = None,
) -> tuple[Tensor, Tensor, SavedNorm]:
    """`bert.fused.dropout_add_norm` of values, plus their bias if given, and a float32 residual.

    Returns:
        The result in float32; if wanted the same in bfloat16, else no elements; what to save.
    """
    out_TD = torch.empty_like(residual_TD)
    low_TD = torch.empty(residual_TD.shape if with_low else (0,), dtype=torch.bfloat16)
    saved = SavedNorm.empty(*residual_TD.shape)
    _loaded().dropout_add_norm_forward(
        torch.get_num_threads(),
        _is_low(values_TD),
        _rows(values_TD, values_bias_D),
        _memory(residual_TD),
        (_memory(weight_D), _memory(bias_D), eps),
        _drop(key, rate),
        _memory(out_TD),
        _memory(low_TD),
        tuple(map(_memory, saved.tensors)),
    )
    return out_TD, low_TD, saved


def dropout_add_norm_backward(
    grad_TD: Tensor,
    grad_low_TD: Tensor | None,
    saved: SavedNorm,
    weight_D: Tensor,
    key: SiteKey | None,
    rate: float,
    values_dtype: torch.dtype | None,
) -> NormGradients:
    """The gradients of `dropout_add_norm_forward`.

    Args:
        grad_TD: of the result, float32.
        grad_low_TD: added to it; of the values' dtype.
        values_dtype: None where the values' gradient isn't wanted.
    """
    num_rows, width = grad_TD.shape
    residual_TD = torch.empty_like(grad_TD)
    values_TD = torch.empty(
        grad_TD.shape if values_dtype else (0,), dtype=values_dtype or torch.float32
    )
    num_blocks = -(-num_rows // _loaded().ROWS_PER_BLOCK)
    partial_sums_BX = torch.empty(num_blocks, 3 * width)
    _loaded().dropout_add_norm_backward(
        torch.get_num_threads(),
        _is_low(values_TD),
        _memory(grad_TD),
        _NOTHING if grad_low_TD is None else _memory(grad_low_TD),
        tuple(map(_memory, saved.tensors)),
        _memory(weight_D),
        _drop(key, rate),
        _memory(residual_TD),
        _memory(values_TD),
        _memory(partial_sums_BX),
    )
    weight_D, bias_D, values_sum_D = sum_rows(partial_sums_BX).chunk(3)
    return NormGradients(residual_TD, values_TD, weight_D, bias_D, values_sum_D)


def gelu_forward(values_TF: Tensor, bias_F: Tensor | None = None) -> Tensor:
    """`bert.fused.gelu` of values, plus their bias if given."""
    out_TF = torch.empty_like(values_TF)
    _loaded().gelu_forward(
        torch.get_num_threads(),
        _is_low(values_TF),
        values_TF.shape[1],
        _rows(values_TF, bias_F),
        _memory(out_TF),
    )
    return out_TF


def gelu_backward_(
    values_TF: Tensor, grad_TF: Tensor, bias_F: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Turns the gradient of GELU's output into that of its input.

    Values and bias are what the forward pass was given.

    Returns:
        What the forward pass gave, the same bits, and the gradient's sum over tokens (F,).
    """
    out_TF = torch.empty_like(values_TF)
    num_rows, width = values_TF.shape
    partial_sums_BF = torch.empty(-(-num_rows // _loaded().ROWS_PER_BLOCK), width)
    _loaded().gelu_backward(
        torch.get_num_threads(),
        _is_low(values_TF),
        width,
        _rows(values_TF, bias_F),
        _memory(grad_TF),
        _memory(out_TF),
        _memory(partial_sums_BF),
    )
    return out_TF, sum_rows(partial_sums_BF)


def cross_entropy_(
    logits_RP: Tensor, labels_R: Tensor, vocab_size: int, bias_V: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Cross-entropy of the first `vocab_size` columns, which become softmax - onehot in place.

    A bias is added to these columns first.

    Returns:
        Losses, float32 (R,), and 1 where no score is higher than the label's, int64 (R,).
    """
    losses_R = torch.empty(len(labels_R))
    correct_R = torch.empty(len(labels_R), dtype=torch.int64)
    _loaded().cross_entropy(
        torch.get_num_threads(),
        _is_low(logits_RP),
        vocab_size,
        _memory(logits_RP),
        None if bias_V is None else _bias(bias_V, vocab_size),
        _memory(labels_R),
        _memory(losses_R),
        _memory(correct_R),
    )
    return losses_R, correct_R


def embeddings_forward(
    tables: Sequence[Tensor],
    ids: Sequence[Tensor],
    weight_D: Tensor,
    bias_D: Tensor,
    eps: float,
) -> tuple[Tensor, SavedNorm]:
    """The norm (T, D) of the sum of rows of three float32 tables that int64 ids (T,) name."""
    out_TD = torch.empty(len(ids[0]), len(weight_D))
    saved = SavedNorm.empty(*out_TD.shape)
    _loaded().embeddings_forward(
        torch.get_num_threads(),
        [(_memory(table), _memory(rows)) for table, rows in zip(tables, ids, strict=True)],
        (_memory(weight_D), _memory(bias_D), eps),
        _memory(out_TD),
        tuple(map(_memory, saved.tensors)),
    )
    return out_TD, saved


def drop_(values_TD: Tensor, key: SiteKey | None, rate: float) -> Tensor:
    """`bert.dropout.dropout` in place; it is its own gradient."""
    drop = _drop(key, rate)
    if drop is not None:
        memory = _memory(values_TD)
        _loaded().drop(torch.get_num_threads(), values_TD.shape[1], drop, memory, memory)
    return values_TD


def scatter_add_(
    table_VD: Tensor, ids_T: Tensor, values_TD: Tensor, ignored: int | None = None
) -> None:
    """Adds float32 rows onto the rows that ids name, in order; those of one id are left out."""
    _loaded().scatter_add(
        torch.get_num_threads(),
        _memory(ids_T),
        ignored,
        _memory(values_TD),
        values_TD.shape[1],
        _memory(table_VD),
    )


def sum_rows(values_RC: Tensor) -> Tensor:
    """The float32 sum over rows (C,)."""
    out_C = torch.zeros(values_RC.shape[1])
    add_rows_(out_C, values_RC)
    return out_C


def add_rows_(out_C: Tensor, values_RP: Tensor) -> None:
    """Adds the first C columns of all rows onto a float32 vector, in order."""
    _loaded().add_rows(
        torch.get_num_threads(),
        _is_low(values_RP),
        _memory(values_RP),
        values_RP.shape[1],
        _memory(out_C),
    )


def add_(out: Tensor, values: Tensor) -> None:
    """out += values, onto float32."""
    _loaded().add(torch.get_num_threads(), _is_low(values), _memory(values), _memory(out))


def round_bf16(values: Tensor, out: Tensor | None = None) -> Tensor:
    """float32 as bfloat16, into `out` if given."""
    if out is None:
        out = torch.empty_like(values, dtype=torch.bfloat16)
    _loaded().round_bf16(torch.get_num_threads(), _memory(values), _memory(out))
    return out


def adamw_(
    values_N: Tensor,
    gradient_N: Tensor,
    exp_avg_N: Tensor,
    exp_avg_sq_N: Tensor,
    *,
    learning_rate: float,
    beta1: float,
    beta2: float,
    epsilon: float,
    weight_decay: float,
    count: int,
    gradient_factor: float,
) -> None:
    """One step of AdamW in place (Loshchilov and Hutter 2019, algorithm 2), all float32.

    Args:
        count: updates, this one included.
        gradient_factor: what the gradient is multiplied with first, for clipping.
    """
    _loaded().adamw(
        torch.get_num_threads(),
        (learning_rate, beta1, beta2, epsilon, weight_decay, count, gradient_factor),
        _memory(gradient_N),
        _memory(values_N),
        _memory(exp_avg_N),
        _memory(exp_avg_sq_N),
    )


_NOTHING = (0, 0)


def _loaded() -> Any:
    if _native is None:
        raise RuntimeError("the package bert-kernels is not installed")
    return _native


def _memory(tensor: Tensor) -> tuple[int, int]:
    assert tensor.is_contiguous()
    assert tensor.device.type == "cpu"
    return tensor.data_ptr(), tensor.numel()


def _rows(values_RC: Tensor, bias_C: Tensor | None):
    bias = None if bias_C is None else _bias(bias_C, values_RC.shape[1])
    return _memory(values_RC), bias


def _bias(bias_C: Tensor, width: int) -> tuple[int, int]:
    assert bias_C.dtype == torch.float32
    assert bias_C.shape == (width,)
    return _memory(bias_C)


def _is_low(tensor: Tensor) -> bool:
    assert tensor.dtype in _FORMATS
    return tensor.dtype == torch.bfloat16


def _shape(layout: SequenceLayout, num_heads: int, hidden_size: int, max_length: int):
    head_size = hidden_size // num_heads
    return _memory(layout.cu_seqlens), num_heads, head_size, max_length


def _drop(key: SiteKey | None, rate: float) -> tuple[int, int, int, float] | None:
    limit = keep_limit(rate)
    if key is None or limit >= 1 << 15:
        return None
    unsigned = (1 << 32) - 1
    return key.row_key & unsigned, key.column_key & unsigned, limit, keep_scale(rate)
