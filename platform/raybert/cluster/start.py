"""Join the cluster that is there, or start one on this machine, quietly."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import socket
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from raybert.cluster import environment, resources
from raybert.cluster.nodes import Expectation, expecting
from raybert.cluster.resources import Growth, WorkerRequest
from raybert.errors import UserError
from raybert.storage import Location

if TYPE_CHECKING:
    from raybert.settings.cluster import ClusterSettings

# Unix sockets lie under the cluster's folder and their paths are limited to 107 bytes.
_FOLDER_PREFIX = "raybert-"
_JOIN_TIMEOUT_S = 10
_LOOPBACK = "127.0.0.1"
_DASHBOARD_PORTS = range(8265, 8365)
_START_ATTEMPTS = 3
# On a busy machine the 30 s that Ray gives its node, not a setting, may not do; and another
# process may take the dashboard's port in between.
_WORTH_ANOTHER_START = ("timed out during startup", "already occupied")


@dataclass(frozen=True)
class RunningCluster:
    """The cluster that this process is connected to."""

    address: str
    dashboard_url: str | None
    started_here: bool
    log_folder: Path | None  # of Ray's own logs, on this machine
    expectation: Expectation  # of every node, for workers to check when they start
    request: WorkerRequest | None = None  # that was checked, settled
    # What workers may use: its nodes, those included that an autoscaler may add. None: there is no
    # telling how many it may add.
    nodes: tuple[resources.NodeResources, ...] | None = None

    @property
    def dashboard_hint(self) -> str | None:
        """The dashboard's address, with the token that it asks for when it was made just now."""
        token = environment.authentication().get(environment.AUTH_TOKEN)
        if self.dashboard_url is None or token is None or not self.started_here:
            return self.dashboard_url
        return f"{self.dashboard_url} (token {token})"

    @property
    def environment(self) -> dict[str, str]:
        """Variables that make another process of this machine join the same cluster."""
        return {"RAY_ADDRESS": self.address} | environment.authentication()


@contextlib.contextmanager
def start(
    settings: ClusterSettings,
    request: WorkerRequest | None = None,
    *,
    outputs: Sequence[Location] = (),
    num_cpus: int | None = None,
    object_store_bytes: int | None = None,
) -> Iterator[RunningCluster]:
    """Connect to a cluster, and leave it (or end it, if it was started here) at the end.

    The cluster is, in this order: the one that this process is already connected to,
    `cluster.address`, RAY_ADDRESS (set inside a submitted job), or a local one with a folder,
    ports and a token of its own. `request` is checked against it before work starts, and so are
    its nodes: their software, and whether they see `outputs`, the folders that the job writes.

    `num_cpus`, `object_store_bytes`: of a local cluster, where they shouldn't be the machine's.
    Raises UserError when the request can't be scheduled, the address doesn't answer or a node
    doesn't fit.
    """
    address = settings.address or os.environ.get("RAY_ADDRESS")
    if address == "local":
        address = None
    environment.prepare_driver(joins=address is not None)
    import ray

    if settings.storage is not None:
        # Outputs lie inside it, and perhaps nothing else of the bucket may be written.
        outputs = [*outputs, Location.parse(settings.storage) / "outputs"]
    if ray.is_initialized():
        with _fitting(settings, request, outputs) as cluster:
            yield cluster
        return
    if address is not None:
        _join(address)
        try:
            with _fitting(settings, request, outputs) as cluster:
                yield cluster
        finally:
            ray.shutdown()
        return
    if request is not None:
        machine = resources.of_this_machine()
        if num_cpus is not None:
            machine = resources.NodeResources(num_cpus, machine.num_gpus)
        request = request.settled([machine])
        resources.refuse_unschedulable(request, [machine], "this machine")
    with _local_cluster(num_cpus, object_store_bytes), expecting(()) as expectation:
        nodes = tuple(resources.of_cluster())
        yield _describe(request, nodes, expectation, started_here=True)


@contextlib.contextmanager
def _fitting(
    settings: ClusterSettings, request: WorkerRequest | None, outputs: Sequence[Location]
) -> Iterator[RunningCluster]:
    """The cluster that this process has joined, once it is known to do for the job."""
    growth = Growth.of_cluster(settings.autoscaling)
    now = tuple(resources.of_cluster())
    nodes = now if growth is None else growth.nodes
    if request is not None:
        request = request.settled(now if nodes is None else nodes)
        if nodes is not None:
            where = "the cluster" if growth is None else "the cluster, grown to its limits,"
            resources.refuse_unschedulable(request, nodes, where)
    with expecting(outputs, may_grow=growth is not None) as expectation:
        yield _describe(request, nodes, expectation, started_here=False)


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
    except RuntimeError as error:
        if "Version mismatch" not in str(error):
            raise
        versions = " ".join(str(error).split())
        raise UserError(
            f"the Ray cluster at {address} runs other versions than this process: {versions} "
            "Submit the job to it instead (ray job submit), or install what it runs."
        ) from error


@contextlib.contextmanager
def _local_cluster(num_cpus: int | None, object_store_bytes: int | None) -> Iterator[None]:
    import ray

    folder = tempfile.mkdtemp(prefix=_FOLDER_PREFIX)
    try:
        for attempts_left in reversed(range(_START_ATTEMPTS)):
            try:
                _init_local(folder, num_cpus, object_store_bytes)
                break
            except Exception as error:
                passing = any(reason in str(error) for reason in _WORTH_ANOTHER_START)
                if not passing or not attempts_left:
                    raise
                ray.shutdown()
        yield
    finally:
        ray.shutdown()
        shutil.rmtree(folder, ignore_errors=True)


def _init_local(folder: str, num_cpus: int | None, object_store_bytes: int | None) -> None:
    import ray

    port = _free_port(_DASHBOARD_PORTS)
    # Processes of the cluster inherit it. Train's actor for the clean-up of placement groups asks
    # the dashboard; left to search for it, it takes the last cluster of this machine for its own,
    # and each run's end waits 12 s for the answer of one that is long gone.
    with environment.temporarily(RAY_API_SERVER_ADDRESS=f"http://{_LOOPBACK}:{port}"):
        ray.init(
            address="local",
            num_cpus=num_cpus,
            object_store_memory=object_store_bytes,
            # Train's state actor needs it too.
            include_dashboard=True,
            dashboard_host=_LOOPBACK,
            dashboard_port=port,
            log_to_driver=False,
            logging_level=logging.ERROR,
            _node_ip_address=_LOOPBACK,
            _temp_dir=folder,
        )


def _free_port(ports: Iterable[int]) -> int:
    """The first port of loopback that nobody listens on; the last one when all are taken."""
    port = 0
    for port in ports:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                probe.bind((_LOOPBACK, port))
                break
    return port


def _describe(
    request: WorkerRequest | None,
    nodes: tuple[resources.NodeResources, ...] | None,
    expectation: Expectation,
    *,
    started_here: bool,
) -> RunningCluster:
    import ray
    from ray._private.worker import global_worker

    node = global_worker.node
    logs = Path(node.get_logs_dir_path()) if node else None
    return RunningCluster(
        address=ray.get_runtime_context().gcs_address,
        dashboard_url=f"http://{node.webui_url}" if node and node.webui_url else None,
        started_here=started_here,
        log_folder=logs if logs and logs.is_dir() else None,
        expectation=expectation,
        request=request,
        nodes=nodes,
    )
