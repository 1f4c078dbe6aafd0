"""Losses and accuracies on held-out samples: the same numbers on any number of workers.

Shape suffixes: B batches of all workers, C columns (losses, right guesses, labels, per part).
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch

from bert.batch import PackedBatch
from raybert.training.device import explaining_out_of_memory
from raybert.training.engine import Engine
from raybert.training.precision import forward_context


def evaluate(
    engine: Engine, batches: Iterable[tuple[int, PackedBatch]], num_batches: int
) -> dict[str, float]:
    """Evaluates a fixed list of batches without dropout. Collective.

    Args:
        engine: whose model, objective and precision to use.
        batches: this worker's, each with its place in 0..num_batches. Each place belongs to one
            worker; a worker may have none.
        num_batches: of all workers together.

    Returns:
        `loss`, and per part of the objective `<part>_loss` and `<part>_accuracy`; with a part named
        mlm also `perplexity`, the exponential of its loss. A part without a label has loss 0.

    Raises:
        ValueError: a place out of range.
        OutOfMemory: the device could not hold a batch.
    """
    names = engine.objective.names
    num_parts = len(names)
    rows_BC = torch.zeros(num_batches, 3 * num_parts, dtype=torch.float64, device=engine.device)
    with torch.no_grad(), explaining_out_of_memory(engine.section):
        for place, batch in batches:
            if not 0 <= place < num_batches:
                raise ValueError(f"place {place} of a batch must lie in 0..{num_batches - 1}")
            with forward_context(engine.precision, engine.device):
                moved = batch.to(engine.device, non_blocking=True)
                sums = engine.objective.sums(engine.model, moved, None)
            counts = torch.tensor(engine.objective.counts(batch), dtype=torch.float64)
            rows_BC[place, : 2 * num_parts] = torch.stack([*sums.losses, *sums.correct])
            rows_BC[place, 2 * num_parts :] = counts
    engine.group.add_(rows_BC)
    losses, correct, counts = rows_BC.sum(dim=0).view(3, num_parts).tolist()
    metrics: dict[str, float] = {}
    for i, name in enumerate(names):
        metrics[f"{name}_loss"] = losses[i] / max(counts[i], 1)
        metrics[f"{name}_accuracy"] = correct[i] / max(counts[i], 1)
    metrics["loss"] = sum(metrics[f"{name}_loss"] for name in names)
    if "mlm" in names:
        try:
            metrics["perplexity"] = math.exp(metrics["mlm_loss"])
        except OverflowError:
            metrics["perplexity"] = math.inf
    return metrics
