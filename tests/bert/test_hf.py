from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from bert.bert import (
    BertBackbone,
    BertForPreTraining,
    BertForSequenceClassification,
    BertForTokenClassification,
)
from bert.config import BertConfig
from bert.hf import from_hf_tensors, load_pretrained, save_pretrained, to_hf_tensors


@pytest.fixture
def folder(small_config: BertConfig, tmp_path: Path) -> Path:
    save_pretrained(BertForPreTraining(small_config, seed=1), tmp_path / "model")
    return tmp_path / "model"


def rewrite(folder: Path, **changes: object) -> None:
    content = json.loads((folder / "config.json").read_text())
    content.update(changes)
    (folder / "config.json").write_text(json.dumps({k: v for k, v in content.items() if v != ""}))


@pytest.mark.parametrize(
    ("ours", "auto"),
    [
        (BertBackbone, transformers.AutoModel),
        (BertForPreTraining, transformers.AutoModelForPreTraining),
        (BertForSequenceClassification, transformers.AutoModelForSequenceClassification),
        (BertForTokenClassification, transformers.AutoModelForTokenClassification),
    ],
)
def test_auto_classes_load_what_we_write(
    small_config: BertConfig,
    make_padded: Callable,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    ours: type,
    auto: type,
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    names = {"num_labels": 3, "label_names": ("bad", "fair", "good")}
    model = ours(small_config.replace(**names), seed=2)
    save_pretrained(model, tmp_path)
    theirs, found = auto.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(found.values()), found
    padded = make_padded(small_config, [9, 20, 3])
    real = padded.attention_mask != 0
    with torch.no_grad():
        expected = theirs.eval()(**padded.inputs)
        output = model(padded.packed())
    if ours is BertBackbone:
        pairs = [
            (output.hidden_TD, expected.last_hidden_state[real]),
            (output.pooled_SD, expected.pooler_output),
        ]
    elif ours is BertForPreTraining:
        masked = padded.labels != -100
        pairs = [
            (output.mlm_logits_MV, expected.prediction_logits[masked]),
            (output.nsp_logits_S2, expected.seq_relationship_logits),
        ]
    elif ours is BertForTokenClassification:
        pairs = [(output, expected.logits[real])]
    else:
        pairs = [(output, expected.logits)]
    for found_logits, wanted in pairs:
        torch.testing.assert_close(found_logits, wanted, rtol=1e-4, atol=1e-5)
    assert ours is BertBackbone or theirs.config.id2label == {0: "bad", 1: "fair", 2: "good"}


def test_we_load_what_auto_classes_write(tmp_path: Path, small_config: BertConfig) -> None:
    config = transformers.BertConfig.from_dict(dict(small_config.to_hf_dict()))
    theirs = transformers.BertForPreTraining(config)
    theirs.save_pretrained(tmp_path)
    model, report = load_pretrained(tmp_path, BertForPreTraining)
    assert (report.fresh, report.unused) == ((), ())
    assert model.config == small_config
    for name, tensor in to_hf_tensors(model).items():
        assert torch.equal(tensor, theirs.get_parameter(name))


def test_old_names_half_precision_and_redundant_tensors(
    folder: Path, small_config: BertConfig
) -> None:
    tensors = load_file(folder / "model.safetensors")
    old = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
            "LayerNorm.bias", "LayerNorm.beta"
        ): tensor.half()
        for name, tensor in tensors.items()
    }
    old["cls.predictions.decoder.weight"] = old["bert.embeddings.word_embeddings.weight"].clone()
    old["cls.predictions.decoder.bias"] = old["cls.predictions.bias"].clone()
    old["bert.embeddings.position_ids"] = torch.arange(40)[None]
    save_file(old, folder / "model.safetensors")
    rewrite(folder, model_type="", architectures="")
    model, report = load_pretrained(folder, BertForPreTraining)
    assert (report.fresh, report.unused) == ((), ())
    for name, tensor in to_hf_tensors(model).items():
        assert tensor.dtype == torch.float32
        assert torch.equal(tensor, tensors[name].half().float())


def test_an_untied_decoder_is_reported(folder: Path, small_config: BertConfig) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors["cls.predictions.decoder.weight"] = torch.zeros(211, 32)
    report = from_hf_tensors(BertForPreTraining(small_config, seed=None), tensors)
    assert report.unused == ("cls.predictions.decoder.weight",)


