"""What a model's numbers are called: the columns that are added to the rows.

Shape suffixes: N rows, T tokens, D hidden size, C labels, K words.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

import rust_tok
from bert.config import BertConfig
from raybert.inference.words import EncodedWords
from raybert.settings import PredictionSettings

PREDICTION, PROBABILITY, PROBABILITIES = "prediction", "probability", "probabilities"
EMBEDDING, WORDS = "embedding", "words"


def label_names(config: BertConfig) -> list[str]:
    return list(config.label_names) or [f"LABEL_{i}" for i in range(config.num_labels)]


def is_regression(config: BertConfig) -> bool:
    """Said by the model, or a single number that is no choice between labels."""
    if config.problem_type is None:
        return config.num_labels == 1
    return config.problem_type == "regression"


def of_logits(
    logits_NC: np.ndarray, valid: np.ndarray, config: BertConfig, settings: PredictionSettings
) -> dict[str, pa.Array]:
    """Numbers; or labels, with the probability of every label in a struct by its name."""
    names = label_names(config)
    missing = ~valid
    if is_regression(config):
        values = [pa.array(column, mask=missing) for column in _columns(logits_NC)]
        prediction = values[0] if len(values) == 1 else _struct(names, values, missing)
        return _prefixed(settings, {PREDICTION: prediction})
    if config.problem_type == "multi_label_classification":
        probabilities_NC = 1 / (1 + np.exp(-logits_NC.astype(np.float64)))
        chosen_NC = (probabilities_NC >= settings.threshold) & valid[:, None]
        counts = np.zeros(len(valid) + 1, dtype=np.int32)
        np.cumsum(chosen_NC.sum(axis=1), out=counts[1:])
        labels = pa.array(names, pa.string()).take(pa.array(np.nonzero(chosen_NC)[1]))
        prediction = pa.ListArray.from_arrays(pa.array(counts), labels, mask=pa.array(missing))
        return _prefixed(
            settings,
            {PREDICTION: prediction, PROBABILITIES: _shares(names, probabilities_NC, missing)},
        )
    probabilities_NC = _softmax(logits_NC)
    best = logits_NC.argmax(axis=1)
    return _prefixed(
        settings,
        {
            PREDICTION: pa.array(names, pa.string()).take(pa.array(best, mask=missing)),
            PROBABILITY: _float32(probabilities_NC[np.arange(len(best)), best], missing),
            PROBABILITIES: _shares(names, probabilities_NC, missing),
        },
    )


def of_embeddings(
    vectors_ND: np.ndarray, valid: np.ndarray, settings: PredictionSettings
) -> dict[str, pa.Array]:
    """A list of fixed length per row."""
    vectors = vectors_ND.astype(np.float16 if settings.float16 else np.float32)
    column = pa.FixedSizeListArray.from_arrays(
        pa.array(vectors.ravel()), vectors.shape[1], mask=pa.array(~valid)
    )
    return _prefixed(settings, {EMBEDDING: column})


def of_guesses(
    ids_NK: np.ndarray,
    probabilities_NK: np.ndarray,
    valid: np.ndarray,
    tokenizer: rust_tok.Tokenizer,
    settings: PredictionSettings,
) -> dict[str, pa.Array]:
    """Lists of words, best first, and of their probabilities."""
    distinct, place = np.unique(ids_NK, return_inverse=True)
    words = pa.array([tokenizer.decode([int(i)]).strip() for i in distinct], pa.string())
    missing, top = pa.array(~valid), ids_NK.shape[1]
    offsets = pa.array(np.arange(len(valid) + 1, dtype=np.int32) * top)

    def lists(values: pa.Array) -> pa.Array:
        return pa.ListArray.from_arrays(offsets, values, mask=missing)

    guesses = lists(words.take(pa.array(place.ravel())))
    return _prefixed(
        settings, {PREDICTION: guesses, PROBABILITY: lists(pa.array(probabilities_NK.ravel()))}
    )


def of_tags(
    logits_TC: np.ndarray, words: EncodedWords, config: BertConfig, settings: PredictionSettings
) -> dict[str, pa.Array]:
    """Lists of words and of their tags and probabilities; null for words that were cut off."""
    probabilities = _softmax(logits_TC[words.first_pieces])
    best = probabilities.argmax(axis=1)
    counts = words.words.value_lengths().fill_null(0).to_numpy()
    offsets = np.zeros(len(counts) + 1, dtype=np.int32)
    np.cumsum(counts, out=offsets[1:])
    within = np.arange(offsets[-1]) - np.repeat(offsets[:-1], counts)
    tagged = within < np.repeat(words.num_tagged, counts)
    place = np.zeros(offsets[-1], dtype=np.int64)
    place[tagged] = np.arange(int(tagged.sum()))
    missing = pa.array(words.encoded.lengths == 0)
    tags = pa.array(label_names(config), pa.string()).take(pa.array(best))

    def lists(values: pa.Array) -> pa.Array:
        spread = values.take(pa.array(place, mask=~tagged))
        return pa.ListArray.from_arrays(pa.array(offsets), spread, mask=missing)

    shares = _float32(probabilities[np.arange(len(best)), best], np.zeros(len(best), dtype=bool))
    return _prefixed(
        settings, {WORDS: words.words, PREDICTION: lists(tags), PROBABILITY: lists(shares)}
    )


def names_added(kind: str, config: BertConfig, *, tags_words: bool) -> tuple[str, ...]:
    """The names of the columns before their prefix."""
    if kind == "embeddings":
        return (EMBEDDING,)
    if kind == "fill_mask":
        return (PREDICTION, PROBABILITY)
    if tags_words:
        return (WORDS, PREDICTION, PROBABILITY)
    if is_regression(config):
        return (PREDICTION,)
    if config.problem_type == "multi_label_classification":
        return (PREDICTION, PROBABILITIES)
    return (PREDICTION, PROBABILITY, PROBABILITIES)


def _prefixed(settings: PredictionSettings, added: dict[str, pa.Array]) -> dict[str, pa.Array]:
    return {settings.prefix + name: column for name, column in added.items()}


def _columns(values_NC: np.ndarray) -> list[np.ndarray]:
    return [np.ascontiguousarray(values_NC[:, i]) for i in range(values_NC.shape[1])]


def _shares(names: list[str], probabilities_NC: np.ndarray, missing: np.ndarray) -> pa.Array:
    values = [pa.array(c.astype(np.float32)) for c in _columns(probabilities_NC)]
    return _struct(names, values, missing)


def _struct(names: list[str], values: list[pa.Array], missing: np.ndarray) -> pa.Array:
    return pa.StructArray.from_arrays(values, names=names, mask=pa.array(missing))


def _float32(values: np.ndarray, missing: np.ndarray) -> pa.Array:
    return pa.array(values.astype(np.float32), mask=missing)


def _softmax(logits: np.ndarray) -> np.ndarray:
    shifted = np.exp((logits - logits.max(axis=-1, keepdims=True)).astype(np.float64))
    return shifted / shifted.sum(axis=-1, keepdims=True)
