"""Flat parameters: views that stay tied, and gradients that add up as the tree says."""

import pytest
import torch
from torch import nn
from training.cases import random_batch, small_model

from bert.dropout import DropoutKey
from bert.loss import pretraining_sums
from raybert.training.flat import BLOCK_ELEMENTS, SLOT_ELEMENTS, FlatParameters, decays
from raybert.training.lanes import Lane


def test_parameters_become_views_and_keep_their_values():
    model, original = small_model(), small_model()
    flat = FlatParameters(model)
    Lane(model, flat.slots).bind(flat.new_buffer())
    first = flat.values.data_ptr()
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, original.get_parameter(name))
        offset = parameter.data_ptr() - first
        assert 0 <= offset < 4 * flat.num_used
        assert offset % (4 * SLOT_ELEMENTS) == 0
        assert parameter.grad is not None
    flat.values.fill_(0.5)
    assert all(bool((parameter == 0.5).all()) for parameter in model.parameters())


def test_weights_decay_and_biases_and_norms_do_not():
    model = small_model()
    flat = FlatParameters(model)
    border = next(group.elements.stop for group in flat.groups if group.decays)
    decaying = {slot.name for slot in flat.slots if slot.offset < border}
    assert decaying == {name for name, parameter in model.named_parameters() if parameter.ndim > 1}
    assert not decays("qkv.bias", nn.Parameter(torch.zeros(3, 4)))


def test_groups_cover_the_parameters_by_decay_and_rate():
    flat = FlatParameters(small_model(), rate_of=rate_of)
    assert [(group.decays, group.rate) for group in flat.groups] == [
        (decays, rate) for decays in (True, False) for rate in (1.0, 0.5, 0.25)
    ]
    assert [group.elements.start for group in flat.groups] == [
        0,
        *(group.elements.stop for group in flat.groups[:-1]),
    ]
    assert flat.groups[-1].elements.stop == flat.num_used
    for group in flat.groups:
        names = [s.name for s in flat.slots if s.offset in range(flat.num_used)[group.elements]]
        assert {rate_of(name) for name in names} == {group.rate}


def rate_of(name: str) -> float:
    return {"embeddings": 0.25, "encoder": 0.5}.get(name.split(".")[1], 1.0)


def test_layout_does_not_depend_on_the_number_of_slices():
    one, three = FlatParameters(small_model()), FlatParameters(small_model(), num_slices=3)
    assert one.slots == three.slots
    assert three.values.numel() == 3 * three.slice_elements
    assert three.slice_elements % BLOCK_ELEMENTS == 0
    assert torch.equal(one.values[: one.num_used], three.values[: three.num_used])
    assert not three.values[three.num_used :].any()


def test_tied_parameter_has_one_slot():
    model = nn.ModuleDict({"a": nn.Linear(4, 4), "b": nn.Linear(4, 4)})
    model["b"].weight = model["a"].weight
    flat = FlatParameters(model)
    assert [slot.name for slot in flat.slots] == ["a.weight", "a.bias", "b.bias"]
    assert model["b"].weight is model["a"].weight


def test_frozen_parameters_are_left_alone():
    model = nn.Linear(4, 4)
    model.bias.requires_grad_(False)
    assert [slot.name for slot in FlatParameters(model).slots] == ["weight"]


def test_model_without_trainable_or_float32_parameters_is_refused():
    with pytest.raises(ValueError, match="no trainable parameter"):
        FlatParameters(nn.ReLU())
    with pytest.raises(ValueError, match=r"weight is torch\.bfloat16"):
        FlatParameters(nn.Linear(4, 4, dtype=torch.bfloat16))


def test_accumulating_onto_a_sibling_is_the_addition_of_the_tree():
    """One buffer for two leaves holds the bits of (leaf 0) + (leaf 1), the tied table included."""
    model = small_model()
    flat = FlatParameters(model)
    lane = Lane(model, flat.slots)
    dropped = [DropoutKey(0, 0, shard) for shard in range(2)]

    def backward(shard: int) -> None:
        sums = pretraining_sums(model, random_batch(shard), dropped[shard])
        (sums.mlm_sum / 7 + sums.nsp_sum / 3).backward()

    apart = [flat.new_buffer() for _ in range(2)]
    for shard, buffer in enumerate(apart):
        lane.bind(buffer)
        backward(shard)
    together = flat.new_buffer()
    lane.bind(together)
    for shard in range(2):
        backward(shard)
    assert apart[0].count_nonzero() > flat.num_used / 2
    assert torch.equal(together.view(torch.int32), (apart[0] + apart[1]).view(torch.int32))
