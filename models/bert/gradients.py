"""Gradients added straight onto `.grad`, and low-precision weights cast once.

Both are the caller's choice, made by a context around forward and backward passes: what a training
step does again and again is done with one pass over memory instead of three.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from contextvars import ContextVar

import torch
from torch import Tensor

from bert import kernels, products

_direct: ContextVar[bool] = ContextVar("direct gradients", default=False)


class WeightCopies:
    """bfloat16 copies of weights, each made when it is first asked for, by any thread.

    Weights that share memory share their copy.
    """

    def __init__(self) -> None:
        self._found: dict[tuple[int, torch.Size], tuple[Tensor, Tensor]] = {}
        self._lock = threading.Lock()

    def of(self, weight: Tensor) -> Tensor:
        """The copy of a float32 weight."""
        # The weight is kept beside its copy, so its address can't become another's.
        key = weight.data_ptr(), weight.shape
        if key not in self._found:
            with self._lock:
                if key not in self._found:
                    weight = weight.detach()
                    self._found[key] = weight, kernels.round_bf16(weight)
        return self._found[key][1]

    def renew(self) -> None:
        """Makes the copies anew, in place, after the weights have changed."""
        for weight, copy in self._found.values():
            kernels.round_bf16(weight, copy)


_copies: ContextVar[WeightCopies | None] = ContextVar("low-precision copies", default=None)


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
def weights_cast_once(copies: WeightCopies | None = None) -> Iterator[None]:
    """Lets the forward passes inside share the low-precision copies of the weights.

    The weights must not change inside.

    Args:
        copies: where they are kept; by default they end with the context.
    """
    token = _copies.set(WeightCopies() if copies is None else copies)
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
    return copies.of(weight)


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
