from __future__ import annotations

import contextlib
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

from bert import kernels, products
from bert.batch import PackedBatch
from bert.bert import BertForPreTraining
from bert.config import BertConfig
from bert.dropout import DropoutKey
from bert.gradients import adding_directly, weights_cast_once
from bert.loss import pretraining_sums

native = pytest.importorskip("bert_kernels").native

LENGTHS = (1, 2, 7, 7, 16, 31, 33, 61, 64)
SIZES = {
    "narrow": {"hidden_size": 24, "num_attention_heads": 3, "intermediate_size": 40},
    "wide": {"hidden_size": 128, "num_attention_heads": 2, "intermediate_size": 96},
}
KEY = DropoutKey(1, 2, 3)


@pytest.fixture(params=native.instruction_sets())
def instruction_set(request) -> Iterator[str]:
    before = native.instruction_set()
    assert native.use_instruction_set(request.param)
    yield request.param
    native.use_instruction_set(before)


@pytest.fixture(autouse=True)
def default_choice() -> Iterator[None]:
    yield
    kernels.choose("auto")


def model(size: str, **settings) -> BertForPreTraining:
    config = BertConfig(
        vocab_size=101, num_hidden_layers=2, max_position_embeddings=64, **SIZES[size], **settings
    )
    # What bfloat16 loses depends on the weights: the same in every run.
    torch.manual_seed(0)
    net = BertForPreTraining(config)
    for name, parameter in net.named_parameters():
        if name.endswith("bias"):  # all 0 in a new model, where a lost one would not be missed
            torch.nn.init.normal_(parameter, std=0.2)
    return net


