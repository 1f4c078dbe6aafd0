"""Read and write Hugging Face folders: config.json and model.safetensors.

`AutoModel.from_pretrained` loads what `save_pretrained` writes; `load_pretrained` loads what
Hugging Face's BERT models write, old files included.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from bert.bert import (
    BertBackbone,
    BertForPreTraining,
    BertForSequenceClassification,
    BertForTokenClassification,
)
from bert.config import BertConfig
from bert.initialization import initialize
from bert.names import hf_names, hf_views, modern_name

Model = TypeVar(
    "Model",
    BertBackbone,
    BertForPreTraining,
    BertForSequenceClassification,
    BertForTokenClassification,
)

WEIGHTS = "model.safetensors"
CONFIG = "config.json"

_ARCHITECTURES: dict[type[nn.Module], str] = {
    BertBackbone: "BertModel",
    BertForPreTraining: "BertForPreTraining",
    BertForSequenceClassification: "BertForSequenceClassification",
    BertForTokenClassification: "BertForTokenClassification",
}

# What a file may lack, because its model was trained for something else.
_REPLACEABLE = ("bert.pooler.", "pooler.", "cls.", "classifier.")

# Tensors some versions write that carry nothing of their own: a buffer of 0, 1, 2, ..., and the
# second name of tied parameters.
_REDUNDANT = {
    "embeddings.position_ids": None,
    "cls.predictions.decoder.weight": "embeddings.word_embeddings.weight",
    "cls.predictions.decoder.bias": "cls.predictions.bias",
}


@dataclass(frozen=True)
class LoadReport:
    """What loading found, in Hugging Face's names.

    Attributes:
        fresh: parameters the file lacks (or has in another shape): they hold fresh weights.
        unused: tensors of the file that the model has no place for.
    """

    fresh: tuple[str, ...]
    unused: tuple[str, ...]

    def __str__(self) -> str:
        parts = [
            f"{what}: {', '.join(names)}"
            for what, names in (("fresh", self.fresh), ("unused", self.unused))
            if names
        ]
        return "; ".join(parts) or "every parameter loaded, every tensor used"


def save_pretrained(model: nn.Module, folder: Path | str) -> None:
    """Write config.json and model.safetensors into an existing or new folder."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CONFIG).write_text(config_json(model), encoding="utf-8")
    save_file(to_hf_tensors(model), folder / WEIGHTS, metadata={"format": "pt"})


def config_json(model: nn.Module) -> str:
    """The config.json of a model of this package."""
    config: BertConfig = model.config  # pyright: ignore[reportAssignmentType]
    content = {"architectures": [_ARCHITECTURES[type(model)]], **config.to_hf_dict()}
    return json.dumps({**content, "dtype": "float32"}, indent=2, sort_keys=True) + "\n"


def to_hf_tensors(model: nn.Module) -> dict[str, Tensor]:
    """The parameters on the CPU under Hugging Face's names, each contiguous; sorted by name.

    A tied decoder is not repeated. On the CPU the tensors are views of the parameters.
    """
    views = hf_views(model)
    return {name: views[name].cpu().contiguous() for name in sorted(views)}


def load_pretrained(
    folder: Path | str,
    model_class: type[Model],
    *,
    seed: int = 0,
    activation_checkpointing: bool = False,
    attention_backend: Any = "auto",
    **overrides: Any,
) -> tuple[Model, LoadReport]:
    """Build a model from a Hugging Face folder of any BERT.

    Args:
        folder: holds config.json and model.safetensors (or its index and parts, or an old
            pytorch_model.bin, which is read without unpickling objects).
        model_class: what to build. A pooler or head that the file lacks starts fresh, as does one
            of another shape (num_labels overridden).
        seed: for what starts fresh.
        activation_checkpointing: as for the model's class.
        attention_backend: as for the model's class.
        overrides: fields of BertConfig to change, num_labels or dropout rates for example.

    Returns:
        The model in float32 on the CPU, and what was fresh or unused.

    Raises:
        ValueError: the folder is none, holds another kind of model, lacks encoder weights, or has
            weights that contradict its config.json.
    """
    folder = Path(folder)
    config = _read_config(folder)
    if "num_labels" in overrides:
        overrides.setdefault("label_names", ())
    model = model_class(
        config.replace(**overrides),
        seed=None,
        activation_checkpointing=activation_checkpointing,
        attention_backend=attention_backend,
    )
    try:
        report = from_hf_tensors(model, _read_weights(folder), seed=seed)
    except ValueError as error:
        raise ValueError(f"{folder}: {error}") from error
    return model, report


