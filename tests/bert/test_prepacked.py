"""Prepacked inference computes what the model computes."""

import pytest
import torch

from bert.batch import PackedBatch
from bert.bert import BertForSequenceClassification
from bert.config import BertConfig
from bert.prepacked import PrepackedLinear, can_prepack, prepack

pytestmark = pytest.mark.skipif(not can_prepack(), reason="this torch has no oneDNN")


def test_outputs_are_the_models_to_float_precision():
    config = BertConfig(
        vocab_size=50, hidden_size=48, num_hidden_layers=2, num_attention_heads=4, num_labels=3
    )
    config = config.replace(intermediate_size=80, initializer_range=0.3)
    model = BertForSequenceClassification(config, seed=1).eval()
    sizes = [(3, 17, 17, 1), (9,), (64, 64, 2)]
    batches = [
        PackedBatch.from_sequences([[(i + 7) % 50 for i in range(n)] for n in lengths])
        for lengths in sizes
    ]
    with torch.inference_mode():
        expected = [model(batch) for batch in batches]
        prepack(model)
        found = [model(batch) for batch in batches]
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert not any(isinstance(module, torch.nn.Linear) for module in model.modules())


def test_layers_without_bias_and_with_gelu():
    values = torch.randn(5, 8)
    for bias in (True, False):
        linear = torch.nn.Linear(8, 6, bias=bias)
        with torch.inference_mode():
            for gelu, after in ((False, lambda x: x), (True, torch.nn.functional.gelu)):
                found = PrepackedLinear(linear, gelu=gelu)(values)
                torch.testing.assert_close(found, after(linear(values)), rtol=1e-5, atol=1e-6)
