"""One optimisation step in plain torch: a notebook can take one, and so can a cluster.

Each worker runs forward and backward passes over its micro-shards, the reduction adds the gradients
up, their norm is clipped, AdamW updates each worker's slice of the weights, the slices are shared.
Whatever depends on the order of a sum is added in an order that the number of workers doesn't
change, so that with the canonical reduction neither do the weights nor the reported numbers.

Shape suffixes: N elements of a flat buffer, L of one worker's slice, K micro-shards, P parts of the
objective, C = 2 P columns (losses, right guesses).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor, nn

from bert.batch import PackedBatch, send
from bert.dropout import DropoutKey
from bert.gradients import WeightCopies, adding_directly
from raybert.settings.optimization import MicroShardThreads
from raybert.training.device import explaining_out_of_memory, make_repeatable
from raybert.training.flat import BLOCK_ELEMENTS, FlatParameters
from raybert.training.group import WorkerGroup
from raybert.training.lanes import Lanes
from raybert.training.objectives import Objective
from raybert.training.optimizer import AdamW, AdamWSettings, block_norms, clip_factor
from raybert.training.overlap import OverlappedReduction, pays
from raybert.training.precision import (
    LossScale,
    PrecisionName,
    cast_again,
    forward_context,
    weights_cast_once,
)
from raybert.training.reduction import (
    CanonicalReduction,
    FastReduction,
    GradientStack,
    Reduction,
)
from raybert.training.report import SkipWatch, StepReport
from raybert.training.schedule import linear_schedule
from raybert.training.tree import worker_range


class StepSettings(Protocol):
    """What the engine reads of its settings; `PretrainingSettings` has it all."""

    @property
    def seed(self) -> int: ...
    @property
    def steps(self) -> int: ...
    @property
    def batch_size(self) -> int: ...
    @property
    def learning_rate(self) -> float: ...
    @property
    def weight_decay(self) -> float: ...
    @property
    def beta1(self) -> float: ...
    @property
    def beta2(self) -> float: ...
    @property
    def epsilon(self) -> float: ...
    @property
    def max_grad_norm(self) -> float: ...
    @property
    def max_nonfinite_steps(self) -> int: ...
    @property
    def reduction(self) -> Literal["canonical", "fast"]: ...

    def num_warmup_steps(self) -> int: ...


@dataclass(frozen=True)
class EngineState:
    """What an engine carries from step to step, besides the model's weights.

    Attributes:
        tensors: the optimizer's moments in host memory, `exp_avg.<parameter>` and
            `exp_avg_sq.<parameter>`, of all workers together.
        counters: updates, skipped steps, loss scale.
    """

    tensors: Mapping[str, Tensor]
    counters: Mapping[str, float]


class Engine:
    """Steps a model. All workers of the group build one with the same arguments and call it alike.

    Args:
        model: on its device, its weights loaded; its parameters become views of a flat buffer.
            Worker 0's weights are given to everyone.
        objective: what to minimise.
        settings: optimizer, schedule, clipping, seed, reduction. On CUDA the canonical reduction
            turns on deterministic kernels for the whole process.
        num_micro_shards: K, into which every global batch is dealt.
        micro_shard_threads: CPU threads that compute one micro-shard; a worker computes as many
            side by side as its threads allow. "all", or unsettled "auto": all of the process's, one
            micro-shard after another.
        precision: of the forward and backward passes, resolved (`choose_precision`).
        group: the workers; the default process group, or this process alone.
        rate_of: factor of the learning rate by a parameter's name; by default 1 for all.
        overlap: whether several workers with the fast reduction exchange gradients during the
            backward pass; by default on CUDA, where other units do it.
        section: of the settings tree that `settings` is, for messages.

    Attributes:
        micro_shards: which micro-shards of a step this worker computes.

    Raises:
        ValueError: more workers than micro-shards, or a model that can't be trained.
    """

    def __init__(
        self,
        model: nn.Module,
        objective: Objective,
        settings: StepSettings,
        *,
        num_micro_shards: int,
        micro_shard_threads: MicroShardThreads = "all",
        precision: PrecisionName = "fp32",
        group: WorkerGroup | None = None,
        rate_of: Callable[[str], float] | None = None,
        overlap: bool | None = None,
        section: str = "pretraining",
    ) -> None:
        self.model = model
        self.objective = objective
        self.precision: PrecisionName = precision
        self.group = group or WorkerGroup()
        self.num_micro_shards = num_micro_shards
        self.micro_shards = worker_range(num_micro_shards, self.group.rank, self.group.size)
        self.section = section
        self._settings = settings
        self._flat = FlatParameters(model, self.group.size, rate_of)
        self.group.broadcast_(self._flat.values)
        self._optimizer = AdamW(
            self._flat,
            self.group.rank,
            AdamWSettings(settings.weight_decay, settings.beta1, settings.beta2, settings.epsilon),
        )
        self._reduction = self._make_reduction(overlap)
        self._gradients = GradientStack(self._flat)
        self._copies = WeightCopies()
        self._lanes = self._make_lanes(micro_shard_threads)
        self._loss_scale = LossScale(precision, self.device)
        self._skips = SkipWatch(settings.max_nonfinite_steps, settings.batch_size, section)

    def _make_reduction(self, overlap: bool | None) -> Reduction:
        if self._settings.reduction == "canonical":
            make_repeatable(self.device)
            return CanonicalReduction(self.num_micro_shards, self.group)
        if overlap is None:
            overlap = pays(self.device)
        if overlap and self.group.size > 1:
            return OverlappedReduction(self.model, self._flat, self.group)
        return FastReduction(self.group)

    def _make_lanes(self, threads_each: MicroShardThreads) -> Lanes:
        threads, model, slots = torch.get_num_threads(), self.model, self._flat.slots
        if self.device.type != "cpu" or isinstance(threads_each, str) or threads_each >= threads:
            return Lanes(model, slots, 1, None)
        count = min(threads // threads_each, len(self.micro_shards))
        return Lanes(model, slots, count, threads_each)

    @property
    def device(self) -> torch.device:
        return self._flat.values.device

    @property
    def num_skipped(self) -> int:
        """Steps of the whole run whose loss or gradient was not finite."""
        return self._skips.num_skipped

    def step(self, step: int, micro_shards: Sequence[PackedBatch]) -> StepReport:
        """Takes one step.

        Args:
            step: counted from 0; selects the dropout bits and the learning rate.
            micro_shards: this worker's, in the order of `self.micro_shards`.

        Raises:
            NonFiniteStop: this is the n-th step in a row that is not finite.
            OutOfMemory: the device could not hold it.
            ValueError: another number of micro-shards than `self.micro_shards` has.
        """
        learning_rate = linear_schedule(
            step,
            self._settings.learning_rate,
            self._settings.num_warmup_steps(),
            self._settings.steps,
        )
        with explaining_out_of_memory(self.section):
            counts = self._global_counts(micro_shards)
            # All of them before the first pass: a copy behind a pass would wait for it.
            sent = [batch.to(self.device, non_blocking=True) for batch in micro_shards]
            rows_KC = self._accumulate(step, sent, counts)
            gradient_L = self._reduction.reduce(self._gradients.take())
            sums_C, norm = self._add_up(rows_KC, gradient_L)
            skip = self._update(gradient_L, sums_C, norm, learning_rate)
        scale = self._loss_scale.scale.clone()
        self._loss_scale.update(skip)
        self._skips.add(step, skip, (scale <= 1).float())
        numbers = torch.stack([norm / scale, scale.double(), skip.double()])
        values = torch.cat([sums_C, counts.double(), numbers])
        return StepReport(step, learning_rate, self.objective.names, values)

    def _global_counts(self, micro_shards: Sequence[PackedBatch]) -> Tensor:
        """Labels per part, tokens, sequences of the global batch: int64 (P + 2,)."""
        own = [
            (*self.objective.counts(batch), batch.num_tokens, batch.num_sequences)
            for batch in micro_shards
        ]
        counts = torch.tensor(own, dtype=torch.int64).sum(dim=0)
        counts = send(counts, self.device)
        self.group.add_(counts)
        return counts

    def _accumulate(self, step: int, micro_shards: Sequence[PackedBatch], counts: Tensor) -> Tensor:
        """Leaves partial sums on the gradient stack; its own rows of (K, C), zeros elsewhere."""
        batches = dict(zip(self.micro_shards, micro_shards, strict=True))
        num_parts = len(self.objective.names)
        weights_P = self._loss_scale.scale / counts[:num_parts].clamp(min=1)
        rows_KC = torch.zeros(
            self.num_micro_shards, 2 * num_parts, dtype=torch.float64, device=self.device
        )

        def compute(model: nn.Module, leaf: int) -> None:
            dropout = DropoutKey(self._settings.seed, step, leaf)
            rows_KC[leaf] = self._backward(model, batches[leaf], dropout, weights_P)

        self._copies.renew()
        plan = self._reduction.plan(self.micro_shards, self._lanes.count)
        with weights_cast_once(self._copies), adding_directly():
            self._lanes.accumulate(plan, self._gradients, compute, self._before_last())
        return rows_KC

    def _before_last(self) -> Callable[[Tensor], None] | None:
        """What to do before the last micro-shard, if anything, given the sum it adds onto."""
        reduction = self._reduction
        if not isinstance(reduction, OverlappedReduction):
            return None

        def begin(sum_N: Tensor) -> None:
            cast_again()
            reduction.begin(sum_N)

        return begin

    def _backward(
        self, model: nn.Module, batch: PackedBatch, dropout: DropoutKey, weights_P: Tensor
    ) -> Tensor:
        """Adds a micro-shard's gradient onto what is bound to the model; its sums (C,)."""
        with forward_context(self.precision, self.device):
            sums = self.objective.sums(model, batch, dropout)
        losses_P = torch.stack(sums.losses).float()
        (losses_P * weights_P).sum().backward()
        return torch.cat([losses_P.detach(), torch.stack(sums.correct)])

    def _add_up(self, rows_KC: Tensor, gradient_L: Tensor) -> tuple[Tensor, Tensor]:
        """Sums over all micro-shards (C,) and the norm of the whole gradient, both float64.

        Each row and each block comes from one worker, so adding the others' zeros is exact; the
        sums over rows and blocks then run over the same numbers for any number of workers.
        """
        num_blocks = self._flat.values.numel() // BLOCK_ELEMENTS
        squares = torch.zeros(num_blocks, dtype=torch.float64, device=self.device)
        own = squares.view(self.group.size, -1)[self.group.rank]
        own.copy_(block_norms(gradient_L)).square_()
        everything = torch.cat([rows_KC.flatten(), squares])
        self.group.add_(everything)
        rows, squares = everything.split([rows_KC.numel(), num_blocks])
        norm = squares[: self._flat.num_blocks].sum().sqrt()
        return rows.view_as(rows_KC).sum(dim=0), norm

    def _update(
        self, gradient_L: Tensor, sums_C: Tensor, norm: Tensor, learning_rate: float
    ) -> Tensor:
        """Clips, updates and shares the weights; 1 if the step was skipped, as float32 scalar."""
        finite = sums_C.isfinite().all() & norm.isfinite()
        skip = (~finite).float()
        scale = self._loss_scale.scale
        factor = clip_factor((norm / scale).float(), self._settings.max_grad_norm) / scale
        self._optimizer.step(gradient_L, learning_rate, skip, factor)
        self.group.share_slices_(self._flat.values)
        return skip

    def capture(self) -> EngineState | None:
        """The state for a checkpoint, on worker 0; None on the others. Collective.

        The tensors are copies: training may go on while they are written. The model's weights are
        the same on every worker and are taken from the model.
        """
        self._skips.look(wait=True)
        moments = {
            kind: self.group.collect(owned_L)
            for kind, owned_L in (
                ("exp_avg", self._optimizer.exp_avg),
                ("exp_avg_sq", self._optimizer.exp_avg_sq),
            )
        }
        if self.group.rank != 0:
            return None
        return EngineState(
            tensors={
                f"{kind}.{name}": view
                for kind, flat_N in moments.items()
                if flat_N is not None
                for name, view in self._flat.named_views(flat_N)
            },
            counters={
                "updates": self._optimizer.num_updates.item(),
                "skipped_steps": self._skips.num_skipped,
                "skipped_in_a_row": self._skips.in_a_row,
                "loss_scale": self._loss_scale.scale.item(),
                "loss_scale_good_steps": self._loss_scale.good_steps.item(),
            },
        )

    def restore(self, state: EngineState) -> None:
        """Goes on from a captured state, on any number of workers; each takes its slice.

        Raises:
            ValueError: the state is another model's.
        """
        own = self._flat.slice_of(self.group.rank)
        for kind, owned_L in (
            ("exp_avg", self._optimizer.exp_avg),
            ("exp_avg_sq", self._optimizer.exp_avg_sq),
        ):
            flat_N = torch.zeros(self._flat.values.numel())
            for name, view in self._flat.named_views(flat_N):
                tensor = state.tensors.get(f"{kind}.{name}")
                if tensor is None or tensor.shape != view.shape:
                    found = "missing" if tensor is None else f"of shape {tuple(tensor.shape)}"
                    raise ValueError(
                        f"the optimizer's {kind}.{name} is {found}; the model needs "
                        f"{tuple(view.shape)}"
                    )
                view.copy_(tensor)
            owned_L.copy_(flat_N[own])
        self._optimizer.num_updates.fill_(state.counters["updates"])
        self._skips.num_skipped = int(state.counters["skipped_steps"])
        self._skips.in_a_row = int(state.counters["skipped_in_a_row"])
        if self._loss_scale.is_dynamic:
            self._loss_scale.scale.fill_(state.counters["loss_scale"])
            self._loss_scale.good_steps.fill_(state.counters["loss_scale_good_steps"])
