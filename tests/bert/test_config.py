from __future__ import annotations

import pytest
import transformers

from bert.bert import BertForPreTraining
from bert.config import BertConfig


@pytest.mark.parametrize(
    ("size", "millions"),
    # Turc et al. 2019, table 1, and Devlin et al. 2018: encoder with its embeddings.
    [("tiny", 4.4), ("mini", 11.3), ("small", 29.1), ("medium", 41.7), ("base", 110.1)],
)
def test_named_sizes_have_the_published_number_of_parameters(size: str, millions: float) -> None:
    model = BertForPreTraining(BertConfig.named(size), seed=None)
    backbone = sum(parameter.numel() for parameter in model.backbone.parameters())
    assert backbone / 1e6 == pytest.approx(millions, rel=0.02)


def test_named_size_takes_overrides() -> None:
    config = BertConfig.named("small", vocab_size=1000, hidden_size=256, num_attention_heads=4)
    assert (config.vocab_size, config.hidden_size, config.intermediate_size) == (1000, 256, 1024)
    assert BertConfig.named("small", intermediate_size=7).intermediate_size == 7


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_size": 100, "num_attention_heads": 12}, "multiple of num_attention_heads"),
        ({"num_hidden_layers": 0}, "num_hidden_layers must be an integer of at least 1"),
        ({"hidden_dropout_prob": 1.0}, r"hidden_dropout_prob must lie in \[0, 1\)"),
        ({"pad_token_id": 40000}, "pad_token_id"),
        ({"label_names": ("a", "b", "c")}, "3 names for 2 labels"),
        ({"problem_type": "ranking"}, "regression, single_label"),
    ],
)
def test_values_out_of_range_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BertConfig(**changes)


def test_unknown_size_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="tiny, mini, small, medium, base, large"):
        BertConfig.named("huge")


@pytest.mark.parametrize(
    "config",
    [
        BertConfig(vocab_size=500, num_labels=3, label_names=("x", "y", "z"), pad_token_id=None),
        BertConfig(num_labels=1, problem_type="regression", classifier_dropout=0.3),
        BertConfig.named("tiny"),
    ],
)
def test_config_json_round_trip_also_through_transformers(config: BertConfig) -> None:
    content = config.to_hf_dict()
    assert BertConfig.from_hf_dict(content) == config
    theirs = transformers.BertConfig.from_dict(dict(content)).to_dict()
    assert BertConfig.from_hf_dict(theirs) == config


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("hidden_act", "relu"),
        ("position_embedding_type", "relative_key"),
        ("is_decoder", True),
        ("tie_word_embeddings", False),
    ],
)
def test_a_variant_is_refused_by_name(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"{field} is {value!r}"):
        BertConfig.from_hf_dict({**BertConfig.named("tiny").to_hf_dict(), field: value})
