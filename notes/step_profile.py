# ---
# jupyter:
#   jupytext:
#     formats: py:percent
#   kernelspec:
#     display_name: Python 3
#     name: python3
# ---

# %% [markdown]
# # Where a training step's time goes
#
# Every part of a step either multiplies matrices or moves memory. This note measures what this
# machine can do of both, on one thread, counts what each part asks for, and sets the time it takes
# beside the time it must take. The step is a small one: 4 layers of 256, 16 pairs of at most 128
# tokens, in the precision that `auto` takes here. Times are of the thread's CPU clock.

# %%
import time
from collections.abc import Callable

import numpy as np
import torch

from bert import kernels, products
from bert.batch import PackedBatch
from bert.bert import BertForPreTraining
from bert.config import BertConfig
from bert.dropout import DropoutKey, Site
from bert.memory import tune_allocator
from raybert.settings import PretrainingSettings
from raybert.training.engine import Engine
from raybert.training.objectives import PretrainingObjective
from raybert.training.precision import choose_precision
from raybert.training.throughput import batch_flops

torch.set_num_threads(1)
tune_allocator()
CPU = torch.device("cpu")
precision = choose_precision("auto", CPU)
dtype = {"bf16": torch.bfloat16, "fp32": torch.float32}[precision.name]
width = dtype.itemsize
print(precision.reason)
print("kernels:", kernels.describe(CPU))

# %%
config = BertConfig.named("mini", vocab_size=30_522)
D, F, V, H = config.hidden_size, config.intermediate_size, config.vocab_size, 4
rng = np.random.default_rng(0)
lengths = np.sort(rng.integers(32, 129, 16))
batch = PackedBatch.from_sequences(
    [rng.integers(1000, V, n) for n in lengths], None, rng.integers(0, 2, len(lengths)).tolist()
)
index = torch.arange(0, batch.num_tokens, 7)
masked = {"masked_index": index, "masked_labels": batch.input_ids[index]}
batch = PackedBatch(**batch.__dict__ | masked)
T, M, layers = batch.num_tokens, batch.num_masked, config.num_hidden_layers
squares = int((lengths**2).sum())


def seconds(work: Callable[[], object], repeats: int = 5) -> float:
    work()
    best = float("inf")
    for _ in range(repeats):
        begin = time.thread_time()
        work()
        best = min(best, time.thread_time() - begin)
    return best


square = torch.ones(1024, 1024, dtype=dtype)
peak = 2 * 1024**3 / seconds(lambda: products.multiply(square, square))
source, target = torch.ones(1 << 23), torch.empty(1 << 23)
bandwidth = 2 * source.nbytes / seconds(lambda: target.copy_(source))
print(f"{T} tokens, {M} of them masked")
print(f"peak {peak / 1e9:,.0f} GFLOP/s, memory {bandwidth / 1e9:,.0f} GB/s, one thread")

# %% [markdown]
# A whole step first: its model FLOPs over its time, as a share of the peak.

# %%
settings = PretrainingSettings(batch_size=batch.num_sequences, learning_rate=1e-4)
engine = Engine(
    BertForPreTraining(config),
    PretrainingObjective(),
    settings,
    num_micro_shards=1,
    precision=precision.name,
)
whole = seconds(lambda: engine.step(0, [batch]))
print(f"step {whole * 1000:.1f} ms, {batch_flops(config, batch) / whole / peak:.0%} of the peak")

# %% [markdown]
# Then part by part: products of the layers' and the decoder's shapes, and the kernels. FLOPs are
# those of matrix products; bytes are what must be read and written once.

# %%
key = DropoutKey(0, 0, 0).site(0, Site.ATTENTION_PROBS)


def tensor(*shape: int, of: torch.dtype = dtype) -> torch.Tensor:
    return torch.randn(shape).to(of)


def linear(rows: int, inner: int, outer: int) -> Callable[[], None]:
    """Forward, gradient of the input, gradient of the weight."""
    x, w, g, b = tensor(rows, inner), tensor(outer, inner), tensor(rows, outer), tensor(outer)

    def work() -> None:
        _ = products.product_and_bias(x, w, b), products.multiply(g, w), products.multiply(g.t(), x)

    return work


def attention() -> None:
    out, sums = kernels.attention_forward(qkv, batch.layout, H, 512, key, 0.1)
    kernels.attention_backward(qkv, out, sums, grad, batch.layout, 512, key, 0.1)


def norm() -> None:
    _, _, saved = kernels.dropout_add_norm_forward(grad, residual, ones, ones, 1e-12, key, 0.1)
    kernels.dropout_add_norm_backward(residual, None, saved, ones, key, 0.1, dtype)


def gelu() -> None:
    kernels.gelu_forward(wide)
    kernels.gelu_backward_(wide, wide_grad)


def optimizer() -> None:
    torch.linalg.vector_norm(flat[0].view(-1, 4096), dim=1)
    kernels.adamw_(
        *flat, learning_rate=1e-4, beta1=0.9, beta2=0.999, epsilon=1e-6,
        weight_decay=0.01, count=1, gradient_factor=1.0,
    )  # fmt: skip


qkv, grad, wide, wide_grad = tensor(T, 3 * D), tensor(T, D), tensor(T, F), tensor(T, F)
residual, ones = tensor(T, D, of=torch.float32), torch.ones(D)
logits = tensor(M, -(-V // 32) * 32)
num_values = engine._flat.values.numel()
flat = [torch.rand(num_values) for _ in range(4)]
parts: list[tuple[str, int, Callable[[], None], float, float]] = [
    ("layers' products", layers, linear(T, D, 4 * D), 6 * T * D * 4 * D, 0),
    ("", layers, linear(T, D, F), 6 * T * D * F, 0),
    ("", layers, linear(T, F, D), 6 * T * D * F, 0),
    ("decoder's products", 1, linear(M, D, V), 6 * M * D * V, 0),
]
if kernels.usable(CPU, dtype):
    parts += [
        ("attention", layers, attention, 12 * D * squares, 13 * T * D * width),
        ("dropout + norm", 2 * layers, norm, 0, T * D * (3 * width + 20)),
        ("GELU", layers, gelu, 0, 5 * T * F * width),
        (
            "cross-entropy", 1,
            lambda: kernels.cross_entropy_(logits, index % V, V) and None, 0, 2 * logits.nbytes,
        ),
        ("norm of gradient, AdamW", 1, optimizer, 0, 32 * num_values),
    ]  # fmt: skip

print(f"{'part':24} {'ms':>7} {'GFLOP':>7} {'MB':>7} {'limit ms':>9} {'of limit':>9}")
total = 0.0
for name, count, work, flops, num_bytes in parts:
    took = count * seconds(work)
    limit = count * max(flops / peak, num_bytes / bandwidth)
    total += took
    print(
        f"{name:24} {took * 1e3:7.1f} {count * flops / 1e9:7.1f} {count * num_bytes / 1e6:7.0f} "
        f"{limit * 1e3:9.1f} {limit / took:9.0%}"
    )
print(f"{'rest of the step':24} {(whole - total) * 1e3:7.1f}")

# %% [markdown]
# The rest is zeroing the gradient, adding bf16 gradients onto it, rounding weights to bf16, the
# embeddings, the small heads, and Python between the calls. In bf16 attention multiplies
# pairs of it where the CPU has the instruction, and in float32 where it has not; there it stays
# farthest below the peak.
