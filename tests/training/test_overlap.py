"""Gradients exchanged during the backward pass are those exchanged after it."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from training.cases import small_model, small_settings
from training.groups import run_group
from training.overlap_workers import CASES, NUM_STEPS

from raybert.training.engine import Engine
from raybert.training.flat import FlatParameters
from raybert.training.group import WorkerGroup
from raybert.training.objectives import PretrainingObjective
from raybert.training.overlap import OverlappedReduction, cut, pays
from raybert.training.reduction import FastReduction

ONE_SUM = sorted(CASES.keys() - {"two lanes"})
Outcomes = list[dict[str, dict[str, Any]]]


@pytest.fixture(scope="module", params=[2, 3])
def workers(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Outcomes:
    """Each worker's outcomes by case."""
    folder = tmp_path_factory.mktemp("overlap") / str(request.param)
    return run_group("training.overlap_workers", folder, request.param)


@pytest.mark.parametrize("case", CASES)
def test_sums_and_weights_are_those_of_an_exchange_after_the_pass(workers: Outcomes, case: str):
    for worker in workers:
        found = worker[case]
        assert len(found["slices"]) == NUM_STEPS
        assert max(found["slices"]) < 1e-6
        assert found["weights"] < 1e-6
        assert found["moved"] > 1e-3
    assert len({worker[case]["digest"] for worker in workers}) == 1


@pytest.mark.parametrize("case", ONE_SUM)
def test_buckets_are_sent_before_the_backward_pass_has_ended(workers: Outcomes, case: str):
    """From the second step on, with the order known, most are sent with weights to come."""
    for worker in workers:
        first, *others = worker[case]["awaited"]
        assert all(sorted(awaited, reverse=True) == awaited for awaited in others)
        for awaited in others:
            assert len(awaited) == len(first) > 20
            assert sum(number > 8 for number in awaited) > len(awaited) / 2


@pytest.mark.parametrize("case", CASES)
def test_all_workers_send_in_one_order_the_tied_table_late(workers: Outcomes, case: str):
    order = workers[0][case]["order"]
    assert sorted(order) == list(range(len(order)))
    assert all(worker[case]["order"] == order for worker in workers)
    if case in ONE_SUM:
        places = [order.index(bucket) for bucket in workers[0][case]["tied"]]
        assert len(places) > 3
        assert min(places) > len(order) / 2


def test_weights_without_gradient_are_sent_after_the_pass(workers: Outcomes):
    for worker in workers:
        for awaited in worker["weights without gradient"]["awaited"]:
            assert awaited[-1] == 4  # weight and bias of the pooler and of the head


def test_several_sums_are_sent_after_the_pass(workers: Outcomes):
    for worker in workers:
        found = worker["two lanes"]["awaited"]
        assert all(len(set(awaited)) == 1 for awaited in found)


class TwoWorkers(WorkerGroup):
    """The first of two; the other one's gradients are zero."""

    def __init__(self) -> None:
        super().__init__()
        self.size = 2
        self.sent: list[tuple[int, Tensor]] = []  # where from, and what

    def begin_adding_(self, values: Tensor, owner: int) -> Any:
        self.sent.append((int(values.storage_offset()), values.clone()))
        return self

    def wait(self) -> None: ...

    def broadcast_(self, values: Tensor) -> None: ...


def bound(model: nn.Module, flat: FlatParameters) -> Tensor:
    """A buffer of zeros that takes the model's gradients."""
    sum_N = flat.new_buffer()
    for name, view in flat.named_views(sum_N):
        model.get_parameter(name).grad = view
    return sum_N


@pytest.mark.parametrize("num_slices", [1, 2, 3, 5])
@pytest.mark.parametrize("bucket_elements", [64, 1000, 10**6])
def test_buckets_cover_all_weights_once_inside_of_slices(num_slices: int, bucket_elements: int):
    flat = FlatParameters(small_model(), num_slices)
    buckets = cut(flat, bucket_elements)
    place = 0
    for bucket in buckets:
        assert bucket.elements.start == place
        place = bucket.elements.stop
        assert 0 < place - bucket.elements.start <= bucket_elements
        own = flat.slice_of(bucket.owner)
        assert own.start <= bucket.elements.start < place <= own.stop
        numbers = torch.zeros(flat.values.numel())
        numbers[bucket.elements] = 1
        reaching = [i for i, slot in enumerate(flat.slots) if slot.view(numbers).any()]
        assert list(bucket.slots) == reaching
        assert sum(g.elements.start < place <= g.elements.stop for g in flat.groups) == 1
        assert any(g.elements.start <= bucket.elements.start for g in flat.groups)
    assert place == flat.num_used


def test_what_is_sent_is_final():
    """With a weight that two layers share, and one that is not used."""
    model = nn.ModuleDict({"a": nn.Linear(8, 8), "b": nn.Linear(8, 8), "unused": nn.Linear(8, 8)})
    flat = FlatParameters(model, 2)
    group = TwoWorkers()
    reduction = OverlappedReduction(model, flat, group, bucket_elements=64)
    sum_N = bound(model, flat)
    sent_in_the_pass = []
    for _ in range(2):
        sum_N.zero_()
        group.sent = []
        values = torch.randn(5, 8)
        model["a"](values).sum().backward()  # an earlier micro-shard: nobody watches yet
        assert group.sent == []
        reduction.begin(sum_N)
        model["a"](model["b"](model["a"](values))).square().sum().backward()
        sent_in_the_pass.append(len(group.sent))
        slice_L = reduction.reduce([sum_N])
        assert torch.equal(slice_L, sum_N[flat.slice_of(0)])
        starts = [bucket.elements.start for bucket in cut(flat, 64)]
        assert sorted(start for start, _ in group.sent) == starts
        for start, sent in group.sent:
            assert torch.equal(sent, sum_N[start : start + len(sent)])
    assert 0 < sent_in_the_pass[1] < len(group.sent)


def test_a_gradient_in_two_parts_is_refused():
    model = nn.Linear(8, 8)
    flat = FlatParameters(model, 2)
    reduction = OverlappedReduction(model, flat, TwoWorkers())
    reduction.begin(bound(model, flat))
    model(torch.randn(2, 8)).sum().backward()
    with pytest.raises(RuntimeError, match="in two parts"):
        model(torch.randn(2, 8)).sum().backward()


def test_who_overlaps():
    assert pays(torch.device("cuda"))
    assert not pays(torch.device("cpu"))

    def chosen(reduction: str, overlap: bool | None) -> type:
        settings = small_settings(reduction=reduction)
        engine = Engine(
            small_model(), PretrainingObjective(), settings, num_micro_shards=2, overlap=overlap,
            group=TwoWorkers(),
        )  # fmt: skip
        return type(engine._reduction)

    assert chosen("fast", None) is FastReduction
    assert chosen("fast", False) is FastReduction
    assert chosen("fast", True) is OverlappedReduction
    assert not issubclass(chosen("canonical", True), FastReduction)
    alone = Engine(
        small_model(), PretrainingObjective(), small_settings(reduction="fast"),
        num_micro_shards=2, overlap=True,
    )  # fmt: skip
    assert type(alone._reduction) is FastReduction
