"""One worker of a group, as a process: `python -m training.engine_workers RANK SIZE FOLDER`.

It trains small models with every number of micro-shards that its group can share, and writes what
they ended with to FOLDER/RANK.json. If there is a run beside FOLDER, it goes on from its
checkpoint, else it saves one.
"""

import json
import os
import sys
from pathlib import Path

import torch
from torch import distributed as dist
from training.cases import digest, global_batch, small_model, small_settings

from bert.hf import from_hf_tensors
from raybert.storage import Location
from raybert.training.checkpoints import CheckpointStore, Snapshot, weights_in_host_memory
from raybert.training.engine import Engine
from raybert.training.evaluation import evaluate
from raybert.training.objectives import PretrainingObjective
from raybert.training.tree import worker_range

MICRO_SHARDS = (1, 2, 3, 4, 5, 6, 7, 8)
SAVED_AT = 1
NUM_STEPS = 3
RESUMED_MICRO_SHARDS = 5
SIDE_BY_SIDE = 7

# Torch imports them on the way to some of its own conveniences, several seconds per worker.
SLOW_MODULES = {"torch._dynamo", "torch._inductor", "sympy", "ray", "transformers"}


def build(num_micro_shards: int, reduction: str, seed: int = 1, num_lanes: int = 1) -> Engine:
    torch.set_num_threads(num_lanes)
    engine = Engine(
        small_model(seed=seed),
        PretrainingObjective(),
        small_settings(reduction=reduction),
        num_micro_shards=num_micro_shards,
        micro_shard_threads=1,
    )
    torch.set_num_threads(1)
    return engine


def train(engine: Engine, first_step: int, num_steps: int = NUM_STEPS) -> list[list[float]]:
    reports = []
    for step in range(first_step, num_steps):
        batches = global_batch(step, engine.num_micro_shards)
        own = engine.micro_shards
        reports.append(engine.step(step, batches[own.start : own.stop]))
    return [report.values.tolist() for report in reports]


def outcome(engine: Engine, reports: list[list[float]]) -> dict[str, object]:
    """Everything that must not depend on the number of workers."""
    batches = global_batch(99, 7)
    own = worker_range(7, engine.group.rank, engine.group.size)
    metrics = evaluate(engine, [(place, batches[place]) for place in own], 7)
    state = engine.capture()
    return {
        "weights": digest(dict(engine.model.named_parameters())),
        "reports": reports,
        "metrics": metrics,
        "optimizer": None if state is None else digest(dict(state.tensors)),
        "counters": None if state is None else state.counters,
    }


def save(engine: Engine, run: Path) -> None:
    state = engine.capture()
    if state is not None:
        store = CheckpointStore(Location.parse(run))
        weights = weights_in_host_memory(engine.model)
        store.save(Snapshot(SAVED_AT, weights, state, {}, {}))
        store.close()


def resume(run: Path) -> Engine:
    checkpoint = CheckpointStore(Location.parse(run)).newest_whole()
    assert checkpoint is not None
    assert checkpoint.step == SAVED_AT
    engine = build(RESUMED_MICRO_SHARDS, "canonical", seed=77)
    from_hf_tensors(engine.model, checkpoint.weights())
    engine.restore(checkpoint.engine())
    return engine


def main(rank: int, size: int, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=size
    )
    outcomes: dict[str, object] = {}
    cases = [("canonical", count) for count in MICRO_SHARDS if count >= size] + [("fast", 8)]
    for reduction, num_micro_shards in cases:
        engine = build(num_micro_shards, reduction)
        outcomes[f"{reduction} {num_micro_shards}"] = outcome(engine, train(engine, 0))
    engine = build(SIDE_BY_SIDE, "canonical", num_lanes=2)
    outcomes["side by side"] = outcome(engine, train(engine, 0))
    # Worker 0's weights are everyone's, wherever the others started.
    engine = build(4, "canonical", seed=1 if rank == 0 else 50 + rank)
    outcomes["other seeds"] = outcome(engine, train(engine, 0))
    run = folder.parent / "run"
    if run.exists():
        engine = resume(run)
        outcomes["resumed"] = outcome(engine, train(engine, SAVED_AT))
    else:
        engine = build(RESUMED_MICRO_SHARDS, "canonical")
        train(engine, 0, SAVED_AT)
        save(engine, run)
    outcomes["modules"] = sorted(SLOW_MODULES & sys.modules.keys())
    (folder / f"{rank}.json").write_text(json.dumps(outcomes))
    dist.destroy_process_group()


if __name__ == "__main__":
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
