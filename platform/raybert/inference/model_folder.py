"""A folder with a trained BERT and its tokenizer: found, checked, loaded."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import rust_tok
from bert.bert import (
    BertBackbone,
    BertForPreTraining,
    BertForSequenceClassification,
    BertForTokenClassification,
)
from bert.config import BertConfig
from bert.hf import LoadReport, load_pretrained
from raybert.errors import UserError
from raybert.storage import Location, checksum_of_bytes, checksum_of_file
from raybert.training.checkpoints import FOLDER as CHECKPOINTS
from raybert.training.checkpoints import CheckpointStore
from raybert.training.export import FOLDER as EXPORT

Kind = Literal["labels", "embeddings", "fill_mask"]
Model = (
    BertBackbone | BertForPreTraining | BertForSequenceClassification | BertForTokenClassification
)

MASK = "[MASK]"
_CONFIG = "config.json"
_POOLING = "1_Pooling/config.json"
_TOKENIZERS = ("tokenizer.json", "vocab.txt")
_SMALL_FILES = (_CONFIG, "tokenizer_config.json", *_TOKENIZERS)
_WEIGHTS = (".safetensors", ".safetensors.index.json", "pytorch_model.bin")


@dataclass(frozen=True)
class LoadedModel:
    """A model on the CPU with what goes with it.

    Attributes:
        fingerprint: of weights, configuration and tokenizer.
        pooling: of its embeddings, as its folder says.
    """

    model: Model
    config: BertConfig
    tokenizer: rust_tok.Tokenizer
    fingerprint: str
    pooling: Literal["mean", "cls"] | None


def load_model(address: str | Path | Location, kind: Kind, setting: str) -> LoadedModel:
    """The model of a run (its export, else its newest checkpoint) or of a Hugging Face folder.

    Args:
        kind: what it is for; a model without the head for that is refused.
        setting: that gave the address, for messages.

    Raises:
        UserError: nothing there, no BERT (its model_type is named), weights that don't fit, no
            tokenizer or another model's, no head for `kind`.
    """
    place = find_model(address, setting)
    with _here(place) as folder:
        content = _content_of(folder / _CONFIG)
        model_class = _class_for(kind, content)
        try:
            model, report = load_pretrained(folder, model_class)
        except ValueError as error:
            message = str(error).replace(str(folder), str(place))
            raise UserError(f"{setting}: {message}") from error
        _refuse_missing_head(report, kind, content, place)
        tokenizer = _tokenizer_of(folder, place)
        if tokenizer.vocab_size > model.config.vocab_size:
            raise UserError(
                f"{setting} {place}: its tokenizer has {tokenizer.vocab_size} tokens, the model a "
                f"vocabulary of {model.config.vocab_size}: they don't belong together"
            )
        if kind == "fill_mask" and tokenizer.token_to_id(MASK) is None:
            raise UserError(f"{setting} {place}: its tokenizer has no {MASK}")
        return LoadedModel(
            model.eval(), model.config, tokenizer, _fingerprint(folder), _pooling_of(folder)
        )


def find_model(address: str | Path | Location, setting: str) -> Location:
    """Raises:
    UserError: there is no such folder, or it holds no model yet.
    """
    place = Location.parse(address)
    if (place / _CONFIG).is_file():
        return place
    if (place / EXPORT / _CONFIG).is_file():
        return place / EXPORT
    if (place / CHECKPOINTS).is_dir():
        checkpoint = CheckpointStore(place).newest_whole()
        if checkpoint is None:
            raise UserError(f"{setting} {address}: this run has no checkpoint yet")
        return checkpoint.location
    what = f"has neither {_CONFIG} nor {EXPORT}/" if place.is_dir() else "does not exist"
    raise UserError(
        f"{setting} {address}: {what}; give a run, its export or a Hugging Face BERT folder"
    )


@contextmanager
def _here(place: Location) -> Iterator[Path]:
    """The folder on this machine; of a remote one, a copy for as long as it is needed."""
    if place.is_local:
        yield place.local_path
        return
    with tempfile.TemporaryDirectory(prefix="raybert-model-") as temporary:
        folder = Path(temporary)
        for name in place.list_files():
            if name in _SMALL_FILES or name.endswith(_WEIGHTS):
                with (place / name).open_input_stream() as source, (folder / name).open("wb") as to:
                    shutil.copyfileobj(source, to, 4 << 20)
        if (place / _POOLING).is_file():
            (folder / _POOLING).parent.mkdir()
            (folder / _POOLING).write_bytes((place / _POOLING).read_bytes())
        yield folder


def _content_of(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path} is not valid JSON: {error}") from error
    return content if isinstance(content, dict) else {}


def _tokenizer_of(folder: Path, place: Location) -> rust_tok.Tokenizer:
    path = next((folder / name for name in _TOKENIZERS if (folder / name).is_file()), None)
    if path is None:
        raise UserError(f"{place} holds no tokenizer: {' or '.join(_TOKENIZERS)} is needed")
    lowercase = None
    if path.suffix == ".txt" and (folder / "tokenizer_config.json").is_file():
        lowercase = _content_of(folder / "tokenizer_config.json").get("do_lower_case")
    return rust_tok.Tokenizer.from_file(str(path), lowercase=lowercase)


def _class_for(kind: Kind, content: dict[str, Any]) -> type[Any]:
    if kind == "embeddings":
        return BertBackbone
    if kind == "fill_mask":
        return BertForPreTraining
    return BertForTokenClassification if _is_of_tokens(content) else BertForSequenceClassification


def _is_of_tokens(content: dict[str, Any]) -> bool:
    return any("TokenClassification" in name for name in content.get("architectures") or ())


def _refuse_missing_head(
    report: LoadReport, kind: Kind, content: dict[str, Any], place: Location
) -> None:
    """Parameters that would be random decide nothing: they are refused where they matter."""
    matters = {
        "labels": ("classifier.",) if _is_of_tokens(content) else ("classifier.", "pooler."),
        "embeddings": (),
        "fill_mask": ("cls.predictions.",),
    }[kind]
    fresh = [
        name for name in report.fresh if matters and name.removeprefix("bert.").startswith(matters)
    ]
    if not fresh:
        return
    what = ", ".join(content.get("architectures") or ()) or "a model"
    needs = {
        "labels": "a classification head: finetune it first (jobs/finetune.py)",
        "fill_mask": "the masked-language head of pretraining",
    }[kind]
    raise UserError(
        f"prediction.kind {kind} needs {needs}. {place} holds {what} without {', '.join(fresh[:3])}"
    )


def _pooling_of(folder: Path) -> Literal["mean", "cls"] | None:
    """What a sentence-transformers folder says of its pooling."""
    if not (folder / _POOLING).is_file():
        return None
    content = _content_of(folder / _POOLING)
    if content.get("pooling_mode_cls_token"):
        return "cls"
    return "mean" if content.get("pooling_mode_mean_tokens") else None


def _fingerprint(folder: Path) -> str:
    names = sorted(
        path.name
        for path in folder.iterdir()
        if path.name in _SMALL_FILES or path.name.endswith(_WEIGHTS)
    )
    sums = (f"{name} {checksum_of_file(Location(str(folder / name)))}" for name in names)
    return checksum_of_bytes("\n".join(sums).encode())
