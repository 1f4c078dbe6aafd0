from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from bert.bert import BertForPreTraining
from bert.config import BertConfig
from bert.dropout import DropoutKey
from bert.loss import (
    binary_cross_entropy_sum,
    cross_entropy_sum,
    pretraining_sums,
    squared_error_sum,
)

KEY = DropoutKey(1, 2, 3)


def test_sums_and_counts_are_those_of_the_logits(
    small_config: BertConfig, make_padded: Callable
) -> None:
    model = BertForPreTraining(small_config)
    batch = make_padded(small_config, [9, 20, 3, 20]).packed()
    batch = replace(batch, next_sentence_labels=torch.tensor([0, -100, 1, 1]))
    sums = pretraining_sums(model, batch, KEY)
    mlm_logits, nsp_logits = model(batch, KEY)
    mlm_labels = batch.masked_labels
    nsp_labels = batch.next_sentence_labels
    assert mlm_labels is not None
    assert nsp_labels is not None
    torch.testing.assert_close(
        sums.mlm_sum, F.cross_entropy(mlm_logits, mlm_labels, reduction="sum")
    )
    torch.testing.assert_close(
        sums.nsp_sum, F.cross_entropy(nsp_logits, nsp_labels, reduction="sum")
    )
    assert (sums.num_masked, sums.num_pairs) == (len(mlm_labels), 3)
    assert sums.mlm_correct.item() == (mlm_logits.argmax(-1) == mlm_labels).sum()
    assert sums.nsp_correct.item() == (nsp_logits.argmax(-1) == nsp_labels).sum()


def test_gradients_of_parts_add_up_to_those_of_the_whole(
    small_config: BertConfig, make_padded: Callable
) -> None:
    """Sums, not means: splitting a batch changes nothing but the order of additions."""
    model = BertForPreTraining(small_config)
    padded = make_padded(small_config, [9, 20, 5, 20])

    def gradients(rows: slice) -> list[torch.Tensor]:
        part = replace(padded, **{k: v[rows] for k, v in vars(padded).items()}).packed()
        sums = pretraining_sums(model, part)
        return list(torch.autograd.grad(sums.mlm_sum + sums.nsp_sum, list(model.parameters())))

    whole = gradients(slice(None))
    for expected, one, two in zip(
        whole, gradients(slice(0, 1)), gradients(slice(1, None)), strict=True
    ):
        torch.testing.assert_close(
            one + two, expected, rtol=1e-4, atol=1e-5 * expected.abs().max().item() + 1e-6
        )


def test_a_batch_without_pairs_has_no_next_sentence_loss(
    small_config: BertConfig, make_padded: Callable
) -> None:
    model = BertForPreTraining(small_config)
    batch = replace(make_padded(small_config, [5, 6]).packed(), next_sentence_labels=None)
    sums = pretraining_sums(model, batch)
    (sums.mlm_sum + sums.nsp_sum).backward()
    assert (sums.nsp_sum.item(), sums.num_pairs, sums.nsp_correct.item()) == (0, 0, 0)
    # An optimizer over flat buffers needs a gradient for every parameter.
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_a_micro_shard_without_masked_tokens_is_no_error(
    small_config: BertConfig, make_padded: Callable
) -> None:
    none = torch.zeros(0, dtype=torch.int64)
    batch = make_padded(small_config, [5, 6]).packed()
    batch = replace(batch, masked_index=none, masked_labels=none)
    model = BertForPreTraining(small_config)
    sums = pretraining_sums(model, batch, KEY)
    (sums.mlm_sum + sums.nsp_sum).backward()
    assert (sums.mlm_sum.item(), sums.num_masked, sums.mlm_correct.item()) == (0, 0, 0)
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


def test_evaluation_gives_the_same_sums_without_a_graph(
    small_config: BertConfig, make_padded: Callable
) -> None:
    model = BertForPreTraining(small_config)
    batch = make_padded(small_config, [9, 20, 3]).packed()
    with torch.no_grad():
        evaluated = pretraining_sums(model, batch)
    trained = pretraining_sums(model, batch)
    torch.testing.assert_close(evaluated.mlm_sum, trained.mlm_sum.detach())
    assert not evaluated.mlm_sum.requires_grad
    assert torch.equal(evaluated.mlm_correct, trained.mlm_correct)


def test_pretraining_needs_masked_tokens(small_config: BertConfig, make_padded: Callable) -> None:
    batch = replace(make_padded(small_config, [5]).packed(), masked_index=None, masked_labels=None)
    with pytest.raises(ValueError, match="needs masked_index"):
        pretraining_sums(BertForPreTraining(small_config), batch)


def test_finetuning_sums_are_transformers_losses_times_their_counts() -> None:
    logits, labels = torch.randn(6, 3), torch.tensor([0, 2, -100, 1, 1, 0])
    loss, correct = cross_entropy_sum(logits, labels)
    torch.testing.assert_close(loss, F.cross_entropy(logits, labels) * 5)
    assert correct.item() == sum(
        int(row.argmax() == label) for row, label in zip(logits, labels, strict=True)
    )
    weights = torch.tensor([1.0, 2.0, 4.0])
    weighted, _ = cross_entropy_sum(logits, labels, weights)
    each = F.cross_entropy(logits, labels, reduction="none") * weights[labels.clamp(min=0)]
    torch.testing.assert_close(weighted, each.sum())

    many = torch.tensor([[0.0, 1.0, 1.0]] * 6)
    loss, correct = binary_cross_entropy_sum(logits, many)
    torch.testing.assert_close(loss, F.binary_cross_entropy_with_logits(logits, many) * 18)
    assert correct.item() == ((logits > 0) == many.bool()).sum()

    targets = torch.randn(6)
    loss = squared_error_sum(logits[:, :1], targets)
    torch.testing.assert_close(loss, F.mse_loss(logits[:, 0], targets) * 6)
