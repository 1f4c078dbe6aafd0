"""Which rows hold something to predict."""

from __future__ import annotations

from typing import Any, Final

import pyarrow as pa
import pyarrow.compute

from raybert.inference.model_folder import MASK
from raybert.settings import PredictionSettings

compute: Final[Any] = pyarrow.compute  # its functions are made when it is imported


def usable_rows(texts: pa.Array, pairs: pa.Array | None, settings: PredictionSettings) -> pa.Array:
    """Which rows hold something to predict: boolean, without nulls."""
    if not (pa.types.is_string(texts.type) or pa.types.is_large_string(texts.type)):
        return compute.fill_null(compute.greater(compute.list_value_length(texts), 0), False)
    usable = _has_text(texts)
    if settings.kind == "fill_mask":
        masks = compute.count_substring(texts, MASK)
        if pairs is not None:
            masks = compute.add(masks, compute.count_substring(pairs, MASK))
        usable = compute.and_(usable, compute.fill_null(compute.equal(masks, 1), False))
    return usable if pairs is None else compute.and_(usable, _has_text(pairs))


def _has_text(texts: pa.Array) -> pa.Array:
    return compute.fill_null(compute.not_equal(compute.utf8_trim_whitespace(texts), ""), False)


def without_unusable(texts: pa.Array, usable: pa.Array) -> pa.Array:
    """Null in the rows that hold nothing to predict."""
    return compute.if_else(usable, texts, pa.scalar(None, texts.type))
