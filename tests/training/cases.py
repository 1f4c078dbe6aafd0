"""Small models, batches and settings for the tests of training, and what can go wrong with them."""

import hashlib
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from bert.batch import PackedBatch
from bert.bert import BertForPreTraining
from bert.config import BertConfig
from bert.dropout import DropoutKey
from raybert.settings import PretrainingSettings
from raybert.training.objectives import PretrainingObjective, Sums

VOCAB_SIZE = 150


def small_model(seed: int = 1, dropout: float = 0.1) -> BertForPreTraining:
    """Two layers of width 32: a few thousand parameters more than one block of the flat buffer."""
    config = BertConfig.named(
        "tiny",
        vocab_size=VOCAB_SIZE,
        hidden_size=32,
        num_attention_heads=2,
        max_position_embeddings=32,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
    )
    return BertForPreTraining(config, seed=seed)


def random_batch(seed: int, num_sequences: int = 3, num_uncounted: int = 0) -> PackedBatch:
    """Sentence pairs of mixed lengths; some of their next-sentence labels may not count."""
    random = np.random.default_rng(seed)
    lengths = sorted(int(n) for n in random.integers(6, 20, num_sequences))
    ids = [random.integers(5, VOCAB_SIZE, n).tolist() for n in lengths]
    types = [[0] * (n // 2) + [1] * (n - n // 2) for n in lengths]
    pairs = random.integers(0, 2, num_sequences)
    pairs[:num_uncounted] = -100
    plain = PackedBatch.from_sequences(ids, types, pairs.tolist())
    masked = np.sort(random.choice(plain.num_tokens, plain.num_tokens // 5, replace=False))
    index = torch.from_numpy(masked)
    fields = {**plain.__dict__, "masked_index": index, "masked_labels": plain.input_ids[index]}
    fields = {name: value for name, value in fields.items() if name in PackedBatch.__annotations__}
    return PackedBatch(**fields)


def global_batch(step: int, num_micro_shards: int) -> list[PackedBatch]:
    """All micro-shards of a step."""
    return [
        random_batch(1000 * step + shard, num_uncounted=shard % 2)
        for shard in range(num_micro_shards)
    ]


def small_settings(**changes: object) -> PretrainingSettings:
    """Few steps, some warm-up, a norm that clips."""
    values = {"steps": 20, "batch_size": 12, "warmup_steps": 2, "learning_rate": 1e-3, **changes}
    return PretrainingSettings.model_validate(values)


def digest(tensors: dict[str, Tensor]) -> str:
    """A checksum of names and bits."""
    found = hashlib.blake2b(digest_size=16)
    for name in sorted(tensors):
        found.update(name.encode())
        found.update(tensors[name].detach().contiguous().numpy().tobytes())
    return found.hexdigest()


class Disturbed(PretrainingObjective):
    """Does something else in the forward pass of chosen (step, micro-shard) pairs."""

    def __init__(self, where: Callable[[DropoutKey], bool], what: Callable[[Sums], Sums]) -> None:
        super().__init__()
        self.__dict__.update(where=where, what=what)

    def sums(self, model: nn.Module, batch: PackedBatch, dropout: DropoutKey | None) -> Sums:
        sums = super().sums(model, batch, dropout)
        chosen = dropout is not None and self.__dict__["where"](dropout)
        return self.__dict__["what"](sums) if chosen else sums


def infinite_loss(sums: Sums) -> Sums:
    """The loss and its gradient are not finite."""
    return Sums((sums.losses[0] * torch.inf, sums.losses[1]), sums.correct)
