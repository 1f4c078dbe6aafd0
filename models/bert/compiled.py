"""Embeddings, encoder layers and decoder as one autograd node each, around compiled kernels.

What is no matrix product runs in `bert.kernels`; the modules in `embeddings`, `encoders` and
`decoder_loss` hold the weights, decide (`number_format`) and are the plain-torch equivalents.

Under autocast to bfloat16 products and what feeds them are bfloat16, as autocast has them; the
residual stream, norms and sums are float32.

Shape suffixes: T tokens, D hidden size, X three times that, F feed-forward width, H heads, M masked
tokens, V vocabulary, P vocabulary padded to cache lines.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from bert import kernels, products
from bert.attention import MultiHeadSelfAttention
from bert.batch import PackedBatch, SequenceLayout
from bert.dropout import DropoutKey, Site, SiteKey
from bert.fused import DropoutAddNorm
from bert.gradients import deliver, deliver_product, in_format, is_direct
from bert.kernels import SavedNorm

_LINE = 32  # elements whose rows begin on cache lines in both formats


class EmbeddingWeights(Protocol):
    """What `embed` reads of `bert.embeddings.Embeddings`."""

    rate: float
    word: nn.Embedding
    position: nn.Embedding
    token_type: nn.Embedding
    norm: nn.LayerNorm


class FeedForwardWeights(Protocol):
    """What `encode` reads of a layer's feed-forward half."""

    up: nn.Linear
    down: nn.Linear


class EncoderWeights(Protocol):
    """What `encode` reads of `bert.encoders.Encoder`."""

    index: int
    attention: MultiHeadSelfAttention
    attention_norm: DropoutAddNorm
    feed_forward_norm: DropoutAddNorm

    @property
    def feed_forward(self) -> FeedForwardWeights: ...

    def parameters(self) -> Iterator[nn.Parameter]: ...


def number_format(weight: Tensor) -> torch.dtype | None:
    """In which format compiled nodes would compute with a weight now; None where they can't."""
    dtype = weight.dtype
    if dtype == torch.float32 and torch.is_autocast_enabled(weight.device.type):
        dtype = torch.get_autocast_dtype(weight.device.type)
    plain = weight.dtype == torch.float32 and weight.is_contiguous()
    return dtype if plain and kernels.usable(weight.device, dtype) else None


# Embeddings


def embed(module: EmbeddingWeights, batch: PackedBatch, dropout: DropoutKey | None) -> Tensor:
    """`Embeddings.forward`: float32 (T, D)."""
    site = None if dropout is None else dropout.site(0, Site.EMBEDDINGS)
    weights = (
        module.word.weight,
        module.position.weight,
        module.token_type.weight,
        module.norm.weight,
        module.norm.bias,
    )
    ids = (batch.input_ids, batch.position_ids, batch.token_type_ids)
    return _Embed.apply(module, ids, site, is_direct(), *weights)


class _Embed(torch.autograd.Function):
    @staticmethod
    def forward(ctx, module, ids, site, direct, *weights):
        ids = tuple(rows.contiguous() for rows in ids)
        *tables, weight_D, bias_D = weights
        out_TD, saved = kernels.embeddings_forward(tables, ids, weight_D, bias_D, module.norm.eps)
        ctx.save_for_backward(*saved.tensors, *ids)
        ctx.module, ctx.site, ctx.direct, ctx.weights = module, site, direct, weights
        return kernels.drop_(out_TD, site, module.rate)

    @staticmethod
    @once_differentiable
    def backward(ctx, *grad_outputs):  # pyright: ignore[reportIncompatibleMethodOverride]
        *saved, word_ids, position_ids, type_ids = ctx.saved_tensors
        module, weights, direct = ctx.module, ctx.weights, ctx.direct
        grad_TD = grad_outputs[0].clone(memory_format=torch.contiguous_format)
        kernels.drop_(grad_TD, ctx.site, module.rate)
        grads = kernels.dropout_add_norm_backward(
            grad_TD, None, SavedNorm(*saved), weights[3].detach(), None, 0.0, None
        )
        values_TD = grads.residual_TD

        def scattered(table: Tensor, ids_T: Tensor, ignored: int | None = None) -> Tensor | None:
            def add_onto(out_VD: Tensor) -> None:
                kernels.scatter_add_(out_VD, ids_T, values_TD, ignored)

            def compute() -> Tensor:
                out_VD = torch.zeros_like(table)
                add_onto(out_VD)
                return out_VD

            return deliver(table, direct, compute, add_onto)

        return (
            *(None,) * 4,
            scattered(weights[0], word_ids, module.word.padding_idx),
            scattered(weights[1], position_ids),
            scattered(weights[2], type_ids),
            deliver(weights[3], direct, lambda: grads.weight_D),
            deliver(weights[4], direct, lambda: grads.bias_D),
        )


# Encoder layer


