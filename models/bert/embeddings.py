"""Token, position and segment embeddings, summed, normed, dropped (Devlin 2018, figure 2)."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from bert import compiled
from bert.batch import PackedBatch
from bert.config import BertConfig
from bert.dropout import DropoutKey, Site, dropout


class Embeddings(nn.Module):
    """A packed batch to its first hidden state.

    The row of `pad_token_id` gets no gradient from its use as an input, as in Hugging Face's model.
    """

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.rate = config.hidden_dropout_prob
        self.word = nn.Embedding(
            config.vocab_size, config.hidden_size, padding_idx=config.pad_token_id
        )
        self.position = nn.Embedding(config.max_position_embeddings, config.hidden_size)
        self.token_type = nn.Embedding(config.type_vocab_size, config.hidden_size)
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, batch: PackedBatch, dropout_key: DropoutKey | None = None) -> Tensor:
        """int64 (T,) ids, positions and segments to (T, D)."""
        if compiled.number_format(self.word.weight):
            return compiled.embed(self, batch, dropout_key)
        summed_TD = (
            self.word(batch.input_ids)
            + F.embedding(batch.token_type_ids, self.token_type.weight)
            + F.embedding(batch.position_ids, self.position.weight)
        )
        site = None if dropout_key is None else dropout_key.site(0, Site.EMBEDDINGS)
        return dropout(self.norm(summed_TD), site, self.rate)
