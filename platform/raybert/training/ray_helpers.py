"""Ray's own actors that Ray Train's controller needs, started beside it."""

from __future__ import annotations

import os


def start_helpers() -> None:
    """Asks for the actors that book resources and keep the dashboard's list of runs.

    They live as long as the cluster. On a new one the controller would start the first, wait for
    it, start the second and wait again, seconds each; now they are there when it looks for them.
    """
    from ray.data._internal.cluster_autoscaler.default_autoscaling_coordinator import (
        get_or_create_autoscaling_coordinator,
    )
    from ray.train.constants import RAY_TRAIN_ENABLE_STATE_TRACKING
    from ray.train.v2._internal.state.state_actor import get_or_create_state_actor

    get_or_create_autoscaling_coordinator()
    if os.environ.get(RAY_TRAIN_ENABLE_STATE_TRACKING) == "1":
        get_or_create_state_actor()
