"""What Ray Train's controller is told to do when a worker fails."""

from __future__ import annotations

import copyreg
import logging
from collections.abc import Mapping
from typing import Any

from ray.train import UserCallback
from torch.torch_version import TorchVersion

from raybert.errors import UserError
from raybert.training.mailbox import Note

logger = logging.getLogger(__name__)

# The controller tells the actor behind the dashboard's Train tab which torch it has. As torch's own
# kind of string it would make that actor, which outlives the run, import torch: 300 MB.
copyreg.pickle(
    TorchVersion,
    lambda version: (str, (str(version),)),  # pyright: ignore[reportArgumentType]
)


class RefuseMistakes(UserCallback):
    """Ends the run at a mistake that trying again would only repeat; says what else went wrong.

    An exception raised here is the controller's own, which it does not retry.
    """

    def __init__(self, mailbox: Any) -> None:
        self._mailbox = mailbox

    def after_exception(
        self, run_context: object, worker_exceptions: Mapping[int, Exception]
    ) -> None:
        for error in worker_exceptions.values():
            if isinstance(error, UserError):
                raise error
        for rank, error in sorted(worker_exceptions.items()):
            reason = (str(error).strip() or repr(error)).splitlines()[0]
            text = f"worker {rank} failed: {type(error).__name__}: {reason}"
            self._mailbox.exchange.remote([Note(text)])