def batch() -> PackedBatch:
    rng = np.random.default_rng(0)
    packed = PackedBatch.from_sequences(
        [rng.integers(0, 101, n).tolist() for n in LENGTHS],
        [[0] * (n // 2) + [1] * (n - n // 2) for n in LENGTHS],
        rng.integers(0, 2, len(LENGTHS)).tolist(),
    )
    index = torch.arange(0, packed.num_tokens, 5)
    masked = {"masked_index": index, "masked_labels": packed.input_ids[index]}
    return PackedBatch(**packed.__dict__ | masked)


def step(
    choice: kernels.Choice, net: BertForPreTraining, dropout: DropoutKey | None, low: bool = False
) -> tuple[Tensor, dict[str, Tensor]]:
    kernels.choose(choice)
    net.zero_grad()
    context = torch.autocast("cpu", dtype=torch.bfloat16) if low else contextlib.nullcontext()
    with context:
        loss = pretraining_sums(net, batch(), dropout).mean()
    loss.backward()
    return loss.detach(), {name: p.grad for name, p in net.named_parameters()}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("dropout", [None, KEY])
def test_loss_and_gradients_are_those_of_plain_torch(
    instruction_set: str, size: str, dropout: DropoutKey | None
) -> None:
    net = model(size)
    expected, expected_grads = step("torch", net, dropout)
    loss, grads = step("native", net, dropout)
    torch.testing.assert_close(loss, expected, rtol=1e-6, atol=1e-6)
    for name, wanted in expected_grads.items():
        torch.testing.assert_close(grads[name], wanted, rtol=1e-4, atol=2e-6, msg=name)


@pytest.mark.parametrize("dropout", [None, KEY])
def test_bf16_is_as_near_to_float32_as_torchs_bf16(
    instruction_set: str, dropout: DropoutKey | None
) -> None:
    net = model("wide")
    exact, exact_grads = step("torch", net, dropout)
    theirs, their_grads = step("torch", net, dropout, low=True)
    ours, our_grads = step("native", net, dropout, low=True)
    assert (ours - exact).abs() < 2 * (theirs - exact).abs() + 1e-2
    for name, wanted in exact_grads.items():
        allowed = 1.5 * (their_grads[name] - wanted).norm() + 1e-2 * wanted.norm()
        assert (our_grads[name] - wanted).norm() < allowed, name


@pytest.mark.parametrize("onednn", [False, True])
def test_products_are_torchs_from_either_library(
    onednn: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(products, "onednn_is_faster", lambda: onednn)
    left, right, bias = torch.randn(17, 33), torch.randn(33, 8), torch.randn(8)
    torch.testing.assert_close(products.multiply(left, right), left @ right)
    torch.testing.assert_close(products.multiply(right.t(), left.t()), right.t() @ left.t())
    torch.testing.assert_close(
        products.linear(left, right.t().contiguous(), bias), left @ right + bias
    )
    product, missing = products.product_and_bias(left, right.t().contiguous(), bias)
    assert (missing is None) is onednn
    torch.testing.assert_close(product, left @ right + (bias if onednn else 0))
    net = model("wide")
    expected_loss, expected = step("torch", net, KEY)
    loss, grads = step("native", net, KEY)
    torch.testing.assert_close(loss, expected_loss, rtol=1e-6, atol=1e-6)
    for name, wanted in expected.items():
        torch.testing.assert_close(grads[name], wanted, rtol=1e-4, atol=2e-6, msg=name)


@pytest.mark.parametrize("width", [24, 37])
def test_a_bias_left_out_of_a_product_is_added_by_its_reader(
    instruction_set: str, width: int
) -> None:
    values, residual, grad, weight = torch.randn(4, 70, width).unbind()
    weight, bias = weight[0], torch.randn(width)
    sums = values + bias

    def reads(values: Tensor, bias: Tensor | None) -> list[Tensor]:
        normed, _, saved = kernels.dropout_add_norm_forward(
            values, residual, weight, weight, 1e-12, KEY.site(1, 2), 0.1, values_bias_D=bias
        )
        logits, grad_values = values.clone(), grad.clone()
        labels = torch.arange(70) % width
        found = kernels.cross_entropy_(logits, labels, width, bias)
        of_gelu = kernels.gelu_backward_(values, grad_values, bias)
        gelu = kernels.gelu_forward(values, bias)
        return [normed, *saved.tensors, *found, logits, gelu, grad_values, *of_gelu]

    for found, wanted in zip(reads(values, bias), reads(sums, None), strict=True):
        assert torch.equal(found, wanted)
    with pytest.raises(AssertionError):
        kernels.gelu_forward(values, bias[1:])


@pytest.mark.parametrize("low", [False, True])
def test_bits_do_not_depend_on_the_number_of_threads(low: bool) -> None:
    """Of the kernels alone: matrix products are torch's."""
    threads = torch.get_num_threads()
    dtype = torch.bfloat16 if low else torch.float32
    generator = torch.Generator().manual_seed(0)
    layout, site = batch().layout, KEY.site(1, 2)
    qkv = torch.randn(layout.num_tokens, 3 * 48, generator=generator).to(dtype)
    values, grad = (
        torch.randn(layout.num_tokens, 48, generator=generator).to(dtype) for _ in range(2)
    )
    residual = torch.randn(layout.num_tokens, 48, generator=generator)
    weight = torch.randn(48, generator=generator)
    bias = torch.randn(3 * 48, generator=generator)

    def everything() -> list[Tensor]:
        context, sums = kernels.attention_forward(qkv, layout, 3, 64, site, 0.1)
        grad_qkv = kernels.attention_backward(qkv, context, sums, grad, layout, 64, site, 0.1)
        normed, _, saved = kernels.dropout_add_norm_forward(
            values, residual, weight, weight, 1e-12, site, 0.1, values_bias_D=weight
        )
        of_norm = kernels.dropout_add_norm_backward(residual, grad, saved, weight, site, 0.1, dtype)
        wide = qkv.clone()
        again, grad_bias = kernels.gelu_backward_(qkv, wide, bias)
        logits, labels = qkv.clone(), torch.arange(layout.num_tokens) % 100
        losses, _ = kernels.cross_entropy_(logits, labels, bias.numel(), bias)
        of_norms = normed, of_norm.values_TD, of_norm.weight_D
        of_gelu = kernels.gelu_forward(qkv, bias), again, wide, grad_bias
        return [context, grad_qkv, *of_norms, *of_gelu, losses, logits]

    try:
        torch.set_num_threads(1)
        alone = everything()
        torch.set_num_threads(3)
        together = everything()
    finally:
        torch.set_num_threads(threads)
    for one, other in zip(alone, together, strict=True):
        assert torch.equal(one, other)


def test_gradients_added_directly_are_the_same() -> None:
    net = model("wide")
    _, grads = step("native", net, KEY)
    expected = {name: 2 * grad for name, grad in grads.items()}
    for parameter, grad in zip(net.parameters(), grads.values(), strict=True):
        parameter.grad = grad.clone()
    with adding_directly():
        pretraining_sums(net, batch(), KEY).mean().backward()
    for name, parameter in net.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name], rtol=1e-5, atol=1e-6, msg=name)


def test_weights_are_rounded_once_per_context(monkeypatch: pytest.MonkeyPatch) -> None:
    rounded = []
    real = kernels.round_bf16
    monkeypatch.setattr(kernels, "round_bf16", lambda x: rounded.append(tuple(x.shape)) or real(x))
    net = model("wide")
    with weights_cast_once():
        step("native", net, KEY, low=True)
        step("native", net, KEY, low=True)
    assert rounded.count((96, 128)) == 2  # of `up`, one per layer


def test_activation_checkpointing_gives_the_same_bits() -> None:
    config = model("wide").config
    plain = BertForPreTraining(config)
    checkpointed = BertForPreTraining(config, activation_checkpointing=True)
    loss, grads = step("native", plain, KEY)
    again, grads_again = step("native", checkpointed, KEY)
    assert torch.equal(loss, again)
    assert all(torch.equal(grads[name], grads_again[name]) for name in grads)


def test_non_finite_numbers_stay_visible(instruction_set: str) -> None:
    for bad in (float("nan"), float("inf")):
        logits = torch.randn(3, 32)
        logits[1, 5] = bad
        losses, _ = kernels.cross_entropy_(logits, torch.tensor([0, 1, 2]), 32)
        assert losses.isfinite().tolist() == [True, False, True]
        values = torch.zeros(2, 32)
        values[1, 3] = bad
        ones = torch.ones(32)
        out, _, _ = kernels.dropout_add_norm_forward(
            values, torch.zeros(2, 32), ones, ones, 1e-12, None, 0.0
        )
        assert out.isfinite().all(dim=1).tolist() == [True, False]
        rounded = kernels.round_bf16(values)
        assert torch.equal(rounded.isfinite(), values.isfinite())


def test_rounding_to_bf16_is_torchs(instruction_set: str) -> None:
    bits = torch.randint(-(2**31), 2**31, (4099,), generator=torch.Generator().manual_seed(0))
    values = bits.to(torch.int32).view(torch.float32)
    values[values.abs() < torch.finfo(torch.float32).tiny] = 0  # which CPUs round to zero
    torch.testing.assert_close(
        kernels.round_bf16(values), values.to(torch.bfloat16), rtol=0, atol=0, equal_nan=True
    )


def test_adamw_is_torchs(instruction_set: str) -> None:
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(1003, generator=generator)
    parameter = torch.nn.Parameter(values.clone())
    reference = torch.optim.AdamW([parameter], lr=1e-2, eps=1e-6, weight_decay=0.1)
    moments = torch.zeros_like(values), torch.zeros_like(values)
    for count in range(1, 5):
        gradient = torch.randn(1003, generator=generator)
        parameter.grad = gradient * 0.5
        reference.step()
        kernels.adamw_(
            values,
            gradient,
            *moments,
            learning_rate=1e-2,
            beta1=0.9,
            beta2=0.999,
            epsilon=1e-6,
            weight_decay=0.1,
            count=count,
            gradient_factor=0.5,
        )
        torch.testing.assert_close(values, parameter.detach(), rtol=1e-5, atol=1e-6)


def test_the_choice_can_be_overridden_and_is_explained() -> None:
    cpu = torch.device("cpu")
    assert kernels.usable(cpu)
    assert native.instruction_set() in kernels.describe(cpu)
    assert not kernels.usable(cpu, torch.float64)
    assert not kernels.usable(torch.device("cuda"))
    kernels.choose("torch")
    assert not kernels.usable(cpu)
    assert "as asked for" in kernels.describe(cpu)
    with pytest.raises(ValueError, match="must be one of auto, native, torch, not 'fast'"):
        kernels.choose("fast")  # pyright: ignore[reportArgumentType]


def test_without_the_package_torch_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "_native", None)
    loss, _ = step("auto", model("narrow"), KEY)
    assert loss.isfinite()
    assert "not installed" in kernels.describe(torch.device("cpu"))
    with pytest.raises(ValueError, match="bert-kernels"):
        kernels.choose("native")
