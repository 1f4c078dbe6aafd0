"""Sums of losses, never means: what micro-shards and workers can add up.

Shape suffixes: M masked tokens, S sequences, D hidden size, V vocabulary, R rows, C labels.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from bert.batch import IGNORED_LABEL, PackedBatch
from bert.bert import BertForPreTraining
from bert.decoder_loss import decoder_cross_entropy
from bert.dropout import DropoutKey


@dataclass(frozen=True)
class LossSums:
    """What one packed batch contributes to a pretraining step.

    Attributes:
        mlm_sum: summed cross-entropy over masked tokens, a scalar with gradient.
        nsp_sum: summed cross-entropy over counted pairs, a scalar with gradient.
        num_masked: tokens in mlm_sum.
        num_pairs: pairs in nsp_sum.
        mlm_correct: int64 scalar on the device, masked tokens guessed right.
        nsp_correct: int64 scalar on the device, pairs guessed right.
    """

    mlm_sum: Tensor
    nsp_sum: Tensor
    num_masked: int
    num_pairs: int
    mlm_correct: Tensor
    nsp_correct: Tensor

    def mean(self) -> Tensor:
        """The paper's loss of this batch alone: mean over masked tokens plus mean over pairs."""
        return self.mlm_sum / max(self.num_masked, 1) + self.nsp_sum / max(self.num_pairs, 1)


def pretraining_sums(
    model: BertForPreTraining, batch: PackedBatch, dropout: DropoutKey | None = None
) -> LossSums:
    """Masked-language and next-sentence losses of a batch (Devlin et al. 2018, section A.2).

    A batch without masked tokens or without pairs has that sum 0.
    """
    if batch.masked_index is None or batch.masked_labels is None:
        raise ValueError("pretraining needs masked_index and masked_labels in the batch")
    hidden_MD, pooled_SD = model.encode(batch, dropout)
    mlm_sum, mlm_correct = decoder_cross_entropy(
        model.mlm.transform(hidden_MD),
        model.backbone.embeddings.word.weight,
        model.mlm.bias,
        batch.masked_labels,
    )
    nsp_logits_S2 = model.nsp(pooled_SD)
    if batch.next_sentence_labels is None:
        nsp_sum, nsp_correct = nsp_logits_S2.sum() * 0, mlm_correct.new_zeros(())
    else:
        nsp_sum, nsp_correct = cross_entropy_sum(nsp_logits_S2, batch.next_sentence_labels)
    return LossSums(mlm_sum, nsp_sum, batch.num_masked, batch.num_pairs, mlm_correct, nsp_correct)


def cross_entropy_sum(
    logits_RC: Tensor, labels_R: Tensor, class_weights_C: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Summed cross-entropy and the number of right guesses; a label of -100 counts in neither.

    Rows are sequences, or tokens for token classification. With class weights each row's loss is
    multiplied by its label's.
    """
    loss = F.cross_entropy(
        _precise(logits_RC),
        labels_R,
        weight=class_weights_C,
        ignore_index=IGNORED_LABEL,
        reduction="sum",
    )
    return loss, (logits_RC.detach().argmax(dim=-1) == labels_R).sum()


def binary_cross_entropy_sum(logits_SC: Tensor, labels_SC: Tensor) -> tuple[Tensor, Tensor]:
    """Multi-label loss, summed over sequences and labels, and how many labels are right."""
    loss = F.binary_cross_entropy_with_logits(_precise(logits_SC), labels_SC, reduction="sum")
    return loss, ((logits_SC.detach() > 0) == (labels_SC > 0.5)).sum()


def squared_error_sum(outputs_SC: Tensor, targets: Tensor) -> Tensor:
    """Regression loss, summed over sequences and targets; targets are (S, C), or (S,) for C = 1."""
    return F.mse_loss(_precise(outputs_SC), targets.view_as(outputs_SC), reduction="sum")


def _precise(values: Tensor) -> Tensor:
    return values.to(torch.promote_types(values.dtype, torch.float32))
