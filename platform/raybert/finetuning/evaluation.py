"""A model's outputs on all rows of a part, computed by all workers: the same for any number.

Legend: U units (rows, or labelled words), C outputs.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from bert.batch import IGNORED_LABEL
from raybert.finetuning.facts import Facts
from raybert.finetuning.metrics import Outputs, losses, measure, predicted
from raybert.finetuning.rows import LabelledRows, evaluation_batches
from raybert.training.device import explaining_out_of_memory
from raybert.training.engine import Engine
from raybert.training.precision import forward_context

_MOST_ROWS = 64


@dataclass(frozen=True)
class Predictions:
    """Outputs beside what they should be.

    Attributes:
        rows: that were predicted.
        facts: about the data.
        outputs_UC: float32 on the CPU, logits or numbers.
    """

    rows: LabelledRows
    facts: Facts
    outputs_UC: Tensor

    @cached_property
    def targets(self) -> Tensor:
        """(U,) ids or numbers, or (U, C) of 0 and 1."""
        return torch.from_numpy(self.rows.targets())

    @cached_property
    def predicted(self) -> Tensor:
        """In the form of `targets`."""
        return predicted(self.facts.task, self.outputs_UC)

    @cached_property
    def losses_U(self) -> Tensor:
        return losses(self.facts.task, self.outputs_UC, self.targets)

    @cached_property
    def outputs(self) -> Outputs:
        """For metrics."""
        units_N1 = self.rows.units_N1()
        return Outputs(self.outputs_UC, self.targets, self.facts.label_names, units_N1)

    @cached_property
    def metrics(self) -> dict[str, float]:
        """Every metric of the task."""
        return measure(self.facts.task, self.outputs)


def predict(engine: Engine, rows: LabelledRows, facts: Facts, max_tokens: int) -> Predictions:
    """Outputs of all rows without dropout. Collective; every worker gets all of them.

    Each worker computes every size-th batch of a fixed list and leaves the others' rows zero, so
    that adding is exact.

    Args:
        engine: whose model and precision to use.
        max_tokens: of one forward pass.

    Raises:
        OutOfMemory: the device could not hold a batch.
    """
    batches = evaluation_batches(rows, max_tokens, _MOST_ROWS)
    units_N1 = rows.units_N1()
    outputs_UC = torch.zeros(int(units_N1[-1]), rows.num_outputs, device=engine.device)
    group = engine.group
    with torch.no_grad(), explaining_out_of_memory(engine.section):
        for places in batches[group.rank :: group.size]:
            batch = rows.batch(places)
            with forward_context(engine.precision, engine.device):
                outputs = engine.model(batch.to(engine.device, non_blocking=True))
            if rows.task == "tokens":
                assert batch.labels is not None  # rows have labels
                outputs = outputs[(batch.labels != IGNORED_LABEL).to(engine.device)]
            units = np.concatenate([np.arange(*units_N1[p : p + 2]) for p in places.tolist()])
            outputs_UC[torch.from_numpy(units).to(engine.device)] = outputs.float()
    group.add_(outputs_UC)
    return Predictions(rows, facts, outputs_UC.cpu())
