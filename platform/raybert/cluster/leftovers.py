"""What jobs that were killed have left in the cluster: placement groups that hold its resources.

Ray removes a dead job's groups itself, but not those that a detached actor of the job made, nor
those that were still waiting for resources.
"""

from __future__ import annotations

import logging
from typing import Any

logger = logging.getLogger(__name__)


def remove_leftovers() -> int:
    """Removes the placement groups of jobs that have ended.

    Returns:
        How many there were.
    """
    import ray
    from ray._private.state import state
    from ray._raylet import PlacementGroupID  # pyright: ignore[reportAttributeAccessIssue]
    from ray.util.placement_group import PlacementGroup, remove_placement_group
    from ray.util.state import list_placement_groups

    here = ray.get_runtime_context().get_job_id()
    dead = {job["JobID"] for job in state.job_table() if job["IsDead"]} - {here}
    count = 0
    groups: list[Any] = list_placement_groups(detail=True, limit=10_000)
    for group in groups:
        if group.state != "REMOVED" and not group.is_detached and group.creator_job_id in dead:
            logger.info("removing placement group %s of a job that ended", group.placement_group_id)
            identifier = PlacementGroupID.from_hex(group.placement_group_id)
            remove_placement_group(PlacementGroup(identifier))
            count += 1
    return count
