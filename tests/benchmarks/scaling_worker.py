"""One worker of the benchmark of weak scaling and of the canonical reduction's cost.

    python scaling_worker.py CASE PRECISION ROUNDS RANK SIZE RENDEZVOUS

Each worker has one thread and one micro-shard of the case's size per step; worker 0 prints the
seconds of every step, the canonical and the fast reduction in turn.
"""

import itertools
import json
import sys
import time

import torch
import torch.distributed as dist
from training_cases import ALL, packed, pairs
from training_sides import our_engine

from bert.bert import BertForPreTraining
from bert.memory import tune_allocator
from raybert.training.objectives import PretrainingObjective


def main() -> None:
    name, precision, rounds, rank, size, rendezvous = sys.argv[1:]
    torch.set_num_threads(1)
    tune_allocator()
    case = ALL[name]
    dist.init_process_group(
        "gloo", init_method=f"file://{rendezvous}", rank=int(rank), world_size=int(size)
    )
    examples = pairs(case)
    engines = {
        reduction: our_engine(
            BertForPreTraining(case.config),
            PretrainingObjective(),
            case.count,
            precision,  # pyright: ignore[reportArgumentType]
            reduction=reduction,
            num_micro_shards=int(size),
        )
        for reduction in ("canonical", "fast")
    }
    seconds: dict[str, list[float]] = {reduction: [] for reduction in engines}
    steps = itertools.count()
    for turn in range(int(rounds) + 1):
        for reduction, engine in engines.items():
            dist.barrier()
            begin = time.perf_counter()
            engine.step(next(steps), [packed(examples)])
            if turn:
                seconds[reduction].append(time.perf_counter() - begin)
    if rank == "0":
        print(json.dumps(seconds))
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
