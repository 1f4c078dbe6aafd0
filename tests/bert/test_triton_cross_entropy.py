"""The GPU kernel of the decoder's loss, run by Triton's interpreter (`conftest.py`): needs no GPU.

What it gives is compared with float64 of what it was given, and so is plain torch: it is to be no
nearer.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from bert import decoder_loss, kernels
from bert.decoder_loss import decoder_cross_entropy

pytest.importorskip("triton", reason="installed on Linux only")

import triton.language as tl
from triton.runtime import interpreter

from bert import triton_cross_entropy

# Half a unit in the last place of numbers up to 1; of float32 a few, for its sums.
ROUNDING = {torch.float32: 4 * 2.0**-24, torch.bfloat16: 2.0**-9, torch.float16: 2.0**-12}


@pytest.fixture(autouse=True)
def narrow_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triton_cross_entropy, "_COLUMNS", 64)


@pytest.fixture(autouse=True)
def rounding_of_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """Triton's interpreter cuts digits off where a GPU rounds to the nearest bfloat16."""
    convert = interpreter._convert_float

    def to_nearest(values, source, target, mode):
        if (source, target) != (tl.float32, tl.bfloat16):
            return convert(values, source, target, mode)
        nearest = torch.from_numpy(values.copy()).bfloat16()
        return nearest.view(torch.uint16).numpy()

    monkeypatch.setattr(interpreter, "_convert_float", to_nearest)


@pytest.fixture
def fused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The decoder takes the kernel on this device too."""
    monkeypatch.setattr(kernels, "_choice", "torch")  # not the one for CPUs
    monkeypatch.setattr(kernels, "cross_entropy_usable", lambda device, dtype: True)


def normal(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def padded(scores_RV: Tensor, fill: float = torch.nan) -> Tensor:
    """With columns that must not matter."""
    num_rows, vocab_size = scores_RV.shape
    width = -(-vocab_size // 16) * 16
    out = scores_RV.new_full((num_rows, width), fill)
    out[:, :vocab_size] = scores_RV
    return out


def exact(scores_RV: Tensor, labels_R: Tensor) -> tuple[Tensor, Tensor]:
    """Losses and softmax - onehot in float64."""
    scores_RV = scores_RV.double()
    losses_R = F.cross_entropy(scores_RV, labels_R, reduction="none")
    return losses_R, scores_RV.softmax(dim=1) - F.one_hot(labels_R, scores_RV.shape[1])


@pytest.mark.parametrize("dtype", ROUNDING)
@pytest.mark.parametrize("vocab_size", [2, 63, 64, 65, 128, 211])
def test_losses_and_gradients_are_exact_to_the_formats_rounding(
    vocab_size: int, dtype: torch.dtype
) -> None:
    logits, bias = (3 * normal(9, vocab_size)).to(dtype), normal(vocab_size, seed=1).float()
    labels = torch.arange(9) % vocab_size
    losses, gradient = exact(logits.double() + bias, labels)
    found = padded(logits)
    found_losses, correct = triton_cross_entropy.cross_entropy_(found, bias, labels)
    assert found_losses.dtype == torch.float32
    torch.testing.assert_close(found_losses.double(), losses, rtol=1e-6, atol=5e-7)
    assert correct.bool().tolist() == ((logits + bias).argmax(dim=1) == labels).tolist()
    assert found.dtype == dtype
    bound = ROUNDING[dtype]
    torch.testing.assert_close(found[:, :vocab_size].double(), gradient, rtol=0, atol=bound)
    assert not found[:, vocab_size:].any()


def test_without_gradient_logits_stay() -> None:
    logits, bias, labels = normal(5, 80).float(), normal(80, seed=1).float(), torch.arange(5)
    kept = logits.clone()
    losses, correct = triton_cross_entropy.cross_entropy_(kept, bias, labels, with_gradient=False)
    assert torch.equal(kept, logits)
    again = triton_cross_entropy.cross_entropy_(kept, bias, labels)
    assert torch.equal(losses, again[0])
    assert torch.equal(correct, again[1])
    assert not torch.equal(kept, logits)


def test_a_label_that_shares_the_highest_score_is_right() -> None:
    scores = torch.zeros(4, 200)
    scores[:3, 7] = scores[:3, 150] = 2
    labels = torch.tensor([7, 150, 8, 199])
    _, correct = triton_cross_entropy.cross_entropy_(padded(scores), torch.zeros(200), labels)
    assert correct.tolist() == [1, 1, 0, 1]
    # The bias decides as well.
    bias = torch.zeros(200)
    bias[150] = -1
    _, correct = triton_cross_entropy.cross_entropy_(padded(scores), bias, labels)
    assert correct.tolist() == [1, 0, 0, 1]


def test_large_scores_lose_no_digits() -> None:
    scores = normal(6, 150).float() * 1e4
    scores[3:] += 1e5
    labels = scores.argmax(dim=1)
    labels[::2] = 11
    # Of scores near the highest it takes more than their exponentials' rounding.
    scores[torch.arange(6), (labels + 1) % 150] = scores.amax(dim=1) - 0.5
    losses, gradient = exact(scores, labels)
    found = padded(scores)
    found_losses, _ = triton_cross_entropy.cross_entropy_(found, torch.zeros(150), labels)
    torch.testing.assert_close(found_losses.double(), losses, rtol=1e-6, atol=1e-6)
    bound = ROUNDING[torch.float32]
    torch.testing.assert_close(found[:, :150].double(), gradient, rtol=0, atol=bound)


def test_scores_of_minus_infinity_have_no_probability() -> None:
    scores = normal(3, 200).float()
    scores[:, :130] = -torch.inf  # the first blocks as a whole
    scores[1, 140:] = -torch.inf
    labels = torch.tensor([150, 135, 0])
    losses, gradient = exact(scores, labels)
    found = padded(scores)
    found_losses, correct = triton_cross_entropy.cross_entropy_(found, torch.zeros(200), labels)
    assert losses.isinf().tolist() == [False, False, True]
    torch.testing.assert_close(found_losses.double(), losses, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(found[:, :200].double(), gradient, rtol=0, atol=3e-7)
    assert correct[2] == 0


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_non_finite_scores_stay_visible_in_their_row(bad: float) -> None:
    scores = normal(3, 150).float()
    scores[1, 90] = bad
    found = padded(scores)
    losses, _ = triton_cross_entropy.cross_entropy_(found, torch.zeros(150), torch.arange(3))
    assert losses.isfinite().tolist() == [True, False, True]
    assert found.isfinite().all(dim=1).tolist() == [True, False, True]


def test_bits_repeat() -> None:
    logits, bias, labels = normal(7, 300).bfloat16(), normal(300, seed=1).float(), torch.arange(7)
    first, second = padded(logits), padded(logits, fill=0.0)
    found = [triton_cross_entropy.cross_entropy_(x, bias, labels)[0] for x in (first, second)]
    assert torch.equal(*found)
    assert torch.equal(first[:, :300], second[:, :300])


COMPILE = """
import sys, triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from bert.triton_cross_entropy import cross_entropy_kernel

