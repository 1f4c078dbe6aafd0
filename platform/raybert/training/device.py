"""Which device trains, and what it takes for its results to be repeatable."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import torch

from raybert.errors import UserError

_CUBLAS_WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"


class OutOfMemory(UserError):
    """A step did not fit the device."""


def choose_device(gpus_per_worker: Literal["auto", 0, 1] = "auto") -> torch.device:
    """The GPU this process may use, or the CPU where there is none or none is wanted.

    Raises:
        UserError: a GPU is wanted and missing, or is there but can't compute. Never replaced by
            the CPU silently: a run would take a hundred times as long.
    """
    if gpus_per_worker == 0:
        return torch.device("cpu")
    if torch.cuda.is_available():
        device = torch.device("cuda", torch.cuda.current_device())
        _refuse_unusable(device)
        return device
    if gpus_per_worker == 1:
        raise UserError(
            f"cluster.gpus_per_worker is 1, but torch finds no usable GPU ({_why_unavailable()}); "
            "0 trains on the CPU"
        )
    if _nvidia_devices() and not _hidden_on_purpose():
        raise UserError(
            f"this machine has a GPU that torch can't use ({_why_unavailable()}); mend that, or "
            "set cluster.gpus_per_worker to 0 to train on the CPU"
        )
    return torch.device("cpu")


def _refuse_unusable(device: torch.device) -> None:
    try:
        torch.ones(8, device=device).sum().item()
    except RuntimeError as error:
        name = torch.cuda.get_device_name(device)
        reason = str(error).splitlines()[0]
        raise UserError(
            f"{name} is there but can't compute with this torch {torch.__version__}: {reason}"
        ) from error


def _nvidia_devices() -> list[str]:
    return sorted(path.name for path in Path("/dev").glob("nvidia[0-9]*"))


def _hidden_on_purpose() -> bool:
    return os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1")


def _why_unavailable() -> str:
    if torch.version.cuda is None:
        return f"torch {torch.__version__} is a build without CUDA"
    if _hidden_on_purpose():
        return "CUDA_VISIBLE_DEVICES hides all of them"
    if not _nvidia_devices():
        return "the machine shows no NVIDIA device"
    return f"the driver is too old for, or unreachable by, CUDA {torch.version.cuda}"


def make_repeatable(device: torch.device) -> None:
    """Has every kernel of this process give the same bits each time; a kernel that can't raises.

    Needed for the canonical reduction on CUDA, where atomic additions are the default. On the CPU
    there is nothing to do: the kernels in use are repeatable for a given number of threads. Call it
    before the first matrix product on the GPU.
    """
    if device.type != "cuda":
        return
    os.environ.setdefault(_CUBLAS_WORKSPACE, ":4096:8")
    torch.use_deterministic_algorithms(True)
    # Else every empty tensor is filled first, a pass over logits and activations; none is read.
    torch.utils.deterministic.fill_uninitialized_memory = False  # pyright: ignore[reportAttributeAccessIssue]
    torch.backends.cudnn.benchmark = False


@contextlib.contextmanager
def explaining_out_of_memory(section: str = "pretraining") -> Iterator[None]:
    """Turns torch's out-of-memory errors into one that says which settings of a section help."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise _out_of_memory("the GPU", section, error) from error
    except RuntimeError as error:
        if "can't allocate memory" not in str(error):
            raise
        raise _out_of_memory("this machine", section, error) from error


def _out_of_memory(where: str, section: str, error: RuntimeError) -> OutOfMemory:
    return OutOfMemory(
        f"{where} has not enough memory for a step: lower {section}.max_tokens_per_device (or "
        f"raise {section}.micro_shards), or set {section}.activation_checkpointing to true. "
        f"Torch says: {str(error).splitlines()[0]}"
    )
