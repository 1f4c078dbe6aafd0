"""Where a job runs and what it may use there."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from raybert.settings.marks import Section, operational


class ClusterSettings(Section):
    """Workers, their resources, and the storage that all nodes see."""

    num_workers: int = operational(1, "data-parallel training workers", ge=1)
    min_workers: int | None = operational(
        None, "go on with as few as these when nodes are lost; none: num_workers", ge=1
    )
    cpus_per_worker: int = operational(1, "CPUs, and torch threads, of a worker", ge=1)
    gpus_per_worker: Literal["auto"] | Annotated[int, Field(ge=0, le=1)] = operational(
        "auto", "auto takes one where the cluster has GPUs"
    )
    storage: str | None = operational(
        None,
        "folder or bucket that every node sees; relative paths of a submitted job start there",
        path=True,
    )
    address: str | None = operational(
        None, "a running cluster's address; none joins RAY_ADDRESS or starts a local one"
    )
    autoscaling: Literal["auto", "on", "off"] = operational(
        "auto",
        "whether nodes come when they are asked for, so that a job may wait for them; auto: yes on "
        "a cluster that ray up has launched in a cloud",
    )
    max_failures: int = operational(3, "worker failures survived in one launch", ge=0)

    @model_validator(mode="after")
    def _counts_fit(self) -> "ClusterSettings":
        if self.min_workers is not None and self.min_workers > self.num_workers:
            raise ValueError(
                f"cluster.min_workers {self.min_workers} is more than cluster.num_workers "
                f"{self.num_workers}"
            )
        return self
