"""Multi-head self-attention over packed sequences (Vaswani et al. 2017, section 3.2).

Sequences of one length that are neighbours go through one dense batched product: nothing is padded
and no mask exists, so attention cannot cross a sequence. Three backends compute the same thing:

- `dense`: our own forward and backward around batched matrix products, with dropout bits on the
  probabilities that depend on (sequence, head, query, key) alone;
- `sdpa`: torch's scaled_dot_product_attention, without dropout (its bits are a generator's);
- `flash`: `bert.triton_attention` on CUDA, with the bits of `dense` and no scores in memory.

Shape suffixes: T tokens, D hidden size, H heads, N sequences of a run, L their length, K head size.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from bert import kernels
from bert.batch import Run, SequenceLayout
from bert.dropout import SiteKey, column_keys, keep_scale, keep_signs, mix_bits_, row_keys

Backend = Literal["auto", "dense", "sdpa", "flash"]

_PORTION_SCORES = 1 << 20  # 4 MiB in float32: what one core's share of a cache holds


def choose_backend(
    dropping: bool, training: bool, override: Backend = "auto", flash: bool = False
) -> Backend:
    """The one place that decides how attention is computed.

    Args:
        dropping: whether attention probabilities are dropped in this call.
        training: whether a backward pass may follow.
        override: anything but "auto" is taken as it is; a backend that cannot do what is asked
            raises ValueError.
        flash: whether `bert.kernels` would have `flash` for these tensors.
    """
    if override not in get_args(Backend):
        raise ValueError(
            f"attention backend must be one of {', '.join(get_args(Backend))}, not {override!r}"
        )
    if override == "sdpa" and dropping:
        raise ValueError("attention backend 'sdpa' cannot drop by our bits; use 'dense' or 'auto'")
    if override != "auto":
        return override
    if flash:
        return "flash"
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
        head_size = self.qkv.in_features // self.num_heads
        flash = kernels.flash_usable(qkv_TX.device, qkv_TX.dtype, head_size)
        backend = choose_backend(rate > 0, qkv_TX.requires_grad, self.backend, flash)
        if backend == "sdpa":
            context_TD = sdpa_attention(qkv_TX, layout, self.num_heads)
        else:
            attention = flash_attention if backend == "flash" else dense_attention
            context_TD = attention(qkv_TX, layout, self.num_heads, self.max_length, dropout, rate)
        return self.output(context_TD)


def sdpa_attention(qkv_TX: Tensor, layout: SequenceLayout, num_heads: int) -> Tensor:
    """Attention without dropout through torch's kernels: (T, 3D) to (T, D)."""
    contexts = []
    for run in layout.runs:
        q, k, v = _split_heads(qkv_TX[run.tokens], run, num_heads)
        context_NHLK = F.scaled_dot_product_attention(q, k, v)
        contexts.append(context_NHLK.transpose(1, 2).reshape(-1, qkv_TX.shape[1] // 3))
    return torch.cat(contexts)


def flash_attention(
    qkv_TX: Tensor,
    layout: SequenceLayout,
    num_heads: int,
    max_length: int,
    key: SiteKey | None,
    rate: float,
) -> Tensor:
    """`dense_attention` by Triton's kernels; ValueError where they can't run."""
    obstacle = kernels.triton_obstacle(qkv_TX.device)
    if obstacle is not None:
        raise ValueError(f"attention backend 'flash': {obstacle}")
    from bert import triton_attention

    return triton_attention.flash_attention(qkv_TX, layout, num_heads, max_length, key, rate)


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


class _DenseAttention(torch.autograd.Function):
    """softmax(q kᵀ / √K) with elements dropped, times v, run by run.

    Between the passes the probabilities are kept with the dropout mask in their sign (a dropped one
    is negative): relu reads the kept ones, and no mask is stored. The gradient of the scores is
    P ∘ (M ∘ dP - δ) with the mask M and δ = rowsum(M ∘ dP ∘ P), which equals rowsum(dO ∘ O) (Dao et
    al. 2022, "FlashAttention", section B.2): a pass over (T, D) in place of one over the scores.
    """

    @staticmethod
    def forward(ctx, qkv_TX, layout, num_heads, max_length, key, rate):
        context_TD = qkv_TX.new_empty(qkv_TX.shape[0], qkv_TX.shape[1] // 3)
        precise = torch.promote_types(qkv_TX.dtype, torch.float32)
        bits = _AttentionBits(key, layout, num_heads, max_length) if rate > 0 else None
        runs, saved = [], []
        for portion in _portions(layout, num_heads):
            signs = [None] * len(portion) if bits is None else bits.signs(portion, rate)
            for run, sign in zip(portion, signs, strict=True):
                q, k, v = _heads(qkv_TX[run.tokens], run, num_heads)
                scores = _scaled_bmm(q, k.transpose(1, 2), q.shape[-1] ** -0.5)
                probs = torch.softmax(scores, dim=-1, dtype=precise)
                if sign is not None:
                    probs.copysign_(sign)
                probs = probs.to(qkv_TX.dtype)
                kept = probs if sign is None else probs.relu()
                _join_heads(context_TD[run.tokens], _scaled_bmm(kept, v, keep_scale(rate)), run)
                saved.append(probs)
                runs.append(run)
        ctx.save_for_backward(qkv_TX, context_TD, *saved)
        ctx.runs, ctx.num_heads, ctx.rate = runs, num_heads, rate
        return context_TD

    @staticmethod
    @once_differentiable
    def backward(ctx, *grad_outputs):  # pyright: ignore[reportIncompatibleMethodOverride]
        (grad_context_TD,) = grad_outputs
        qkv_TX, context_TD, *saved = ctx.saved_tensors
        num_heads, keep = ctx.num_heads, keep_scale(ctx.rate)
        scale = (context_TD.shape[1] // num_heads) ** -0.5
        grad_TX = torch.empty_like(qkv_TX)
        products_TD = grad_context_TD * context_TD
        delta_TH = products_TD.view(len(products_TD), num_heads, -1).sum(dim=-1)
        for run, signed in zip(ctx.runs, saved, strict=True):
            q, k, v = _heads(qkv_TX[run.tokens], run, num_heads)
            grad_out = _as_heads(grad_context_TD[run.tokens], run, num_heads)
            kept, probs = (signed.relu(), signed.abs()) if ctx.rate > 0 else (signed, signed)
            delta = _as_heads(delta_TH[run.tokens], run, num_heads)
            grad_scores = _scaled_bmm(grad_out, v.transpose(1, 2), keep)
            grad_scores.mul_(kept).addcmul_(probs, delta, value=-1)
            grads = (
                _scaled_bmm(grad_scores, k, scale),
                _scaled_bmm(grad_scores.transpose(1, 2), q, scale),
                _scaled_bmm(kept.transpose(1, 2), grad_out, keep),
            )
            split = grad_TX[run.tokens].view(run.num_sequences, run.length, 3, num_heads, -1)
            for place, grad in enumerate(grads):
                grad = grad.view(run.num_sequences, num_heads, run.length, -1)
                split[:, :, place] = grad.transpose(1, 2)
        return grad_TX, None, None, None, None, None


class _AttentionBits:
    """The dropout bits of one layer's attention probabilities."""

    def __init__(
        self, key: SiteKey, layout: SequenceLayout, num_heads: int, max_length: int
    ) -> None:
        device = layout.cu_seqlens.device
        heads_H = torch.arange(num_heads, dtype=torch.int32, device=device)
        blocks_TH = layout.sequences[:, None] * num_heads + heads_H
        self._rows_TH = row_keys(key, blocks_TH * max_length + layout.positions[:, None])
        self._columns_P = column_keys(key, layout.max_length, device)
        self._num_heads = num_heads

    def signs(self, runs: Sequence[Run], rate: float) -> list[Tensor]:
        """Per run float32 (N*H, L, L), negative where a probability is dropped.

        The runs' bits are made together, since most of them are small.
        """
        shapes = [
            (run.num_sequences, self._num_heads, run.length, (run.length + 1) // 2) for run in runs
        ]
        sums = self._rows_TH.new_empty(sum(map(math.prod, shapes)))
        parts = sums.split([math.prod(shape) for shape in shapes])
        for run, shape, part in zip(runs, shapes, parts, strict=True):
            rows = self._rows_TH[run.tokens].view(run.num_sequences, run.length, -1)
            columns_P = self._columns_P[: shape[-1]]
            torch.add(rows.transpose(1, 2).unsqueeze(-1), columns_P, out=part.view(shape))
        signs = keep_signs(mix_bits_(sums), rate)
        return [
            part.view(-1, run.length, 2 * shape[-1])[..., : run.length]
            for run, shape, part in zip(
                runs, shapes, signs.split([2 * part.numel() for part in parts]), strict=True
            )
        ]


def _portions(layout: SequenceLayout, num_heads: int) -> Iterator[list[Run]]:
    """The runs in portions whose scores stay in the cache, long runs split between sequences."""
    portion: list[Run] = []
    num_scores = 0
    for whole in layout.runs:
        scores_of_one = num_heads * whole.length**2
        for run in whole.split(max(1, _PORTION_SCORES // scores_of_one)):
            if portion and num_scores + run.num_sequences * scores_of_one > _PORTION_SCORES:
                yield portion
                portion, num_scores = [], 0
            portion.append(run)
            num_scores += run.num_sequences * scores_of_one
    yield portion


def _split_heads(qkv_RX: Tensor, run: Run, num_heads: int) -> Tensor:
    """A run's rows as (3, N, H, L, K), without copying."""
    split = qkv_RX.view(run.num_sequences, run.length, 3, num_heads, -1)
    return split.permute(2, 0, 3, 1, 4)


def _heads(qkv_RX: Tensor, run: Run, num_heads: int) -> tuple[Tensor, Tensor, Tensor]:
    """q, k, v of a run as (N*H, L, K): views for one sequence, one copy for several."""
    q, k, v = _split_heads(qkv_RX, run, num_heads).flatten(1, 2)
    return q, k, v


def _as_heads(values_RX: Tensor, run: Run, num_heads: int) -> Tensor:
    """A run's rows (N*L, H*X) as (N*H, L, X)."""
    split = values_RX.view(run.num_sequences, run.length, num_heads, -1)
    return split.transpose(1, 2).flatten(0, 1)


def _join_heads(out_RD: Tensor, heads: Tensor, run: Run) -> None:
    """Write (N*H, L, K) into a run's rows (N*L, H*K)."""
    heads = heads.view(run.num_sequences, -1, run.length, heads.shape[-1])
    out_RD.view(run.num_sequences, run.length, *heads.shape[1::2]).copy_(heads.transpose(1, 2))


def _scaled_bmm(a: Tensor, b: Tensor, scale: float) -> Tensor:
    """scale * (a @ b), the factor inside the product."""
    if scale == 1:
        return torch.bmm(a, b)
    out = a.new_empty(a.shape[0], a.shape[1], b.shape[2])
    return torch.baddbmm(out, a, b, beta=0, alpha=scale)
