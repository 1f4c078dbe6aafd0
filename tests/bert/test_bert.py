from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from bert.bert import (
    BertBackbone,
    BertForPreTraining,
    BertForSequenceClassification,
    BertForTokenClassification,
)
from bert.config import BertConfig
from bert.dropout import DropoutKey
from bert.loss import pretraining_sums

KEY = DropoutKey(1, 2, 3)


def test_activation_checkpointing_gives_the_same_bits(
    small_config: BertConfig, make_padded: Callable
) -> None:
    batch = make_padded(small_config, [9, 20, 3, 20]).packed()
    gradients = []
    for checkpointing in (False, True):
        model = BertForPreTraining(small_config, activation_checkpointing=checkpointing)
        pretraining_sums(model, batch, KEY).mean().backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


def test_dropout_is_a_function_of_its_key(small_config: BertConfig, make_padded: Callable) -> None:
    model = BertForPreTraining(small_config)
    batch = make_padded(small_config, [9, 20, 3, 20]).packed()
    losses = {
        key: pretraining_sums(model, batch, key).mean().item()
        for key in (None, KEY, DropoutKey(1, 2, 4), DropoutKey(1, 3, 3))
    }
    assert len(set(losses.values())) == 4
    assert pretraining_sums(model, batch, KEY).mean().item() == losses[KEY]


def test_order_of_sequences_does_not_matter_without_dropout(
    small_config: BertConfig, make_padded: Callable
) -> None:
    backbone = BertBackbone(small_config)
    padded = make_padded(small_config, [4, 4, 7, 4, 2, 7])
    pooled = backbone(padded.packed()).pooled_SD
    order = torch.tensor([4, 0, 1, 3, 2, 5])
    reordered = backbone.forward_padded(*(x[order] for x in padded.inputs.values())).pooled_SD
    torch.testing.assert_close(reordered, pooled[order])


@pytest.mark.parametrize("with_mask", [True, False])
def test_padded_call_gives_the_numbers_of_the_packed_one(
    small_config: BertConfig, make_padded: Callable, with_mask: bool
) -> None:
    backbone = BertBackbone(small_config)
    padded = make_padded(small_config, [6, 3, 6] if with_mask else [6, 6])
    mask = padded.attention_mask if with_mask else None
    hidden, pooled = backbone.forward_padded(padded.input_ids, mask, padded.token_type_ids, KEY)
    packed = backbone(padded.packed(), KEY)
    assert torch.equal(hidden[padded.attention_mask != 0], packed.hidden_TD)
    assert hidden[padded.attention_mask == 0].abs().sum() == 0
    assert torch.equal(pooled, packed.pooled_SD)


def test_fresh_weights_are_a_function_of_seed_and_name(small_config: BertConfig) -> None:
    one, same = (BertForPreTraining(small_config, seed=3) for _ in range(2))
    other = BertForPreTraining(small_config, seed=4)
    classifier = BertForSequenceClassification(small_config, seed=3)
    for name, parameter in one.named_parameters():
        assert torch.equal(parameter, dict(same.named_parameters())[name])
        if parameter.ndim == 2:
            assert not torch.equal(parameter, dict(other.named_parameters())[name])
            assert parameter[1:].std().item() == pytest.approx(0.02, rel=0.25)
    shared = dict(classifier.named_parameters())
    alone = dict(BertBackbone(small_config, seed=3).named_parameters())
    for name, parameter in one.backbone.named_parameters():
        assert torch.equal(parameter, alone[name])
        assert torch.equal(parameter, shared[f"backbone.{name}"])
    assert one.backbone.embeddings.word.weight[0].abs().sum() == 0
    layers = one.backbone.encoder.layers
    assert not torch.equal(layers[0].feed_forward.up.weight, layers[1].feed_forward.up.weight)


def test_shapes_of_finetuning_models(small_config: BertConfig, make_padded: Callable) -> None:
    batch = make_padded(small_config, [9, 20, 3]).packed()
    config = small_config.replace(num_labels=5)
    assert BertForSequenceClassification(config)(batch, KEY).shape == (3, 5)
    assert BertForTokenClassification(config)(batch, KEY).shape == (32, 5)


def test_float64_works(small_config: BertConfig, make_padded: Callable) -> None:
    model = BertForPreTraining(small_config)
    batch = make_padded(small_config, [9, 20, 3]).packed()
    single = pretraining_sums(model, batch, KEY).mean().item()
    double = pretraining_sums(model.double(), batch, KEY).mean().item()
    assert single == pytest.approx(double, rel=1e-6)


def test_bf16_autocast_agrees_with_float32_to_its_precision(
    small_config: BertConfig, make_padded: Callable
) -> None:
    model = BertForPreTraining(small_config)
    batch = make_padded(small_config, [9, 20, 3, 20]).packed()
    gradients = []
    for enabled in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            loss = pretraining_sums(model, batch, KEY).mean()
        gradients.append(torch.autograd.grad(loss, list(model.parameters())))
    for exact, low in zip(*gradients, strict=True):
        assert low.dtype == torch.float32
        assert (exact - low).norm() <= 0.05 * exact.norm() + 1e-4
