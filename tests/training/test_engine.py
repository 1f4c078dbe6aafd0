"""One worker's engine: against a plain loop, through bad steps, resumed, short of memory."""

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from training.cases import (
    Disturbed,
    digest,
    global_batch,
    infinite_loss,
    small_model,
    small_settings,
)

from bert import kernels
from bert.bert import BertForPreTraining
from bert.dropout import DropoutKey
from bert.loss import pretraining_sums
from raybert.training.device import OutOfMemory
from raybert.training.engine import Engine, EngineState
from raybert.training.evaluation import evaluate
from raybert.training.objectives import PretrainingObjective, Sums
from raybert.training.precision import PrecisionName
from raybert.training.report import NonFiniteStop, StepReport
from raybert.training.schedule import linear_schedule


def engine_of(
    model: BertForPreTraining,
    *,
    objective: PretrainingObjective | None = None,
    num_micro_shards: int = 4,
    precision: PrecisionName = "fp32",
    **settings: object,
) -> Engine:
    return Engine(
        model,
        objective or PretrainingObjective(),
        small_settings(**settings),
        num_micro_shards=num_micro_shards,
        precision=precision,
    )


def train(engine: Engine, steps: range) -> list[StepReport]:
    return [engine.step(step, global_batch(step, engine.num_micro_shards)) for step in steps]


def infinite_gradient(sums: Sums) -> Sums:
    """The loss stays finite, its gradient does not."""
    mlm = sums.losses[0]
    return Sums((mlm + (mlm - mlm.detach()).sqrt(), sums.losses[1]), sums.correct)


def plain_loop(model: BertForPreTraining, num_steps: int) -> list[float]:
    """What a textbook does with the same micro-shards: torch's optimizer, clipping, means."""
    settings = small_settings()
    decaying = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim == 1]
    optimizer = torch.optim.AdamW(
        [{"params": decaying, "weight_decay": 0.01}, {"params": others, "weight_decay": 0.0}],
        betas=(0.9, 0.999),
        eps=1e-6,
    )
    losses = []
    for step in range(num_steps):
        sums = [
            pretraining_sums(model, batch, DropoutKey(settings.seed, step, shard))
            for shard, batch in enumerate(global_batch(step, 4))
        ]
        masked, pairs = sum(s.num_masked for s in sums), sum(s.num_pairs for s in sums)
        mlm = torch.stack([s.mlm_sum for s in sums]).sum() / masked
        loss = mlm + torch.stack([s.nsp_sum for s in sums]).sum() / pairs
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), settings.max_grad_norm)
        for group in optimizer.param_groups:
            group["lr"] = linear_schedule(step, settings.learning_rate, 2, settings.steps)
        optimizer.step()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("reduction", ["canonical", "fast"])
def test_engine_equals_a_plain_loop(reduction: str):
    plain, ours = small_model(), small_model()
    losses = plain_loop(plain, 8)
    reports = train(engine_of(ours, reduction=reduction), range(8))
    for loss, report in zip(losses, reports, strict=True):
        assert report.loss == pytest.approx(loss, rel=1e-5)
    for name, parameter in plain.named_parameters():
        torch.testing.assert_close(ours.get_parameter(name), parameter, rtol=1e-4, atol=1e-5)


def test_report_tells_what_happened():
    report = train(engine_of(small_model()), range(1))[0]
    batches = global_batch(0, 4)
    assert report.num_tokens == sum(batch.num_tokens for batch in batches)
    assert report.num_sequences == 12
    assert report.counts == {
        "mlm": sum(batch.num_masked for batch in batches),
        "nsp": sum(batch.num_pairs for batch in batches),
    }
    assert report.counts["nsp"] == 10
    assert report.loss == pytest.approx(sum(report.losses.values()))
    assert all(0 <= accuracy <= 1 for accuracy in report.accuracies.values())
    assert (report.skipped, report.loss_scale, report.learning_rate) == (False, 1.0, 0.0)
    assert report.grad_norm > 1  # so that clipping was tested above


def test_next_sentence_can_be_switched_off():
    objective = PretrainingObjective(next_sentence=False)
    report = train(engine_of(small_model(), objective=objective), range(1))[0]
    assert list(report.losses) == ["mlm"]
    assert report.loss == report.losses["mlm"]


