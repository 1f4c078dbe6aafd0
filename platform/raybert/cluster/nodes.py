"""What every node must have in common with the driver: the software, and the storage of outputs.

Ray notices neither. Another rust_tok on one node would give other ids there, and a folder that only
the driver sees would be written on some node's own disk and lost with it. So the driver's nodes are
asked before any work starts, and every worker looks again when it starts, since an autoscaler or a
replacement brings nodes that weren't there to be asked.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import importlib.metadata
import pickle
import platform
import socket
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

from raybert.errors import UserError
from raybert.storage import Location, checksum_of_bytes, write_file

_BEACON_PREFIX = ".raybert-probe-"
_PROBE_TIMEOUT_S = 120
_HOW_TO_MEND = (
    "Submit the job (ray job submit --working-dir . --runtime-env runtime_env.yaml -- python "
    "jobs/…), so that the driver runs on the cluster and raybert travels along, and give every "
    "node the same requirements and rust_tok wheel (make wheel)"
)

T = TypeVar("T")


@dataclass(frozen=True)
class Software:
    """The versions that two processes of one job have to share; None for what isn't there.

    Attributes:
        python: major and minor; patch releases compute the same.
        ray: the wire protocol.
        torch: the bits of a training step.
        raybert: a checksum of the sources of raybert and bert, which have no other version when
            they travel with a job.
        rust_tok: its version, with a checksum of its sources.
        bert_kernels: the same; optional, but the bits of a step depend on it.
    """

    python: str
    ray: str | None
    torch: str | None
    raybert: str
    rust_tok: str | None
    bert_kernels: str | None

    @classmethod
    def here(cls) -> Software:
        """Of this process; nothing large is imported to find out."""
        return _software_here()

    def differences(self, other: Software) -> list[str]:
        """In words, `other` being the driver's."""
        return [
            f"{field.name} {mine or 'missing'} there, {theirs or 'missing'} at the driver"
            for field in fields(self)
            if (mine := getattr(self, field.name)) != (theirs := getattr(other, field.name))
        ]


@functools.cache
def _software_here() -> Software:
    return Software(
        python=".".join(platform.python_version_tuple()[:2]),
        ray=_installed("ray"),
        torch=_installed("torch"),
        raybert=_checksum_of_sources(),
        rust_tok=_version_of("rust_tok"),
        bert_kernels=_version_of("bert_kernels"),
    )


