"""The model of a run: fresh, from a Hugging Face folder or another run, or from a checkpoint."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

import rust_tok
from bert.bert import BertForPreTraining
from bert.config import BertConfig
from bert.hf import from_hf_tensors, load_pretrained
from raybert.errors import UserError
from raybert.settings import Settings
from raybert.storage import Location
from raybert.tokens import TokenStore
from raybert.training.checkpoints import FOLDER, Checkpoint, CheckpointStore

_CONFIG = "config.json"
_TOKENIZERS = ("tokenizer.json", "vocab.txt")
_NEEDED = (_CONFIG, "model.safetensors", "pytorch_model.bin", *_TOKENIZERS)


def fresh_config(settings: Settings, vocab_size: int) -> BertConfig:
    """The shape that the model settings ask for.

    Raises:
        UserError: sizes that don't fit each other.
    """
    asked = settings.model
    overrides = {
        name: value
        for name in (
            "hidden_size",
            "num_hidden_layers",
            "num_attention_heads",
            "intermediate_size",
        )
        if (value := getattr(asked, name)) is not None
    }
    try:
        return BertConfig.named(
            asked.size,
            vocab_size=vocab_size,
            max_position_embeddings=asked.max_position_embeddings,
            hidden_dropout_prob=asked.hidden_dropout,
            attention_probs_dropout_prob=asked.attention_dropout,
            **overrides,
        )
    except ValueError as error:
        raise UserError(f"model settings: {error}") from error


def build_model(settings: Settings, store: TokenStore) -> BertForPreTraining:
    """The model that a run starts with, on the CPU.

    Raises:
        UserError: sizes that don't fit, or a folder to start from that doesn't fit the tokens.
    """
    pretraining = settings.pretraining
    if settings.model.init_from is None:
        return BertForPreTraining(
            fresh_config(settings, store.vocab_size),
            seed=pretraining.seed,
            activation_checkpointing=pretraining.activation_checkpointing,
        )
    with tempfile.TemporaryDirectory(prefix="raybert-init-") as temporary:
        folder = local_copy(weights_folder(settings.model.init_from), Path(temporary))
        _refuse_other_tokens(folder, settings.model.init_from, store)
        try:
            model, _ = load_pretrained(
                folder,
                BertForPreTraining,
                seed=pretraining.seed,
                activation_checkpointing=pretraining.activation_checkpointing,
                hidden_dropout_prob=settings.model.hidden_dropout,
                attention_probs_dropout_prob=settings.model.attention_dropout,
            )
        except ValueError as error:
            raise UserError(f"model.init_from: {error}") from error
    _refuse_short_positions(model.config, settings)
    return model


def check_first_weights(settings: Settings, store: TokenStore) -> None:
    """Looks for the mistakes that `build_model` would find, without building anything.

    Raises:
        UserError: sizes that don't fit, or a folder to start from that doesn't fit the tokens.
    """
    if settings.model.init_from is None:
        fresh_config(settings, store.vocab_size)
        return
    place = weights_folder(settings.model.init_from)
    with tempfile.TemporaryDirectory(prefix="raybert-init-") as temporary:
        folder = local_copy(place, Path(temporary), (_CONFIG, *_TOKENIZERS))
        _refuse_other_tokens(folder, settings.model.init_from, store)
        _refuse_short_positions(read_config(folder), settings)


def restore_model(checkpoint: Checkpoint, settings: Settings) -> BertForPreTraining:
    """The model of a checkpoint, whatever the run began with."""
    content = json.loads((checkpoint.location / _CONFIG).read_bytes())
    model = BertForPreTraining(
        BertConfig.from_hf_dict(content),
        seed=None,
        activation_checkpointing=settings.pretraining.activation_checkpointing,
    )
    from_hf_tensors(model, checkpoint.weights())
    return model


def weights_folder(address: str) -> Location:
    """Where the weights lie: the folder itself, or a run's newest whole checkpoint.

    Raises:
        UserError: there is no such folder, or a run without a checkpoint.
    """
    place = Location.parse(address)
    if (place / _CONFIG).is_file():
        return place
    if (place / FOLDER).is_dir():
        checkpoint = CheckpointStore(place).newest_whole()
        if checkpoint is None:
            raise UserError(f"model.init_from {address}: this run has no checkpoint yet")
        return checkpoint.location
    what = f"has neither {_CONFIG} nor {FOLDER}/" if place.is_dir() else "does not exist"
    raise UserError(
        f"model.init_from {address}: {what}; give a Hugging Face BERT folder, a run, or its export"
    )


def local_copy(place: Location, temporary: Path, names: Sequence[str] = _NEEDED) -> Path:
    """The folder itself where it is local, else a temporary one with those files of it."""
    if place.is_local:
        return place.local_path
    here = set(place.list_files())
    for name in (name for name in names if name in here):
        (temporary / name).write_bytes((place / name).read_bytes())
    return temporary


def read_config(folder: Path) -> BertConfig:
    """The shape that a local folder's config.json describes.

    Raises:
        UserError: a kind of BERT that can't be computed, or no JSON.
    """
    try:
        return BertConfig.from_hf_dict(json.loads((folder / _CONFIG).read_text(encoding="utf-8")))
    except ValueError as error:
        raise UserError(f"model.init_from: {folder / _CONFIG}: {error}") from error


def _refuse_short_positions(config: BertConfig, settings: Settings) -> None:
    if settings.samples.max_length > config.max_position_embeddings:
        raise UserError(
            f"samples.max_length {settings.samples.max_length} is more than the "
            f"{config.max_position_embeddings} positions of {settings.model.init_from}"
        )


def _refuse_other_tokens(folder: Path, address: str, store: TokenStore) -> None:
    """A model goes on with its own tokenizer only: to another one its embeddings mean nothing."""
    path = next((folder / name for name in _TOKENIZERS if (folder / name).is_file()), None)
    if path is None:
        size = json.loads((folder / _CONFIG).read_text(encoding="utf-8")).get("vocab_size")
        if size != store.vocab_size:
            raise UserError(
                f"model.init_from {address} has a vocabulary of {size} and no tokenizer file; the "
                f"tokens in {store.location} have one of {store.vocab_size}"
            )
        return
    fingerprint = rust_tok.Tokenizer.from_file(str(path)).fingerprint
    if fingerprint != store.manifest.tokenizer:
        raise UserError(
            f"the tokens in {store.location} were not made with the tokenizer of "
            f"model.init_from {address} (fingerprints {store.manifest.tokenizer} and "
            f"{fingerprint}): tokenize the corpus with --tokenizer.path {address}"
        )
