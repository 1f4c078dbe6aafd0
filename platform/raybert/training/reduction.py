"""How the gradients of a step's micro-shards become one sum, inside a worker and between workers.

A reduction says in which order a worker computes and adds its micro-shards (a plan for a stack of
flat buffers), and turns the partial sums of all workers into each worker's slice of the whole.
Slices, not copies: the optimizer then works on each element once, not once per worker, and
sharing the new weights costs what sharing the gradient would.

Shape suffixes: N elements of a flat buffer, L of one worker's slice, R senders of one exchange.
"""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from raybert.training.flat import FlatParameters
from raybert.training.group import WorkerGroup
from raybert.training.tree import (
    Instruction,
    Node,
    canonical_plan,
    combine,
    maximal_nodes,
    sequential_plan,
    worker_range,
)


class GradientStack:
    """The partial sums of one worker, newest last."""

    def __init__(self, flat: FlatParameters) -> None:
        self._flat = flat
        self._sums: list[Tensor] = []
        self._spare: list[Tensor] = []

    def spare(self) -> Tensor:
        """A buffer for a new partial sum, with whatever is in it."""
        return self._spare.pop() if self._spare else self._flat.new_buffer()

    def push(self, sum_N: Tensor) -> None:
        """Puts a partial sum on the stack."""
        self._sums.append(sum_N)

    def add_newest_two(self) -> None:
        """Replaces the two newest partial sums by their sum."""
        newest_N = self._sums.pop()
        self._sums[-1].add_(newest_N)
        self._spare.append(newest_N)

    def take(self) -> list[Tensor]:
        """The partial sums, valid until the next push; the stack is empty then."""
        sums, self._sums = self._sums, []
        self._spare.extend(reversed(sums))
        return sums


class Reduction(Protocol):
    """What the engine needs of a way to add gradients."""

    def plan(self, leaves: range, num_lanes: int) -> tuple[Instruction, ...]:
        """How a worker goes through its micro-shards, of which it computes so many at once."""
        ...

    def reduce(self, sums_N: list[Tensor]) -> Tensor:
        """This worker's slice (L,) of the sum over all micro-shards; collective.

        Args:
            sums_N: the partial sums that the plan leaves. They may be overwritten.
        """
        ...


class CanonicalReduction:
    """Adds along the fixed binary tree: the same bits for any number of workers.

    Each worker has one partial sum per maximal node of its range. They are exchanged in rounds, the
    i-th sums of all workers in round i, slice by slice; the rest of the tree is added per slice.
    Where the workers and micro-shards are powers of two there is one round, and as many bytes move
    as in a plain all-reduce.

    Args:
        num_leaves: micro-shards of a step (K).
        group: the workers.
    """

    def __init__(self, num_leaves: int, group: WorkerGroup) -> None:
        self._num_leaves = num_leaves
        self._group = group
        ranges = [worker_range(num_leaves, rank, group.size) for rank in range(group.size)]
        self._nodes = [maximal_nodes(num_leaves, leaves) for leaves in ranges]
        self._received_RL: dict[int, Tensor] = {}

    def plan(self, leaves: range, num_lanes: int) -> tuple[Instruction, ...]:
        return canonical_plan(self._num_leaves, leaves)

    def reduce(self, sums_N: list[Tensor]) -> Tensor:
        if self._group.size == 1:
            return sums_N[0]
        slices: dict[Node, Tensor] = {}
        for turn in range(max(len(nodes) for nodes in self._nodes)):
            senders = [rank for rank, nodes in enumerate(self._nodes) if turn < len(nodes)]
            received_RL = self._buffer(turn, len(senders), sums_N[0])
            sent_N = sums_N[turn] if turn < len(sums_N) else None
            self._group.exchange_slices(sent_N, received_RL, senders)
            slices |= {
                self._nodes[rank][turn]: row_L
                for rank, row_L in zip(senders, received_RL, strict=True)
            }
        return combine(self._num_leaves, slices, lambda left_L, right_L: left_L.add_(right_L))

    def _buffer(self, turn: int, num_senders: int, like_N: Tensor) -> Tensor:
        # Kept from step to step: fresh memory of this size costs a page fault per 4 KiB.
        if turn not in self._received_RL:
            shape = (num_senders, like_N.numel() // self._group.size)
            self._received_RL[turn] = like_N.new_empty(shape)
        return self._received_RL[turn]


class FastReduction:
    """Adds in the order that costs least: one buffer per worker, one reduce-scatter between them.

    The bits depend on the number of workers.
    """

    def __init__(self, group: WorkerGroup) -> None:
        self._group = group

    def plan(self, leaves: range, num_lanes: int) -> tuple[Instruction, ...]:
        return sequential_plan(leaves, num_lanes)

    def reduce(self, sums_N: list[Tensor]) -> Tensor:
        return self._group.add_slices(sums_N[0])
