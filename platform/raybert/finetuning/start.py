"""The model to start from, as its folder describes it: shape, labels, tokenizer."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

import rust_tok
from bert.bert import BertForSequenceClassification, BertForTokenClassification
from bert.config import BertConfig
from bert.hf import load_pretrained
from bert.initialization import initialize
from raybert.errors import UserError
from raybert.finetuning.facts import Facts
from raybert.settings import Settings
from raybert.storage import Location
from raybert.tokens.tokenizer_files import num_ids
from raybert.training.first_weights import local_copy, read_config, weights_folder

Model = BertForSequenceClassification | BertForTokenClassification

_CONFIG = "config.json"
_TOKENIZER_CONFIG = "tokenizer_config.json"
_HEADS = ("BertForSequenceClassification", "BertForTokenClassification")
_PROBLEMS = {
    "classification": "single_label_classification",
    "multi_label": "multi_label_classification",
    "regression": "regression",
    "tokens": None,
}


@dataclass(frozen=True)
class Start:
    """A model folder, looked at without its weights.

    Attributes:
        address: what the settings name.
        place: where the weights lie.
        config: the model's.
        head: class of a finetuned model, or None.
        tokenizer: reads texts as the model learned them.
    """

    address: str
    place: Location
    config: BertConfig
    head: str | None
    tokenizer: rust_tok.Tokenizer


def look_at_start(settings: Settings) -> Start:
    """Reads config and tokenizer of the folder to start from.

    Raises:
        UserError: no such folder, another kind of model, no tokenizer or one that doesn't fit,
            more tokens asked for than the model has positions, more layers to freeze than it has.
    """
    address = settings.model.init_from
    if address is None:
        raise UserError(
            "--model.init_from is missing: a run of jobs/pretrain.py, its export, or a Hugging "
            "Face BERT folder"
        )
    place = weights_folder(address)
    with _small_files(place) as folder:
        content = _config_content(folder, address)
        config = read_config(folder)
        tokenizer = _read_tokenizer(folder, address)
    num_tokens = num_ids(tokenizer.to_json().encode())
    if num_tokens > config.vocab_size:
        raise UserError(
            f"model.init_from {address}: its tokenizer has {num_tokens:,} tokens, the model "
            f"embeddings for {config.vocab_size:,}: they don't belong together"
        )
    length, positions = settings.data.max_length, config.max_position_embeddings
    if length > positions:
        raise UserError(
            f"data.max_length {length} is more than the {positions} positions of {address}: set it "
            f"to {positions} or less"
        )
    frozen = settings.finetuning.frozen_layers
    if frozen > config.num_hidden_layers:
        raise UserError(
            f"finetuning.frozen_layers {frozen} is more than the {config.num_hidden_layers} layers "
            f"of {address}"
        )
    architecture = next(iter(content.get("architectures") or [None]))
    head = architecture if architecture in _HEADS else None
    return Start(address, place, config, head, tokenizer)


def label_order(
    start: Start, names: Sequence[str], settings: Settings, task: str
) -> tuple[str, ...]:
    """The order of the labels: that of a head that goes on, else as given.

    Raises:
        UserError: the model was finetuned for other labels.
    """
    if start.head is None or settings.finetuning.fresh_head or settings.finetuning.fresh_weights:
        return tuple(names)
    config = start.config
    number = 1 if task == "regression" else len(names)
    told = "set --finetuning.fresh_head true to give it a new one"
    if (start.head == _HEADS[1]) != (task == "tokens"):
        kind = "words" if start.head == _HEADS[1] else "whole texts"
        raise UserError(f"model.init_from {start.address} has a head for {kind}; {told}")
    if config.num_labels != number:
        theirs = f" ({_shown(config.label_names)})" if config.label_names else ""
        ours = f" ({_shown(names)})" if names else " target"
        raise UserError(
            f"model.init_from {start.address} has a head of {config.num_labels} labels{theirs}, "
            f"the data have {number}{ours}; {told}"
        )
    if not config.label_names or task == "regression":
        return tuple(names)
    if set(config.label_names) != set(names):
        raise UserError(
            f"model.init_from {start.address} was finetuned for the labels "
            f"{_shown(config.label_names)}, the data have {_shown(names)}; {told}"
        )
    return config.label_names


def _shown(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names[:8])) + (", …" if len(names) > 8 else "")


def head_overrides(settings: Settings, facts: Facts) -> dict[str, Any]:
    """Fields of the configuration that finetuning sets."""
    return {
        "hidden_dropout_prob": settings.model.hidden_dropout,
        "attention_probs_dropout_prob": settings.model.attention_dropout,
        "classifier_dropout": settings.finetuning.head_dropout,
        "num_labels": facts.num_outputs,
        "label_names": facts.label_names,
        "problem_type": _PROBLEMS[facts.task],
    }


def model_class(facts: Facts) -> type[BertForSequenceClassification | BertForTokenClassification]:
    """What is trained for a task."""
    return BertForTokenClassification if facts.task == "tokens" else BertForSequenceClassification


def first_model(settings: Settings, facts: Facts) -> tuple[Model, str]:
    """The model that a run starts with, on the CPU, and what was fresh or unused in its folder.

    Raises:
        UserError: the weights can't be read, or don't fit the configuration.
    """
    finetuning = settings.finetuning
    assert settings.model.init_from is not None  # look_at_start has seen it
    place = weights_folder(settings.model.init_from)
    checkpointing = finetuning.activation_checkpointing
    with tempfile.TemporaryDirectory(prefix="raybert-init-") as temporary:
        folder = local_copy(place, Path(temporary))
        overrides = head_overrides(settings, facts)
        if finetuning.fresh_weights:
            config = read_config(folder).replace(**overrides)
            model = model_class(facts)(
                config, seed=finetuning.seed, activation_checkpointing=checkpointing
            )
            return model, "all weights are fresh, as finetuning.fresh_weights asks"
        try:
            model, report = load_pretrained(
                folder,
                model_class(facts),  # pyright: ignore[reportArgumentType] - one of the two
                seed=finetuning.seed,
                activation_checkpointing=checkpointing,
                **overrides,
            )
        except ValueError as error:
            raise UserError(f"model.init_from: {error}") from error
    if finetuning.fresh_head:
        names = [name for name, _ in model.named_parameters() if name.startswith("head.")]
        config = model.config
        initialize(model, finetuning.seed, config.initializer_range, config.pad_token_id, names)
    return model, str(report)


def empty_model(config_json: bytes, settings: Settings, facts: Facts) -> Model:
    """A model whose weights a checkpoint fills."""
    config = BertConfig.from_hf_dict(json.loads(config_json))
    checkpointing = settings.finetuning.activation_checkpointing
    return model_class(facts)(config, seed=None, activation_checkpointing=checkpointing)


def freeze(model: Model, num_layers: int) -> None:
    """Keeps the embeddings and the lowest layers as they are; 0 freezes nothing."""
    if num_layers == 0:
        return
    frozen: list[nn.Module] = [model.backbone.embeddings]
    frozen += list(model.backbone.encoder.layers)[:num_layers]
    for module in frozen:
        module.requires_grad_(False)


def layer_rates(num_layers: int, decay: float) -> Callable[[str], float] | None:
    """Factor of the learning rate by a parameter's name.

    Head and pooler have 1, the highest layer the decay, the one below its square, and so on down
    to the embeddings (Howard and Ruder 2018, section 3.2; Clark et al. 2020, ELECTRA).
    """
    if decay == 1:
        return None

    def rate_of(name: str) -> float:
        parts = name.split(".")
        if "embeddings" in parts:
            return decay ** (num_layers + 1)
        if "layers" in parts:
            return decay ** (num_layers - int(parts[parts.index("layers") + 1]))
        return 1.0

    return rate_of


@contextmanager
def _small_files(place: Location) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="raybert-init-") as temporary:
        names = (_CONFIG, _TOKENIZER_CONFIG, "tokenizer.json", "vocab.txt")
        yield local_copy(place, Path(temporary), names)


def _config_content(folder: Path, address: str) -> dict[str, Any]:
    try:
        content = json.loads((folder / _CONFIG).read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"model.init_from {address}: {_CONFIG} is not JSON: {error}") from error
    kind = content.get("model_type", "bert") if isinstance(content, dict) else None
    if kind != "bert":
        raise UserError(
            f"model.init_from {address} holds a model of type {kind!r}; only 'bert' can be "
            "finetuned"
        )
    return content


def _read_tokenizer(folder: Path, address: str) -> rust_tok.Tokenizer:
    path = folder / "tokenizer.json"
    if path.is_file():
        return rust_tok.Tokenizer.from_file(str(path))
    if (folder / "vocab.txt").is_file():
        lowercase = None
        if (folder / _TOKENIZER_CONFIG).is_file():
            described = json.loads((folder / _TOKENIZER_CONFIG).read_text(encoding="utf-8"))
            lowercase = described.get("do_lower_case")
        return rust_tok.Tokenizer.from_file(str(folder / "vocab.txt"), lowercase=lowercase)
    raise UserError(
        f"model.init_from {address} has neither tokenizer.json nor vocab.txt: texts can't be "
        "read as the model learned them"
    )
