"""What a process settles once before it trains: which kernels compute, what happens to memory."""

from __future__ import annotations

import logging

import torch

from bert import kernels
from bert.memory import tune_allocator
from raybert.errors import UserError
from raybert.settings.optimization import OptimizationSettings

logger = logging.getLogger(__name__)


def prepare_process(settings: OptimizationSettings, device: torch.device) -> None:
    """Chooses kernels; keeps the memory of a step for the next one, in any process.

    Raises:
        UserError: the kernels that are asked for are not there.
    """
    if device.type == "cpu":
        tune_allocator()
    try:
        kernels.choose(settings.kernels)
    except ValueError as error:
        raise UserError(f"{settings.section}.kernels: {error}") from error
    logger.info("kernels: %s", kernels.describe(device))
