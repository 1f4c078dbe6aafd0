"""What the workers of a group have to hold alike: worker 0 decides, the others are told."""

from __future__ import annotations

import logging
from typing import Literal

import torch

from raybert.training.checkpoints import Checkpoint, CheckpointStore
from raybert.training.group import WorkerGroup
from raybert.training.precision import PrecisionName, choose_precision

_PRECISIONS: tuple[PrecisionName, ...] = ("fp32", "bf16", "fp16")

logger = logging.getLogger(__name__)


def from_worker_0(number: int, group: WorkerGroup, device: torch.device) -> int:
    """Worker 0's number. Collective."""
    shared = torch.tensor(number, device=device)
    group.broadcast_(shared)
    return int(shared.item())


def agreed_precision(
    requested: Literal["auto", "fp32", "bf16", "fp16"],
    group: WorkerGroup,
    device: torch.device,
    section: str,
) -> PrecisionName:
    """What worker 0's device is best at, or what was asked for. Collective.

    Raises:
        UserError: a precision that the device lacks.
    """
    place = 0
    if group.rank == 0:
        choice = choose_precision(requested, device, section)
        logger.info("precision %s: %s", choice.name, choice.reason)
        place = _PRECISIONS.index(choice.name)
    return _PRECISIONS[from_worker_0(place, group, device)]


def agreed_checkpoint(
    store: CheckpointStore, group: WorkerGroup, device: torch.device
) -> Checkpoint | None:
    """The newest whole checkpoint as worker 0 sees it: all begin at the same step. Collective."""
    chosen = store.newest_whole() if group.rank == 0 else None
    number = from_worker_0(-1 if chosen is None else chosen.step, group, device)
    if group.rank == 0 or number < 0:
        return chosen
    return Checkpoint(number, store.location_of(number))
