"""Several micro-shards of a worker computed side by side, each by threads of its own.

The threads of one operation wait for each other at its end, some five hundred times in a step, and
between operations all but one wait for Python. Micro-shards have nothing to wait for: each lane
runs the passes of one, with its operands in the caches of its own cores. The price is a gradient
buffer per lane, and one pass over it to add it to the others.

Shape suffix: N elements of a flat buffer.
"""

from __future__ import annotations

import contextvars
import copy
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from itertools import islice

import torch
from torch import Tensor, nn

from raybert.training.flat import Slot
from raybert.training.precision import casts_shared_by_threads
from raybert.training.reduction import GradientStack
from raybert.training.tree import AddNewestTwo, Instruction, SumLeaves

Compute = Callable[[nn.Module, int], None]


class Lane:
    """A model whose backward passes add onto the buffer that is bound to it."""

    def __init__(self, model: nn.Module, slots: Sequence[Slot]) -> None:
        self.model = model
        self._slots = slots
        self._parameters = [model.get_parameter(slot.name) for slot in slots]
        self._bound_N: Tensor | None = None

    def bind(self, flat_N: Tensor) -> None:
        """Makes every trained parameter's `.grad` a view of this buffer."""
        if self._bound_N is flat_N:
            return
        for slot, parameter in zip(self._slots, self._parameters, strict=True):
            parameter.grad = slot.view(flat_N)
        self._bound_N = flat_N


class Lanes:
    """The lanes of one worker.

    Args:
        model: on its device, its trained parameters in `slots`.
        slots: of the flat buffers.
        num_lanes: micro-shards to compute at once.
        num_threads: of each lane; None: this process's, which takes one lane.

    Attributes:
        count: lanes.
    """

    def __init__(
        self, model: nn.Module, slots: Sequence[Slot], num_lanes: int, num_threads: int | None
    ) -> None:
        assert num_threads is not None or num_lanes == 1
        models = [model, *(_sharing_weights(model) for _ in range(num_lanes - 1))]
        self._lanes = [Lane(each, slots) for each in models]
        self.count = num_lanes
        self._pool = None if num_threads is None else _start(num_lanes, num_threads)

    def accumulate(
        self,
        plan: Sequence[Instruction],
        gradients: GradientStack,
        compute: Compute,
        before_last: Callable[[Tensor], None] | None = None,
    ) -> None:
        """Carries out a plan; partial sums are left on the stack.

        Args:
            compute: forward and backward passes of a micro-shard, called in several threads.
            before_last: where the plan is one sum, called with it before the last micro-shard is
                computed; that one's backward pass makes it final.

        Raises:
            Exception: what `compute` raised first in the plan's order, once no lane is at work.
        """
        if len(plan) > 1:
            before_last = None
        sums = (instruction for instruction in plan if isinstance(instruction, SumLeaves))
        computed: deque[Tensor] = deque()
        for instruction in plan:
            if isinstance(instruction, AddNewestTwo):
                gradients.add_newest_two()
                continue
            if not computed:
                turn = list(islice(sums, self.count))
                buffers = [gradients.spare() for _ in turn]
                self._compute(turn, buffers, compute, before_last)
                computed.extend(buffers)
            gradients.push(computed.popleft())

    def _compute(
        self,
        turn: Sequence[SumLeaves],
        buffers: Sequence[Tensor],
        compute: Compute,
        before_last: Callable[[Tensor], None] | None,
    ) -> None:
        work = list(zip(self._lanes, turn, buffers, strict=False))
        if self._pool is None:
            for lane, leaves, sum_N in work:
                _sum(lane, leaves, sum_N, compute, before_last)
            return
        # A copy for each: two threads can't be inside of one context.
        futures = [
            self._pool.submit(contextvars.copy_context().run, _sum, *parts, compute, before_last)
            for parts in work
        ]
        wait(futures)
        for future in futures:
            future.result()


def _sum(
    lane: Lane,
    instruction: SumLeaves,
    sum_N: Tensor,
    compute: Compute,
    before_last: Callable[[Tensor], None] | None,
) -> None:
    lane.bind(sum_N.zero_())
    with casts_shared_by_threads():
        for leaf in instruction.leaves:
            if before_last is not None and leaf == instruction.leaves[-1]:
                before_last(sum_N)
            compute(lane.model, leaf)


def _sharing_weights(model: nn.Module) -> nn.Module:
    """A copy with the same memory for weights and buffers, but gradients of its own."""
    # `.data` and no view: autocast keeps its copies of leaves that are none.
    shared: dict[int, Tensor] = {
        id(parameter): nn.Parameter(parameter.data) if parameter.requires_grad else parameter
        for parameter in model.parameters()
    }
    shared |= {id(buffer): buffer for buffer in model.buffers()}
    return copy.deepcopy(model, shared)


def _start(num_lanes: int, num_threads: int) -> ThreadPoolExecutor:
    """Threads each of whose operations run on `num_threads`."""
    pool = ThreadPoolExecutor(num_lanes, thread_name_prefix="micro-shards")
    threads = torch.get_num_threads()
    together = threading.Barrier(num_lanes)

    def begin() -> None:
        together.wait()  # so that each thread takes one
        torch.get_num_threads()  # a new thread looks for the process's number once: before this
        torch.set_num_threads(num_threads)

    wait([pool.submit(begin) for _ in range(num_lanes)])
    # The number is a thread's own, but threads to come begin with the last that was set.
    torch.set_num_threads(threads)
    return pool