def encode(
    layer: EncoderWeights,
    hidden_TD: Tensor,
    layout: SequenceLayout,
    dropout: DropoutKey | None,
    dtype: torch.dtype,
) -> Tensor:
    """`Encoder.forward`: float32 (T, D) to float32 (T, D), products in `dtype`."""

    def site(which: Site) -> SiteKey | None:
        return None if dropout is None else dropout.site(layer.index, which)

    sites = site(Site.ATTENTION_PROBS), site(Site.ATTENTION_OUTPUT), site(Site.FEED_FORWARD_OUTPUT)
    weights = tuple(layer.parameters())
    return _Layer.apply(layer, layout, sites, dtype, is_direct(), hidden_TD, *weights)


class _Layer(torch.autograd.Function):
    """Keeps per token 6 vectors of the width and one of F in the products' format, and 2 of the
    width in float32. The activation, for the down projection's gradient, comes again with GELU's.
    """

    @staticmethod
    def forward(ctx, layer, layout, sites, dtype, direct, hidden_TD, *weights):
        attention, feed_forward = layer.attention, layer.feed_forward
        low = dtype != torch.float32
        hidden_TD = hidden_TD.contiguous()
        input_TD = kernels.round_bf16(hidden_TD) if low else hidden_TD
        qkv_TX, ctx.qkv_bias_X = _product_and_bias(input_TD, attention.qkv, dtype)
        context_TD, log_sums_TH = kernels.attention_forward(
            qkv_TX, layout, attention.num_heads, attention.max_length, sites[0], attention.dropout,
            ctx.qkv_bias_X,
        )  # fmt: skip
        attended = _product_and_bias(context_TD, attention.output, dtype)
        middle_TD, middle_low_TD, saved1 = _norm(
            layer.attention_norm, attended, hidden_TD, sites[1], low
        )
        between_TD = middle_low_TD if low else middle_TD
        widened_TF, ctx.up_bias_F = _product_and_bias(between_TD, feed_forward.up, dtype)
        active_TF = kernels.gelu_forward(widened_TF, ctx.up_bias_F)
        narrowed = _product_and_bias(active_TF, feed_forward.down, dtype)
        out_TD, _, saved2 = _norm(layer.feed_forward_norm, narrowed, middle_TD, sites[2], False)
        ctx.save_for_backward(
            input_TD, qkv_TX, context_TD, log_sums_TH, *saved1.tensors,
            between_TD, widened_TF, *saved2.tensors,
        )  # fmt: skip
        ctx.layer, ctx.layout, ctx.sites, ctx.dtype, ctx.direct = (
            layer,
            layout,
            sites,
            dtype,
            direct,
        )
        # Under checkpointing the copies of the forward pass may be gone by then.
        ctx.linears = [
            in_format(module.weight, dtype)
            for module in (attention.qkv, attention.output, feed_forward.up, feed_forward.down)
        ]
        return out_TD

    @staticmethod
    @once_differentiable
    def backward(ctx, *grad_outputs):  # pyright: ignore[reportIncompatibleMethodOverride]
        (
            input_TD, qkv_TX, context_TD, log_sums_TH, *saved1,
            between_TD, widened_TF, sums2, means2, deviations2,
        ) = ctx.saved_tensors  # fmt: skip
        layer, direct, dtype = ctx.layer, ctx.direct, ctx.dtype
        attention, feed_forward = layer.attention, layer.feed_forward
        qkv_XD, output_DD, up_FD, down_DF = ctx.linears
        grads: dict[int, Tensor | None] = {}

        def linear(module: torch.nn.Linear, grad: Tensor, values: Tensor, grad_bias: Tensor):
            grads[id(module.weight)] = deliver_product(module.weight, direct, grad, values)
            grads[id(module.bias)] = deliver(module.bias, direct, lambda: grad_bias)

        def norm(module, grad_TD, grad_low_TD, saved, site):
            found = kernels.dropout_add_norm_backward(
                grad_TD, grad_low_TD, saved, module.weight.detach(), site, module.dropout, dtype
            )
            grads[id(module.weight)] = deliver(module.weight, direct, lambda: found.weight_D)
            grads[id(module.bias)] = deliver(module.bias, direct, lambda: found.bias_D)
            return found

        second = norm(
            layer.feed_forward_norm,
            grad_outputs[0].contiguous(),
            None,
            SavedNorm(sums2, means2, deviations2),
            ctx.sites[2],
        )
        grad_TF = products.multiply(second.values_TD, down_DF)
        active_TF, grad_up_F = kernels.gelu_backward_(widened_TF, grad_TF, ctx.up_bias_F)
        linear(feed_forward.down, second.values_TD, active_TF, second.values_sum_D)
        del active_TF
        linear(feed_forward.up, grad_TF, between_TD, grad_up_F)
        first = norm(
            layer.attention_norm,
            second.residual_TD,
            products.multiply(grad_TF, up_FD),
            SavedNorm(*saved1),
            ctx.sites[1],
        )
        linear(attention.output, first.values_TD, context_TD, first.values_sum_D)
        grad_context_TD = products.multiply(first.values_TD, output_DD)
        grad_TX = kernels.attention_backward(
            qkv_TX, context_TD, log_sums_TH, grad_context_TD, ctx.layout,
            attention.max_length, ctx.sites[0], attention.dropout, ctx.qkv_bias_X,
        )  # fmt: skip
        linear(attention.qkv, grad_TX, input_TD, kernels.sum_rows(grad_TX))
        grad_hidden_TD = None
        if ctx.needs_input_grad[5]:
            grad_hidden_TD = first.residual_TD
            if not products.add_product_(grad_hidden_TD, grad_TX, qkv_XD):
                kernels.add_(grad_hidden_TD, products.multiply(grad_TX, qkv_XD))
        return (*(None,) * 5, grad_hidden_TD, *(grads[id(weight)] for weight in layer.parameters()))


