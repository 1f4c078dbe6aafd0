"""Multi-head self-attention over packed sequences (Vaswani et al. 2017, section 3.2).

Sequences of one length that are neighbours go through one dense batched product: nothing is padded
and no mask exists, so attention cannot cross a sequence. Two backends compute the same thing:

- `dense`: our own forward and backward around batched matrix products, with dropout bits on the
  probabilities that depend on (sequence, head, query, key) alone;
- `sdpa`: torch's scaled_dot_product_attention, without dropout (its bits are a generator's).

Shape suffixes: T tokens, D hidden size, H heads, N sequences of a run, L their length, K head size.
"""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from bert.batch import Run, SequenceLayout
from bert.dropout import SiteKey, attention_rows, drop_mask, keep_scale

Backend = Literal["auto", "dense", "sdpa"]


def choose_backend(dropping: bool, training: bool, override: Backend = "auto") -> Backend:
    """The one place that decides how attention is computed.

    Args:
        dropping: whether attention probabilities are dropped in this call.
        training: whether a backward pass may follow.
        override: anything but "auto" is taken as it is; a backend that cannot do what is asked
            raises ValueError.
    """
    if override not in get_args(Backend):
        raise ValueError(
            f"attention backend must be one of {', '.join(get_args(Backend))}, not {override!r}"
        )
    if override == "sdpa" and dropping:
        raise ValueError("attention backend 'sdpa' cannot drop by our bits; use 'dense' or 'auto'")
    if override != "auto":
        return override
    return "dense" if training else "sdpa"


class MultiHeadSelfAttention(nn.Module):
    """Self-attention with one fused query-key-value projection.

    Args:
        hidden_size: D.
        num_heads: H, a divisor of D.
        dropout: rate on the attention probabilities.
        max_length: longest sequence; it spaces the dropout counters of the sequences.
        backend: "auto", or what to use whatever the call is.
    """

    def __init__(
        self,
        hidden_size: int,
        num_heads: int,
        dropout: float = 0.1,
        max_length: int = 512,
        backend: Backend = "auto",
    ) -> None:
        super().__init__()
        if hidden_size % num_heads:
            raise ValueError(f"{num_heads} heads do not divide a hidden size of {hidden_size}")
        self.num_heads = num_heads
        self.dropout = dropout
        self.max_length = max_length
        self.backend: Backend = backend
        self.qkv = nn.Linear(hidden_size, 3 * hidden_size)
        self.output = nn.Linear(hidden_size, hidden_size)

    def forward(
        self, hidden_TD: Tensor, layout: SequenceLayout, dropout: SiteKey | None = None
    ) -> Tensor:
        """(T, D) to (T, D), each sequence by itself; `dropout` None drops nothing."""
        qkv_TX = self.qkv(hidden_TD)
        rate = 0.0 if dropout is None else self.dropout
        backend = choose_backend(rate > 0, qkv_TX.requires_grad, self.backend)
        if backend == "sdpa":
            context_TD = sdpa_attention(qkv_TX, layout, self.num_heads)
        else:
            context_TD = dense_attention(
                qkv_TX, layout, self.num_heads, self.max_length, dropout, rate
            )
        return self.output(context_TD)


