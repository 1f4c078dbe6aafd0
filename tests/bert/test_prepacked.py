"""Prepacked inference computes what the model computes."""

import pytest
import torch

from bert import kernels
from bert.batch import PackedBatch
from bert.bert import BertForSequenceClassification
from bert.config import BertConfig
from bert.prepacked import PrepackedLinear, can_prepack, prepack

pytestmark = pytest.mark.skipif(not can_prepack(), reason="this torch has no oneDNN")


DTYPES = [dtype for dtype in (torch.float32, torch.bfloat16) if can_prepack(dtype)]


@pytest.mark.parametrize("kernels_choice", ["native", "torch"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_outputs_are_the_models_to_its_precision(
    dtype: torch.dtype, kernels_choice: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(kernels, "_choice", kernels_choice)
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
    low = dtype == torch.bfloat16
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=low):
        expected = [model(batch) for batch in batches]
        prepack(model, dtype)
        found = [model(batch) for batch in batches]
    tolerance = 5e-2 if low else 1e-5
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)
    assert not any(isinstance(module, torch.nn.Linear) for module in model.modules())


def test_layers_without_bias_and_with_gelu():
    values = torch.randn(5, 8)
    for bias in (True, False):
        linear = torch.nn.Linear(8, 6, bias=bias)
        with torch.inference_mode():
            for gelu, after in ((False, lambda x: x), (True, torch.nn.functional.gelu)):
                found = PrepackedLinear(linear, gelu=gelu)(values)
                torch.testing.assert_close(found, after(linear(values)), rtol=1e-5, atol=1e-6)
