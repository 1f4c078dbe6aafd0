"""Micro-shards side by side: the numbers of one after another, and its errors."""

import threading

import pytest
import torch
from torch import nn
from training.cases import (
    Disturbed,
    digest,
    global_batch,
    infinite_loss,
    small_model,
    small_settings,
)

from bert.batch import PackedBatch
from bert.dropout import DropoutKey
from raybert.training.engine import Engine
from raybert.training.objectives import PretrainingObjective, Sums
from raybert.training.precision import PrecisionName


def engine_of(
    threads: int, objective: PretrainingObjective | None = None, num_micro_shards: int = 5, **more
) -> Engine:
    """In a process of so many threads, of which each micro-shard gets one."""
    torch.set_num_threads(threads)
    reduction, precision = more.get("reduction", "canonical"), more.get("precision", "fp32")
    engine = Engine(
        small_model(),
        objective or PretrainingObjective(),
        small_settings(reduction=reduction),
        num_micro_shards=num_micro_shards,
        micro_shard_threads=1,
        precision=precision,
    )
    assert torch.get_num_threads() == threads
    torch.set_num_threads(1)  # the optimizer's; a lane keeps its own
    return engine


def train(engine: Engine) -> tuple[list[list[float]], str, str]:
    reports = [
        engine.step(step, global_batch(step, engine.num_micro_shards)).values.tolist()
        for step in range(3)
    ]
    state = engine.capture()
    assert state is not None
    return reports, digest(dict(engine.model.named_parameters())), digest(dict(state.tensors))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_any_number_of_lanes_gives_the_same_bits(precision: PrecisionName):
    alone = train(engine_of(1, precision=precision))
    for threads in (2, 3, 9):
        assert train(engine_of(threads, precision=precision)) == alone


def test_fast_reduction_adds_every_micro_shard():
    (canonical, *_), (fast, *_) = (
        train(engine_of(2, reduction=reduction)) for reduction in ("canonical", "fast")
    )
    for one, other in zip(canonical, fast, strict=True):
        assert other == pytest.approx(one, rel=1e-5)


class Watched(PretrainingObjective):
    """Calls a function at the begin of every forward pass."""

    def __init__(self, look) -> None:
        super().__init__()
        self.__dict__["look"] = look

    def sums(self, model: nn.Module, batch: PackedBatch, dropout: DropoutKey | None) -> Sums:
        self.__dict__["look"](model, dropout)
        return super().sums(model, batch, dropout)


def test_a_step_that_is_not_finite_is_skipped_by_any_number_of_lanes():
    objective = Disturbed(lambda key: (key.step, key.micro_shard) == (1, 3), infinite_loss)
    engines = [engine_of(threads, objective) for threads in (1, 3)]
    alone, side_by_side = (train(engine)[1:] for engine in engines)
    assert side_by_side == alone
    assert [engine.num_skipped for engine in engines] == [1, 1]


def test_lanes_work_at_once_on_threads_of_their_own():
    together = threading.Barrier(2)
    models = set()

    def look(model: nn.Module, dropout: DropoutKey | None) -> None:
        together.wait(timeout=60)
        assert torch.get_num_threads() == 1
        models.add(model)

    engine = engine_of(2, Watched(look), num_micro_shards=4)
    train(engine)
    assert len(models) == 2
    first, second = (next(iter(model.parameters())) for model in models)
    assert first is not second
    assert first.data_ptr() == second.data_ptr()


def test_an_error_in_a_lane_is_the_steps_once_the_others_have_ended():
    ended = threading.Event()

    def look(model: nn.Module, dropout: DropoutKey | None) -> None:
        assert dropout is not None
        if dropout.micro_shard == 0:
            raise ArithmeticError("micro-shard 0")
        ended.set()

    with pytest.raises(ArithmeticError, match="micro-shard 0"):
        train(engine_of(2, Watched(look), num_micro_shards=2))
    assert ended.is_set()
