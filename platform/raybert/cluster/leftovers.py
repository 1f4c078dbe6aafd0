"""What jobs that were killed have left in the cluster: placement groups that hold its resources.

Ray removes a dead job's groups itself, but not those that a detached actor of the job made, nor
those that were still waiting for resources.
"""

from __future__ import annotations

import logging
from typing import Any

logger = logging.getLogger(__name__)


def remove_leftovers() -> int:
    """Removes the placement groups of jobs that have ended, but for detached ones.

    Returns:
        How many there were.
    """
    from ray._private.state import state
    from ray._raylet import PlacementGroupID  # pyright: ignore[reportAttributeAccessIssue]
    from ray.core.generated.gcs_pb2 import (
        PlacementGroupTableData,  # pyright: ignore[reportAttributeAccessIssue]
    )
    from ray.util.placement_group import PlacementGroup, remove_placement_group

    dead = {job["JobID"] for job in state.job_table() if job["IsDead"]}
    # What ray.util.placement_group_table leaves out is whose a group is. The state API tells it,
    # by a connection of its own to a dashboard that has to be up.
    accessor = state._connect_and_get_accessor()
    count = 0
    for row in accessor.get_placement_group_table():
        group: Any = PlacementGroupTableData.FromString(row)
        gone = group.state == PlacementGroupTableData.REMOVED
        if gone or group.is_detached or group.creator_job_id.hex() not in dead:
            continue
        logger.info("removing the placement group %s of a job that ended", group.name)
        remove_placement_group(PlacementGroup(PlacementGroupID(group.placement_group_id)))
        count += 1
    return count
