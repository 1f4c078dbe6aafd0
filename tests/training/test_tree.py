"""The canonical reduction's tree: same additions for any number of workers, with few buffers."""

from functools import reduce

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raybert.training.tree import (
    AddNewestTwo,
    Instruction,
    Node,
    canonical_plan,
    combine,
    maximal_nodes,
    sequential_plan,
    worker_range,
)

leaves_and_workers = st.integers(1, 70).flatmap(
    lambda leaves: st.tuples(st.just(leaves), st.integers(1, leaves))
)


def follow(plan: tuple[Instruction, ...]) -> tuple[list[str], int]:
    """Carries out a plan on expressions; the partial sums and the deepest stack."""
    stack: list[str] = []
    deepest = 0
    for instruction in plan:
        if isinstance(instruction, AddNewestTwo):
            newest = stack.pop()
            stack[-1] = f"({stack[-1]}+{newest})"
        else:
            stack.append(reduce(add, map(str, instruction.leaves)))
        deepest = max(deepest, len(stack))
    return stack, deepest


def add(left: str, right: str) -> str:
    return f"({left}+{right})"


def expression(num_leaves: int, num_workers: int) -> str:
    """What the workers together compute."""
    sums: dict[Node, str] = {}
    for rank in range(num_workers):
        leaves = worker_range(num_leaves, rank, num_workers)
        partial, deepest = follow(canonical_plan(num_leaves, leaves))
        nodes = maximal_nodes(num_leaves, leaves)
        assert len(partial) == len(nodes)
        assert deepest <= len(nodes) + num_leaves.bit_length()
        sums |= dict(zip(nodes, partial, strict=True))
    return combine(num_leaves, sums, add)


@given(leaves_and_workers)
def test_any_number_of_workers_adds_the_same_pairs(case: tuple[int, int]):
    num_leaves, num_workers = case
    assert expression(num_leaves, num_workers) == expression(num_leaves, 1)


def test_node_splits_in_the_middle():
    assert expression(4, 1) == "((0+1)+(2+3))"
    assert expression(7, 3) == "(((0+1)+(2+3))+((4+5)+6))"


@given(leaves_and_workers)
def test_workers_share_all_leaves_evenly(case: tuple[int, int]):
    num_leaves, num_workers = case
    ranges = [worker_range(num_leaves, rank, num_workers) for rank in range(num_workers)]
    assert [leaf for leaves in ranges for leaf in leaves] == list(range(num_leaves))
    sizes = {len(leaves) for leaves in ranges}
    assert max(sizes) - min(sizes) <= 1


@given(leaves_and_workers)
def test_maximal_nodes_cover_a_range_and_cannot_grow(case: tuple[int, int]):
    num_leaves, num_workers = case
    leaves = worker_range(num_leaves, num_workers // 2, num_workers)
    nodes = maximal_nodes(num_leaves, leaves)
    assert [leaf for node in nodes for leaf in range(node.low, node.high)] == list(leaves)

    def parents(node: Node) -> list[Node]:
        return [] if node.is_leaf else [node, *(p for c in node.children for p in parents(c))]

    for parent in parents(Node(0, num_leaves)):
        assert not set(parent.children) <= set(nodes)


def test_powers_of_two_need_one_node_per_worker():
    for rank in range(4):
        assert len(maximal_nodes(16, worker_range(16, rank, 4))) == 1


def test_more_workers_than_leaves_are_refused():
    with pytest.raises(ValueError, match="5 workers can't share 4 micro-shards"):
        worker_range(4, 0, 5)


def test_sequential_plan_needs_one_buffer():
    assert follow(sequential_plan(range(2, 6))) == (["(((2+3)+4)+5)"], 1)
    assert follow(sequential_plan(range(2, 6), 3)) == (["(2+(3+(4+5)))"], 3)
