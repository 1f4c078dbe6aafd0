"""The fixed binary tree along which a step's sums are added (DESIGN, law 2).

Floating-point addition is not associative, so the order of a sum is part of its value. The leaves
are the K micro-shards of a step; node [low, high) splits in the middle. The tree depends on K
alone: however its leaves are dealt to workers, the same pairs are added, and the bits are the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Node:
    """The sum of leaves low, …, high - 1."""

    low: int
    high: int

    @property
    def is_leaf(self) -> bool:
        return self.high - self.low == 1

    @property
    def children(self) -> tuple[Node, Node]:
        """The two halves; of an odd number of leaves the left one has more."""
        middle = (self.low + self.high + 1) // 2
        return Node(self.low, middle), Node(middle, self.high)


@dataclass(frozen=True)
class SumLeaves:
    """Compute neighbouring leaves one after another onto a new partial sum that starts from zero.

    The leaves of one such sum depend on nothing else: several sums can be computed at once.
    """

    leaves: range


@dataclass(frozen=True)
class AddNewestTwo:
    """Replace the two newest partial sums by their sum."""


Instruction = SumLeaves | AddNewestTwo


def worker_range(num_leaves: int, rank: int, num_workers: int) -> range:
    """The contiguous leaves of one worker; the ranges of all workers differ by at most one leaf.

    Raises:
        ValueError: more workers than leaves.
    """
    if not 1 <= num_workers <= num_leaves:
        raise ValueError(f"{num_workers} workers can't share {num_leaves} micro-shards")
    return range(num_leaves * rank // num_workers, num_leaves * (rank + 1) // num_workers)


def maximal_nodes(num_leaves: int, leaves: range) -> tuple[Node, ...]:
    """The largest nodes that lie inside a contiguous range of leaves, from left to right."""
    return tuple(_maximal_nodes(Node(0, num_leaves), leaves))


def _maximal_nodes(node: Node, leaves: range) -> Iterator[Node]:
    if node.high <= leaves.start or leaves.stop <= node.low:
        return
    if leaves.start <= node.low and node.high <= leaves.stop:
        yield node
        return
    for child in node.children:
        yield from _maximal_nodes(child, leaves)


def canonical_plan(num_leaves: int, leaves: range) -> tuple[Instruction, ...]:
    """How one worker adds its leaves in order, with a stack of partial sums.

    It ends with one partial sum per maximal node. The stack is never deeper than the number of
    maximal nodes plus the binary logarithm of the number of leaves.
    """
    nodes = maximal_nodes(num_leaves, leaves)
    return tuple(step for node in nodes for step in _additions(node))


def _additions(node: Node) -> Iterator[Instruction]:
    if node.is_leaf:
        yield SumLeaves(range(node.low, node.high))
        return
    # A leaf of its own even beside its sibling: a backward pass adds onto a tied weight twice,
    # which onto a sum that isn't zero would be another order of additions.
    for child in node.children:
        yield from _additions(child)
    yield AddNewestTwo()


def sequential_plan(leaves: range, num_sums: int = 1) -> tuple[Instruction, ...]:
    """All leaves onto few sums: the least memory, and an order that depends on the range."""
    parts = [worker_range(len(leaves), part, num_sums) for part in range(num_sums)]
    sums = [SumLeaves(leaves[part.start : part.stop]) for part in parts]
    return (*sums, *(AddNewestTwo() for _ in sums[1:]))


def combine(num_leaves: int, sums: Mapping[Node, T], add: Callable[[T, T], T]) -> T:
    """The root's sum, from the sums of nodes that cover all leaves once."""

    def value(node: Node) -> T:
        if node in sums:
            return sums[node]
        left, right = node.children
        return add(value(left), value(right))

    return value(Node(0, num_leaves))