def _installed(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _version_of(module: str) -> str | None:
    try:
        return importlib.import_module(module).__version__
    except ImportError:
        return None


def _checksum_of_sources() -> str:
    import bert

    parts = []
    for package in (Path(__file__).parents[1], Path(bert.__file__).parent):
        for source in sorted(package.rglob("*.py")):
            name = f"{package.name}/{source.relative_to(package).as_posix()}"
            parts.append(f"{name} {checksum_of_bytes(source.read_bytes())}")
    return checksum_of_bytes("\n".join(parts).encode())[:12]


@dataclass(frozen=True)
class Expectation:
    """What a driver expects of the nodes that work for it; picklable.

    Attributes:
        driver: the driver's node, for people.
        software: the driver's.
        beacons: files of the driver's that every node has to find; each node has to be able to
            write beside them.
    """

    driver: str
    software: Software
    beacons: tuple[Location, ...] = ()

    def check(self) -> None:
        """Looks at this process and its node.

        Raises:
            UserError: the node has other software, or doesn't see or can't write the storage.
        """
        node = _this_node()
        differences = Software.here().differences(self.software)
        if differences:
            raise UserError(
                f"node {node} doesn't run what the driver on {self.driver} runs: "
                f"{'; '.join(differences)}. {_HOW_TO_MEND}."
            )
        for beacon in self.beacons:
            self._look_for(beacon, node)

    def _look_for(self, beacon: Location, node: str) -> None:
        try:
            seen = beacon.read_bytes() == _content(beacon)
            reason = "what the driver wrote there isn't there"
            if seen:
                own = beacon.sibling(f"{beacon.name}-{uuid.uuid4().hex[:8]}")
                reason = "it can't be written there"
                write_file(own, _content(beacon))
                own.delete_file()
                return
        except OSError as error:
            reason = str(error)
        raise UserError(
            f"node {node} doesn't share {beacon.parent} with the driver on {self.driver} "
            f"({reason}). Give the job's output folders on storage that every node sees: a bucket, "
            "or a shared file system (cluster.storage)."
        )

    def around(self, work: Callable[[], T]) -> Callable[[], T]:
        """`work`, picklable, that begins with the check where it is carried out."""
        return functools.partial(_checked, self, work)


def _checked(expectation: Expectation, work: Callable[[], T]) -> T:
    expectation.check()
    return work()


@functools.lru_cache(maxsize=8)
def check_once(expectation: Expectation) -> None:
    """For tasks: one look per process.

    Raises:
        UserError: see `Expectation.check`.
    """
    expectation.check()


def _content(beacon: Location) -> bytes:
    return beacon.name.encode()


def _this_node() -> str:
    import ray

    address = ray.util.get_node_ip_address() if ray.is_initialized() else "?"
    host = socket.gethostname()
    return address if host == address else f"{address} ({host})"


@contextlib.contextmanager
def expecting(outputs: Sequence[Location], *, may_grow: bool = False) -> Iterator[Expectation]:
    """The expectation of this driver, connected to a cluster, put to all of its nodes.

    Args:
        outputs: folders that the job is going to write; there or not yet.
        may_grow: nodes may come that can't be asked now.

    Raises:
        UserError: see `Expectation.check`; or a node can't import raybert at all.
    """
    import ray

    here = ray.get_runtime_context().get_node_id()
    others = [node for node in ray.nodes() if node["Alive"] and node["NodeID"] != here]
    with contextlib.ExitStack() as stack:
        beacons = []
        if others or may_grow:
            beacons = [stack.enter_context(_beacon(folder)) for folder in _folders(outputs)]
        expectation = Expectation(_this_node(), Software.here(), tuple(beacons))
        _put_to(expectation, others)
        yield expectation


def _folders(outputs: Sequence[Location]) -> list[Location]:
    """Where the beacons go: beside each output, since what it may hold is another's law."""
    folders = dict.fromkeys(map(_beside, outputs))
    return list(folders)


def _beside(output: Location) -> Location:
    if not output.is_local:
        return output.parent if "/" in output.path else output
    path = output.local_path
    if path.is_dir() and path.is_mount():
        return output
    return Location.parse(next(parent for parent in path.parents if parent.is_dir()))


@contextlib.contextmanager
def _beacon(folder: Location) -> Iterator[Location]:
    beacon = folder / f"{_BEACON_PREFIX}{uuid.uuid4().hex[:12]}"
    write_file(beacon, _content(beacon))
    try:
        yield beacon
    finally:
        with contextlib.suppress(FileNotFoundError):
            beacon.delete_file()


def _put_to(expectation: Expectation, nodes: Sequence[dict[str, Any]]) -> None:
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    # Pickled by value, being local, so that it runs where raybert can't be imported; hence also
    # an outcome that needs no class of ours.
    def look(pickled: bytes) -> tuple[str, str] | None:
        try:
            expected = pickle.loads(pickled)
        except ImportError as error:
            return "missing", str(error)
        try:
            expected.check()
        except Exception as error:
            if type(error).__name__ != "UserError":
                raise
            return "refused", str(error)
        return None

    remote: Any = ray.remote(num_cpus=0, max_retries=1)(look)
    pickled = pickle.dumps(expectation)
    asked = {
        remote.options(
            scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        ).remote(pickled): node["NodeManagerAddress"]
        for node in nodes
    }
    answered, silent = ray.wait(list(asked), num_returns=len(asked), timeout=_PROBE_TIMEOUT_S)
    for reference in answered:
        outcome = ray.get(reference)
        if outcome is None:
            continue
        kind, reason = outcome
        if kind == "missing":
            raise UserError(f"node {asked[reference]}: {reason}. {_HOW_TO_MEND}.")
        raise UserError(reason)
    if silent:
        nodes_text = ", ".join(asked[reference] for reference in silent)
        raise UserError(
            f"no worker process started within {_PROBE_TIMEOUT_S} s on {nodes_text}: see "
            "`ray list nodes` and the logs of that node"
        )
