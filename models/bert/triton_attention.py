"""Attention over packed sequences on a GPU: nothing of quadratic size is kept, nothing is padded.

The algorithm is FlashAttention-2 (Dao 2023, https://arxiv.org/abs/2307.08691), without a causal
mask and with `bert.dropout`'s bits on the probabilities, made again in every pass. Each sum is
added by one program in one order, without atomics: results are repeatable to the bit. A program per
block of queries computes outputs, and in the backward pass their gradients; another one per block
of keys computes the gradients of keys and values.

Sums, softmax and statistics are float32; products take the inputs' format. Imported only where
Triton is installed (`bert.kernels.triton_obstacle`).

Shape suffixes: T tokens, D hidden size, X three times that, H heads, Q queries of a block, K keys
of a block, P pairs of them, C columns of a head, padded to a power of two.
"""
# Inside a kernel, values are Triton's.
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportOperatorIssue=false
# pyright: reportIndexIssue=false, reportCallIssue=false

from __future__ import annotations

import math

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

from bert.batch import SequenceLayout
from bert.dropout import SiteKey, keep_limit, keep_scale

_KEYS = ["row_key", "column_key"]  # differ in every call: no reason to compile again


@triton.jit
def mix32(x):
    """`bert.dropout`'s lowbias32 of uint32."""
    x ^= x >> 16
    x *= 0x7FEB352D
    x ^= x >> 15
    x *= 0x846CA68B
    return x ^ (x >> 16)


