"""A Ray cluster to work on: joined where there is one, started on this machine where not."""

from raybert.cluster.resources import WorkerRequest
from raybert.cluster.start import RunningCluster, start

__all__ = ["RunningCluster", "WorkerRequest", "start"]