def from_hf_tensors(model: nn.Module, tensors: Mapping[str, Tensor], seed: int = 0) -> LoadReport:
    """Fill a model in place from tensors under Hugging Face's names.

    Old names (gamma, beta), a missing or superfluous `bert.` prefix and half precision are
    understood. Parameters keep their memory, dtype and device.

    Raises:
        ValueError: encoder weights are missing or have another shape than the model's.
    """
    config: BertConfig = model.config  # pyright: ignore[reportAssignmentType]
    stems = {modern_name(name).removeprefix("bert."): name for name in tensors}
    used, fresh = set(_redundant(stems, tensors)), []
    for name, view in hf_views(model).items():
        source = stems.get(name.removeprefix("bert."))
        shape = None if source is None else tensors[source].shape
        if source is not None and shape == view.shape:
            view.copy_(tensors[source])
            used.add(source)
        elif name.startswith(_REPLACEABLE):
            fresh.append(name)
        else:
            found = "is missing" if shape is None else f"has shape {tuple(shape)}"
            raise ValueError(f"{name} {found}; the model needs {tuple(view.shape)}")
    ours = [name for name, _ in model.named_parameters() if set(hf_names(name)) & set(fresh)]
    initialize(model, seed, config.initializer_range, config.pad_token_id, ours)
    return LoadReport(tuple(sorted(fresh)), tuple(sorted(tensors.keys() - used)))


def _redundant(stems: Mapping[str, str], tensors: Mapping[str, Tensor]) -> list[str]:
    """Names in the file that carry nothing of their own."""
    redundant = []
    for stem, original in _REDUNDANT.items():
        if stem not in stems:
            continue
        if original is None or (
            original in stems and torch.equal(tensors[stems[stem]], tensors[stems[original]])
        ):
            redundant.append(stems[stem])
    return redundant


def _read_config(folder: Path) -> BertConfig:
    path = folder / CONFIG
    if not path.is_file():
        raise ValueError(f"{folder} is no Hugging Face folder: it has no {CONFIG}")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not valid JSON: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} must hold a JSON object")
    kind = content.get("model_type") or _kind_of_architecture(content)
    if kind != "bert":
        raise ValueError(f"{folder} holds a model of type {kind!r}; only 'bert' can be loaded")
    try:
        return BertConfig.from_hf_dict(content)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _kind_of_architecture(content: dict[str, Any]) -> str:
    """The model type of a config.json from before there was that field; without a hint, a BERT."""
    names = content.get("architectures") or ["BertModel"]
    return "bert" if names[0].startswith("Bert") else names[0]


def _read_weights(folder: Path) -> dict[str, Tensor]:
    index = folder / f"{WEIGHTS}.index.json"
    pickled = folder / "pytorch_model.bin"
    if (folder / WEIGHTS).is_file():
        return _read_safetensors(folder / WEIGHTS)
    if index.is_file():
        parts = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        return {k: v for part in parts for k, v in _read_safetensors(folder / part).items()}
    if pickled.is_file():
        try:
            return torch.load(pickled, map_location="cpu", weights_only=True)
        except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
            raise ValueError(f"{pickled.name} holds more or less than plain tensors") from error
    raise ValueError(f"there is no {WEIGHTS}, no {index.name} and no {pickled.name}")


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path.name} cannot be read: {error}") from error
