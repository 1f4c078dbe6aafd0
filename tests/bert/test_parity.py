"""Equal to transformers' BERT: logits, losses, every gradient, and 200 steps of training."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import transformers
from torch import Tensor, nn

from bert.bert import (
    BertForPreTraining,
    BertForSequenceClassification,
    BertForTokenClassification,
)
from bert.config import BertConfig
from bert.hf import from_hf_tensors, to_hf_tensors
from bert.loss import pretraining_sums
from bert.names import hf_names

NARROW = BertConfig(
    vocab_size=307,
    hidden_size=32,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=80,
    max_position_embeddings=64,
)
WIDE = BertConfig(
    vocab_size=1013,
    hidden_size=144,
    num_hidden_layers=5,
    num_attention_heads=12,
    intermediate_size=288,
    max_position_embeddings=128,
    num_labels=7,
)
LENGTHS = {NARROW: [40, 7, 1, 40, 2, 33], WIDE: [101, 64, 64, 5, 17]}
configs = pytest.mark.parametrize("config", [NARROW, WIDE], ids=["narrow", "wide"])


def reference(model_class: type, config: BertConfig) -> transformers.PreTrainedModel:
    """Their model with random weights of every kind, biases and norms too."""
    content = config.to_hf_dict()
    model = model_class(transformers.BertConfig.from_dict(dict(content))).eval()
    generator = torch.Generator().manual_seed(config.vocab_size)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.05)
    return model


def gradients_by_hf_name(model: nn.Module) -> dict[str, Tensor]:
    gradients = {}
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None
        theirs = hf_names(name)
        gradients.update(zip(theirs, parameter.grad.chunk(len(theirs)), strict=True))
    return gradients


def assert_same_gradients(model: nn.Module, theirs: nn.Module) -> None:
    """Equal to float32 precision: of each tensor's scale, or of the whole's where it cancels out.

    (A key's bias has gradient zero in exact arithmetic: softmax does not see it.)
    """
    expected = {name: p.grad for name, p in theirs.named_parameters() if p.grad is not None}
    found = gradients_by_hf_name(model)
    assert found.keys() == expected.keys()
    largest = max(grad.abs().max().item() for grad in expected.values())
    for name, grad in expected.items():
        scale = max(grad.abs().max().item(), 1e-2 * largest)
        torch.testing.assert_close(
            found[name], grad, rtol=1e-4, atol=5e-6 * scale, msg=lambda m, name=name: f"{name}: {m}"
        )


@configs
def test_pretraining_logits_loss_and_gradients(config: BertConfig, make_padded: Callable) -> None:
    theirs = reference(transformers.BertForPreTraining, config)
    model = BertForPreTraining(config, seed=None)
    assert str(from_hf_tensors(model, theirs.state_dict())).startswith("every parameter loaded")
    padded = make_padded(config, LENGTHS[config])
    expected = theirs(
        **padded.inputs, labels=padded.labels, next_sentence_label=padded.next_sentence_label
    )

    mlm_logits, nsp_logits = model.forward_padded(**_by_suffix(padded.inputs))
    real = padded.attention_mask != 0
    torch.testing.assert_close(
        mlm_logits[real], expected.prediction_logits[real], rtol=1e-4, atol=2e-5
    )
    torch.testing.assert_close(nsp_logits, expected.seq_relationship_logits, rtol=1e-4, atol=1e-5)
    packed_logits = model(padded.packed())
    torch.testing.assert_close(
        packed_logits.mlm_logits_MV,
        expected.prediction_logits[padded.labels != -100],
        rtol=1e-4,
        atol=2e-5,
    )

    loss = pretraining_sums(model, padded.packed()).mean()
    torch.testing.assert_close(loss, expected.loss, rtol=2e-6, atol=0)
    loss.backward()
    expected.loss.backward()
    assert_same_gradients(model, theirs)


@configs
@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (BertForSequenceClassification, transformers.BertForSequenceClassification),
        (BertForTokenClassification, transformers.BertForTokenClassification),
    ],
)
def test_finetuning_logits_and_gradients(
    config: BertConfig, make_padded: Callable, ours: type, theirs: type
) -> None:
    their_model = reference(theirs, config)
    model = ours(config, seed=None)
    from_hf_tensors(model, their_model.state_dict())
    padded = make_padded(config, LENGTHS[config])
    expected = their_model(**padded.inputs).logits
    if expected.ndim == 3:
        expected = expected[padded.attention_mask != 0]
    logits = model(padded.packed())
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-5)
    weights = torch.arange(1.0, logits.numel() + 1).sin().view_as(logits)
    (logits * weights).sum().backward()
    (expected * weights).sum().backward()
    assert_same_gradients(model, their_model)


@configs
def test_weights_go_both_ways_unchanged(config: BertConfig) -> None:
    theirs = reference(transformers.BertForPreTraining, config)
    model = BertForPreTraining(config, seed=None)
    from_hf_tensors(model, theirs.state_dict())
    back = transformers.BertForPreTraining(theirs.config)
    missing, unexpected = back.load_state_dict(to_hf_tensors(model), strict=False)
    # The second names of tied parameters.
    assert set(missing) <= {"cls.predictions.decoder.weight", "cls.predictions.decoder.bias"}
    assert not unexpected
    for name, parameter in theirs.named_parameters():
        assert torch.equal(parameter, back.get_parameter(name)), name


def test_two_hundred_steps_of_training_stay_together(make_padded: Callable) -> None:
    theirs = transformers.BertForPreTraining(
        transformers.BertConfig.from_dict(dict(NARROW.to_hf_dict()))
    ).eval()
    model = BertForPreTraining(NARROW, seed=None)
    from_hf_tensors(model, theirs.state_dict())
    settings = {"lr": 1e-3, "eps": 1e-6, "weight_decay": 0.01}
    optimizers = [torch.optim.AdamW(m.parameters(), **settings) for m in (model, theirs)]
    losses = []
    for step in range(200):
        padded = make_padded(NARROW, [24, 9, 24, 17], seed=step % 20)
        ours = pretraining_sums(model, padded.packed()).mean()
        expected = theirs(
            **padded.inputs, labels=padded.labels, next_sentence_label=padded.next_sentence_label
        ).loss
        for optimizer, loss in zip(optimizers, (ours, expected), strict=True):
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        losses.append((ours.item(), expected.item()))
    assert max(abs(a - b) for a, b in losses) < 1e-3
    assert losses[-1][0] < 0.8 * losses[0][0]


def _by_suffix(inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"{name}_BL": value for name, value in inputs.items()}
