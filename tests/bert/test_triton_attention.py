"""The GPU kernels of attention, run by Triton's interpreter (`conftest.py`): needs no GPU.

The interpreter multiplies bfloat16 by its bit patterns, so that format can't be tested here.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from bert.attention import dense_attention
from bert.batch import SequenceLayout
from bert.dropout import DropoutKey, Site, column_keys, keep_limit, mix_bits_, row_keys

triton = pytest.importorskip("triton", reason="installed on Linux only")
import triton.language as tl  # noqa: E402

from bert import triton_attention  # noqa: E402

KEY = DropoutKey(1, 2, 3).site(0, Site.ATTENTION_PROBS)
MAX_LENGTH = 128


@triton.jit
def write_kept(out, row_key, column_key, threshold, first_row, first_key, N: tl.constexpr):
    rows = tl.arange(0, N)
    keys = triton_attention.row_keys(first_row, 1, rows, row_key)
    kept = triton_attention.kept(keys, first_key, column_key, threshold, N)
    tl.store(out + rows[:, None] * N + rows[None, :], kept.to(tl.int8))


@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_the_bits_are_those_of_the_hash(rate: float) -> None:
    size = 256
    for first_row, first_key in ((0, 0), (2**31 - size, 256)):
        out = torch.empty(size, size, dtype=torch.int8)
        threshold = keep_limit(rate) + 32768
        write_kept[(1,)](out, KEY.row_key, KEY.column_key, threshold, first_row, first_key, N=size)
        rows = torch.arange(first_row, first_row + size).to(torch.int32)
        columns = column_keys(KEY, first_key + size, out.device)[first_key // 2 :]
        bits = mix_bits_(row_keys(KEY, rows)[:, None] + columns)
        assert torch.equal(out.bool(), bits < keep_limit(rate))


def run(attention, qkv: Tensor, lengths: list[int], num_heads: int, rate: float) -> list[Tensor]:
    qkv = qkv.clone().requires_grad_()
    layout = SequenceLayout.of(lengths)
    out = attention(qkv, layout, num_heads, MAX_LENGTH, KEY if rate else None, rate)
    weights = torch.linspace(-1, 1, out.numel()).sin().view_as(out)
    (grad,) = torch.autograd.grad(out, qkv, weights.to(out.dtype))
    return [out.detach(), *grad.chunk(3, dim=1)]


@pytest.mark.parametrize(
    ("lengths", "num_heads", "head_size", "rate", "dtype"),
    [
        ([1, 2, 33, 64, 70, 1], 2, 16, 0.0, torch.float32),
        ([1, 2, 33, 64, 70, 1], 2, 16, 0.1, torch.float32),
        ([65, 3], 1, 24, 0.1, torch.float32),
        ([5, 66], 1, 128, 0.1, torch.float32),
        ([67, 1], 1, 64, 0.1, torch.float16),
    ],
)
def test_outputs_and_gradients_are_those_of_plain_torch(
    lengths: list[int], num_heads: int, head_size: int, rate: float, dtype: torch.dtype
) -> None:
    generator = torch.Generator().manual_seed(0)
    qkv = torch.randn(sum(lengths), 3 * num_heads * head_size, generator=generator).to(dtype)
    expected = run(dense_attention, qkv.float(), lengths, num_heads, rate)
    found = run(triton_attention.flash_attention, qkv, lengths, num_heads, rate)
    bounds = {torch.float32: 2e-5, torch.float16: 5e-3}
    for mine, wanted in zip(found, expected, strict=True):
        assert mine.dtype == dtype
        torch.testing.assert_close(mine.float(), wanted, rtol=bounds[dtype], atol=bounds[dtype])


COMPILE = """
import re, sys, torch, triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from bert import triton_attention as ours

dtype, head_size, capability = getattr(torch, sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
queries, keys = ours._block(head_size, dtype)
constants = {
    "HEAD": head_size, "PADDED": triton.next_power_of_2(head_size), "Q": queries, "K": keys,
    "DROPS": True, "PRECISION": "ieee",
}
low = {"bfloat16": "*bf16", "float32": "*fp32"}[sys.argv[1]]
types = {"log_sums": "*fp32", "deltas": "*fp32", "cu_seqlens": "*i32"}
types |= dict.fromkeys(("keep", "scale", "scale_log2"), "fp32")
types |= dict.fromkeys(("row_key", "column_key", "threshold", "num_heads", "max_length"), "i32")
types |= dict.fromkeys(constants, "constexpr")
for kernel in (ours.forward_kernel, ours.queries_backward_kernel, ours.keys_backward_kernel):
    signature = {name: types.get(name, low) for name in kernel.arg_names}
    aligned = {
        (place,): [["tt.divisibility", 16]]
        for place, name in enumerate(kernel.arg_names) if signature[name].startswith("*")
    }
    compiled = triton.compile(
        ASTSource(kernel, signature, constants, aligned),
        target=GPUTarget("cuda", capability, 32),
        options={"num_warps": ours._num_warps(dtype)},
    )
    ptx = compiled.asm["ptx"]
    print(compiled.metadata.shared, bool(re.search(r"\\b(atom|red)[.]", ptx)))
"""


@pytest.mark.parametrize(
    ("dtype", "head_size", "capability"),
    [("bfloat16", 64, 90), ("bfloat16", 128, 86), ("float32", 64, 86), ("float32", 128, 86)],
)
def test_it_compiles_to_what_fits_a_gpu_without_atomics(
    dtype: str, head_size: int, capability: int, tmp_path: Path
) -> None:
    """As it would on a GPU of that capability; the interpreter takes more than the compiler."""
    environment = {**os.environ, "TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-c", COMPILE, dtype, str(head_size), str(capability)]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    kernels = [line.split() for line in run.stdout.splitlines()]
    assert len(kernels) == 3
    for shared_bytes, has_atomics in kernels:
        assert int(shared_bytes) <= 99 * 1024
        assert has_atomics == "False"
