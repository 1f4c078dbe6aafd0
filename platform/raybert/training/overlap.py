"""The gradient's way between workers, begun while the backward pass still computes the rest of it.

The flat buffer is cut into buckets, each inside of one worker's slice. During the backward pass of
a worker's last micro-shard, a bucket whose parameters all have their final gradient is added over
the workers to the one that owns it; the next kernels run meanwhile. Workers must call collectives
in one order, so there is one order of buckets, as in torch's DistributedDataParallel (Li et al.
2020, https://arxiv.org/abs/2006.15704): a bucket that is ready waits for those before it. It is the
order in which they became ready in worker 0's first step. What isn't ready when the pass has ended,
such as parameters that got no gradient, follows then.

A gradient is final when the node at which its parts meet has run, once in a backward pass: after
all uses of a tied weight, and also where compiled layers have added to `.grad` themselves and hand
it nothing (`bert.gradients.adding_directly`); hooks on the weights would not see those.

Shape suffixes: N elements of a flat buffer, L of one worker's slice.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.autograd.graph import get_gradient_edge

from raybert.training.flat import FlatParameters
from raybert.training.group import WorkerGroup
from raybert.training.reduction import FastReduction

# As DistributedDataParallel has it: long enough for a network, short against a model.
BUCKET_ELEMENTS = 25 * 2**20 // 4


@dataclass(frozen=True)
class Bucket:
    """Elements of the flat buffer that are sent at once.

    Attributes:
        owner: the worker whose slice they lie in.
        slots: places in `FlatParameters.slots` of the parameters that reach into it.
    """

    elements: slice
    owner: int
    slots: tuple[int, ...]


def cut(flat: FlatParameters, bucket_elements: int) -> tuple[Bucket, ...]:
    """Buckets that cover all parameters once, in the buffer's order.

    They are also cut between groups: biases and norms of all layers lie together, and the last of
    them would keep weights of other layers waiting.
    """
    slices = range(0, flat.num_used, flat.slice_elements)
    borders = {*slices, *(group.elements.start for group in flat.groups), flat.num_used}
    return tuple(
        Bucket(
            slice(start, min(start + bucket_elements, end)),
            start // flat.slice_elements,
            tuple(_reaching_into(flat, start, min(start + bucket_elements, end))),
        )
        for begin, end in pairwise(sorted(borders))
        for start in range(begin, end, bucket_elements)
    )


def _reaching_into(flat: FlatParameters, start: int, stop: int) -> Iterator[int]:
    for place, slot in enumerate(flat.slots):
        if slot.offset < stop and start < slot.offset + slot.shape.numel():
            yield place


def pays(device: torch.device) -> bool:
    """Whether to overlap unless told: a GPU sends beside its kernels, a CPU on the same cores."""
    return device.type == "cuda"


class OverlappedReduction(FastReduction):
    """Adds as `FastReduction`, bucket by bucket, as soon as buckets are ready.

    Where a worker has several sums, which are final after the passes only, it sends all of them
    then; workers may differ in it.

    Args:
        model: whose backward passes fill the buffers.
        flat: its parameters.
        group: the workers.
        bucket_elements: the longest bucket.
    """

    def __init__(
        self,
        model: nn.Module,
        flat: FlatParameters,
        group: WorkerGroup,
        bucket_elements: int = BUCKET_ELEMENTS,
    ) -> None:
        super().__init__(group)
        self._own = flat.slice_of(group.rank)
        self._buckets = cut(flat, bucket_elements)
        self._order = list(range(len(self._buckets)))
        self._order_is_known = False
        self._of_slot = [
            [place for place, bucket in enumerate(self._buckets) if slot in bucket.slots]
            for slot in range(len(flat.slots))
        ]
        self._sum_N: Tensor | None = None
        self._awaited: set[int] = set()
        self._missing: list[int] = []
        self._became_ready: list[int] = []
        self._sending: list[dist.Work] = []
        # A weight alone would let go of its node at the end of each pass, and of the hook with it.
        weights = [model.get_parameter(slot.name) for slot in flat.slots]
        self._nodes = [get_gradient_edge(weight).node for weight in weights]
        for place, node in enumerate(self._nodes):
            node.register_hook(partial(self._arrived, place))

    def begin(self, sum_N: Tensor) -> None:
        """This worker's only sum lacks one backward pass, which comes next: watches it."""
        self._sum_N = sum_N
        self._awaited = set(range(len(self._of_slot)))
        self._missing = [len(bucket.slots) for bucket in self._buckets]
        self._became_ready = []
        self._sending = []

    def reduce(self, sums_N: list[Tensor]) -> Tensor:
        (sum_N,) = sums_N
        if self._sum_N is None:
            self.begin(sum_N)
        self._missing = [0] * len(self._buckets)
        self._send_what_is_ready()
        for work in self._sending:
            work.wait()
        self._sum_N = None
        if not self._order_is_known:
            self._agree_on_the_order(sum_N.device)
        return sum_N[self._own]

    def _arrived(self, slot: int, *_: object) -> None:
        """A parameter's gradient is complete; called in the backward pass, by its thread."""
        if self._sum_N is None:
            return
        if slot not in self._awaited:
            raise RuntimeError(
                "a weight got its gradient in two parts in one backward pass: the first may have "
                "been sent alone; reduction 'canonical' adds after the pass"
            )
        self._awaited.remove(slot)
        for place in self._of_slot[slot]:
            self._missing[place] -= 1
            if self._missing[place] == 0:
                self._became_ready.append(place)
        self._send_what_is_ready()

    def _send_what_is_ready(self) -> None:
        assert self._sum_N is not None
        for place in self._order[len(self._sending) :]:
            if self._missing[place] > 0:
                return
            bucket = self._buckets[place]
            part = self._sum_N[bucket.elements]
            self._sending.append(self._group.begin_adding_(part, bucket.owner))

    def _agree_on_the_order(self, device: torch.device) -> None:
        """Worker 0's; the only time that a worker waits for its device."""
        late = [place for place in self._order if place not in self._became_ready]
        order = torch.tensor(self._became_ready + late, device=device)
        self._group.broadcast_(order)
        self._order = order.tolist()
        self._order_is_known = True