def _product_and_bias(
    values: Tensor, module: nn.Linear, dtype: torch.dtype
) -> tuple[Tensor, Tensor | None]:
    return products.product_and_bias(
        values, in_format(module.weight, dtype), in_format(module.bias, dtype)
    )


def _norm(
    module,
    product_and_bias: tuple[Tensor, Tensor | None],
    residual_TD: Tensor,
    site: SiteKey | None,
    with_low: bool,
):
    values_TD, values_bias_D = product_and_bias
    return kernels.dropout_add_norm_forward(
        values_TD,
        residual_TD,
        module.weight.detach(),
        module.bias.detach(),
        module.eps,
        site,
        module.dropout,
        with_low,
        values_bias_D,
    )


# Decoder


def decode(
    hidden_MD: Tensor, table_VD: Tensor, bias_V: Tensor, labels_M: Tensor, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """`decoder_cross_entropy`, products and logits in `dtype`."""
    return _Decode.apply(hidden_MD, table_VD, bias_V, labels_M, dtype, is_direct())


class _Decode(torch.autograd.Function):
    """Saves softmax - onehot, the gradient of the logits, in the products' format."""

    @staticmethod
    def forward(ctx, hidden_MD, table_VD, bias_V, labels_M, dtype, direct):
        vocab_size = len(table_VD)
        low_MD, low_VD = hidden_MD.to(dtype).contiguous(), in_format(table_VD, dtype)
        with torch.autocast("cpu", enabled=False):
            logits_MP, missing_V = _logits(low_MD, low_VD, in_format(bias_V, dtype))
        losses_M, correct_M = kernels.cross_entropy_(
            logits_MP, labels_M.contiguous(), vocab_size, missing_V
        )
        if any(ctx.needs_input_grad):
            ctx.save_for_backward(low_MD, low_VD, logits_MP)
        ctx.weights, ctx.direct, ctx.hidden_dtype = (table_VD, bias_V), direct, hidden_MD.dtype
        correct = correct_M.sum()
        ctx.mark_non_differentiable(correct)
        return losses_M.sum(), correct

    @staticmethod
    @once_differentiable
    def backward(ctx, *grad_outputs):  # pyright: ignore[reportIncompatibleMethodOverride]
        low_MD, low_VD, logits_MP = ctx.saved_tensors
        table_VD, bias_V = ctx.weights
        scale = grad_outputs[0]
        grad_MV = logits_MP[:, : len(low_VD)]
        grad_hidden_MD = products.multiply(grad_MV, low_VD).float() * scale
        grad_bias_V = torch.zeros_like(bias_V)
        kernels.add_rows_(grad_bias_V, logits_MP)
        scaled_MD = (low_MD.float() * scale).to(low_MD.dtype)
        return (
            grad_hidden_MD.to(ctx.hidden_dtype),
            deliver_product(table_VD, ctx.direct, grad_MV, scaled_MD),
            deliver(bias_V, ctx.direct, lambda: grad_bias_V * scale),
            *(None,) * 3,
        )


def _logits(hidden_MD: Tensor, table_VD: Tensor, bias_V: Tensor) -> tuple[Tensor, Tensor | None]:
    """(M, P), undefined beyond the vocabulary, and the bias if it is still to be added."""
    if products.adds_bias_inside(hidden_MD):
        return products.linear(hidden_MD, table_VD, bias_V), None
    vocab_size = len(table_VD)
    stride = -(-vocab_size // _LINE) * _LINE
    logits_MP = hidden_MD.new_empty(len(hidden_MD), stride)
    logits_MV = logits_MP[:, :vocab_size]
    if hidden_MD.dtype == torch.float32:
        torch.mm(hidden_MD, table_VD.t(), out=logits_MV)
        return logits_MP, bias_V
    torch.addmm(bias_V, hidden_MD, table_VD.t(), out=logits_MV)
    return logits_MP, None