@pytest.mark.parametrize("prefix", ["", "bert."])
def test_missing_pooler_and_heads_are_named_and_made_fresh(
    small_config: BertConfig, tmp_path: Path, prefix: str
) -> None:
    encoder = BertBackbone(small_config, seed=5, with_pooler=False)
    save_pretrained(encoder, tmp_path)
    tensors = {prefix + name: tensor for name, tensor in to_hf_tensors(encoder).items()}
    save_file(tensors, tmp_path / "model.safetensors")
    model, report = load_pretrained(tmp_path, BertForPreTraining, seed=9)
    assert report.fresh == (
        "bert.pooler.dense.bias",
        "bert.pooler.dense.weight",
        "cls.predictions.bias",
        "cls.predictions.transform.LayerNorm.bias",
        "cls.predictions.transform.LayerNorm.weight",
        "cls.predictions.transform.dense.bias",
        "cls.predictions.transform.dense.weight",
        "cls.seq_relationship.bias",
        "cls.seq_relationship.weight",
    )
    assert "fresh: bert.pooler.dense.bias, " in str(report)
    wanted = BertForPreTraining(small_config, seed=9)
    assert torch.equal(model.mlm.dense.weight, wanted.mlm.dense.weight)
    assert torch.equal(model.mlm.norm.weight, torch.ones(32))
    assert torch.equal(model.backbone.pooler.dense.weight, wanted.backbone.pooler.dense.weight)
    assert torch.equal(model.backbone.embeddings.word.weight, encoder.embeddings.word.weight)


def test_heads_without_a_place_are_reported(folder: Path) -> None:
    model, report = load_pretrained(folder, BertForSequenceClassification, num_labels=5)
    assert report.fresh == ("classifier.bias", "classifier.weight")
    assert "cls.seq_relationship.weight" in report.unused
    assert model.head.linear.weight.shape == (5, 32)


def test_a_classifier_of_another_size_starts_fresh(
    small_config: BertConfig, tmp_path: Path
) -> None:
    config = small_config.replace(num_labels=3, label_names=("a", "b", "c"))
    save_pretrained(BertForSequenceClassification(config), tmp_path)
    model, report = load_pretrained(tmp_path, BertForSequenceClassification)
    assert (report.fresh, model.config.label_names) == ((), ("a", "b", "c"))
    model, report = load_pretrained(tmp_path, BertForSequenceClassification, num_labels=2)
    assert report.fresh == ("classifier.bias", "classifier.weight")
    assert model.config.label_names == ()


def test_parts_of_a_sharded_folder_are_joined(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    weight_map = {}
    for place, name in enumerate(tensors):
        part = f"model-0000{place % 2 + 1}-of-00002.safetensors"
        weight_map[name] = part
    for part in set(weight_map.values()):
        save_file({n: t for n, t in tensors.items() if weight_map[n] == part}, folder / part)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    model, _ = load_pretrained(folder, BertForPreTraining)
    assert all(torch.equal(t, tensors[n]) for n, t in to_hf_tensors(model).items())


def test_an_old_pickled_file_is_read_as_tensors_only(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(tensors, folder / "pytorch_model.bin")
    model, _ = load_pretrained(folder, BertForPreTraining)
    assert all(torch.equal(t, tensors[n]) for n, t in to_hf_tensors(model).items())
    torch.save({**tensors, "extra": Path("anything")}, folder / "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"pytorch_model\.bin holds more"):
        load_pretrained(folder, BertForPreTraining)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: rewrite(f, model_type="gpt2"), "of type 'gpt2'; only 'bert'"),
        (
            lambda f: rewrite(f, model_type="", architectures=["RobertaModel"]),
            "of type 'RobertaModel'",
        ),
        (lambda f: rewrite(f, hidden_act="relu"), "hidden_act is 'relu'"),
        (lambda f: rewrite(f, vocab_size=99), r"word_embeddings.* \(211, 32\).*needs \(99, 32\)"),
        (lambda f: rewrite(f, num_hidden_layers=3), r"encoder\.layer\.2\..* is missing"),
        (lambda f: (f / "config.json").write_text("{"), "not valid JSON"),
        (lambda f: (f / "config.json").write_text("[]"), "JSON object"),
        (lambda f: (f / "config.json").unlink(), "has no config.json"),
        (lambda f: (f / "model.safetensors").unlink(), "there is no model.safetensors"),
        (lambda f: (f / "model.safetensors").write_bytes(b"x" * 20), "cannot be read"),
    ],
)
def test_what_is_no_bert_is_refused(
    folder: Path, spoil: Callable[[Path], object], message: str
) -> None:
    spoil(folder)
    with pytest.raises(ValueError, match=message) as refused:
        load_pretrained(folder, BertForPreTraining)
    assert str(folder) in str(refused.value)


def test_tensors_fill_parameters_in_place(small_config: BertConfig) -> None:
    """Parameters may be views of somebody's flat buffer."""
    model = BertForPreTraining(small_config, seed=1)
    places = {name: p.data_ptr() for name, p in model.named_parameters()}
    from_hf_tensors(model, to_hf_tensors(BertForPreTraining(small_config, seed=2)))
    assert places == {name: p.data_ptr() for name, p in model.named_parameters()}
    wanted = dict(BertForPreTraining(small_config, seed=2).named_parameters())
    assert all(torch.equal(p, wanted[name]) for name, p in model.named_parameters())
