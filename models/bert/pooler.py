"""The sentence vector: tanh of a linear map of [CLS] (Devlin et al. 2018, section 3.1)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bert.batch import SequenceLayout


class Pooler(nn.Module):
    """One vector per sequence, from its first token."""

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.dense = nn.Linear(hidden_size, hidden_size)

    def forward(self, hidden_TD: Tensor, layout: SequenceLayout) -> Tensor:
        """(T, D) to (S, D)."""
        return torch.tanh(self.dense(hidden_TD.index_select(0, layout.first_tokens)))
