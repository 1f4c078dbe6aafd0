"""Gradients added straight onto `.grad`, and low-precision weights cast once.

Both are the caller's choice, made by a context around forward and backward passes: what a training
step does again and again is done with one pass over memory instead of three.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar

import torch
from torch import Tensor

from bert import kernels, products

_direct: ContextVar[bool] = ContextVar("direct gradients", default=False)
_copies: ContextVar[dict[int, tuple[Tensor, Tensor]] | None] = ContextVar(
    "low-precision copies", default=None
)


@contextlib.contextmanager
def adding_directly() -> Iterator[None]:
    """Lets compiled layers add weight gradients onto `.grad` themselves.

    For forward passes inside, their backward passes hand no gradient of these weights to autograd:
    `torch.autograd.grad` and hooks on the weights see none. Weights whose `.grad` is None get
    theirs as ever.
    """
    token = _direct.set(True)
    try:
        yield
    finally:
        _direct.reset(token)


def is_direct() -> bool:
    """Whether a forward pass that begins now may add gradients directly."""
    return _direct.get()


@contextlib.contextmanager
def weights_cast_once() -> Iterator[None]:
    """Lets the forward passes inside share the low-precision copies of the weights.

    The weights must not change inside.
    """
    token = _copies.set({})
    try:
        yield
    finally:
        _copies.reset(token)


def in_format(weight: Tensor, dtype: torch.dtype) -> Tensor:
    """A weight in float32 or bfloat16."""
    if weight.dtype == dtype:
        return weight.detach()
    copies = _copies.get()
    if copies is None:
        return kernels.round_bf16(weight.detach())
    # The weight is kept beside its copy, so its id can't become another's.
    if id(weight) not in copies:
        copies[id(weight)] = weight, kernels.round_bf16(weight.detach())
    return copies[id(weight)][1]


def deliver(
    weight: Tensor,
    direct: bool,
    compute: Callable[[], Tensor],
    add_onto: Callable[[Tensor], None] | None = None,
) -> Tensor | None:
    """A weight's gradient onto its `.grad` if that may be done, else for autograd.

    Args:
        weight: a leaf, float32.
        direct: what `is_direct` said in the forward pass.
        compute: gives the gradient, in any number format.
        add_onto: adds it onto a float32 tensor, where that can be done without computing it apart.
    """
    if not weight.requires_grad:
        return None
    if not direct or weight.grad is None:
        return compute().to(weight.dtype)
    if add_onto is not None:
        add_onto(weight.grad)
    else:
        kernels.add_(weight.grad, compute())
    return None


def deliver_product(
    weight_OI: Tensor, direct: bool, grad_TO: Tensor, values_TI: Tensor
) -> Tensor | None:
    """The gradient of a linear layer's weight, `grad.T @ values`; see `deliver`."""

    def compute() -> Tensor:
        return products.multiply(grad_TO.t(), values_TI)

    def add_onto(out_OI: Tensor) -> None:
        if not products.add_product_(out_OI, grad_TO.t(), values_TI):
            kernels.add_(out_OI, compute())

    return deliver(weight_OI, direct, compute, add_onto)
