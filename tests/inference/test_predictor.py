"""Predictions against transformers' own, for every head; the door for notebooks."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from tiny_models import LABELS, POSITIONS, WORDS

from raybert import inference
from raybert.errors import UserError

TOLERANCE = 1e-5


def theirs(folder: Path, class_name: str, texts: list, pairs: list | None = None, **options):
    """(outputs, attention mask, encoding) of transformers for a padded batch."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = getattr(transformers, class_name).from_pretrained(folder).eval()
    encoded = tokenizer(
        texts,
        pairs,
        padding=True,
        truncation=True,
        max_length=POSITIONS,
        return_tensors="pt",
        **options,
    )
    with torch.inference_mode():
        return model(**encoded), encoded


def test_classes(classifier: Path, texts: list[str]):
    output, _ = theirs(classifier, "BertForSequenceClassification", texts)
    expected = output.logits.softmax(-1).numpy()
    rows = inference.load(classifier, "cpu").predict(texts)
    found = np.array([list(row["probabilities"].values()) for row in rows])
    np.testing.assert_allclose(found, expected, atol=TOLERANCE)
    assert [row["prediction"] for row in rows] == [LABELS[i] for i in expected.argmax(1)]
    assert list(rows[0]["probabilities"]) == list(LABELS.values())
    np.testing.assert_allclose([row["probability"] for row in rows], found.max(1))


def test_pairs(classifier: Path, texts: list[str]):
    seconds = texts[::-1]
    output, _ = theirs(classifier, "BertForSequenceClassification", texts, seconds)
    rows = inference.load(classifier, "cpu").predict(texts, seconds)
    found = np.array([list(row["probabilities"].values()) for row in rows])
    np.testing.assert_allclose(found, output.logits.softmax(-1), atol=TOLERANCE)


def test_separators_in_a_first_text_are_of_it(classifier: Path):
    texts, seconds = [f"{WORDS[1]} [SEP] {WORDS[2]} [SEP]"] * 2, [f"{WORDS[3]} [SEP]", WORDS[4]]
    output, encoded = theirs(classifier, "BertForSequenceClassification", texts, seconds)
    assert encoded["token_type_ids"].any()
    rows = inference.load(classifier, "cpu").predict(texts, seconds)
    found = np.array([list(row["probabilities"].values()) for row in rows])
    np.testing.assert_allclose(found, output.logits.softmax(-1), atol=TOLERANCE)


def test_several_labels(model_folder: Callable[..., Path], texts: list[str]):
    folder = model_folder(
        "BertForSequenceClassification", num_labels=4, problem_type="multi_label_classification"
    )
    output, _ = theirs(folder, "BertForSequenceClassification", texts)
    expected = output.logits.sigmoid().numpy()
    rows = inference.load(folder, "cpu").predict(texts, threshold=0.7)
    found = np.array([list(row["probabilities"].values()) for row in rows])
    np.testing.assert_allclose(found, expected, atol=TOLERANCE)
    assert [row["prediction"] for row in rows] == [
        [f"LABEL_{i}" for i in np.flatnonzero(row >= 0.7)] for row in expected
    ]


def test_numbers(model_folder: Callable[..., Path], texts: list[str]):
    folder = model_folder("BertForSequenceClassification", num_labels=1, problem_type="regression")
    output, _ = theirs(folder, "BertForSequenceClassification", texts)
    rows = inference.load(folder, "cpu").predict(texts)
    found = [row["prediction"] for row in rows]
    np.testing.assert_allclose(found, output.logits.squeeze(1), atol=10 * TOLERANCE)


@pytest.mark.parametrize("as_words", [True, False])
def test_tags_of_words(model_folder: Callable[..., Path], texts: list[str], as_words: bool):
    folder = model_folder("BertForTokenClassification", num_labels=3)
    words = [text.split() for text in texts]
    output, encoded = theirs(folder, "BertForTokenClassification", words, is_split_into_words=True)
    rows = inference.load(folder, "cpu").predict(words if as_words else texts)
    for i, (row, sentence) in enumerate(zip(rows, words, strict=True)):
        owners = encoded.word_ids(i)
        firsts = [owners.index(w) if w in owners else None for w in range(len(sentence))]
        shares = output.logits[i].softmax(-1)
        tags = [None if at is None else f"LABEL_{int(shares[at].argmax())}" for at in firsts]
        assert row["words"] == sentence
        assert row["prediction"] == tags
        probabilities = [p for p in row["probability"] if p is not None]
        expected = [float(shares[at].max()) for at in firsts if at is not None]
        np.testing.assert_allclose(probabilities, expected, atol=TOLERANCE)


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("pooling", ["auto", "mean", "cls"])
def test_embeddings(
    model_folder: Callable[..., Path], texts: list[str], pooling: str, normalize: bool
):
    folder = model_folder("BertModel")
    output, encoded = theirs(folder, "BertModel", texts)
    hidden = output.last_hidden_state
    mask = encoded["attention_mask"].unsqueeze(-1)
    expected = hidden[:, 0] if pooling == "cls" else (hidden * mask).sum(1) / mask.sum(1)
    if normalize:
        expected = torch.nn.functional.normalize(expected, dim=-1)
    model = inference.load(folder, "cpu")
    found = model.embed(texts, pooling=pooling, normalize=normalize)
    np.testing.assert_allclose(found, expected, atol=10 * TOLERANCE)
    assert found.dtype == np.float32


