"""A model's trainable parameters and gradients as views of flat float32 buffers.

One buffer makes clipping, the optimizer and communication a handful of calls over long vectors
instead of hundreds over short ones, and lets any range of it belong to any worker (the idea of
ZeRO, Rajbhandari et al. 2020, https://arxiv.org/abs/1910.02054).

Shape suffix: N elements of a buffer, padding included.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

# A parameter starts on a 256-byte border, as torch's own allocations do: kernels stay fast, and no
# vectorised loop over a piece of the buffer has a scalar rest whose rounding would differ.
SLOT_ELEMENTS = 64

# The unit of slices and of partial norms. Where blocks begin doesn't depend on the workers.
BLOCK_ELEMENTS = 4096


@dataclass(frozen=True)
class Slot:
    """Where one parameter lies in the flat buffers; a tied parameter has one, by its first name."""

    name: str
    offset: int
    shape: torch.Size

    def view(self, flat_N: Tensor) -> Tensor:
        """This parameter's part of a buffer, in its shape."""
        return flat_N[self.offset : self.offset + self.shape.numel()].view(self.shape)


@dataclass(frozen=True)
class ParameterGroup:
    """Neighbours in the flat buffers that the optimizer treats alike.

    Attributes:
        elements: where they lie.
        decays: whether weight decay applies.
        rate: factor of the learning rate.
    """

    elements: slice
    decays: bool
    rate: float


def decays(name: str, parameter: nn.Parameter) -> bool:
    """Whether weight decay applies: not to biases, nor to LayerNorm's vectors (BERT, A.2)."""
    return parameter.ndim >= 2 and not name.endswith("bias")


class FlatParameters:
    """Takes over the memory of a model's trainable parameters, decaying ones first.

    The model must already be on its device. Parameters stay the same objects (so ties stay ties);
    their `.data` and `.grad` become views. Code that replaces `.data` or sets `.grad = None`
    breaks the connection.

    Args:
        model: what to train.
        num_slices: equal slices to cut the buffers into, one per worker.
        rate_of: factor of the learning rate by a parameter's name; by default 1 for all.

    Attributes:
        values: float32 (N,), the parameters, zeros between them.
        slots: one per distinct parameter.
        groups: what the optimizer treats alike, decaying ones first; they cover the parameters.
        num_used: elements up to the end of the last parameter; the layout up to there does not
            depend on num_slices.
        slice_elements: N / num_slices, a multiple of BLOCK_ELEMENTS.

    Raises:
        ValueError: nothing to train, or a parameter that is not float32.
    """

    def __init__(
        self,
        model: nn.Module,
        num_slices: int = 1,
        rate_of: Callable[[str], float] | None = None,
    ) -> None:
        named = {name: p for name, p in model.named_parameters() if p.requires_grad}
        if not named:
            raise ValueError("the model has no trainable parameter")
        for name, parameter in named.items():
            if parameter.dtype != torch.float32:
                raise ValueError(f"{name} is {parameter.dtype}; master weights must be float32")
        self.slots, self.groups = _lay_out(named, rate_of or (lambda _: 1.0))
        self.num_used = self.groups[-1].elements.stop
        self.slice_elements = _round_up(-(-self.num_used // num_slices), BLOCK_ELEMENTS)
        device = next(iter(named.values())).device
        self.values = torch.zeros(self.slice_elements * num_slices, device=device)
        with torch.no_grad():
            for slot in self.slots:
                parameter, view = named[slot.name], slot.view(self.values)
                view.copy_(parameter)
                parameter.data = view

    @property
    def num_blocks(self) -> int:
        """Blocks that hold parameters, the same for any number of slices."""
        return -(-self.num_used // BLOCK_ELEMENTS)

    def new_buffer(self) -> Tensor:
        """Zeros of the shape of `values`: for gradients or optimizer state."""
        return torch.zeros_like(self.values)

    def slice_of(self, rank: int) -> slice:
        """The elements that belong to one of the slices."""
        return slice(rank * self.slice_elements, (rank + 1) * self.slice_elements)

    def named_views(self, flat_N: Tensor) -> Iterator[tuple[str, Tensor]]:
        """(name, part of a buffer in the parameter's shape), in the buffer's order."""
        return ((slot.name, slot.view(flat_N)) for slot in self.slots)


def _lay_out(
    named: Mapping[str, nn.Parameter], rate_of: Callable[[str], float]
) -> tuple[tuple[Slot, ...], tuple[ParameterGroup, ...]]:
    kinds = {name: (not decays(name, p), -rate_of(name)) for name, p in named.items()}
    slots: list[Slot] = []
    groups: list[ParameterGroup] = []
    offset = 0
    for kind in sorted(set(kinds.values())):
        first = offset
        for name, parameter in named.items():
            if kinds[name] == kind:
                slots.append(Slot(name, offset, parameter.shape))
                offset += _round_up(parameter.numel(), SLOT_ELEMENTS)
        groups.append(ParameterGroup(slice(first, offset), not kind[0], -kind[1]))
    return tuple(slots), tuple(groups)


def _round_up(size: int, unit: int) -> int:
    return -(-size // unit) * unit
