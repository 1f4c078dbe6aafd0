"""Each part of the model by itself: what it computes, and that it drops where the paper says."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from bert.batch import PackedBatch
from bert.config import BertConfig
from bert.dropout import DropoutKey, Site, dropout
from bert.embeddings import Embeddings
from bert.encoders import Encoder, FeedForward, StackedEncoder
from bert.heads import (
    ClassificationHead,
    MaskedLanguageHead,
    NextSentenceHead,
    RegressionHead,
    TokenClassificationHead,
)
from bert.pooler import Pooler

KEY = DropoutKey(1, 2, 3)


def batch() -> PackedBatch:
    return PackedBatch.from_sequences(
        [[2, 7, 3], [2, 3], [2, 9, 8, 0, 3]], [[0, 0, 1], [0, 0], [0, 0, 1, 1, 1]]
    )


def test_embeddings_are_the_normed_sum(small_config: BertConfig) -> None:
    embeddings = Embeddings(small_config)
    packed = batch()
    summed = (
        embeddings.word.weight[packed.input_ids]
        + embeddings.position.weight[packed.position_ids]
        + embeddings.token_type.weight[packed.token_type_ids]
    )
    normed = F.layer_norm(
        summed, (32,), embeddings.norm.weight, embeddings.norm.bias, small_config.layer_norm_eps
    )
    torch.testing.assert_close(embeddings(packed), normed)
    site = KEY.site(0, Site.EMBEDDINGS)
    torch.testing.assert_close(embeddings(packed, KEY), dropout(normed, site, 0.1))


def test_the_padding_row_gets_no_gradient_as_an_input(small_config: BertConfig) -> None:
    embeddings = Embeddings(small_config)
    (embeddings(batch()) * torch.randn(10, 32)).sum().backward()
    grad = embeddings.word.weight.grad
    assert grad is not None
    assert grad[0].abs().max() == 0
    assert grad[[2, 3, 7, 8, 9]].abs().sum(dim=1).min() > 0


def test_feed_forward() -> None:
    part = FeedForward(6, 11)
    hidden = torch.randn(5, 6)
    expected = F.linear(F.gelu(part.up(hidden)), part.down.weight, part.down.bias)
    torch.testing.assert_close(part(hidden), expected)


def test_encoder_layer_is_post_norm_and_drops_in_three_places(small_config: BertConfig) -> None:
    layer = Encoder(small_config, index=4)
    layout = batch().layout
    hidden = torch.randn(10, 32)
    probs, attended, fed = (
        KEY.site(4, site)
        for site in (Site.ATTENTION_PROBS, Site.ATTENTION_OUTPUT, Site.FEED_FORWARD_OUTPUT)
    )
    middle = layer.attention(hidden, layout, probs)
    middle = F.layer_norm(hidden + dropout(middle, attended, 0.1), (32,), eps=1e-12)
    out = layer.feed_forward(middle)
    out = F.layer_norm(middle + dropout(out, fed, 0.1), (32,), eps=1e-12)
    torch.testing.assert_close(layer(hidden, layout, KEY), out)


def test_layers_of_a_stack_drop_differently(small_config: BertConfig) -> None:
    stack = StackedEncoder(small_config)
    stack.layers[1].load_state_dict(stack.layers[0].state_dict())
    hidden, layout = torch.randn(10, 32), batch().layout
    one, other = (layer(hidden, layout, KEY) for layer in stack.layers)
    assert not torch.equal(one, other)
    torch.testing.assert_close(
        stack(hidden, layout), stack.layers[1](stack.layers[0](hidden, layout), layout)
    )


def test_pooler_reads_first_tokens() -> None:
    pooler = Pooler(8)
    hidden = torch.randn(10, 8)
    expected = torch.tanh(pooler.dense(hidden[[0, 3, 5]]))
    torch.testing.assert_close(pooler(hidden, batch().layout), expected)


def test_masked_language_head_shares_the_table() -> None:
    head = MaskedLanguageHead(8, 20)
    torch.nn.init.normal_(head.bias)
    hidden, table = torch.randn(3, 8), torch.randn(20, 8)
    inner = F.layer_norm(F.gelu(head.dense(hidden)), (8,), eps=1e-12)
    torch.testing.assert_close(head(hidden, table), inner @ table.T + head.bias)


def test_small_heads() -> None:
    values = torch.randn(4, 8)
    site = KEY.site(2, Site.HEAD)
    assert NextSentenceHead(8)(values).shape == (4, 2)
    for head in (ClassificationHead(8, 5, dropout=0.5), TokenClassificationHead(8, 5, dropout=0.5)):
        torch.testing.assert_close(head(values), head.linear(values))
        torch.testing.assert_close(head(values, site), head.linear(dropout(values, site, 0.5)))
    assert RegressionHead(8)(values).shape == (4, 1)
