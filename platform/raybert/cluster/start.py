"""Join the cluster that is there, or start one on this machine, quietly."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from raybert.cluster import environment, resources
from raybert.cluster.resources import WorkerRequest
from raybert.errors import UserError

if TYPE_CHECKING:
    from raybert.settings.cluster import ClusterSettings

# Unix sockets lie under the cluster's folder and their paths are limited to 107 bytes.
_FOLDER_PREFIX = "raybert-"
_JOIN_TIMEOUT_S = 10


@dataclass(frozen=True)
class RunningCluster:
    """The cluster that this process is connected to."""

    address: str
    dashboard_url: str | None
    started_here: bool
    log_folder: Path | None  # of Ray's own logs, on this machine

    @property
    def environment(self) -> dict[str, str]:
        """Variables that make another process of this machine join the same cluster."""
        return {"RAY_ADDRESS": self.address} | environment.authentication()


@contextlib.contextmanager
def start(
    settings: ClusterSettings,
    request: WorkerRequest | None = None,
    *,
    num_cpus: int | None = None,
    object_store_bytes: int | None = None,
) -> Iterator[RunningCluster]:
    """Connect to a cluster, and leave it (or end it, if it was started here) at the end.

    The cluster is, in this order: the one that this process is already connected to,
    `cluster.address`, RAY_ADDRESS (set inside a submitted job), or a local one with a folder,
    ports and a token of its own. `request` is checked against it before work starts.

    `num_cpus`, `object_store_bytes`: of a local cluster, where they shouldn't be the machine's.
    Raises UserError when the request can't be scheduled or the address doesn't answer.
    """
    address = settings.address or os.environ.get("RAY_ADDRESS")
    if address == "local":
        address = None
    environment.prepare_driver(joins=address is not None)
    import ray

    if ray.is_initialized():
        _check_joined(request)
        yield _describe(started_here=False)
        return
    if address is not None:
        _join(address)
        try:
            _check_joined(request)
            yield _describe(started_here=False)
        finally:
            ray.shutdown()
        return
    if request is not None:
        machine = resources.of_this_machine()
        if num_cpus is not None:
            machine = resources.NodeResources(num_cpus, machine.num_gpus)
        resources.refuse_unschedulable(request, [machine], "this machine")
    with _local_cluster(num_cpus, object_store_bytes) as cluster:
        yield cluster


def _join(address: str) -> None:
    import ray
    from ray.exceptions import AuthenticationError

    try:
        if "://" not in address and ":" in address:
            # Ray itself tries for a minute.
            host, _, port = address.rpartition(":")
            socket.create_connection((host.strip("[]"), int(port)), _JOIN_TIMEOUT_S).close()
    except (OSError, ValueError) as error:
        raise UserError(
            f"no Ray cluster answers at {address} (from --cluster.address or RAY_ADDRESS): "
            f"{error}. Leave both out to start a cluster on this machine."
        ) from error
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, AuthenticationError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(
            f"the Ray cluster at {address} doesn't let this process in: {reason}. "
            f"RAY_AUTH_MODE is {os.environ[environment.AUTH_MODE]!r}; a cluster that asks for a "
            "token wants RAY_AUTH_MODE=token and the token in RAY_AUTH_TOKEN or ~/.ray/auth_token."
        ) from error


@contextlib.contextmanager
def _local_cluster(
    num_cpus: int | None, object_store_bytes: int | None
) -> Iterator[RunningCluster]:
    import ray

    folder = tempfile.mkdtemp(prefix=_FOLDER_PREFIX)
    try:
        ray.init(
            address="local",
            num_cpus=num_cpus,
            object_store_memory=object_store_bytes,
            # On loopback. Train's state actor and the clean-up of placement groups need it.
            include_dashboard=True,
            dashboard_host="127.0.0.1",
            log_to_driver=False,
            logging_level=logging.ERROR,
            _node_ip_address="127.0.0.1",
            _temp_dir=folder,
        )
        yield _describe(started_here=True)
    finally:
        ray.shutdown()
        shutil.rmtree(folder, ignore_errors=True)


def _check_joined(request: WorkerRequest | None) -> None:
    if request is not None:
        resources.refuse_unschedulable(
            request, resources.of_cluster(), "the cluster", resources.cluster_may_grow()
        )


def _describe(started_here: bool) -> RunningCluster:
    import ray
    from ray._private.worker import global_worker

    context = ray.get_runtime_context()
    url = global_worker.node.webui_url if global_worker.node else None
    logs = Path(global_worker.node.get_logs_dir_path()) if global_worker.node else None
    return RunningCluster(
        address=context.gcs_address,
        dashboard_url=f"http://{url}" if url else None,
        started_here=started_here,
        log_folder=logs if logs and logs.is_dir() else None,
    )
