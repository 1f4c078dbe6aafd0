"""One worker of a group: `python -m training.overlap_workers RANK SIZE FOLDER`.

It trains small models with gradients exchanged after the backward pass and during it, and writes
how far the two are apart, and when what was sent, to FOLDER/RANK.json.
"""

import json
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor
from torch import distributed as dist
from training.cases import digest, global_batch, small_model, small_settings

from bert import kernels
from bert.bert import BertForPreTraining
from raybert.training.engine import Engine
from raybert.training.objectives import PretrainingObjective
from raybert.training.overlap import OverlappedReduction
from raybert.training.precision import PrecisionName

NUM_STEPS = 3
BUCKET_ELEMENTS = 1500  # some twenty buckets


@dataclass(frozen=True)
class Case:
    num_micro_shards: int
    computing: kernels.Choice = "torch"
    next_sentence: bool = True
    num_lanes: int = 1
    precision: PrecisionName = "fp32"
    checkpointing: bool = False


CASES = {
    "several micro-shards": Case(7),
    "one micro-shard each": Case(3),
    "gradients added directly": Case(7, computing="auto"),
    "weights without gradient": Case(7, next_sentence=False),
    "two lanes": Case(8, num_lanes=2),
    "bf16": Case(5, precision="bf16"),
    "activations computed again": Case(5, checkpointing=True),
}


@dataclass
class Watch:
    """What a step did.

    Attributes:
        slices: this worker's, of the summed gradient, by step.
        awaited: by step, how many weights still had no final gradient when a bucket was sent.
    """

    slices: list[Tensor] = field(default_factory=list)
    awaited: list[list[int]] = field(default_factory=list)


def build(case: Case, *, overlap: bool) -> Engine:
    torch.set_num_threads(case.num_lanes)
    engine = Engine(
        BertForPreTraining(
            small_model().config, seed=1, activation_checkpointing=case.checkpointing
        ),
        PretrainingObjective(case.next_sentence),
        small_settings(reduction="fast"),
        num_micro_shards=case.num_micro_shards,
        micro_shard_threads=1,
        precision=case.precision,
        overlap=overlap,
    )
    torch.set_num_threads(1)
    assert isinstance(engine._reduction, OverlappedReduction) is overlap
    if overlap:  # with shorter buckets
        engine._reduction = OverlappedReduction(
            engine.model, engine._flat, engine.group, BUCKET_ELEMENTS
        )
    return engine


def watched(engine: Engine) -> Watch:
    watch = Watch()
    reduction = engine._reduction
    reduce, begin_adding = reduction.reduce, engine.group.begin_adding_

    def reducing(sums_N: list[Tensor]) -> Tensor:
        slice_L = reduce(sums_N)
        watch.slices.append(slice_L.clone())
        return slice_L

    def adding(values: Tensor, owner: int) -> dist.Work:
        if not isinstance(reduction, OverlappedReduction):
            raise AssertionError("only the overlapped reduction sends buckets")
        watch.awaited[-1].append(len(reduction._awaited))
        return begin_adding(values, owner)

    reduction.reduce = reducing
    engine.group.begin_adding_ = adding
    return watch


def train(engine: Engine) -> Watch:
    watch = watched(engine)
    for step in range(NUM_STEPS):
        watch.awaited.append([])
        batches = global_batch(step, engine.num_micro_shards)
        own = engine.micro_shards
        engine.step(step, batches[own.start : own.stop])
    return watch


def apart(found: Tensor, wanted: Tensor) -> float:
    return ((found - wanted).norm() / wanted.norm().clamp(min=1e-30)).item()


def compare(case: Case) -> dict[str, object]:
    kernels.choose(case.computing)
    after, during = build(case, overlap=False), build(case, overlap=True)
    wanted, found = train(after), train(during)
    reduction = during._reduction
    assert isinstance(reduction, OverlappedReduction)
    return {
        "slices": [apart(*pair) for pair in zip(found.slices, wanted.slices, strict=True)],
        "weights": apart(during._flat.values, after._flat.values),
        "moved": apart(during._flat.values, first_values(case)),
        "digest": digest(dict(during.model.named_parameters())),
        "awaited": found.awaited,
        "order": reduction._order,
        "tied": buckets_of(during, reduction, "backbone.embeddings.word.weight"),
    }


def first_values(case: Case) -> Tensor:
    return build(case, overlap=False)._flat.values


def buckets_of(engine: Engine, reduction: OverlappedReduction, name: str) -> list[int]:
    slot = [slot.name for slot in engine._flat.slots].index(name)
    return [place for place, bucket in enumerate(reduction._buckets) if slot in bucket.slots]


def main(rank: int, size: int, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=size
    )
    outcomes = {name: compare(case) for name, case in CASES.items()}
    (folder / f"{rank}.json").write_text(json.dumps(outcomes))
    dist.destroy_process_group()


if __name__ == "__main__":
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
