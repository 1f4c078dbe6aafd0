"""BERT put together: the backbone, and one model per objective (Devlin et al. 2018).

Shape suffixes: T tokens, S sequences, M masked tokens, D hidden size, V vocabulary, C labels, B
rows and L columns of a padded batch.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn

from bert.attention import Backend
from bert.batch import PackedBatch, unpack
from bert.config import BertConfig
from bert.dropout import DropoutKey, Site, SiteKey
from bert.embeddings import Embeddings
from bert.encoders import StackedEncoder
from bert.heads import (
    ClassificationHead,
    MaskedLanguageHead,
    NextSentenceHead,
    RegressionHead,
    TokenClassificationHead,
)
from bert.initialization import UndefinedParameters, initialize
from bert.pooler import Pooler


class BackboneOutput(NamedTuple):
    """hidden_TD: the last hidden state (T, D). pooled_SD: (S, D), None without a pooler."""

    hidden_TD: Tensor
    pooled_SD: Tensor | None


class PretrainingLogits(NamedTuple):
    """mlm_logits_MV: (M, V), all tokens when the batch masks none. nsp_logits_S2: (S, 2)."""

    mlm_logits_MV: Tensor
    nsp_logits_S2: Tensor


class BertBackbone(nn.Module):
    """Embeddings, encoder layers and, if wanted, the pooler.

    Args:
        config: sizes and rates.
        seed: fresh weights are a function of it and each parameter's name; None leaves them
            undefined, for a caller that fills them.
        with_pooler: whether there is a pooler.
        activation_checkpointing: compute each layer again in the backward pass to save memory.
        attention_backend: "auto", or a backend of `bert.attention` for every call.
    """

    def __init__(
        self,
        config: BertConfig,
        *,
        seed: int | None = 0,
        with_pooler: bool = True,
        activation_checkpointing: bool = False,
        attention_backend: Backend = "auto",
    ) -> None:
        super().__init__()
        self.config = config
        with UndefinedParameters():
            self.embeddings = Embeddings(config)
            self.encoder = StackedEncoder(config, activation_checkpointing, attention_backend)
            self.pooler = Pooler(config.hidden_size) if with_pooler else None
        _start(self, config, seed)

    def forward(self, batch: PackedBatch, dropout: DropoutKey | None = None) -> BackboneOutput:
        """A packed batch to hidden states (T, D) and pooled vectors (S, D)."""
        hidden_TD = self.embeddings(batch, dropout)
        hidden_TD = self.encoder(hidden_TD, batch.layout, dropout)
        pooled_SD = None if self.pooler is None else self.pooler(hidden_TD, batch.layout)
        return BackboneOutput(hidden_TD, pooled_SD)

    def forward_padded(
        self,
        input_ids_BL: Tensor,
        attention_mask_BL: Tensor | None = None,
        token_type_ids_BL: Tensor | None = None,
        dropout: DropoutKey | None = None,
    ) -> BackboneOutput:
        """The same for a padded batch: hidden states (B, L, D), zero where the mask is 0.

        The tokens are packed inside: the numbers are those of the packed call.
        """
        batch = PackedBatch.from_padded(input_ids_BL, attention_mask_BL, token_type_ids_BL)
        hidden_TD, pooled_SD = self(batch, dropout)
        if attention_mask_BL is None:
            return BackboneOutput(hidden_TD.view(*input_ids_BL.shape, -1), pooled_SD)
        return BackboneOutput(unpack(hidden_TD, attention_mask_BL), pooled_SD)


class BertForPreTraining(nn.Module):
    """The backbone with the masked-language and next-sentence heads; arguments as BertBackbone."""

    def __init__(
        self,
        config: BertConfig,
        *,
        seed: int | None = 0,
        activation_checkpointing: bool = False,
        attention_backend: Backend = "auto",
    ) -> None:
        super().__init__()
        self.config = config
        with UndefinedParameters():
            self.mlm = MaskedLanguageHead(
                config.hidden_size, config.vocab_size, config.layer_norm_eps
            )
            self.nsp = NextSentenceHead(config.hidden_size)
        _start(self, config, seed)
        self.backbone = BertBackbone(
            config,
            seed=seed,
            activation_checkpointing=activation_checkpointing,
            attention_backend=attention_backend,
        )

    def forward(self, batch: PackedBatch, dropout: DropoutKey | None = None) -> PretrainingLogits:
        """A packed batch to the logits of both heads.

        The masked-language head runs on batch.masked_index only; on every token when that is None.
        """
        hidden_MD, pooled_SD = self.encode(batch, dropout)
        table_VD = self.backbone.embeddings.word.weight
        return PretrainingLogits(self.mlm(hidden_MD, table_VD), self.nsp(pooled_SD))

    def encode(
        self, batch: PackedBatch, dropout: DropoutKey | None = None
    ) -> tuple[Tensor, Tensor]:
        """What the two heads read: the masked tokens' states (M, D), the pooled vectors (S, D)."""
        hidden_TD, pooled_SD = self.backbone(batch, dropout)
        assert pooled_SD is not None  # this model always has a pooler
        if batch.masked_index is None:
            return hidden_TD, pooled_SD
        return hidden_TD.index_select(0, batch.masked_index), pooled_SD

    def forward_padded(
        self,
        input_ids_BL: Tensor,
        attention_mask_BL: Tensor | None = None,
        token_type_ids_BL: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """A padded batch to logits (B, L, V), zero where the mask is 0, and (B, 2)."""
        batch = PackedBatch.from_padded(input_ids_BL, attention_mask_BL, token_type_ids_BL)
        logits_TV, nsp_logits_B2 = self(batch)
        if attention_mask_BL is None:
            return logits_TV.view(*input_ids_BL.shape, -1), nsp_logits_B2
        return unpack(logits_TV, attention_mask_BL), nsp_logits_B2


class BertForSequenceClassification(nn.Module):
    """One row of logits, or of numbers with problem_type "regression", per sequence.

    Arguments as BertBackbone.
    """

    def __init__(
        self,
        config: BertConfig,
        *,
        seed: int | None = 0,
        activation_checkpointing: bool = False,
        attention_backend: Backend = "auto",
    ) -> None:
        super().__init__()
        self.config = config
        with UndefinedParameters():
            head = RegressionHead if config.problem_type == "regression" else ClassificationHead
            self.head = head(config.hidden_size, config.num_labels, config.head_dropout_prob)
        _start(self, config, seed)
        self.backbone = BertBackbone(
            config,
            seed=seed,
            activation_checkpointing=activation_checkpointing,
            attention_backend=attention_backend,
        )

    def forward(self, batch: PackedBatch, dropout: DropoutKey | None = None) -> Tensor:
        """A packed batch to logits (S, C)."""
        pooled_SD = self.backbone(batch, dropout).pooled_SD
        return self.head(pooled_SD, _head_site(self.config, dropout))


class BertForTokenClassification(nn.Module):
    """One row of logits per token, without a pooler. Arguments as BertBackbone."""

    def __init__(
        self,
        config: BertConfig,
        *,
        seed: int | None = 0,
        activation_checkpointing: bool = False,
        attention_backend: Backend = "auto",
    ) -> None:
        super().__init__()
        self.config = config
        with UndefinedParameters():
            self.head = TokenClassificationHead(
                config.hidden_size, config.num_labels, config.head_dropout_prob
            )
        _start(self, config, seed)
        self.backbone = BertBackbone(
            config,
            seed=seed,
            with_pooler=False,
            activation_checkpointing=activation_checkpointing,
            attention_backend=attention_backend,
        )

    def forward(self, batch: PackedBatch, dropout: DropoutKey | None = None) -> Tensor:
        """A packed batch to logits (T, C)."""
        hidden_TD = self.backbone(batch, dropout).hidden_TD
        return self.head(hidden_TD, _head_site(self.config, dropout))


def _start(module: nn.Module, config: BertConfig, seed: int | None) -> None:
    if seed is not None:
        initialize(module, seed, config.initializer_range, config.pad_token_id)


def _head_site(config: BertConfig, dropout: DropoutKey | None) -> SiteKey | None:
    return None if dropout is None else dropout.site(config.num_hidden_layers, Site.HEAD)
