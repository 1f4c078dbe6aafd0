"""How many trials run at the same time, and what each asks of the cluster.

A trial of one worker trains in the actor that Tune starts for it. A trial of several starts them by
Ray Train; the actor itself then asks for no CPU, so that it can't hold what its workers wait for,
and there are never more trials than worker groups that fit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from raybert.cluster.resources import NodeResources, WorkerRequest, refuse_unschedulable
from raybert.errors import UserError
from raybert.settings.tuning import TuningSettings

# An actor has to ask for something; a byte of memory is always there.
_NEXT_TO_NOTHING = {"memory": 1.0}


@dataclass(frozen=True)
class Placement:
    """What is asked of the cluster.

    Attributes:
        concurrent: trials at the same time.
        actor: resources of a trial's actor.
        workers: of each trial, settled.
    """

    concurrent: int
    actor: dict[str, float]
    workers: WorkerRequest


def place(
    tuning: TuningSettings,
    workers: WorkerRequest,
    nodes: Sequence[NodeResources],
    num_trials: int,
    *,
    may_grow: bool = False,
) -> Placement:
    """Works out how the sweep shares the cluster.

    Args:
        tuning: of the settings.
        workers: of one trial.
        nodes: of the cluster.
        num_trials: of the sweep in all.
        may_grow: an autoscaler may add nodes.

    Raises:
        UserError: not one trial fits, or fewer than `tuning.concurrent_trials`.
    """
    workers = workers.settled(nodes)
    if not may_grow:
        refuse_unschedulable(workers, nodes, "the cluster")
    slots = sum(node.num_workers(workers) for node in nodes)
    fitting = max(1, slots // workers.num_workers)
    asked = tuning.concurrent_trials
    if asked != "auto" and asked > fitting and not may_grow:
        raise UserError(
            f"tuning.concurrent_trials {asked} was asked for, and the cluster holds {fitting} "
            f"at the same time ({workers} for each): take fewer, or auto"
        )
    concurrent = min(fitting if asked == "auto" else asked, num_trials)
    actor = workers.bundle if workers.num_workers == 1 else _NEXT_TO_NOTHING
    return Placement(concurrent, actor, workers)
