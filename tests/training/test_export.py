"""Exports and checkpoints load in transformers, offline: equal logits, equal token ids."""

import json
from pathlib import Path

import pytest
import torch
from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from training.cases import small_model
from transformers import AutoModel, AutoModelForPreTraining, AutoTokenizer

from bert.bert import BertForPreTraining
from bert.config import BertConfig
from raybert.errors import InvalidContent
from raybert.storage import Location, verify_folder
from raybert.training.checkpoints import CheckpointStore, Snapshot, weights_in_host_memory
from raybert.training.engine import EngineState
from raybert.training.export import huggingface_files, model_card, write_export

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
TEXTS = [
    "The quick brown fox jumps over the lazy dog.",
    "Großmutter's CAFÉ wasn't open — naïve visitors waited!",
    "don't  stop\tat tabs,\nnewlines or 汉字 and emoji 🙂",
    "lower UPPER MiXeD 1234 under_score",
]


def tokenizer_of(kind: str) -> Tokenizer:
    """A small tokenizer of the shape that rust_tok writes."""
    if kind == "bpe":
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=400,
            special_tokens=SPECIAL,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
    else:
        tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
        tokenizer.normalizer = normalizers.BertNormalizer(lowercase=kind == "uncased")
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        tokenizer.decoder = decoders.WordPiece()
        trainer = trainers.WordPieceTrainer(
            vocab_size=200, special_tokens=SPECIAL, show_progress=False
        )
    tokenizer.train_from_iterator(TEXTS, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(token, SPECIAL.index(token)) for token in ("[CLS]", "[SEP]")],
    )
    return tokenizer


def model_for(tokenizer: Tokenizer) -> BertForPreTraining:
    config = BertConfig.named(
        "tiny",
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=32,
        num_attention_heads=2,
        max_position_embeddings=64,
    )
    return BertForPreTraining(config, seed=3)


@pytest.mark.parametrize("kind", ["uncased", "cased", "bpe"])
def test_export_loads_in_transformers(kind: str, tmp_path: Path):
    tokenizer = tokenizer_of(kind)
    model = model_for(tokenizer)
    files = huggingface_files(model, tokenizer.to_str().encode())
    card = model_card("a run", model.config, {"steps": "100"}, {"mlm_loss": 2.5})
    export = Location.parse(tmp_path / "export")
    write_export(export, weights_in_host_memory(model), files, card)

    verify_folder(export)
    theirs = AutoTokenizer.from_pretrained(tmp_path / "export")
    for text in TEXTS:
        assert theirs(text)["input_ids"] == tokenizer.encode(text).ids
    encoded = theirs(TEXTS[0], TEXTS[1])
    pair = tokenizer.encode(TEXTS[0], TEXTS[1])
    assert (encoded["input_ids"], encoded["token_type_ids"]) == (pair.ids, pair.type_ids)
    assert theirs.mask_token_id == SPECIAL.index("[MASK]")
    assert theirs.model_max_length == 64

    batch = {name: torch.tensor([encoded[name]]) for name in ("input_ids", "token_type_ids")}
    mlm_BLV, nsp_B2 = model.forward_padded(batch["input_ids"], None, batch["token_type_ids"])
    loaded = AutoModelForPreTraining.from_pretrained(tmp_path / "export").eval()
    output = loaded(**batch)
    torch.testing.assert_close(output.prediction_logits, mlm_BLV, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(output.seq_relationship_logits, nsp_B2, rtol=1e-4, atol=1e-5)
    backbone = AutoModel.from_pretrained(tmp_path / "export").eval()
    hidden_BLD = model.backbone.forward_padded(
        batch["input_ids"], None, batch["token_type_ids"]
    ).hidden_TD
    torch.testing.assert_close(
        backbone(**batch).last_hidden_state, hidden_BLD, rtol=1e-4, atol=1e-5
    )


def test_checkpoint_loads_in_transformers_as_it_is(tmp_path: Path):
    tokenizer = tokenizer_of("uncased")
    model = model_for(tokenizer)
    store = CheckpointStore(Location.parse(tmp_path))
    files = huggingface_files(model, tokenizer.to_str().encode())
    store.save(Snapshot(5, weights_in_host_memory(model), EngineState({}, {}), {}, files))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()  # the snapshot is a copy
    store.close()
    folder = store.location_of(5).local_path
    loaded = AutoModelForPreTraining.from_pretrained(folder)
    fresh = model_for(tokenizer)
    word = loaded.bert.embeddings.word_embeddings.weight
    assert torch.equal(word, fresh.backbone.embeddings.word.weight)
    assert torch.equal(loaded.cls.predictions.decoder.weight, word)
    ids = AutoTokenizer.from_pretrained(folder)(TEXTS[0])["input_ids"]
    assert ids == tokenizer.encode(TEXTS[0]).ids


def test_tokenizer_larger_than_the_model_is_refused():
    tokenizer = tokenizer_of("bpe")
    with pytest.raises(InvalidContent, match=r"has \d+ tokens, the model.s vocabulary 150"):
        huggingface_files(small_model(), tokenizer.to_str().encode())


def test_card_shows_facts_and_metrics():
    card = model_card("run 7", small_model().config, {"steps": "1,000"}, {"perplexity": 12.345})
    assert "# run 7" in card
    assert "- steps: 1,000" in card
    assert "| perplexity | 12.35 |" in card
    assert "layers 2, hidden size 32, heads 2, vocabulary 150" in card


def test_config_names_the_architecture():
    tokenizer = tokenizer_of("cased")
    files = huggingface_files(model_for(tokenizer), tokenizer.to_str().encode())
    config = json.loads(files["config.json"])
    assert config["architectures"] == ["BertForPreTraining"]
    assert files["vocab.txt"].decode().split("\n")[:5] == SPECIAL
