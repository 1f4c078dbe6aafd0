"""A GPU that is there but unusable is refused, never silently replaced by the CPU."""

import pytest
import torch

from raybert.errors import UserError
from raybert.training import device
from raybert.training.device import choose_device, make_repeatable


def pretend(
    monkeypatch: pytest.MonkeyPatch, *, devices: list[str], visible: str | None = None
) -> None:
    """A machine whose GPUs torch can't use."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(device, "_nvidia_devices", lambda: devices)
    if visible is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)


def test_machine_without_gpu_trains_on_the_cpu(monkeypatch: pytest.MonkeyPatch):
    pretend(monkeypatch, devices=[])
    assert choose_device("auto") == torch.device("cpu")
    with pytest.raises(UserError, match="shows no NVIDIA device"):
        choose_device(1)


def test_unusable_gpu_is_refused_unless_the_cpu_is_wanted(monkeypatch: pytest.MonkeyPatch):
    pretend(monkeypatch, devices=["nvidia0"])
    with pytest.raises(UserError, match="has a GPU that torch can't use"):
        choose_device("auto")
    assert choose_device(0) == torch.device("cpu")


def test_torch_without_cuda_is_named(monkeypatch: pytest.MonkeyPatch):
    pretend(monkeypatch, devices=["nvidia0"])
    monkeypatch.setattr(torch.version, "cuda", None)
    with pytest.raises(UserError, match="is a build without CUDA"):
        choose_device("auto")


def test_gpu_hidden_on_purpose_is_not_there(monkeypatch: pytest.MonkeyPatch):
    pretend(monkeypatch, devices=["nvidia0"], visible="")
    assert choose_device("auto") == torch.device("cpu")
    with pytest.raises(UserError, match="CUDA_VISIBLE_DEVICES hides"):
        choose_device(1)


def test_gpu_that_cannot_compute_is_refused(monkeypatch: pytest.MonkeyPatch):
    def fail(*_: object, **__: object) -> torch.Tensor:
        raise RuntimeError("CUDA error: no kernel image is available for execution\nmore")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "Old GPU")
    monkeypatch.setattr(torch, "ones", fail)
    with pytest.raises(UserError, match=r"Old GPU is there but can't compute .* no kernel image"):
        choose_device("auto")


def test_a_cpu_needs_no_deterministic_mode():
    make_repeatable(torch.device("cpu"))
    assert not torch.are_deterministic_algorithms_enabled()


def test_repeatable_kernels_do_not_fill_empty_memory(
    monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
):
    filled = torch.utils.deterministic.fill_uninitialized_memory
    benchmark = torch.backends.cudnn.benchmark

    def undo() -> None:
        torch.use_deterministic_algorithms(False)
        torch.utils.deterministic.fill_uninitialized_memory = filled
        torch.backends.cudnn.benchmark = benchmark

    request.addfinalizer(undo)
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8")  # and is put back
    make_repeatable(torch.device("cuda"))
    assert torch.are_deterministic_algorithms_enabled()
    assert not torch.utils.deterministic.fill_uninitialized_memory
