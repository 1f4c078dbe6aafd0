"""A model on its device, and the columns that it adds to rows of text.

Shape suffixes: N rows, T tokens and S sequences of a batch, D hidden size, C labels, V vocabulary.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from bert.batch import PackedBatch
from bert.bert import (
    BertBackbone,
    BertForPreTraining,
    BertForSequenceClassification,
    BertForTokenClassification,
)
from bert.config import BertConfig
from bert.prepacked import can_prepack, prepack
from raybert.errors import UserError
from raybert.inference import columns
from raybert.inference.encoding import Encoded, batches, encode
from raybert.inference.model_folder import MASK, LoadedModel
from raybert.inference.words import encode_words, split_words
from raybert.settings import PredictionSettings
from raybert.training.precision import dtype_of, forward_context


@dataclass(frozen=True)
class Predicted:
    """What a model says of rows.

    Attributes:
        columns: by name, each as long as the rows; null where there was nothing to predict.
        num_cut: texts that were longer than the model takes.
        num_tokens: that went through the model.
    """

    columns: dict[str, pa.Array]
    num_cut: int
    num_tokens: int


class Predictor:
    """Predicts for texts in any number; a function of them alone, on one device.

    Args:
        loaded: the model is moved to the device and, on a CPU, laid out for inference: it can't be
            used for anything else afterwards.
        settings: what is asked of it.

    Raises:
        UserError: `max_length` beyond the model's positions.
    """

    def __init__(
        self, loaded: LoadedModel, settings: PredictionSettings, device: torch.device | None = None
    ) -> None:
        self._device = device or torch.device("cpu")
        self._settings = settings
        self._tokenizer = loaded.tokenizer
        self._config = loaded.config
        self._loaded_pooling = loaded.pooling
        self.max_length = checked_max_length(loaded.config, settings)
        model = loaded.model
        if isinstance(model, BertBackbone):
            model.pooler = None  # no vector of ours comes from it
        dtype = dtype_of(settings.precision)
        if self._device.type == "cpu" and can_prepack(dtype):
            with torch.inference_mode():
                prepack(model, dtype)
        self._model = model.to(self._device).eval()

    def asked(self, settings: PredictionSettings) -> Predictor:
        """The same model, asked otherwise; kind and precision have to be the same.

        Raises:
            UserError: `max_length` beyond the model's positions.
        """
        other = copy.copy(self)
        other._settings = settings
        other.max_length = checked_max_length(self._config, settings)
        return other

    @property
    def tags_words(self) -> bool:
        """Whether texts are words with a tag each."""
        return isinstance(self._model, BertForTokenClassification)

    def predict(self, texts: pa.Array, pairs: pa.Array | None = None) -> Predicted:
        """The columns for these rows.

        Args:
            texts: strings (or lists of words, for a model that tags words); null: nothing to
                predict.
            pairs: second texts, or None.
        """
        with torch.inference_mode():
            if self.tags_words:
                return self._tags(texts)
            encoded = encode(self._tokenizer, texts, pairs, self.max_length)
            model = self._model
            if isinstance(model, BertForPreTraining):
                added, cut = self._fill(model, encoded)
            elif isinstance(model, BertForSequenceClassification):
                logits = self._gather(encoded, model, self._config.num_labels)
                added = columns.of_logits(logits, encoded.lengths > 0, self._config, self._settings)
                cut = 0
            else:
                assert isinstance(model, BertBackbone)
                vectors = self._gather(encoded, self._embed, self._config.hidden_size)
                added = columns.of_embeddings(vectors, encoded.lengths > 0, self._settings)
                cut = 0
            return Predicted(added, encoded.num_cut + cut, int(encoded.lengths.sum()))

    def _batches(self, encoded: Encoded) -> Iterator[tuple[np.ndarray, PackedBatch]]:
        for rows, batch in batches(encoded, self._settings.batch_tokens):
            yield rows, batch.to(self._device, non_blocking=True)

    def _gather(
        self, encoded: Encoded, run: Callable[[PackedBatch], Tensor], width: int
    ) -> np.ndarray:
        """What `run` gives per sequence, in the rows' order: float32 (N, width)."""
        out_NX = torch.zeros(len(encoded), width, device=self._device)
        for rows, batch in self._batches(encoded):
            with forward_context(self._settings.precision, self._device):
                values = run(batch)
            out_NX[torch.from_numpy(rows).to(self._device)] = values.float()
        return out_NX.cpu().numpy()

    def _embed(self, batch: PackedBatch) -> Tensor:
        """(S, D): the mean of each sequence's tokens, or its first."""
        hidden_TD = self._model(batch).hidden_TD
        pooling = self._settings.pooling
        if (self._loaded_pooling if pooling == "auto" else pooling) == "cls":
            vectors = hidden_TD.index_select(0, batch.layout.first_tokens)
        else:
            vectors = torch.cat(
                [
                    hidden_TD[run.tokens].view(run.num_sequences, run.length, -1).mean(1)
                    for run in batch.layout.runs
                ]
            )
        if self._settings.normalize:
            vectors = torch.nn.functional.normalize(vectors.float(), dim=-1)
        return vectors

    def _fill(self, model: BertForPreTraining, encoded: Encoded) -> tuple[dict[str, pa.Array], int]:
        """The likeliest words, and how many texts lost their [MASK] to `max_length`."""
        mask_id = self._tokenizer.token_to_id(MASK)
        places = np.flatnonzero(encoded.ids == mask_id)
        owners = np.searchsorted(encoded.starts, places, side="right") - 1
        counts = np.bincount(owners, minlength=len(encoded))
        has_one = (counts == 1) & (encoded.lengths > 0)
        place_of = np.zeros(len(encoded), dtype=np.int64)
        place_of[owners] = places - encoded.starts[owners]
        usable = Encoded(
            encoded.ids,
            encoded.starts,
            np.where(has_one, encoded.lengths, 0),
            encoded.second_starts,
            encoded.num_cut,
        )
        top = min(self._settings.top, self._config.vocab_size)
        best, probabilities = (np.zeros((len(encoded), top), t) for t in (np.int64, np.float32))
        for rows, batch in self._batches(usable):
            index_S = batch.layout.first_tokens + torch.from_numpy(place_of[rows]).to(self._device)
            with forward_context(self._settings.precision, self._device):
                hidden_TD = model.backbone(batch).hidden_TD
                logits_SV = model.mlm(hidden_TD[index_S], model.backbone.embeddings.word.weight)
            chosen = logits_SV.float().softmax(dim=-1).topk(top)
            best[rows], probabilities[rows] = chosen.indices.cpu(), chosen.values.cpu()
        words = columns.of_guesses(best, probabilities, has_one, self._tokenizer, self._settings)
        return words, int(((encoded.lengths > 0) & (counts == 0)).sum())

    def _tags(self, texts: pa.Array) -> Predicted:
        words = encode_words(self._tokenizer, split_words(texts), self.max_length)
        encoded = words.encoded
        num_labels = self._config.num_labels
        logits_TC = np.zeros((len(encoded.ids), num_labels), dtype=np.float32)
        for rows, batch in self._batches(encoded):
            with forward_context(self._settings.precision, self._device):
                values = self._model(batch)
            at = np.repeat(encoded.starts[rows], encoded.lengths[rows])
            at += batch.position_ids.cpu().numpy()
            logits_TC[at] = values.float().cpu().numpy()
        added = columns.of_tags(logits_TC, words, self._config, self._settings)
        return Predicted(added, encoded.num_cut, int(encoded.lengths.sum()))


def checked_max_length(config: BertConfig, settings: PredictionSettings) -> int:
    """Raises:
    UserError: more tokens are asked for than the model has positions.
    """
    positions = config.max_position_embeddings
    asked: Any = settings.max_length
    if asked is not None and asked > positions:
        raise UserError(
            f"prediction.max_length {asked} is more than the {positions} positions of the model"
        )
    return positions if asked is None else asked
