"""What finetuning minimises, as the engine needs it: sums, and how many labels they are of.

Means over the rows (over rows times labels, over labelled words) of the global batch come out:
what transformers' models minimise, but for micro-shards, which can't matter here.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bert.batch import IGNORED_LABEL, PackedBatch
from bert.dropout import DropoutKey
from bert.loss import binary_cross_entropy_sum, cross_entropy_sum, squared_error_sum
from raybert.settings.data import Task
from raybert.training.objectives import Sums

PART = "label"


@dataclass(frozen=True)
class FinetuningObjective:
    """The loss of a task.

    Attributes:
        task: which.
        class_weights: float32 (C,), factors of the loss by label; None for all alike.
    """

    task: Task
    class_weights: Tensor | None = None

    @property
    def names(self) -> tuple[str, ...]:
        return (PART,)

    @property
    def guessing(self) -> tuple[str, ...]:
        return () if self.task == "regression" else self.names

    def counts(self, batch: PackedBatch) -> tuple[int, ...]:
        assert batch.labels is not None  # batches of LabelledRows have them
        if self.task == "tokens":
            return (int((batch.labels != IGNORED_LABEL).sum()),)
        return (batch.labels.numel(),)

    def sums(self, model: nn.Module, batch: PackedBatch, dropout: DropoutKey | None) -> Sums:
        labels = batch.labels
        assert labels is not None  # batches of LabelledRows have them
        outputs = model(batch, dropout)
        if self.task in ("classification", "tokens"):
            weights = self.class_weights
            if weights is not None:
                weights = weights.to(outputs.device)
            loss, correct = cross_entropy_sum(outputs, labels, weights)
        elif self.task == "multi_label":
            loss, correct = binary_cross_entropy_sum(outputs, labels)
        else:
            loss = squared_error_sum(outputs, labels)
            correct = torch.zeros((), dtype=torch.int64, device=outputs.device)
        return Sums((loss,), (correct,))