@triton.jit
def kept(row_keys_Q, first_key, column_key, threshold, NUM_KEYS: tl.constexpr):
    """Which probabilities stay, bool (Q, K): one hash for two neighbouring keys.

    A signed half below keep_limit is an unsigned one, its highest bit flipped, below
    threshold = keep_limit + 32768.
    """
    pairs_P = (first_key // 2 + tl.arange(0, NUM_KEYS // 2)).to(tl.uint32)
    columns_P = mix32(pairs_P ^ column_key.to(tl.uint32))
    bits_QP = mix32(row_keys_Q[:, None] + columns_P[None, :])
    halves_QK = tl.interleave(bits_QP & 0xFFFF, bits_QP >> 16)
    return (halves_QK ^ 0x8000).to(tl.int32) < threshold


@triton.jit
def row_keys(sequence_and_head, max_length, rows_Q, row_key):
    """uint32 (Q,): the counter of (sequence, head, query), mixed."""
    counters_Q = (sequence_and_head * max_length + rows_Q).to(tl.uint32)
    return mix32(counters_Q ^ row_key.to(tl.uint32))


@triton.jit
def place(cu_seqlens, num_heads):
    """Sequence and head of a program: their number, first token (int64), length, head."""
    sequence_and_head = tl.program_id(0)
    sequence = sequence_and_head // num_heads
    begin = tl.load(cu_seqlens + sequence)
    length = tl.load(cu_seqlens + sequence + 1) - begin
    return sequence_and_head, begin.to(tl.int64), length, sequence_and_head % num_heads


@triton.jit
def rows_of(base, stride, rows, length, HEAD: tl.constexpr, PADDED: tl.constexpr):
    """Some rows of one head, zeros beyond the sequence and the head."""
    columns_C = tl.arange(0, PADDED)
    inside = (rows < length)[:, None] & (columns_C < HEAD)[None, :]
    return tl.load(base + rows[:, None] * stride + columns_C[None, :], mask=inside, other=0.0)


@triton.jit
def store_rows(base, stride, rows, length, values, HEAD: tl.constexpr, PADDED: tl.constexpr):
    columns_C = tl.arange(0, PADDED)
    inside = (rows < length)[:, None] & (columns_C < HEAD)[None, :]
    to = base + rows[:, None] * stride + columns_C[None, :]
    tl.store(to, values.to(base.dtype.element_ty), mask=inside)


@triton.jit(do_not_specialize=_KEYS)
def forward_kernel(
    qkv, context, log_sums, cu_seqlens, row_key, column_key, threshold, keep, scale_log2,
    num_heads, max_length,
    HEAD: tl.constexpr, PADDED: tl.constexpr, Q: tl.constexpr, K: tl.constexpr,
    DROPS: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    number, begin, length, head = place(cu_seqlens, num_heads)
    first = tl.program_id(1) * Q
    if first < length:
        width = num_heads * HEAD
        heads = qkv + begin * 3 * width + head * HEAD
        rows_Q = first + tl.arange(0, Q)
        q_QC = rows_of(heads, 3 * width, rows_Q, length, HEAD, PADDED)
        keys_Q = row_keys(number, max_length, rows_Q, row_key)
        highest_Q = tl.full((Q,), float("-inf"), tl.float32)
        sums_Q = tl.zeros((Q,), tl.float32)
        out_QC = tl.zeros((Q, PADDED), tl.float32)
        for start in range(0, length, K):
            rows_K = start + tl.arange(0, K)
            k_KC = rows_of(heads + width, 3 * width, rows_K, length, HEAD, PADDED)
            v_KC = rows_of(heads + 2 * width, 3 * width, rows_K, length, HEAD, PADDED)
            scores_QK = tl.dot(q_QC, tl.trans(k_KC), input_precision=PRECISION) * scale_log2
            scores_QK = tl.where((rows_K < length)[None, :], scores_QK, float("-inf"))
            higher_Q = tl.maximum(highest_Q, tl.max(scores_QK, 1))
            probs_QK = tl.exp2(scores_QK - higher_Q[:, None])
            shrink_Q = tl.exp2(highest_Q - higher_Q)
            sums_Q = sums_Q * shrink_Q + tl.sum(probs_QK, 1)
            if DROPS:
                probs_QK = tl.where(kept(keys_Q, start, column_key, threshold, K), probs_QK, 0.0)
            out_QC = out_QC * shrink_Q[:, None]
            out_QC += tl.dot(probs_QK.to(v_KC.dtype), v_KC, input_precision=PRECISION)
            highest_Q = higher_Q
        out_QC = out_QC * (keep / sums_Q)[:, None]
        store_rows(
            context + begin * width + head * HEAD, width, rows_Q, length, out_QC, HEAD, PADDED
        )
        to = log_sums + (begin + rows_Q) * num_heads + head
        tl.store(to, highest_Q + tl.log2(sums_Q), mask=rows_Q < length)


@triton.jit(do_not_specialize=_KEYS)
def queries_backward_kernel(
    qkv, context, grad_context, grad_qkv, log_sums, deltas, cu_seqlens, row_key, column_key,
    threshold, keep, scale, scale_log2, num_heads, max_length,
    HEAD: tl.constexpr, PADDED: tl.constexpr, Q: tl.constexpr, K: tl.constexpr,
    DROPS: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """The gradient of queries; leaves rowsum(dO ∘ O) in `deltas` for the other kernel."""
    number, begin, length, head = place(cu_seqlens, num_heads)
    first = tl.program_id(1) * Q
    if first < length:
        width = num_heads * HEAD
        heads = qkv + begin * 3 * width + head * HEAD
        here = begin * width + head * HEAD
        rows_Q = first + tl.arange(0, Q)
        q_QC = rows_of(heads, 3 * width, rows_Q, length, HEAD, PADDED)
        out_QC = rows_of(context + here, width, rows_Q, length, HEAD, PADDED)
        grad_out_QC = rows_of(grad_context + here, width, rows_Q, length, HEAD, PADDED)
        delta_Q = tl.sum(out_QC.to(tl.float32) * grad_out_QC.to(tl.float32), 1)
        statistics_Q = (begin + rows_Q) * num_heads + head
        tl.store(deltas + statistics_Q, delta_Q, mask=rows_Q < length)
        log_sums_Q = tl.load(log_sums + statistics_Q, mask=rows_Q < length, other=0.0)
        keys_Q = row_keys(number, max_length, rows_Q, row_key)
        grad_QC = tl.zeros((Q, PADDED), tl.float32)
        for start in range(0, length, K):
            rows_K = start + tl.arange(0, K)
            k_KC = rows_of(heads + width, 3 * width, rows_K, length, HEAD, PADDED)
            v_KC = rows_of(heads + 2 * width, 3 * width, rows_K, length, HEAD, PADDED)
            scores_QK = tl.dot(q_QC, tl.trans(k_KC), input_precision=PRECISION) * scale_log2
            scores_QK = tl.where((rows_K < length)[None, :], scores_QK, float("-inf"))
            probs_QK = tl.exp2(scores_QK - log_sums_Q[:, None])
            grad_QK = tl.dot(grad_out_QC, tl.trans(v_KC), input_precision=PRECISION) * keep
            if DROPS:
                grad_QK = tl.where(kept(keys_Q, start, column_key, threshold, K), grad_QK, 0.0)
            grad_QK = probs_QK * (grad_QK - delta_Q[:, None])
            grad_QC += tl.dot(grad_QK.to(k_KC.dtype), k_KC, input_precision=PRECISION)
        to = grad_qkv + begin * 3 * width + head * HEAD
        store_rows(to, 3 * width, rows_Q, length, grad_QC * scale, HEAD, PADDED)


@triton.jit(do_not_specialize=_KEYS)
def keys_backward_kernel(
    qkv, grad_context, grad_qkv, log_sums, deltas, cu_seqlens, row_key, column_key,
    threshold, keep, scale, scale_log2, num_heads, max_length,
    HEAD: tl.constexpr, PADDED: tl.constexpr, Q: tl.constexpr, K: tl.constexpr,
    DROPS: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """The gradients of keys and values."""
    number, begin, length, head = place(cu_seqlens, num_heads)
    first = tl.program_id(1) * K
    if first < length:
        width = num_heads * HEAD
        heads = qkv + begin * 3 * width + head * HEAD
        grads = grad_context + begin * width + head * HEAD
        rows_K = first + tl.arange(0, K)
        k_KC = rows_of(heads + width, 3 * width, rows_K, length, HEAD, PADDED)
        v_KC = rows_of(heads + 2 * width, 3 * width, rows_K, length, HEAD, PADDED)
        grad_k_KC = tl.zeros((K, PADDED), tl.float32)
        grad_v_KC = tl.zeros((K, PADDED), tl.float32)
        for start in range(0, length, Q):
            rows_Q = start + tl.arange(0, Q)
            q_QC = rows_of(heads, 3 * width, rows_Q, length, HEAD, PADDED)
            grad_out_QC = rows_of(grads, width, rows_Q, length, HEAD, PADDED)
            statistics_Q = (begin + rows_Q) * num_heads + head
            log_sums_Q = tl.load(log_sums + statistics_Q, mask=rows_Q < length, other=0.0)
            delta_Q = tl.load(deltas + statistics_Q, mask=rows_Q < length, other=0.0)
            scores_QK = tl.dot(q_QC, tl.trans(k_KC), input_precision=PRECISION) * scale_log2
            inside = (rows_Q < length)[:, None] & (rows_K < length)[None, :]
            scores_QK = tl.where(inside, scores_QK, float("-inf"))
            probs_QK = tl.exp2(scores_QK - log_sums_Q[:, None])
            grad_QK = tl.dot(grad_out_QC, tl.trans(v_KC), input_precision=PRECISION) * keep
            kept_QK = probs_QK
            if DROPS:
                keys_Q = row_keys(number, max_length, rows_Q, row_key)
                stays_QK = kept(keys_Q, first, column_key, threshold, K)
                kept_QK = tl.where(stays_QK, probs_QK, 0.0)
                grad_QK = tl.where(stays_QK, grad_QK, 0.0)
            grad_QK = probs_QK * (grad_QK - delta_Q[:, None])
            kept_KQ = tl.trans(kept_QK.to(q_QC.dtype))
            grad_v_KC += tl.dot(kept_KQ, grad_out_QC, input_precision=PRECISION)
            grad_KQ = tl.trans(grad_QK.to(q_QC.dtype))
            grad_k_KC += tl.dot(grad_KQ, q_QC, input_precision=PRECISION)
        to = grad_qkv + begin * 3 * width + head * HEAD
        store_rows(to + width, 3 * width, rows_K, length, grad_k_KC * scale, HEAD, PADDED)
        store_rows(to + 2 * width, 3 * width, rows_K, length, grad_v_KC * keep, HEAD, PADDED)


def flash_attention(
    qkv_TX: Tensor,
    layout: SequenceLayout,
    num_heads: int,
    max_length: int,
    key: SiteKey | None,
    rate: float,
) -> Tensor:
    """`bert.attention.dense_attention` by these kernels: (T, 3D) to (T, D).

    float32, bfloat16 or float16; heads of 16 to 128 columns.
    """
    return _FlashAttention.apply(qkv_TX, layout, num_heads, max_length, key, rate)


class _FlashAttention(torch.autograd.Function):
    """Keeps inputs, outputs and the logarithm of each row's sum, to base 2."""

    @staticmethod
    def forward(ctx, qkv_TX, layout, num_heads, max_length, key, rate):
        qkv_TX = qkv_TX.contiguous()
        context_TD = qkv_TX.new_empty(len(qkv_TX), qkv_TX.shape[1] // 3)
        log_sums_TH = qkv_TX.new_empty(len(qkv_TX), num_heads, dtype=torch.float32)
        head_size = context_TD.shape[1] // num_heads
        queries, keys = _block(head_size, qkv_TX.dtype)
        shared = _Shared(head_size, qkv_TX.dtype, key, rate)
        forward_kernel[_grid(layout, num_heads, queries)](
            qkv_TX, context_TD, log_sums_TH, layout.cu_seqlens, *shared.drop,
            shared.scale_log2, num_heads, max_length, Q=queries, K=keys, **shared.constants,
        )  # fmt: skip
        ctx.save_for_backward(qkv_TX, context_TD, log_sums_TH)
        ctx.layout, ctx.shared, ctx.sizes = layout, shared, (num_heads, max_length)
        return context_TD

    @staticmethod
    @once_differentiable
    def backward(ctx, *grad_outputs):  # pyright: ignore[reportIncompatibleMethodOverride]
        qkv_TX, context_TD, log_sums_TH = ctx.saved_tensors
        layout, shared, (num_heads, _) = ctx.layout, ctx.shared, ctx.sizes
        grad_context_TD = grad_outputs[0].contiguous()
        grad_TX, deltas_TH = torch.empty_like(qkv_TX), torch.empty_like(log_sums_TH)
        queries, keys = _block(shared.constants["HEAD"], qkv_TX.dtype)
        rest = (
            grad_TX, log_sums_TH, deltas_TH, layout.cu_seqlens, *shared.drop,
            shared.scale, shared.scale_log2, *ctx.sizes,
        )  # fmt: skip
        blocks = {"Q": queries, "K": keys, **shared.constants}
        queries_backward_kernel[_grid(layout, num_heads, queries)](
            qkv_TX, context_TD, grad_context_TD, *rest, **blocks
        )
        keys_backward_kernel[_grid(layout, num_heads, keys)](
            qkv_TX, grad_context_TD, *rest, **blocks
        )
        return grad_TX, None, None, None, None, None


class _Shared:
    """What all kernels are given alike."""

    def __init__(
        self, head_size: int, dtype: torch.dtype, key: SiteKey | None, rate: float
    ) -> None:
        if key is None:
            key, rate = SiteKey(0, 0), 0.0
        self.drop = key.row_key, key.column_key, keep_limit(rate) + (1 << 15), keep_scale(rate)
        self.scale = head_size**-0.5
        self.scale_log2 = self.scale * math.log2(math.e)
        exact = torch.get_float32_matmul_precision() == "highest"
        self.constants = {
            "HEAD": head_size,
            "PADDED": max(16, triton.next_power_of_2(head_size)),
            "DROPS": rate > 0,
            "PRECISION": "ieee" if exact else "tf32",
            "num_warps": _num_warps(dtype),
        }


def _block(head_size: int, dtype: torch.dtype) -> tuple[int, int]:
    """Queries and keys of a program at a time.

    Such that compute capability 8.6's 99 KiB of shared memory hold them, and registers nearly all
    values, as the compiler reports them.
    """
    if dtype == torch.float32:
        return (16, 16) if head_size > 64 else (32, 32)
    return (64, 32) if head_size > 64 else (64, 64)


def _num_warps(dtype: torch.dtype) -> int:
    # Exact float32 products have no tensor cores: operands lie in registers, which more warps have.
    return 8 if dtype == torch.float32 else 4


def _grid(layout: SequenceLayout, num_heads: int, block: int) -> tuple[int, int]:
    """Programs beyond the end of a shorter sequence leave at once."""
    return layout.num_sequences * num_heads, triton.cdiv(layout.max_length, block)
