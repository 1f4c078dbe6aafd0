"""A trained model for a notebook: texts in, predictions out, no cluster.

model = raybert.inference.load("runs/reviews")
model.predict(["A joy from start to finish."])
model.embed(["two", "texts"], normalize=True)
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import torch

from raybert.errors import UserError
from raybert.inference.columns import EMBEDDING
from raybert.inference.model_folder import MASK, Kind, find_model, load_model
from raybert.inference.predictor import Predictor
from raybert.inference.usable import usable_rows, without_unusable
from raybert.settings import PredictionSettings
from raybert.storage import Location
from raybert.training.device import choose_device

Text = str | Sequence[str]
"""A text, or its words for a model that tags words."""


def load(path: str | Path | Location, device: str | torch.device | None = None) -> TextModel:
    """The model of a raybert run, its export, or a Hugging Face BERT folder, local or remote.

    Args:
        device: None takes a GPU where there is one.

    Raises:
        UserError: there is no model at `path`. What it holds is read when it is first used.
    """
    chosen = choose_device() if device is None else torch.device(device)
    return TextModel(find_model(path, "path"), chosen)


class TextModel:
    """One model folder, with whatever heads it has. Each is loaded when first asked for."""

    def __init__(self, folder: Location, device: torch.device) -> None:
        self.folder = folder
        self.device = device
        self._predictors: dict[Kind, Predictor] = {}

    def predict(
        self,
        texts: Sequence[Text],
        pairs: Sequence[str] | None = None,
        *,
        threshold: float = 0.5,
        max_length: int | None = None,
    ) -> list[dict[str, Any]]:
        """What the model's head says: a row per text with the columns that jobs/predict.py adds.

        Classes: `prediction`, `probability`, `probabilities` by label; multi-label: a list of those
        from `threshold` on; regression: a number; tags: `words` with a tag each. A text that is
        empty has None in each.

        Raises:
            UserError: the model has no head for labels.
        """
        settings = PredictionSettings(kind="labels", threshold=threshold, max_length=max_length)
        return self._rows(texts, pairs, settings)

    def embed(
        self,
        texts: Sequence[str],
        pairs: Sequence[str] | None = None,
        *,
        pooling: Literal["auto", "mean", "cls"] = "auto",
        normalize: bool = False,
        max_length: int | None = None,
    ) -> np.ndarray:
        """A vector per text: float32 (N, D); zeros for an empty text."""
        settings = PredictionSettings(
            kind="embeddings", pooling=pooling, normalize=normalize, max_length=max_length
        )
        column = self._column(texts, pairs, settings)[EMBEDDING]
        flat = column.fill_null([0.0] * column.type.list_size).flatten()
        return flat.to_numpy().reshape(len(column), column.type.list_size)

    def fill_mask(self, texts: Sequence[str], *, top: int = 5) -> list[dict[str, Any]]:
        """`prediction`: the likeliest words for each text's one [MASK], best first; `probability`.

        Raises:
            UserError: a text without exactly one [MASK] within the model's positions.
        """
        for text in texts:
            if text.count(MASK) != 1:
                raise UserError(f"{text!r}: exactly one {MASK} is needed, not {text.count(MASK)}")
        rows = self._rows(texts, None, PredictionSettings(kind="fill_mask", top=top))
        for text, row in zip(texts, rows, strict=True):
            if row["prediction"] is None:
                raise UserError(
                    f"{text[:40]!r} …: its {MASK} stands behind the "
                    f"{self._predictors['fill_mask'].max_length} tokens that the model takes"
                )
        return rows

    def _rows(
        self, texts: Sequence[Text], pairs: Sequence[str] | None, settings: PredictionSettings
    ) -> list[dict[str, Any]]:
        return pa.table(self._column(texts, pairs, settings)).to_pylist()

    def _column(
        self, texts: Sequence[Text], pairs: Sequence[str] | None, settings: PredictionSettings
    ) -> dict[str, pa.Array]:
        if isinstance(texts, str):
            raise UserError("texts are given as a list; a single one as [text]")
        if pairs is not None and len(pairs) != len(texts):
            raise UserError(f"{len(texts)} texts and {len(pairs)} second texts are no pairs")
        words = any(not isinstance(text, str) for text in texts)
        column = pa.array(texts, pa.list_(pa.string()) if words else pa.string())
        second = None if pairs is None else pa.array(pairs, pa.string())
        usable = usable_rows(column, second, settings)
        column = without_unusable(column, usable)
        return self._predictor(settings).predict(column, second).columns

    def _predictor(self, settings: PredictionSettings) -> Predictor:
        if settings.kind not in self._predictors:
            loaded = load_model(self.folder, settings.kind, "path")
            self._predictors[settings.kind] = Predictor(loaded, settings, self.device)
        return self._predictors[settings.kind].asked(settings)
