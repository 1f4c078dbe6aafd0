"""The words that a pretrained model puts where a text says [MASK]."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from raybert.inference.text_model import load


@dataclass(frozen=True)
class Guess:
    """One candidate for a masked token."""

    token: str
    probability: float


def fill_mask(folder: Path | str, texts: Sequence[str], *, top: int = 5) -> list[list[Guess]]:
    """The likeliest tokens for the one [MASK] of each text, best first.

    Args:
        folder: a run, its export, or a Hugging Face folder of a pretrained BERT.

    Raises:
        UserError: a text without exactly one [MASK], or longer than the model's positions.
    """
    return [
        [Guess(*pair) for pair in zip(row["prediction"], row["probability"], strict=True)]
        for row in load(folder).fill_mask(texts, top=top)
    ]