types = dict(logits="*bf16", bias="*fp32", labels="*i64", losses="*fp32", correct="*i32",
             vocab_size="i32", width="i32", COLUMNS="constexpr", WITH_GRADIENT="constexpr")
# What Triton finds out itself of tensors, and of a width that is a multiple of 16.
aligned = {(place,): [["tt.divisibility", 16]] for place in (0, 1, 2, 3, 4, 6)}
source = ASTSource(cross_entropy_kernel, types, {"COLUMNS": 8192, "WITH_GRADIENT": True}, aligned)
target = GPUTarget("cuda", int(sys.argv[1]), 32)
print(triton.compile(source, target=target, options={"num_warps": 16}).asm["ptx"])
"""


@pytest.mark.parametrize("capability", [80, 90])
def test_it_compiles_to_whole_vectors_without_atomics(capability: int, tmp_path: Path) -> None:
    """As it would on a GPU of that capability; the interpreter takes more than the compiler."""
    environment = {**os.environ, "TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-c", COMPILE, str(capability)]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    # 8192 columns of 512 threads are 16 each: two vectors of 8 bf16 at a time.
    assert run.stdout.count("st.global.v4.b32") == 2
    assert "ld.global.v4.b32" in run.stdout
    assert not re.search(r"\b(atom|red)[.]", run.stdout)


# The whole node


def leaves(num_rows: int = 23) -> tuple[list[Tensor], Tensor]:
    inputs = [normal(num_rows, 8), normal(150, 8, seed=1), normal(150, seed=2)]
    return [x.float().requires_grad_() for x in inputs], torch.arange(num_rows) + 7


def outcome(inputs: list[Tensor], labels: Tensor) -> tuple[Tensor, Tensor, list[Tensor]]:
    loss, correct = decoder_cross_entropy(*inputs, labels)
    return loss.detach(), correct, list(torch.autograd.grad(loss * 0.3, inputs))


@pytest.mark.parametrize("num_rows", [0, 1, 23])
def test_the_node_is_that_of_plain_torch(num_rows: int, request: pytest.FixtureRequest) -> None:
    inputs, labels = leaves(num_rows)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernels, "_choice", "torch")
        loss, correct, gradients = outcome(inputs, labels)
    request.getfixturevalue("fused")
    found_loss, found_correct, found = outcome(inputs, labels)
    assert (found_loss.dtype, found_correct.dtype) == (loss.dtype, correct.dtype)
    torch.testing.assert_close(found_loss, loss, rtol=1e-6, atol=0)
    assert torch.equal(found_correct, correct)
    for mine, wanted in zip(found, gradients, strict=True):
        assert mine.dtype == torch.float32
        torch.testing.assert_close(mine, wanted, rtol=1e-5, atol=1e-6)


def test_without_gradient_the_node_counts_the_same(fused: None) -> None:
    inputs, labels = leaves()
    loss, correct, _ = outcome(inputs, labels)
    with torch.no_grad():
        again = decoder_cross_entropy(*inputs, labels)
    assert torch.equal(again[0], loss)
    assert torch.equal(again[1], correct)


def errors(part: Callable[..., tuple[Tensor, ...]], dtype: torch.dtype) -> tuple[float, float]:
    """Of the summed loss and of the logits' gradient (norm), given the format's inputs."""
    hidden, table = normal(40, 64).to(dtype), normal(211, 64, seed=1).mul(0.2).to(dtype)
    bias, labels = normal(211, seed=2).float(), torch.arange(40) * 5
    losses, gradient = exact(hidden.double() @ table.double().t() + bias, labels)
    loss, _, found = part(hidden, table, bias, labels, True)
    return (
        abs(loss.item() - losses.sum().item()) / losses.sum().item(),
        (found[:, :211].double() - gradient).norm().item() / gradient.norm().item(),
    )


@pytest.mark.parametrize("dtype", ROUNDING)
def test_it_is_as_near_to_float64_as_plain_torch(dtype: torch.dtype) -> None:
    plain, ours = errors(decoder_loss._plain, dtype), errors(decoder_loss._fused, dtype)
    print(dtype, plain, ours)
    for theirs, mine in zip(plain, ours, strict=True):
        assert mine <= 1.05 * theirs + 2.0**-24


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_agrees_with_float32_to_its_precision(dtype: torch.dtype, fused: None) -> None:
    inputs, labels = leaves()
    loss, _, gradients = outcome(inputs, labels)
    with torch.autocast("cpu", dtype):
        found_loss, _ = decoder_cross_entropy(*inputs, labels)
    assert found_loss.dtype == torch.float32
    torch.testing.assert_close(found_loss, loss, rtol=1e-2, atol=0)
    found = torch.autograd.grad(found_loss * 0.3, inputs)
    for mine, wanted in zip(found, gradients, strict=True):
        assert mine.dtype == torch.float32
        assert (mine - wanted).norm() < 0.02 * wanted.norm()


# Who decides


def test_the_device_decides_and_the_log_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = torch.device("cuda", 6)
    monkeypatch.setattr("torch.cuda.get_device_capability", lambda _: (9, 0))
    assert kernels.cross_entropy_usable(cuda, torch.bfloat16)
    assert not kernels.cross_entropy_usable(cuda, torch.float64)
    assert not kernels.cross_entropy_usable(torch.device("cpu"), torch.float32)
    assert "Triton's for attention" in kernels.describe(cuda)
    assert "and for the vocabulary's cross-entropy" in kernels.describe(cuda)
    monkeypatch.setattr(kernels, "_choice", "torch")
    assert not kernels.cross_entropy_usable(cuda, torch.bfloat16)
    assert kernels.describe(cuda) == "torch's, as asked for"
    monkeypatch.setattr(kernels, "_choice", "auto")
    monkeypatch.setattr("torch.cuda.get_device_capability", lambda _: (7, 5))
    kernels._triton_obstacle_once.cache_clear()
    assert not kernels.cross_entropy_usable(cuda, torch.float16)
    kernels._triton_obstacle_once.cache_clear()


def test_where_it_is_usable_the_decoder_takes_it(
    fused: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs, labels = leaves()
    monkeypatch.setattr(decoder_loss, "_plain", lambda *_: pytest.fail("plain torch was taken"))
    loss, _ = decoder_cross_entropy(*inputs, labels)
    assert loss.item() > 0
