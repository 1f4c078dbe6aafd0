"""Hugging Face's parameter names for our parameters.

One table serves reading and writing: every name on disk is a view of one of our parameters (query,
key and value are rows of the fused projection).
"""

from __future__ import annotations

import re

from torch import Tensor, nn

# Ours -> theirs, first match wins; "bert." precedes what belongs to the backbone of a whole model.
_RENAMED = (
    (r"embeddings\.word\.", "embeddings.word_embeddings."),
    (r"embeddings\.position\.", "embeddings.position_embeddings."),
    (r"embeddings\.token_type\.", "embeddings.token_type_embeddings."),
    (r"embeddings\.norm\.", "embeddings.LayerNorm."),
    (r"encoder\.layers\.(\d+)\.attention\.output\.", r"encoder.layer.\1.attention.output.dense."),
    (r"encoder\.layers\.(\d+)\.attention_norm\.", r"encoder.layer.\1.attention.output.LayerNorm."),
    (r"encoder\.layers\.(\d+)\.feed_forward\.up\.", r"encoder.layer.\1.intermediate.dense."),
    (r"encoder\.layers\.(\d+)\.feed_forward\.down\.", r"encoder.layer.\1.output.dense."),
    (r"encoder\.layers\.(\d+)\.feed_forward_norm\.", r"encoder.layer.\1.output.LayerNorm."),
    (r"pooler\.dense\.", "pooler.dense."),
    (r"mlm\.dense\.", "cls.predictions.transform.dense."),
    (r"mlm\.norm\.", "cls.predictions.transform.LayerNorm."),
    (r"mlm\.bias", "cls.predictions.bias"),
    (r"nsp\.linear\.", "cls.seq_relationship."),
    (r"head\.linear\.", "classifier."),
)
_FUSED = re.compile(r"encoder\.layers\.(\d+)\.attention\.qkv\.(weight|bias)")


def hf_names(name: str) -> tuple[str, ...]:
    """The name(s) on disk of one of our parameters: three for a fused projection, else one."""
    prefix = "bert." if name.startswith("backbone.") else ""
    inner = name.removeprefix("backbone.")
    if fused := _FUSED.fullmatch(inner):
        layer, kind = fused.groups()
        stem = f"{prefix}encoder.layer.{layer}.attention.self"
        return tuple(f"{stem}.{part}.{kind}" for part in ("query", "key", "value"))
    for pattern, replacement in _RENAMED:
        if match := re.match(pattern, inner):
            return (prefix + match.expand(replacement) + inner[match.end() :],)
    raise ValueError(f"{name} is no parameter of a BERT model of this package")


def hf_views(model: nn.Module) -> dict[str, Tensor]:
    """Every parameter under its name(s) on disk, as views: writing to one writes to the model."""
    views: dict[str, Tensor] = {}
    for name, parameter in model.named_parameters():
        theirs = hf_names(name)
        views.update(zip(theirs, parameter.detach().chunk(len(theirs)), strict=True))
    return views


def modern_name(name: str) -> str:
    """A name as found in a file, in today's spelling: LayerNorm.gamma and .beta are old ones."""
    stem, _, last = name.rpartition(".")
    if stem.endswith("LayerNorm") and last in ("gamma", "beta"):
        return f"{stem}.{'weight' if last == 'gamma' else 'bias'}"
    return name
