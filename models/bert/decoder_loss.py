"""Cross-entropy over the vocabulary, with its decoder, as one autograd node.

The (M, V) logits are the largest tensor of a training step. Here they are written once, turned into
probabilities and then into their own gradient in place; nothing of that size is copied. On CUDA
`bert.triton_cross_entropy` does it in the products' format, where `bert.kernels` finds it usable.

Shape suffixes: M masked tokens, D hidden size, V vocabulary, R rows of a block, P vocabulary padded
to cache lines.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from bert import compiled, kernels

_BLOCK_LOGITS = 1 << 24  # 64 MiB in float32
_ROW_ALIGNMENT = 16  # float32 of a cache line; odd row strides cost a matrix product a third


def decoder_cross_entropy(
    hidden_MD: Tensor, table_VD: Tensor, bias_V: Tensor, labels_M: Tensor
) -> tuple[Tensor, Tensor]:
    """Summed cross-entropy of `hidden_MD @ table_VD.T + bias_V` against labels, all of which count.

    Under autocast the products run in its dtype, everything else in float32.

    Returns:
        The sum, a float32 scalar with gradient, and how many labels have the highest score, an
        int64 scalar.
    """
    if dtype := compiled.number_format(table_VD):
        return compiled.decode(hidden_MD, table_VD, bias_V, labels_M, dtype)
    return _DecoderCrossEntropy.apply(hidden_MD, table_VD, bias_V, labels_M)


class _DecoderCrossEntropy(torch.autograd.Function):
    """Saves, per block of rows, softmax - onehot: the gradient of the logits."""

    @staticmethod
    def forward(ctx, hidden_MD, table_VD, bias_V, labels_M):
        device = hidden_MD.device.type
        low = torch.is_autocast_enabled(device)
        dtype = torch.get_autocast_dtype(device) if low else hidden_MD.dtype
        ctx.dtypes = hidden_MD.dtype, table_VD.dtype, bias_V.dtype
        hidden_MD, table_VD = hidden_MD.to(dtype), table_VD.to(dtype)
        needs_gradient = any(ctx.needs_input_grad)
        fused = kernels.cross_entropy_usable(hidden_MD.device, dtype)
        part = _fused if fused else _plain
        ctx.blocks = _blocks(len(labels_M), len(table_VD), fused)
        loss = torch.zeros((), dtype=torch.promote_types(dtype, torch.float32), device=device)
        correct = torch.zeros((), dtype=torch.int64, device=device)
        gradients = []
        with torch.autocast(device, enabled=False):
            for rows in ctx.blocks:
                losses, right, gradient_RP = part(
                    hidden_MD[rows], table_VD, bias_V, labels_M[rows], needs_gradient
                )
                loss += losses
                correct += right
                if needs_gradient:
                    gradients.append(gradient_RP)
        ctx.save_for_backward(hidden_MD, table_VD, *gradients)
        ctx.mark_non_differentiable(correct)
        return loss, correct

    @staticmethod
    @once_differentiable
    def backward(ctx, *grad_outputs):  # pyright: ignore[reportIncompatibleMethodOverride]
        hidden_MD, table_VD, *gradients = ctx.saved_tensors
        hidden_dtype, table_dtype, bias_dtype = ctx.dtypes
        scale = grad_outputs[0]
        vocab_size = len(table_VD)
        scaled_MD = hidden_MD * scale.to(hidden_MD.dtype)
        grad_hidden_MD = torch.empty_like(hidden_MD)
        grad_table_VD = torch.empty_like(table_VD, dtype=table_dtype)
        if not gradients:
            grad_table_VD.zero_()
        grad_bias_V = torch.zeros(vocab_size, dtype=bias_dtype, device=table_VD.device)
        for rows, padded in zip(ctx.blocks, gradients, strict=True):
            grad_RV = padded[:, :vocab_size]
            torch.mm(grad_RV, table_VD, out=grad_hidden_MD[rows])
            if table_dtype == table_VD.dtype:
                # beta 0: the first block overwrites what the allocator left.
                beta = int(rows.start > 0)
                grad_table_VD.addmm_(grad_RV.t(), scaled_MD[rows], beta=beta)
            elif rows.start == 0:
                grad_table_VD.copy_(grad_RV.t() @ scaled_MD[rows])
            else:
                grad_table_VD += grad_RV.t() @ scaled_MD[rows]
            grad_bias_V += grad_RV.sum(dim=0, dtype=bias_dtype)
        return (grad_hidden_MD * scale).to(hidden_dtype), grad_table_VD, grad_bias_V * scale, None


def _blocks(num_rows: int, vocab_size: int, fused: bool) -> list[slice]:
    """Rows to take at a time: few where float32 logits lie beside the gradients, else all."""
    rows_per_block = max(1, num_rows if fused else _BLOCK_LOGITS // vocab_size)
    return [
        slice(start, min(start + rows_per_block, num_rows))
        for start in range(0, num_rows, rows_per_block)
    ]


def _plain(
    hidden_RD: Tensor, table_VD: Tensor, bias_V: Tensor, labels_R: Tensor, needs_gradient: bool
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Summed loss, right guesses and, if needed, softmax - onehot (R, P) of some rows."""
    dtype = torch.promote_types(hidden_RD.dtype, torch.float32)
    logits_RP = _logits(hidden_RD, table_VD, bias_V, dtype)
    labels_R1 = labels_R[:, None]
    scores_R1 = logits_RP.gather(1, labels_R1)
    highest_R1 = logits_RP.amax(dim=1, keepdim=True)
    probs_RP = torch.softmax(logits_RP, dim=1, out=logits_RP)
    # The highest probability is 1 / sum(exp(logits - highest)).
    loss = (highest_R1 - probs_RP.amax(dim=1, keepdim=True).log() - scores_R1).sum()
    correct = (scores_R1 >= highest_R1).sum()
    if not needs_gradient:
        return loss, correct, None
    probs_RP.scatter_add_(1, labels_R1, -torch.ones_like(scores_R1))
    return loss, correct, probs_RP.to(hidden_RD.dtype)


