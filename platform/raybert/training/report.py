"""What steps did: numbers that stay on the device until somebody reads them, and a watch on the
steps that were skipped.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from raybert.errors import UserError


@dataclass(frozen=True)
class StepReport:
    """One step, the same on every worker. Reading any number waits for the device once.

    Attributes:
        step: counted from 0.
        learning_rate: of this step.
        names: the objective's parts.
        values: float64 on the device: losses and right guesses per part (sums), labels per part,
            tokens, sequences, gradient norm, loss scale, skipped.
    """

    step: int
    learning_rate: float
    names: tuple[str, ...]
    values: Tensor

    @cached_property
    def _numbers(self) -> list[float]:
        return self.values.tolist()

    def _per_part(self, index: int) -> dict[str, float]:
        first = index * len(self.names)
        return dict(zip(self.names, self._numbers[first:], strict=False))

    @property
    def counts(self) -> dict[str, int]:
        """Labels counted, per part."""
        return {name: int(count) for name, count in self._per_part(2).items()}

    @property
    def losses(self) -> dict[str, float]:
        """Mean loss over the global batch, per part; 0 where no label counted."""
        counts = self.counts
        return {name: total / max(counts[name], 1) for name, total in self._per_part(0).items()}

    @property
    def accuracies(self) -> dict[str, float]:
        """Share of right guesses, per part."""
        counts = self.counts
        return {name: right / max(counts[name], 1) for name, right in self._per_part(1).items()}

    @property
    def loss(self) -> float:
        """The sum of the parts' means: what the step minimised."""
        return sum(self.losses.values())

    @property
    def num_tokens(self) -> int:
        """Real tokens of the global batch."""
        return int(self._numbers[-5])

    @property
    def num_sequences(self) -> int:
        """Sequences of the global batch."""
        return int(self._numbers[-4])

    @property
    def grad_norm(self) -> float:
        """Euclidean norm of the whole gradient before clipping."""
        return self._numbers[-3]

    @property
    def loss_scale(self) -> float:
        """The factor fp16 losses were multiplied with; 1 in other precisions."""
        return self._numbers[-2]

    @property
    def skipped(self) -> bool:
        """Whether the loss or the gradient was not finite, so that nothing was updated."""
        return self._numbers[-1] != 0


class NonFiniteStop(UserError):
    """Too many steps in a row had a loss or gradient that was not finite."""


class SkipWatch:
    """Counts skipped steps and stops a run that skips too many in a row.

    On a CPU a step's outcome is seen at once. On a GPU it is copied aside and seen some steps
    later, so that no step waits for it; the steps in between were skipped on the device as well if
    they were not finite, so nothing is lost.

    Args:
        limit: stop at so many in a row.
        batch_size: samples per step, to name the samples.
        section: where the settings stand that may help.

    Attributes:
        num_skipped: in the whole run.
        in_a_row: up to the last step seen.
    """

    def __init__(self, limit: int, batch_size: int, section: str = "pretraining") -> None:
        self._limit = limit
        self._batch_size = batch_size
        self._section = section
        self._pending: deque[tuple[int, Tensor, torch.cuda.Event | None]] = deque()
        self.num_skipped = 0
        self.in_a_row = 0

    def add(self, step: int, skipped: Tensor, counted: Tensor) -> None:
        """Takes the outcome of a step.

        Args:
            step: counted from 0.
            skipped: scalar on the device, 1 if nothing was updated.
            counted: scalar on the device, 0 if the skip was only fp16's search for a loss scale.

        Raises:
            NonFiniteStop: the limit is reached, with this step or, on a GPU, an earlier one.
        """
        outcome = torch.stack([skipped, counted])
        event = None
        if outcome.is_cuda:
            host = torch.empty(2, pin_memory=True)
            outcome = host.copy_(outcome, non_blocking=True)
            event = torch.cuda.Event()
            event.record()
        self._pending.append((step, outcome, event))
        self.look(wait=False)

    def look(self, *, wait: bool) -> None:
        """Sees the outcomes that have arrived, or with `wait` all of them; may raise as `add`."""
        while self._pending:
            step, outcome, event = self._pending[0]
            if event is not None:
                if not wait and not event.query():
                    return
                event.synchronize()
            self._pending.popleft()
            self._see(step, *(bool(flag) for flag in outcome.tolist()))

    def _see(self, step: int, skipped: bool, counted: bool) -> None:
        if not skipped:
            self.in_a_row = 0
            return
        self.num_skipped += 1
        self.in_a_row += counted
        if self.in_a_row >= self._limit:
            first = step - self.in_a_row + 1
            raise NonFiniteStop(
                f"the loss or gradient was not finite in {self.in_a_row} steps in a row "
                f"(steps {first} to {step}, samples {first * self._batch_size} to "
                f"{(step + 1) * self._batch_size - 1}); none of them changed the weights. Lower "
                f"{self._section}.learning_rate or lengthen the warm-up, or look at these "
                "samples; the last checkpoint stands"
            )