def sdpa_attention(qkv_TX: Tensor, layout: SequenceLayout, num_heads: int) -> Tensor:
    """Attention without dropout through torch's kernels: (T, 3D) to (T, D)."""
    contexts = []
    for run in layout.runs:
        q, k, v = _split_heads(qkv_TX[run.tokens], run, num_heads).permute(2, 0, 3, 1, 4)
        context_NHLK = F.scaled_dot_product_attention(q, k, v)
        contexts.append(context_NHLK.transpose(1, 2).reshape(-1, qkv_TX.shape[1] // 3))
    return torch.cat(contexts)


def dense_attention(
    qkv_TX: Tensor,
    layout: SequenceLayout,
    num_heads: int,
    max_length: int,
    key: SiteKey | None,
    rate: float,
) -> Tensor:
    """Attention with dropout on the probabilities: (T, 3D) to (T, D)."""
    if key is None:
        rate = 0.0
    return _DenseAttention.apply(qkv_TX, layout, num_heads, max_length, key, rate)


def _split_heads(qkv_RX: Tensor, run: Run, num_heads: int) -> Tensor:
    """A run's rows as (N, L, 3, H, K), without copying."""
    return qkv_RX.view(run.num_sequences, run.length, 3, num_heads, -1)


class _DenseAttention(torch.autograd.Function):
    """softmax(q kᵀ / √K) with elements dropped, times v, run by run.

    Between the passes the probabilities are kept with the dropout mask in their sign (a dropped one
    is negative): relu reads the kept ones, threshold_backward masks their gradient, and no mask is
    stored.
    The softmax's backward needs rowsum(dP * P), which equals rowsum(dO * O) (Dao et al. 2022,
    "FlashAttention", section B.2): a pass over (T, D) in place of one over the probabilities.
    """

    @staticmethod
    def forward(ctx, qkv_TX, layout, num_heads, max_length, key, rate):
        context_TD = qkv_TX.new_empty(qkv_TX.shape[0], qkv_TX.shape[1] // 3)
        precise = torch.promote_types(qkv_TX.dtype, torch.float32)
        saved = []
        for run in layout.runs:
            q, k, v = _heads(qkv_TX[run.tokens], run, num_heads)
            scores = _scaled_bmm(q, k.transpose(1, 2), 1 / math.sqrt(q.shape[-1]))
            signed = torch.softmax(scores, dim=-1, dtype=precise).to(qkv_TX.dtype)
            if rate > 0:
                rows = attention_rows(
                    run.first_sequence,
                    run.num_sequences,
                    num_heads,
                    run.length,
                    max_length,
                    qkv_TX.device,
                )
                dropped = drop_mask(key, rows, run.length, rate).view(signed.shape)
                signed = torch.where(dropped, -signed, signed)
            context = _scaled_bmm(signed.relu() if rate > 0 else signed, v, keep_scale(rate))
            _join_heads(context_TD[run.tokens], context, run, num_heads)
            saved.append(signed)
        ctx.save_for_backward(qkv_TX, context_TD, *saved)
        ctx.layout, ctx.num_heads, ctx.rate = layout, num_heads, rate
        return context_TD

    @staticmethod
    @once_differentiable
    def backward(ctx, *grad_outputs):  # pyright: ignore[reportIncompatibleMethodOverride]
        (grad_context_TD,) = grad_outputs
        qkv_TX, context_TD, *saved = ctx.saved_tensors
        num_heads, rate = ctx.num_heads, ctx.rate
        scale = 1 / math.sqrt(context_TD.shape[1] // num_heads)
        grad_TX = torch.empty_like(qkv_TX)
        products_TD = grad_context_TD * context_TD
        delta_TH = products_TD.view(len(products_TD), num_heads, -1).sum(dim=-1)
        for run, signed in zip(ctx.layout.runs, saved, strict=True):
            q, k, v = _heads(qkv_TX[run.tokens], run, num_heads)
            grad_out = _as_heads(grad_context_TD[run.tokens], run, num_heads)
            grad_probs = _scaled_bmm(grad_out, v.transpose(1, 2), keep_scale(rate))
            if rate > 0:
                grad_probs = torch.ops.aten.threshold_backward(grad_probs, signed, 0)
                kept, probs = signed.relu(), signed.abs()
            else:
                kept = probs = signed
            grad_v = _scaled_bmm(kept.transpose(1, 2), grad_out, keep_scale(rate))
            delta = delta_TH[run.tokens].view(run.num_sequences, run.length, num_heads)
            grad_probs -= delta.transpose(1, 2).reshape(-1, run.length, 1)
            grad_scores = grad_probs.mul_(probs)
            grad_q = _scaled_bmm(grad_scores, k, scale)
            grad_k = _scaled_bmm(grad_scores.transpose(1, 2), q, scale)
            split = _split_heads(grad_TX[run.tokens], run, num_heads)
            for place, grad in enumerate((grad_q, grad_k, grad_v)):
                split[:, :, place] = grad.view(
                    run.num_sequences, num_heads, run.length, -1
                ).transpose(1, 2)
        return grad_TX, None, None, None, None, None


def _heads(qkv_RX: Tensor, run: Run, num_heads: int) -> tuple[Tensor, Tensor, Tensor]:
    """q, k, v of a run as (N*H, L, K): views for one sequence, one copy for several."""
    q, k, v = _split_heads(qkv_RX, run, num_heads).permute(2, 0, 3, 1, 4).flatten(1, 2)
    return q, k, v


def _as_heads(values_RD: Tensor, run: Run, num_heads: int) -> Tensor:
    """A run's rows (N*L, D) as (N*H, L, K)."""
    split = values_RD.view(run.num_sequences, run.length, num_heads, -1)
    return split.transpose(1, 2).flatten(0, 1)


def _join_heads(out_RD: Tensor, heads: Tensor, run: Run, num_heads: int) -> None:
    """Write (N*H, L, K) into a run's rows (N*L, D)."""
    split = out_RD.view(run.num_sequences, run.length, num_heads, -1)
    split.copy_(heads.view(run.num_sequences, num_heads, run.length, -1).transpose(1, 2))


def _scaled_bmm(a: Tensor, b: Tensor, scale: float) -> Tensor:
    """scale * (a @ b), the factor inside the product."""
    if scale == 1:
        return torch.bmm(a, b)
    out = a.new_empty(a.shape[0], a.shape[1], b.shape[2])
    return torch.baddbmm(out, a, b, beta=0, alpha=scale)