def _fused(
    hidden_RD: Tensor, table_VD: Tensor, bias_V: Tensor, labels_R: Tensor, needs_gradient: bool
) -> tuple[Tensor, Tensor, Tensor | None]:
    """`_plain` by Triton's kernel, which adds the bias."""
    from bert import triton_cross_entropy

    vocab_size = len(table_VD)
    logits_RP = hidden_RD.new_empty(len(hidden_RD), _padded(vocab_size))
    torch.mm(hidden_RD, table_VD.t(), out=logits_RP[:, :vocab_size])
    losses_R, correct_R = triton_cross_entropy.cross_entropy_(
        logits_RP, bias_V, labels_R, needs_gradient
    )
    return losses_R.sum(), correct_R.sum(), logits_RP if needs_gradient else None


def _padded(vocab_size: int) -> int:
    return -(-vocab_size // _ROW_ALIGNMENT) * _ROW_ALIGNMENT


def _logits(hidden_RD: Tensor, table_VD: Tensor, bias_V: Tensor, dtype: torch.dtype) -> Tensor:
    """(R, P) logits, -inf beyond the vocabulary: no probability."""
    vocab_size = len(table_VD)
    logits_RP = hidden_RD.new_empty(len(hidden_RD), _padded(vocab_size), dtype=dtype)
    logits_RP[:, vocab_size:] = -torch.inf
    inside_RV = logits_RP[:, :vocab_size]
    if hidden_RD.dtype == dtype:
        torch.addmm(bias_V, hidden_RD, table_VD.t(), out=inside_RV)
    else:
        torch.add(hidden_RD @ table_VD.t(), bias_V, out=inside_RV)
    return logits_RP
