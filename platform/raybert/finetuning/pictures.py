"""A confusion matrix as a picture, for TensorBoard."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from raybert.finetuning.evaluation import Predictions

_MOST_CLASSES = 40
_CELL, _MARGIN = 44, 120
_LONGEST_NAME = 16


def confusion(predictions: Predictions) -> Tensor:
    """How often each label (row) was taken for each (column): int64 (C, C)."""
    num_classes = len(predictions.facts.label_names)
    places = predictions.targets * num_classes + predictions.predicted
    return torch.bincount(places, minlength=num_classes**2).view(num_classes, num_classes)


def confusion_picture(predictions: Predictions) -> np.ndarray | None:
    """Shares of each label's rows by colour, counts as text: uint8 (height, width, 3).

    None for tasks without classes, and where there are too many to be seen.
    """
    names = predictions.facts.label_names
    if predictions.facts.task != "classification" or len(names) > _MOST_CLASSES:
        return None
    from PIL import Image, ImageDraw

    counts = confusion(predictions)
    share = counts / counts.sum(dim=1, keepdim=True).clamp(min=1)
    side = _MARGIN + _CELL * len(names)
    image = Image.new("RGB", (side, side), "white")
    draw = ImageDraw.Draw(image)
    for i, name in enumerate(names):
        middle = _MARGIN + _CELL * i + _CELL // 2
        draw.text((_MARGIN - 6, middle), name[:_LONGEST_NAME], "black", anchor="rm")
        draw.text((middle, _MARGIN - 6), name[: _LONGEST_NAME // 2], "black", anchor="mb")
        for j in range(len(names)):
            left, top = _MARGIN + _CELL * j, _MARGIN + _CELL * i
            shade = round(255 * (1 - float(share[i, j])))
            box = (left, top, left + _CELL - 1, top + _CELL - 1)
            draw.rectangle(box, fill=(shade, shade, 255), outline=(200, 200, 200))
            text = "white" if shade < 100 else "black"
            place = (left + _CELL // 2, top + _CELL // 2)
            draw.text(place, str(int(counts[i, j])), text, anchor="mm")
    draw.text((_MARGIN, 6), "columns: predicted, rows: label", "black")
    return np.asarray(image)