def test_a_folder_says_how_it_is_pooled(model_folder: Callable[..., Path], texts: list[str]):
    folder = model_folder("BertModel", hidden_size=16)
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling/config.json").write_text('{"pooling_mode_cls_token": true}')
    model = inference.load(folder, "cpu")
    np.testing.assert_array_equal(model.embed(texts), model.embed(texts, pooling="cls"))
    assert not np.allclose(model.embed(texts), model.embed(texts, pooling="mean"))


def test_masked_words(model_folder: Callable[..., Path]):
    folder = model_folder("BertForPreTraining")
    texts = [f"{WORDS[1]} [MASK] {WORDS[2]}", "[MASK]", f"{WORDS[3]} " * 20 + "[MASK]"]
    output, encoded = theirs(folder, "BertForPreTraining", texts)
    shares = output.prediction_logits[encoded["input_ids"] == 4].softmax(-1)
    best = shares.topk(3)
    guesses = inference.fill_mask(folder, texts, top=3)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    assert [[guess.token for guess in row] for row in guesses] == [
        [tokenizer.decode([i]) for i in row] for row in best.indices.tolist()
    ]
    found = [[guess.probability for guess in row] for row in guesses]
    np.testing.assert_allclose(found, best.values, atol=TOLERANCE)
    for text, message in (
        ("none", r"exactly one \[MASK\] is needed, not 0"),
        ("[MASK] [MASK]", "not 2"),
        (f"{WORDS[3]} " * 40 + "[MASK]", r"its \[MASK\] stands behind the 32 tokens"),
    ):
        with pytest.raises(UserError, match=message):
            inference.fill_mask(folder, [text])


def test_what_a_text_gets_depends_on_it_alone(classifier: Path, texts: list[str]):
    model = inference.load(classifier, "cpu")
    together = [row["probability"] for row in model.predict(texts)]
    alone = [model.predict([text])[0]["probability"] for text in texts]
    np.testing.assert_allclose(together, alone, atol=TOLERANCE)
    assert model.predict([]) == []
    assert (
        model.predict(["", WORDS[1], "  "])[0::2]
        == [{"prediction": None, "probability": None, "probabilities": None}] * 2
    )


def test_mistakes(classifier: Path, model_folder: Callable[..., Path], tmp_path: Path):
    with pytest.raises(UserError, match="does not exist"):
        inference.load(tmp_path / "no")
    with pytest.raises(UserError, match="neither config.json nor export/"):
        inference.load(tmp_path)
    backbone = inference.load(model_folder("BertModel"), "cpu")
    with pytest.raises(UserError, match="labels needs a classification head"):
        backbone.predict(["x"])
    with pytest.raises(UserError, match="needs the masked-language head"):
        backbone.fill_mask(["[MASK]"])
    with pytest.raises(UserError, match="a single one as"):
        backbone.embed("text")
    with pytest.raises(UserError, match="are no pairs"):
        backbone.embed(["text"], [])
    with pytest.raises(UserError, match="more than the 32 positions"):
        backbone.embed(["text"], max_length=33)
    model = inference.load(classifier, "cpu")
    (tmp_path / "config.json").write_text('{"model_type": "roberta"}')
    (tmp_path / "vocab.txt").write_text("[UNK]\n")
    with pytest.raises(UserError, match="model of type 'roberta'; only 'bert'"):
        inference.load(tmp_path).predict(["x"])
    assert len(model.predict(["x"])) == 1


def test_a_tokenizer_of_another_model_is_refused(model_folder: Callable[..., Path], tmp_path: Path):
    folder = model_folder("BertModel", vocab_size=50)
    with pytest.raises(UserError, match="its tokenizer has 95 tokens, the model .* of 50"):
        inference.load(folder).embed(["x"])
