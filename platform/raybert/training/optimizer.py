"""AdamW over one worker's slice of the flat parameters.

The arithmetic is that of `torch.optim.AdamW(fused=True)`. On a CPU a compiled kernel does it where
there is one, with clipping in the same pass; else it is torch's own kernel, called through its
functional interface. The class itself is not used because its first step imports torch's compiler,
several seconds at each start of each worker.

Shape suffixes: N elements of a flat buffer, L of one worker's slice.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.optim.adamw import adamw

from bert import kernels
from raybert.training.flat import BLOCK_ELEMENTS, FlatParameters


@dataclass(frozen=True)
class AdamWSettings:
    """Loshchilov and Hutter 2019 (https://arxiv.org/abs/1711.05101), algorithm 2."""

    weight_decay: float = 0.01
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-6


class AdamW:
    """The optimizer of one slice of a model; the slices of all workers make up the whole.

    Attributes:
        exp_avg, exp_avg_sq: (L,), the moments of the slice.
        num_updates: float32 scalar on the device, updates applied so far (skipped ones excluded).
    """

    def __init__(self, flat: FlatParameters, rank: int, settings: AdamWSettings) -> None:
        owned = flat.slice_of(rank)
        self._settings = settings
        self._values_L = flat.values[owned]
        self.exp_avg = torch.zeros_like(self._values_L)
        self.exp_avg_sq = torch.zeros_like(self._values_L)
        self.num_updates = torch.zeros((), device=self._values_L.device)
        self._parts = [
            (part, settings.weight_decay if group.decays else 0.0, group.rate)
            for group in flat.groups
            if (part := _inside(group.elements, owned)) is not None
        ]

    def step(self, gradient_L: Tensor, learning_rate: float, skip: Tensor, factor: Tensor) -> None:
        """Updates the slice in place.

        Args:
            gradient_L: the slice's gradient; may be overwritten.
            learning_rate: of this step; a group's own is that times its factor.
            skip: float32 scalar on the device; where it is 1 nothing changes, and nobody waits to
                find out.
            factor: scalar on the device, what the gradient is multiplied with first.
        """
        if kernels.usable(gradient_L.device):
            self._compiled_step(gradient_L, learning_rate, skip, factor)
            return
        # Asking whether the factor is 1 would make the host wait for a GPU.
        gradient_L.mul_(factor)
        tensors = (self._values_L, gradient_L, self.exp_avg, self.exp_avg_sq)
        num_updates = [self.num_updates.clone() for _ in self._parts]
        for (part, weight_decay, rate), counted in zip(self._parts, num_updates, strict=True):
            values, gradient, exp_avg, exp_avg_sq = (tensor[part] for tensor in tensors)
            adamw(
                [values],
                [gradient],
                [exp_avg],
                [exp_avg_sq],
                [],
                [counted],
                fused=True,
                found_inf=skip,
                amsgrad=False,
                beta1=self._settings.beta1,
                beta2=self._settings.beta2,
                lr=learning_rate * rate,
                weight_decay=weight_decay,
                eps=self._settings.epsilon,
                maximize=False,
            )
        if num_updates:
            self.num_updates.copy_(num_updates[0])
        else:  # a slice of padding only: it counts along
            self.num_updates.add_(1 - skip)

    def _compiled_step(
        self, gradient_L: Tensor, learning_rate: float, skip: Tensor, factor: Tensor
    ) -> None:
        if skip != 0:
            return
        self.num_updates += 1
        tensors = (self._values_L, gradient_L, self.exp_avg, self.exp_avg_sq)
        for part, weight_decay, rate in self._parts:
            kernels.adamw_(
                *(tensor[part] for tensor in tensors),
                learning_rate=learning_rate * rate,
                beta1=self._settings.beta1,
                beta2=self._settings.beta2,
                epsilon=self._settings.epsilon,
                weight_decay=weight_decay,
                count=int(self.num_updates),
                gradient_factor=float(factor),
            )


def _inside(elements: slice, owned: slice) -> slice | None:
    """The part of a worker's slice that a range of the whole covers, counted from its begin."""
    start, stop = max(elements.start, owned.start), min(elements.stop, owned.stop)
    return slice(start - owned.start, stop - owned.start) if start < stop else None


def block_norms(values_L: Tensor) -> Tensor:
    """Euclidean norms of a slice's blocks: float32 (L / BLOCK_ELEMENTS,).

    A block's norm has the same bits whatever slice it lies in; that of a whole slice would not.
    """
    return torch.linalg.vector_norm(values_L.view(-1, BLOCK_ELEMENTS), dim=1)


def clip_factor(norm: Tensor, max_norm: float) -> Tensor:
    """What clipping multiplies gradients with, as `torch.nn.utils.clip_grad_norm_`: ≤ 1."""
    return (max_norm / (norm + 1e-6)).clamp(max=1.0)
