from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch._subclasses.fake_tensor import FakeTensorMode

from bert.batch import PackedBatch, SequenceLayout, unpack
from bert.config import BertConfig

CONFIG = BertConfig(vocab_size=50, max_position_embeddings=8, num_labels=3)


def batch() -> PackedBatch:
    packed = PackedBatch.from_sequences(
        [[2, 7, 3], [2, 3], [2, 9, 8, 3]], [[0, 0, 1], [0, 0], [0, 0, 1, 1]], [0, -100, 1]
    )
    return replace(packed, masked_index=torch.tensor([1, 6]), masked_labels=torch.tensor([10, 11]))


def test_sequences_are_laid_end_to_end() -> None:
    packed = batch().validate(CONFIG)
    assert packed.input_ids.tolist() == [2, 7, 3, 2, 3, 2, 9, 8, 3]
    assert packed.position_ids.tolist() == [0, 1, 2, 0, 1, 0, 1, 2, 3]
    assert packed.token_type_ids.tolist() == [0, 0, 1, 0, 0, 0, 0, 1, 1]
    assert packed.cu_seqlens.tolist() == [0, 3, 5, 9]
    assert (packed.num_tokens, packed.num_sequences, packed.num_masked) == (9, 3, 2)
    assert packed.num_pairs == 2


def test_moving_keeps_what_the_host_knows() -> None:
    moved = batch().to("meta")  # a device whose values nobody can read
    assert moved.num_pairs == 2
    assert moved.layout.runs == batch().layout.runs


def test_a_gpu_copies_from_page_locked_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    pinned: list[int] = []
    monkeypatch.setattr(
        torch.Tensor, "pin_memory", lambda tensor: pinned.append(tensor.numel()) or tensor
    )
    host = batch()
    assert host.num_pairs == 2  # counted in host memory, and kept
    with FakeTensorMode(allow_non_fake_inputs=True):  # no GPU is needed to tell what is asked of it
        moved = host.to("cuda", non_blocking=True)
    tensors = [value for value in vars(moved).values() if isinstance(value, torch.Tensor)]
    assert all(tensor.device.type == "cuda" for tensor in tensors)
    assert sorted(pinned) == sorted(tensor.numel() for tensor in tensors)
    host.to("cpu", non_blocking=True)
    assert len(pinned) == len(tensors)


@given(st.lists(st.integers(1, 6), min_size=1, max_size=30))
def test_runs_cover_every_token_once_in_order(lengths: list[int]) -> None:
    runs = SequenceLayout.of(lengths).runs
    assert [run.length for run in runs for _ in range(run.num_sequences)] == lengths
    assert [t for run in runs for t in range(*run.tokens.indices(10**6))] == [*range(sum(lengths))]
    assert all(a.length != b.length for a, b in pairwise(runs))


@given(st.data())
def test_padding_anywhere_is_dropped_and_positions_stay(data: st.DataObject) -> None:
    rows, columns = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 6))
    bits = st.lists(st.booleans(), min_size=columns, max_size=columns).filter(any)
    mask = torch.tensor(data.draw(st.lists(bits, min_size=rows, max_size=rows))).long()
    ids = torch.randint(5, 50, (rows, columns))
    labels = torch.where(torch.rand(rows, columns) < 0.5, ids, -100)
    packed = PackedBatch.from_padded(ids, mask, masked_labels_BL=labels).validate(CONFIG)
    assert torch.equal(unpack(packed.input_ids, mask), ids * mask)
    positions = torch.arange(columns).expand(rows, columns)
    assert torch.equal(unpack(packed.position_ids, mask), positions * mask)
    assert packed.masked_index is not None
    assert packed.masked_labels is not None
    wanted = labels[(mask != 0) & (labels != -100)]
    assert torch.equal(packed.masked_labels, wanted)
    assert torch.equal(packed.input_ids[packed.masked_index], wanted)


def test_unpack_spreads_vectors() -> None:
    mask = torch.tensor([[1, 0, 1], [0, 1, 0]])
    values = torch.arange(6.0).view(3, 2)
    spread = unpack(values, mask)
    assert spread.tolist() == [[[0, 1], [0, 0], [2, 3]], [[0, 0], [4, 5], [0, 0]]]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"input_ids": torch.zeros(9)}, "input_ids must be int64"),
        ({"position_ids": torch.zeros(8, dtype=torch.int64)}, r"position_ids .* shape \(9,\)"),
        ({"cu_seqlens": torch.tensor([0, 3, 5, 9])}, "cu_seqlens must be int32"),
        ({"masked_labels": None}, "given together"),
        ({"masked_labels": torch.tensor([1])}, r"masked_labels .* shape \(2,\)"),
        ({"next_sentence_labels": torch.tensor([1])}, "next_sentence_labels"),
        ({"labels": torch.zeros(5)}, "one per sequence or one per token"),
        ({"lengths": ()}, "at least one sequence"),
    ],
)
def test_dtypes_and_shapes_are_checked_when_building(
    changes: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        replace(batch(), **changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"input_ids": torch.full((9,), 50)}, "input_ids holds 50; allowed is 0 to 49"),
        ({"input_ids": torch.full((9,), -1)}, "input_ids holds -1"),
        ({"token_type_ids": torch.full((9,), 2)}, "token_type_ids holds 2"),
        ({"position_ids": torch.full((9,), 8)}, "position_ids holds 8"),
        ({"masked_index": torch.tensor([1, 9])}, "masked_index holds 9"),
        ({"masked_index": torch.tensor([1, 1])}, "names a token twice"),
        ({"masked_labels": torch.tensor([1, -100])}, "masked_labels holds -100"),
        ({"next_sentence_labels": torch.tensor([0, 2, 1])}, "next_sentence_labels holds 2"),
        ({"labels": torch.tensor([0, 3, -100])}, "labels holds 3; allowed is 0 to 2"),
        ({"lengths": (3, 3, 3)}, "running sum"),
        ({"lengths": (3, 0, 6)}, "sequence 1 is empty"),
    ],
)
def test_values_are_checked_by_validate(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(batch(), **changes).validate(CONFIG)


def test_a_sequence_longer_than_the_model_is_refused() -> None:
    with pytest.raises(ValueError, match="sequence 1 has 9 tokens; the model has 8 positions"):
        PackedBatch.from_sequences([[1], [1] * 9]).validate(CONFIG)


def test_offsets_must_cover_the_tokens() -> None:
    short = replace(
        batch(), lengths=(3, 2, 3), cu_seqlens=torch.tensor([0, 3, 5, 8], dtype=torch.int32)
    )
    with pytest.raises(ValueError, match="lengths add up to 8, but there are 9 tokens"):
        short.validate(CONFIG)


def test_padded_shapes_must_agree() -> None:
    with pytest.raises(ValueError, match="attention_mask has shape"):
        PackedBatch.from_padded(torch.zeros(2, 3, dtype=torch.int64), torch.ones(2, 2))
    with pytest.raises(ValueError, match="as many ids per sequence"):
        PackedBatch.from_sequences([[1, 2]], [[0]])