@pytest.mark.parametrize("disturbance", [infinite_gradient, infinite_loss])
def test_nonfinite_step_is_skipped_and_counted(disturbance: Callable[[Sums], Sums]):
    objective = Disturbed(lambda key: key.step == 2 and key.micro_shard == 1, disturbance)
    model = small_model()
    engine = engine_of(model, objective=objective)
    train(engine, range(2))
    before = digest(dict(model.named_parameters()))
    assert train(engine, range(2, 3))[0].skipped
    assert digest(dict(model.named_parameters())) == before
    assert not train(engine, range(3, 4))[0].skipped
    assert digest(dict(model.named_parameters())) != before
    state = engine.capture()
    assert state is not None
    assert (state.counters["updates"], state.counters["skipped_steps"]) == (3, 1)
    assert engine.num_skipped == 1


def test_many_nonfinite_steps_in_a_row_stop_the_run_and_name_the_samples():
    objective = Disturbed(lambda key: key.step in (1, 3, 4, 5), infinite_loss)
    model = small_model()
    engine = engine_of(model, objective=objective, max_nonfinite_steps=3)
    train(engine, range(3))
    before = digest(dict(model.named_parameters()))
    with pytest.raises(NonFiniteStop, match=r"3 steps in a row \(steps 3 to 5, samples 36 to 71\)"):
        train(engine, range(3, 6))
    assert digest(dict(model.named_parameters())) == before


def resumed(state: EngineState, weights: dict[str, torch.Tensor], **options: object) -> Engine:
    model = small_model(seed=99)
    model.load_state_dict(weights)
    engine = engine_of(model, **options)  # pyright: ignore[reportArgumentType]
    engine.restore(state)
    return engine


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_resumed_run_ends_with_the_same_bytes(precision: PrecisionName):
    objective = Disturbed(lambda key: key.step == 1, infinite_loss)
    model = small_model()
    engine = engine_of(model, objective=objective, precision=precision)
    train(engine, range(3))
    state = engine.capture()
    assert state is not None
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    train(engine, range(3, 6))
    again = resumed(state, weights, objective=objective, precision=precision)
    train(again, range(3, 6))
    ends = [e.capture() for e in (engine, again)]
    assert ends[0] is not None
    assert ends[1] is not None
    assert digest(dict(ends[0].tensors)) == digest(dict(ends[1].tensors))
    assert ends[0].counters == ends[1].counters
    assert digest(model.state_dict()) == digest(again.model.state_dict())
    assert ends[0].counters["skipped_steps"] == 1


def test_state_of_another_model_is_refused():
    state = engine_of(small_model()).capture()
    assert state is not None
    tensors = dict(state.tensors)
    del tensors["exp_avg.mlm.bias"]
    with pytest.raises(ValueError, match=r"exp_avg\.mlm\.bias is missing"):
        engine_of(small_model()).restore(EngineState(tensors, state.counters))


def test_bf16_and_fp16_learn_like_fp32():
    ends: dict[str, list[float]] = {}
    precisions: tuple[PrecisionName, ...] = ("fp32", "bf16", "fp16")
    for precision in precisions:
        engine = engine_of(small_model(), precision=precision)
        ends[precision] = [
            engine.step(step, global_batch(0, engine.num_micro_shards)).loss for step in range(15)
        ]
    assert ends["fp32"][-1] < ends["fp32"][0] - 0.1
    for precision in ("bf16", "fp16"):
        assert ends[precision] != ends["fp32"]
        assert ends[precision] == pytest.approx(ends["fp32"], rel=0.01)


