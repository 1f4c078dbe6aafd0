"""Workers of a Ray Train group as torch processes that know each other.

Ray's own `TorchConfig` does the same, but imports torch in the driver and in the controller, which
only pass it on: seconds of a CPU each, one after the other, before the first step.
"""

from __future__ import annotations

import copyreg
from dataclasses import asdict, dataclass
from typing import Any

from ray.train.backend import Backend, BackendConfig
from ray.train.v2._internal.util import TrainingFramework

_END_S = 5.0


@dataclass
class TorchGroup(BackendConfig):
    """A process group over all workers.

    Attributes:
        backend: of torch.distributed: gloo or nccl.
    """

    backend: str

    @property
    def backend_cls(self) -> type[Backend]:
        return _TorchBackend

    @property
    def framework(self) -> TrainingFramework:  # pyright: ignore[reportIncompatibleMethodOverride]
        return TrainingFramework.TORCH

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


class _TorchBackend(Backend):
    """What the controller does when workers start and end."""

    # A worker sees its neighbours' GPUs, as NCCL wants it, and takes its own.
    share_cuda_visible_devices = True

    def on_start(self, worker_group: Any, backend_config: BackendConfig) -> None:
        import ray
        from ray.train._internal.utils import get_address_and_port

        assert isinstance(backend_config, TorchGroup)
        address, port = worker_group.execute_single(0, get_address_and_port)
        size = len(worker_group)
        ray.get(
            [
                worker_group.execute_single_async(
                    rank, _join, backend_config.backend, address, port, rank, size
                )
                for rank in range(size)
            ]
        )

    def on_shutdown(self, worker_group: Any, backend_config: BackendConfig) -> None:
        import ray

        # Who does not answer is about to be ended anyway.
        ray.wait(worker_group.execute_async(_leave), num_returns=len(worker_group), timeout=_END_S)


def _join(backend: str, address: str, port: int, rank: int, size: int) -> None:
    import torch.distributed as dist
    from torch.torch_version import TorchVersion

    # Ray tells controller and dashboard which torch a worker has. As torch's own kind of string
    # that would make them import torch: seconds, and 300 MB.
    copyreg.pickle(TorchVersion, lambda version: (str, (str(version),)))  # pyright: ignore[reportArgumentType]
    host = f"[{address}]" if ":" in address else address  # IPv6
    dist.init_process_group(
        backend,
        init_method=f"tcp://{host}:{port}",
        rank=rank,
        world_size=size,
    )


def _leave() -> None:
    import torch.distributed as dist

    if dist.is_initialized() and dist.get_world_size() > 1:
        dist.destroy_process_group()
