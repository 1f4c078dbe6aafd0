"""The Transformer encoder of BERT: post-norm layers and their stack.

Shape suffixes: T tokens, D hidden size, F feed-forward width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from bert import compiled
from bert.attention import Backend, MultiHeadSelfAttention
from bert.batch import SequenceLayout
from bert.config import BertConfig
from bert.dropout import DropoutKey, Site
from bert.fused import DropoutAddNorm, gelu


class FeedForward(nn.Module):
    """Two linear layers with an exact GELU between (Vaswani et al. 2017, section 3.3)."""

    def __init__(self, hidden_size: int, intermediate_size: int) -> None:
        super().__init__()
        self.up = nn.Linear(hidden_size, intermediate_size)
        self.down = nn.Linear(intermediate_size, hidden_size)

    def forward(self, hidden_TD: Tensor) -> Tensor:
        """(T, D) to (T, D) through (T, F)."""
        return self.down(gelu(self.up(hidden_TD)))


class Encoder(nn.Module):
    """One layer: attention, then feed-forward, each ending in dropout, residual sum and norm.

    Args:
        config: the model's sizes and rates.
        index: which layer this is; it selects the dropout bits.
    """

    def __init__(self, config: BertConfig, index: int = 0, backend: Backend = "auto") -> None:
        super().__init__()
        self.index = index
        self.attention = MultiHeadSelfAttention(
            config.hidden_size,
            config.num_attention_heads,
            config.attention_probs_dropout_prob,
            config.max_position_embeddings,
            backend,
        )
        norm = (config.hidden_size, config.layer_norm_eps, config.hidden_dropout_prob)
        self.attention_norm = DropoutAddNorm(*norm)
        self.feed_forward = FeedForward(config.hidden_size, config.intermediate_size)
        self.feed_forward_norm = DropoutAddNorm(*norm)

    def forward(
        self, hidden_TD: Tensor, layout: SequenceLayout, dropout: DropoutKey | None = None
    ) -> Tensor:
        """(T, D) to (T, D)."""
        dtype = compiled.number_format(self.attention.qkv.weight)
        if dtype and hidden_TD.dtype == torch.float32 and self.attention.backend == "auto":
            return compiled.encode(self, hidden_TD, layout, dropout, dtype)

        def site(which: Site):
            return None if dropout is None else dropout.site(self.index, which)

        attended_TD = self.attention(hidden_TD, layout, site(Site.ATTENTION_PROBS))
        hidden_TD = self.attention_norm(attended_TD, hidden_TD, site(Site.ATTENTION_OUTPUT))
        widened_TD = self.feed_forward(hidden_TD)
        return self.feed_forward_norm(widened_TD, hidden_TD, site(Site.FEED_FORWARD_OUTPUT))


class StackedEncoder(nn.Module):
    """All layers one after another.

    Args:
        activation_checkpointing: keep only each layer's input and compute the rest again in the
            backward pass (Chen et al. 2016). Dropout is a function of place, so the second
            computation drops the same elements: the gradients have the same bits.
    """

    def __init__(
        self,
        config: BertConfig,
        activation_checkpointing: bool = False,
        backend: Backend = "auto",
    ) -> None:
        super().__init__()
        self.activation_checkpointing = activation_checkpointing
        self.layers = nn.ModuleList(
            Encoder(config, index, backend) for index in range(config.num_hidden_layers)
        )

    def forward(
        self, hidden_TD: Tensor, layout: SequenceLayout, dropout: DropoutKey | None = None
    ) -> Tensor:
        """(T, D) to (T, D)."""
        for layer in self.layers:
            if self.activation_checkpointing and hidden_TD.requires_grad:
                hidden_TD = checkpoint(
                    layer,
                    hidden_TD,
                    layout,
                    dropout,
                    use_reentrant=False,
                    preserve_rng_state=False,
                )
            else:
                hidden_TD = layer(hidden_TD, layout, dropout)
        return hidden_TD