class CastsOfFeedForwardWeights(TorchDispatchMode):
    """Counts how often a tensor of the shape of `up.weight`, one per layer, becomes bf16."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func is torch.ops.aten._to_copy.default and kwargs.get("dtype") is torch.bfloat16:
            self.count += tuple(args[0].shape) == (128, 32)
        return func(*args, **kwargs)


def test_weights_are_cast_once_per_step_not_once_per_micro_shard(request):
    request.addfinalizer(lambda: kernels.choose("auto"))
    kernels.choose("torch")  # the compiled ones have a test of their own
    engine = engine_of(small_model(), precision="bf16")
    with CastsOfFeedForwardWeights() as casts:
        train(engine, range(1))
        assert casts.count == 2
        train(engine, range(1, 2))  # with the new weights
        assert casts.count == 4


class NoLookAtValues(TorchDispatchMode):
    """Raises at an operation for which a GPU's queue would have to run empty."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        aten = torch.ops.aten
        looks = func in (aten._local_scalar_dense.default, aten.nonzero.default)
        if func is aten.index.Tensor:
            looks = any(index is not None and index.dtype == torch.bool for index in args[1])
        assert not looks, func
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("reduction", ["canonical", "fast"])
def test_a_step_never_waits_for_the_device(reduction, monkeypatch, request):
    request.addfinalizer(lambda: kernels.choose("auto"))
    kernels.choose("torch")
    engine = engine_of(small_model(), reduction=reduction)
    batches = global_batch(0, 4)
    assert all(batch.num_pairs for batch in batches)  # counted in host memory, and kept
    # On a GPU it reads what an earlier step has left in host memory.
    monkeypatch.setattr("raybert.training.report.SkipWatch.look", lambda self, wait: None)
    for name in ("cpu", "numpy", "tolist"):
        monkeypatch.setattr(torch.Tensor, name, lambda self: pytest.fail("copied to the host"))
    with NoLookAtValues():
        report = engine.step(0, batches)
        with pytest.raises(AssertionError, match="_local_scalar_dense"):
            bool(torch.ones(()))
    monkeypatch.undo()
    assert report.loss > 0


def test_fp16_looks_for_its_loss_scale_without_stopping():
    """Overflows at a high scale halve it; they do not count as steps in a row."""
    scale = 2.0**16
    objective = Disturbed(lambda key: key.step < 3, infinite_loss)
    engine = engine_of(small_model(), objective=objective, precision="fp16", max_nonfinite_steps=1)
    reports = train(engine, range(5))
    assert [report.skipped for report in reports] == [True] * 3 + [False] * 2
    assert [report.loss_scale for report in reports] == [scale / 2**n for n in (0, 1, 2, 3, 3)]
    assert reports[4].grad_norm == pytest.approx(
        train(engine_of(small_model()), range(4, 5))[0].grad_norm, rel=0.2
    )


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"),
    ],
)
def test_running_out_of_memory_names_the_settings(error: Exception):
    def fail(_: Sums) -> Sums:
        raise error

    engine = engine_of(small_model(), objective=Disturbed(lambda _: True, fail))
    with pytest.raises(OutOfMemory) as caught:
        train(engine, range(1))
    assert "max_tokens_per_device" in str(caught.value)
    assert "activation_checkpointing" in str(caught.value)


def test_other_runtime_errors_are_left_alone():
    def fail(_: Sums) -> Sums:
        raise RuntimeError("shapes do not match")

    engine = engine_of(small_model(), objective=Disturbed(lambda _: True, fail))
    with pytest.raises(RuntimeError, match="shapes do not match"):
        train(engine, range(1))


def test_wrong_number_of_micro_shards_is_refused():
    with pytest.raises(ValueError):
        engine_of(small_model()).step(0, global_batch(0, 3))


def test_evaluation_sums_over_batches():
    model = small_model(dropout=0.1)
    engine = engine_of(model)
    batches = global_batch(7, 3)
    metrics = evaluate(engine, enumerate(batches), 3)
    sums = [pretraining_sums(model, batch) for batch in batches]
    masked, pairs = sum(s.num_masked for s in sums), sum(s.num_pairs for s in sums)
    mlm = sum(s.mlm_sum.item() for s in sums) / masked
    assert metrics["mlm_loss"] == pytest.approx(mlm)
    assert metrics["perplexity"] == pytest.approx(torch.tensor(mlm).exp().item(), rel=1e-4)
    assert metrics["mlm_accuracy"] == sum(s.mlm_correct.item() for s in sums) / masked
    assert metrics["nsp_loss"] == pytest.approx(sum(s.nsp_sum.item() for s in sums) / pairs)
    assert metrics["nsp_accuracy"] == sum(s.nsp_correct.item() for s in sums) / pairs
    assert metrics["loss"] == metrics["mlm_loss"] + metrics["nsp_loss"]
    with pytest.raises(ValueError, match="place 3"):
        evaluate(engine, [(3, batches[0])], 3)
