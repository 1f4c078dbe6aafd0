"""What a step minimises: named sums of losses over labels, each with its own denominator.

The loss of a global batch is the sum over parts of (sum of losses) / (labels counted). Micro-shards
give sums; how many labels count is known from the labels alone, before anything is computed, so
the gradient of every micro-shard is already scaled by the denominator of the whole batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor, nn

from bert.batch import PackedBatch
from bert.bert import BertForPreTraining
from bert.dropout import DropoutKey
from bert.loss import pretraining_sums


@dataclass(frozen=True)
class Sums:
    """One micro-shard's contribution.

    Attributes:
        losses: summed losses per part, scalars with gradient.
        correct: right guesses per part, scalars.
    """

    losses: tuple[Tensor, ...]
    correct: tuple[Tensor, ...]


class Objective(Protocol):
    """A training objective, as the engine needs it.

    Attributes:
        names: the parts' names.
        guessing: those that have right and wrong guesses.
    """

    @property
    def names(self) -> tuple[str, ...]: ...

    @property
    def guessing(self) -> tuple[str, ...]: ...

    def counts(self, batch: PackedBatch) -> tuple[int, ...]:
        """How many labels of a batch count, per part, without touching the device."""
        ...

    def sums(self, model: nn.Module, batch: PackedBatch, dropout: DropoutKey | None) -> Sums:
        """The forward pass; without a key nothing is dropped."""
        ...


@dataclass(frozen=True)
class PretrainingObjective:
    """Masked tokens and, unless switched off, next sentences (Devlin et al. 2018, section 3.1)."""

    next_sentence: bool = True

    @property
    def names(self) -> tuple[str, ...]:
        return ("mlm", "nsp") if self.next_sentence else ("mlm",)

    @property
    def guessing(self) -> tuple[str, ...]:
        return self.names

    def counts(self, batch: PackedBatch) -> tuple[int, ...]:
        """(masked tokens, pairs), the second only with next sentences."""
        return (batch.num_masked, batch.num_pairs)[: len(self.names)]

    def sums(self, model: nn.Module, batch: PackedBatch, dropout: DropoutKey | None) -> Sums:
        assert isinstance(model, BertForPreTraining)  # the only model with both heads
        found = pretraining_sums(model, batch, dropout)
        num_parts = len(self.names)
        return Sums(
            (found.mlm_sum, found.nsp_sum)[:num_parts],
            (found.mlm_correct, found.nsp_correct)[:num_parts],
        )
