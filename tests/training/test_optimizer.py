"""AdamW over slices is torch's AdamW; norms and clipping do not depend on the slices."""

import pytest
import torch
from torch import Tensor
from training.cases import small_model

from raybert.training.flat import FlatParameters
from raybert.training.optimizer import AdamW, AdamWSettings, block_norms, clip_factor

SETTINGS = AdamWSettings(weight_decay=0.05, beta1=0.8, beta2=0.95, epsilon=1e-6)
RATES = [0.0, 1e-2, 3e-3, 1e-3]


def gradient(step: int, num_elements: int) -> Tensor:
    return torch.randn(num_elements, generator=torch.Generator().manual_seed(step))


def slower_embeddings(name: str) -> float:
    return 0.5 if "embeddings" in name else 1.0


def trained_in_slices(num_slices: int, rate_of=None) -> FlatParameters:
    flat = FlatParameters(small_model(), num_slices, rate_of)
    optimizers = [AdamW(flat, rank, SETTINGS) for rank in range(num_slices)]
    for step, rate in enumerate(RATES):
        full = torch.zeros_like(flat.values)
        full[: flat.num_used] = gradient(step, flat.num_used)
        for rank, optimizer in enumerate(optimizers):
            optimizer.step(full[flat.slice_of(rank)], rate, torch.zeros(()), torch.ones(()))
    return flat


@pytest.mark.parametrize("fused", [True, False])
def test_adamw_equals_torch(fused: bool):
    model = small_model()
    flat = FlatParameters(small_model())
    names = [slot.name for slot in flat.slots]
    parameters = dict(model.named_parameters())
    groups = [
        {"params": [p for p in parameters.values() if p.ndim > 1], "weight_decay": 0.05},
        {"params": [p for p in parameters.values() if p.ndim == 1], "weight_decay": 0.0},
    ]
    theirs = torch.optim.AdamW(groups, betas=(0.8, 0.95), eps=1e-6, fused=fused, foreach=False)
    for step, rate in enumerate(RATES):
        full = gradient(step, flat.num_used)
        for slot in flat.slots:
            parameters[slot.name].grad = slot.view(full).clone()
        for group in theirs.param_groups:
            group["lr"] = rate
        theirs.step()
    ours = dict(flat.named_views(trained_in_slices(1).values))
    for name in names:
        torch.testing.assert_close(ours[name], parameters[name].detach(), rtol=2e-6, atol=1e-7)


def test_a_group_learns_at_its_factor_of_the_rate():
    """With a fixed rate for each parameter, only that of the embeddings halves."""
    flat = FlatParameters(small_model(), 1, slower_embeddings)
    optimizer = AdamW(flat, 0, AdamWSettings(weight_decay=0.0))
    before = flat.values.clone()
    optimizer.step(torch.ones_like(flat.values), 1e-2, torch.zeros(()), torch.ones(()))
    for name, moved in flat.named_views(flat.values - before):
        assert moved.mean().item() == pytest.approx(-1e-2 * slower_embeddings(name), rel=1e-4)


@pytest.mark.parametrize("num_slices", [2, 3, 5, 40])
@pytest.mark.parametrize("rate_of", [None, slower_embeddings])
def test_slices_do_not_change_a_bit(num_slices: int, rate_of):
    whole, sliced = trained_in_slices(1, rate_of), trained_in_slices(num_slices, rate_of)
    assert torch.equal(whole.values[: whole.num_used], sliced.values[: whole.num_used])


def test_skipped_step_changes_nothing_and_is_not_counted():
    flat = FlatParameters(small_model())
    optimizer = AdamW(flat, 0, SETTINGS)
    optimizer.step(torch.ones_like(flat.values), 1e-2, torch.zeros(()), torch.ones(()))
    before = [t.clone() for t in (flat.values, optimizer.exp_avg, optimizer.exp_avg_sq)]
    optimizer.step(torch.full_like(flat.values, torch.nan), 1e-2, torch.ones(()), torch.ones(()))
    after = [flat.values, optimizer.exp_avg, optimizer.exp_avg_sq]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert optimizer.num_updates == 1


def test_block_norms_do_not_depend_on_the_slice():
    values = gradient(0, 4096 * 37)
    whole = block_norms(values)
    for first, last in [(0, 1), (1, 3), (5, 37), (36, 37)]:
        assert torch.equal(block_norms(values[4096 * first : 4096 * last]), whole[first:last])
    torch.set_num_threads(2)
    assert torch.equal(block_norms(values), whole)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_clipping_equals_torch(scale: float):
    values = gradient(1, 4096 * 3) * scale
    parameter = torch.nn.Parameter(torch.zeros_like(values))
    parameter.grad = values.clone()
    theirs = torch.nn.utils.clip_grad_norm_([parameter], 1.0)
    norm = block_norms(values).double().square().sum().sqrt()
    torch.testing.assert_close(norm.float(), theirs, rtol=1e-6, atol=0)
    ours = values * clip_factor(norm.float(), 1.0)
    torch.testing.assert_close(ours, parameter.grad, rtol=1e-6, atol=0)
