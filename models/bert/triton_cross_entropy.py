"""Cross-entropy over the vocabulary on a GPU: logits in, their gradient out, in the same memory.

Logits stay in the products' format; what is computed of them is float32. A program takes one row:
it reads it once for the highest score and the sum of exponentials, which is scaled anew whenever a
higher score turns up (Milakov and Gimelshein 2018, https://arxiv.org/abs/1805.02867), and once
more, then from the cache, to overwrite it. Nothing is added atomically: results are repeatable to
the bit. Imported only where Triton is installed (`bert.kernels.triton_obstacle`).

Shape suffixes: R rows, V vocabulary, P vocabulary padded to whole vectors of memory, C columns of a
block.
"""
# Inside a kernel, values are Triton's.
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportOperatorIssue=false
# pyright: reportIndexIssue=false, reportCallIssue=false

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

_COLUMNS = 8192
# Of so many warps a multiprocessor holds two to four programs: their rows fit the second cache.
_NUM_WARPS = 16


@triton.jit
def scores_of(row, bias, columns_C, vocab_size, width):
    """Logits and bias in float32, -inf beyond the vocabulary.

    Masked by the padded width, which is a multiple of 16: by the vocabulary's size, loads could not
    be of whole vectors.
    """
    inside = columns_C < width
    logits_C = tl.load(row + columns_C, mask=inside, other=0.0).to(tl.float32)
    bias_C = tl.load(bias + columns_C, mask=inside, other=0.0)
    return tl.where(columns_C < vocab_size, logits_C + bias_C, float("-inf"))


@triton.jit
def cross_entropy_kernel(
    logits, bias, labels, losses, correct, vocab_size, width,
    COLUMNS: tl.constexpr, WITH_GRADIENT: tl.constexpr,
):  # fmt: skip
    number = tl.program_id(0).to(tl.int64)  # times the width it may not fit 32 bits
    row = logits + number * width
    label = tl.load(labels + number)
    score = tl.load(row + label).to(tl.float32) + tl.load(bias + label)
    highest = tl.full((), float("-inf"), tl.float32)
    total = tl.zeros((), tl.float32)
    for first in range(0, width, COLUMNS):
        columns_C = first + tl.arange(0, COLUMNS)
        scores_C = scores_of(row, bias, columns_C, vocab_size, width)
        higher = tl.maximum(highest, tl.max(scores_C, 0))
        # As long as all scores are -inf: the difference of two of them would be no number.
        origin = tl.where(higher == float("-inf"), 0.0, higher)
        total = total * tl.exp(highest - origin) + tl.sum(tl.exp(scores_C - origin), 0)
        highest = higher
    # In this order a large score is gone before the logarithm is added.
    tl.store(losses + number, (highest - score) + tl.log(total))
    tl.store(correct + number, (score >= highest).to(tl.int32))
    if WITH_GRADIENT:
        for first in range(0, width, COLUMNS):
            columns_C = first + tl.arange(0, COLUMNS)
            scores_C = scores_of(row, bias, columns_C, vocab_size, width)
            grad_C = tl.exp(scores_C - highest) / total
            grad_C = tl.where(columns_C == label, grad_C - 1.0, grad_C)
            to = row + columns_C
            tl.store(to, grad_C.to(logits.dtype.element_ty), mask=columns_C < width)


def cross_entropy_(
    logits_RP: Tensor, bias_V: Tensor, labels_R: Tensor, with_gradient: bool = True
) -> tuple[Tensor, Tensor]:
    """Cross-entropy of the first V columns plus bias against labels, all of which count.

    Args:
        logits_RP: contiguous, float32, bfloat16 or float16; P is a multiple of 16, and what lies
            beyond the vocabulary doesn't matter.
        with_gradient: the logits are overwritten with softmax - onehot, zeros beyond the
            vocabulary; else they stay.

    Returns:
        Losses, float32 (R,), and 1 where no score is higher than the label's, int32 (R,).
    """
    num_rows, width = logits_RP.shape
    vocab_size = len(bias_V)
    assert logits_RP.is_contiguous()
    assert vocab_size <= width
    losses_R = logits_RP.new_empty(num_rows, dtype=torch.float32)
    correct_R = logits_RP.new_empty(num_rows, dtype=torch.int32)
    bias_P = losses_R.new_zeros(width)
    bias_P[:vocab_size] = bias_V
    if num_rows > 0:
        cross_entropy_kernel[(num_rows,)](
            logits_RP, bias_P, labels_R.contiguous(), losses_R, correct_R, vocab_size, width,
            COLUMNS=min(_COLUMNS, triton.next_power_of_2(width)), WITH_GRADIENT=with_gradient,
            num_warps=_NUM_WARPS,
        )  # fmt: skip
    return losses_R, correct_R
