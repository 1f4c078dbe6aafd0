"""`auto` finds out what is fast, and says why."""

import pytest
import torch

from raybert.errors import UserError
from raybert.training import precision
from raybert.training.precision import choose_precision

CPU = torch.device("cpu")
GPU = torch.device("cuda", 0)


def pretend_cpu(
    monkeypatch: pytest.MonkeyPatch, *, capable: bool, bf16_seconds: float = 1.0
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": capable})
    seconds = {torch.float32: 1.0, torch.bfloat16: bf16_seconds}
    monkeypatch.setattr(precision, "_matmul_seconds", lambda left: seconds[left.dtype])


def pretend_gpu(monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int]) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "Some GPU")


def test_cpu_without_bf16_instructions_takes_fp32(monkeypatch: pytest.MonkeyPatch):
    pretend_cpu(monkeypatch, capable=False)
    choice = choose_precision("auto", CPU)
    assert choice.name == "fp32"
    assert "no bf16 instructions" in choice.reason


def test_cpu_takes_bf16_only_if_it_is_measured_to_pay(monkeypatch: pytest.MonkeyPatch):
    pretend_cpu(monkeypatch, capable=True, bf16_seconds=0.4)
    fast = choose_precision("auto", CPU)
    assert (fast.name, "2.5x as fast" in fast.reason) == ("bf16", True)
    pretend_cpu(monkeypatch, capable=True, bf16_seconds=100.0)
    slow = choose_precision("auto", CPU)
    assert (slow.name, "doesn't pay" in slow.reason) == ("fp32", True)


def test_what_else_the_machine_does_changes_nothing(monkeypatch: pytest.MonkeyPatch):
    pretend_cpu(monkeypatch, capable=True)
    # fp32 and bf16 in turns, the first pair not counted; then two pairs are spoilt, one each way.
    seconds = iter([9.0, 9.0, 1.0, 2.0, 8.0, 2.0, 1.0, 2.0, 1.0, 20.0, 3.0, 6.0])
    monkeypatch.setattr(precision, "_matmul_seconds", lambda _: next(seconds))
    choice = choose_precision("auto", CPU)
    assert (choice.name, "0.5x as fast" in choice.reason) == ("fp32", True)


def test_this_machine_gets_an_answer():
    choice = choose_precision("auto", CPU)
    assert choice.name in ("fp32", "bf16")
    assert choice.reason


@pytest.mark.parametrize(
    ("capability", "expected"), [((9, 0), "bf16"), ((7, 5), "fp16"), ((6, 1), "fp32")]
)
def test_gpu_by_compute_capability(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], expected: str
):
    pretend_gpu(monkeypatch, capability)
    choice = choose_precision("auto", GPU)
    assert choice.name == expected
    assert "Some GPU" in choice.reason


def test_precision_the_gpu_lacks_is_refused(monkeypatch: pytest.MonkeyPatch):
    pretend_gpu(monkeypatch, (7, 5))
    assert choose_precision("fp16", GPU).name == "fp16"
    with pytest.raises(UserError, match=r"precision bf16: Some GPU .* allowed here: fp32, fp16"):
        choose_precision("bf16", GPU)


def test_named_precision_is_taken_on_a_cpu(monkeypatch: pytest.MonkeyPatch):
    pretend_cpu(monkeypatch, capable=False)
    assert choose_precision("bf16", CPU).name == "bf16"
