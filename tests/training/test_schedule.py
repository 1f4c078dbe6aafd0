"""The schedule is transformers' linear one, to the last bit."""

import pytest
import torch
from transformers import get_linear_schedule_with_warmup

from raybert.training.schedule import linear_schedule


@pytest.mark.parametrize(("num_warmup", "num_steps"), [(0, 7), (3, 10), (10, 10), (1, 1000)])
def test_schedule_equals_transformers(num_warmup: int, num_steps: int):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=5e-4)
    theirs = get_linear_schedule_with_warmup(optimizer, num_warmup, num_steps)
    for step in range(num_steps + 3):
        assert linear_schedule(step, 5e-4, num_warmup, num_steps) == theirs.get_last_lr()[0]
        optimizer.step()
        theirs.step()
