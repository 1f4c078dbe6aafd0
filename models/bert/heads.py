"""What stands on top of the encoder: one small module per objective.

Shape suffixes: M masked tokens, S sequences, T tokens, D hidden size, V vocabulary, C labels.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bert.dropout import SiteKey, dropout
from bert.fused import gelu


class MaskedLanguageHead(nn.Module):
    """Scores over the vocabulary for masked tokens (Devlin et al. 2018, section 3.1, task 1).

    Linear, GELU, LayerNorm, then a decoder that shares the word embedding table (Press and Wolf
    2017) and has its own bias. The table is handed in with the call: it belongs to the embeddings.
    """

    def __init__(self, hidden_size: int, vocab_size: int, eps: float = 1e-12) -> None:
        super().__init__()
        self.dense = nn.Linear(hidden_size, hidden_size)
        self.norm = nn.LayerNorm(hidden_size, eps=eps)
        self.bias = nn.Parameter(torch.zeros(vocab_size))

    def transform(self, hidden_MD: Tensor) -> Tensor:
        """(M, D) to (M, D): all of the head but the decoder."""
        return self.norm(gelu(self.dense(hidden_MD)))

    def forward(self, hidden_MD: Tensor, word_embeddings_VD: Tensor) -> Tensor:
        """(M, D) and the (V, D) table to logits (M, V)."""
        return F.linear(self.transform(hidden_MD), word_embeddings_VD, self.bias)


class NextSentenceHead(nn.Module):
    """Does the second part follow the first? (Devlin et al. 2018, section 3.1, task 2)."""

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.linear = nn.Linear(hidden_size, 2)

    def forward(self, pooled_SD: Tensor) -> Tensor:
        """(S, D) to logits (S, 2): 0 = follows, 1 = random."""
        return self.linear(pooled_SD)


class ClassificationHead(nn.Module):
    """Dropout and a linear layer: logits per sequence or, given hidden states, per token.

    Devlin et al. 2018, section 4.1.
    """

    def __init__(self, hidden_size: int, num_labels: int, dropout: float = 0.1) -> None:
        super().__init__()
        self.rate = dropout
        self.linear = nn.Linear(hidden_size, num_labels)

    def forward(self, values_RD: Tensor, dropout_key: SiteKey | None = None) -> Tensor:
        """(R, D) to logits (R, C); a row is a sequence's pooled vector or a token."""
        return self.linear(dropout(values_RD, dropout_key, self.rate))


class TokenClassificationHead(ClassificationHead):
    """Logits per token: (T, D) to (T, C) (Devlin et al. 2018, section 5.3)."""


class RegressionHead(ClassificationHead):
    """Numbers per sequence, one by default: (S, D) to (S, C). As STS-B in Devlin et al. 2018."""

    def __init__(self, hidden_size: int, num_targets: int = 1, dropout: float = 0.1) -> None:
        super().__init__(hidden_size, num_targets, dropout)
