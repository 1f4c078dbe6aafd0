"""Whether what is asked for can ever be scheduled, answered with numbers before anything waits.

Ray waits without a word for resources that will never come. So the numbers are compared first:
with the machine, before a local cluster starts; with the nodes of the cluster, once joined.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from raybert.errors import UserError

AUTO = "auto"
# Where `ray up` leaves the cluster's file on its head node, node types' resources filled in.
LAUNCHED = Path("~/ray_bootstrap_config.yaml")


@dataclass(frozen=True)
class NodeResources:
    """What one node has in all (not what is free at the moment)."""

    num_cpus: float
    num_gpus: float = 0

    def num_workers(self, request: WorkerRequest) -> int:
        """How many of the asked workers fit on this node."""
        by_cpu = int(self.num_cpus // request.num_cpus)
        by_gpu = int(self.num_gpus // request.gpus) if request.gpus else by_cpu
        return min(by_cpu, by_gpu)


@dataclass(frozen=True)
class WorkerRequest:
    """Workers of one job that run at the same time, each on one node.

    Attributes:
        num_workers: wanted.
        num_cpus: of each.
        num_gpus: of each; "auto" until `settled`.
        min_workers: the fewest that will do; None: all.
        count_setting: that gave their number, for messages.
    """

    num_workers: int
    num_cpus: int
    num_gpus: int | Literal["auto"] = 0
    min_workers: int | None = None
    count_setting: str = "cluster.num_workers"

    def __str__(self) -> str:
        gpus = f" and {self.gpus} GPU" if self.gpus else ""
        workers = f"{self.num_workers} worker" + ("s" if self.num_workers != 1 else "")
        each = " each" if self.num_workers != 1 else ""
        return f"{workers} with {self.num_cpus} CPU{gpus}{each}"

    @property
    def gpus(self) -> int:
        """GPUs of each worker, none as long as that isn't settled."""
        return 0 if self.num_gpus == AUTO else self.num_gpus

    @property
    def bundle(self) -> dict[str, float]:
        """The resources of one worker as Ray names them."""
        cpus: dict[str, float] = {"CPU": self.num_cpus}
        return cpus | ({"GPU": self.gpus} if self.gpus else {})

    def settled(self, nodes: Sequence[NodeResources]) -> WorkerRequest:
        """With a GPU for each worker if that was left open and any node has one."""
        if self.num_gpus != AUTO:
            return self
        return replace(self, num_gpus=int(any(node.num_gpus for node in nodes)))


def refuse_unschedulable(
    request: WorkerRequest, nodes: Sequence[NodeResources], where: str
) -> None:
    """Raise a UserError when `request` can't be scheduled on `nodes`, all their work done."""
    fitting = sum(node.num_workers(request) for node in nodes)
    if fitting >= (request.min_workers or request.num_workers):
        return
    cpus = sum(node.num_cpus for node in nodes)
    gpus = sum(node.num_gpus for node in nodes)
    largest = max((node.num_cpus for node in nodes), default=0)
    has = f"{cpus:g} CPUs" + (f" and {gpus:g} GPUs" if request.gpus or gpus else "")
    if len(nodes) > 1:
        has += f" on {len(nodes)} nodes (at most {largest:g} CPUs on one)"
    advice = (
        f"At most {fitting} such workers fit: lower --{request.count_setting}"
        if fitting
        else "Not one such worker fits: lower --cluster.cpus_per_worker"
    )
    if request.gpus and fitting < request.num_workers:
        advice += ", or set --cluster.gpus_per_worker 0"
    raise UserError(f"{request} were asked for, and {where} has {has}. {advice}.")


def of_this_machine() -> NodeResources:
    """The CPUs (control groups counted) and GPUs that a cluster started here would have."""
    from ray._private.accelerators import get_accelerator_manager_for_resource
    from ray._private.utils import get_num_cpus

    gpus = get_accelerator_manager_for_resource("GPU")
    num_gpus = gpus.get_current_node_num_accelerators() if gpus else 0
    visible = gpus.get_current_process_visible_accelerator_ids() if gpus else None
    if visible is not None:
        num_gpus = min(num_gpus, len(visible))
    return NodeResources(num_cpus=int(get_num_cpus()), num_gpus=num_gpus)


def of_cluster() -> list[NodeResources]:
    """The nodes of the cluster that this process has joined."""
    import ray

    return [
        NodeResources(node["Resources"].get("CPU", 0), node["Resources"].get("GPU", 0))
        for node in ray.nodes()
        if node["Alive"]
    ]


@dataclass(frozen=True)
class Growth:
    """What an autoscaler may make of a cluster.

    Attributes:
        nodes: of the cluster at its largest; None when that is not known.
    """

    nodes: tuple[NodeResources, ...] | None

    @classmethod
    def of_cluster(cls, autoscaling: Literal["auto", "on", "off"]) -> Growth | None:
        """None where no nodes come by themselves.

        Ray doesn't tell a driver. With "auto" it is a cluster of `ray up` if this node, as the
        head on which submitted jobs run, has the file that the launcher leaves there.
        """
        if autoscaling == "off":
            return None
        launched = LAUNCHED.expanduser()
        if launched.is_file():
            import yaml

            config = yaml.safe_load(launched.read_text(encoding="utf-8"))
            if config["provider"]["type"] != "local":  # all its nodes are there from the start
                return cls(_largest(config))
        return cls(None) if autoscaling == "on" else None


def _largest(config: Mapping[str, Any]) -> tuple[NodeResources, ...]:
    nodes: list[NodeResources] = []
    for name, kind in config["available_node_types"].items():
        given = kind.get("resources", {})
        node = NodeResources(given.get("CPU", 0), given.get("GPU", 0))
        most = min(kind.get("max_workers", 0), config["max_workers"])
        nodes += [node] * (1 if name == config["head_node_type"] else most)
    return tuple(nodes)


def what_is_missing(request: WorkerRequest) -> str | None:
    """What the cluster lacks at the moment to start `request`, in words.

    None when it lacks nothing, or holds what is needed for it already.
    """
    import ray
    from ray.util import placement_group_table

    if not any(group["state"] == "PENDING" for group in placement_group_table().values()):
        return None
    free = ray.available_resources()
    parts = [
        f"{request.num_workers * each:g} {name} needed, {free.get(name, 0):g} free"
        for name, each in request.bundle.items()
        if free.get(name, 0) < request.num_workers * each
    ]
    return "; ".join(parts) or None
