"""What a run would be and cost, before it is started: `jobs/pretrain.py --plan`."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch

from bert.bert import BertForPreTraining
from bert.config import BertConfig
from bert.dropout import DropoutKey
from raybert.samples import PretrainingSamples
from raybert.settings import Settings
from raybert.tracking.display import duration
from raybert.training.device import choose_device
from raybert.training.first_weights import build_model
from raybert.training.objectives import PretrainingObjective
from raybert.training.precision import choose_precision, forward_context
from raybert.training.throughput import batch_flops

_FLOAT = 4
# Weights, AdamW's two moments, and one gradient buffer per level of the reduction in use.
_STATES = 3
_PROBE_TOKENS = 2048


@dataclass(frozen=True)
class Plan:
    """The figures of a run.

    Attributes:
        num_parameters: of the model, and of those in the embedding tables.
        state_bytes: weights, gradients and optimizer of one worker.
        activation_bytes: what the backward pass of one micro-shard needs, roughly.
        samples_per_epoch, tokens_per_sample: of the training split.
        steps_per_epoch: at the run's batch size.
        epochs: of the run.
        flops_per_step: of all workers together.
        flops_per_second: measured here, of one worker; None where this machine can't tell.
        seconds: of the whole run; None where this machine can't tell.
    """

    num_parameters: int
    num_embedding_parameters: int
    state_bytes: int
    activation_bytes: int
    samples_per_epoch: int
    tokens_per_sample: float
    steps_per_epoch: float
    epochs: float
    flops_per_step: float
    flops_per_second: float
    seconds: float


def make_plan(settings: Settings, samples: PretrainingSamples) -> Plan:
    """Builds the model and times a piece of one step in this process; trains nothing."""
    pretraining = settings.pretraining
    model = build_model(settings, samples.store)
    config = model.config
    num_micro_shards = pretraining.num_micro_shards(settings.samples.max_length)
    probe = _probe(samples, settings)
    mean_length = probe.num_tokens / probe.num_sequences
    flops_per_step = batch_flops(config, probe) * pretraining.batch_size / probe.num_sequences
    rate = _measure(model, settings, probe)
    num_parameters = sum(p.numel() for p in model.parameters())
    tables = model.backbone.embeddings
    embedding = sum(t.weight.numel() for t in (tables.word, tables.position, tables.token_type))
    micro_shard_tokens = round(mean_length * -(-pretraining.batch_size // num_micro_shards))
    buffers = _gradient_buffers(num_micro_shards, settings)
    return Plan(
        num_parameters=num_parameters,
        num_embedding_parameters=embedding,
        state_bytes=_FLOAT * num_parameters * (_STATES + buffers),
        activation_bytes=_activation_bytes(config, micro_shard_tokens, mean_length, settings),
        samples_per_epoch=samples.num_samples,
        tokens_per_sample=mean_length,
        steps_per_epoch=samples.num_samples / pretraining.batch_size,
        epochs=pretraining.steps * pretraining.batch_size / samples.num_samples,
        flops_per_step=flops_per_step,
        flops_per_second=rate,
        seconds=pretraining.steps * flops_per_step / rate / settings.cluster.num_workers,
    )


def _probe(samples: PretrainingSamples, settings: Settings):
    """The run's first samples, as many as make a timing worth its while."""
    fitting = max(1, _PROBE_TOKENS // settings.samples.max_length)
    count = min(fitting, settings.pretraining.batch_size)
    return samples.micro_shards(0, count, 1, range(1))[0]


def _measure(model: BertForPreTraining, settings: Settings, probe) -> float:
    """Model FLOPs per second of forward and backward here, the better of two."""
    gpus = settings.cluster.gpus_per_worker
    device = choose_device(gpus)  # pyright: ignore[reportArgumentType]
    precision = choose_precision(settings.pretraining.precision, device).name
    objective = PretrainingObjective(settings.samples.next_sentence)
    model.to(device)
    batch = probe.to(device)
    threads = torch.get_num_threads()
    torch.set_num_threads(settings.cluster.cpus_per_worker)
    best = float("inf")
    try:
        for turn in range(3):
            begin = time.perf_counter()
            with forward_context(precision, device):
                sums = objective.sums(model, batch, DropoutKey(0, 0, 0))
            torch.stack(sums.losses).sum().backward()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            if turn:  # the first pays for what is set up once
                best = min(best, time.perf_counter() - begin)
            model.zero_grad()
    finally:
        torch.set_num_threads(threads)
    return batch_flops(model.config, probe) / best


def _gradient_buffers(num_micro_shards: int, settings: Settings) -> int:
    """Partial sums that a worker holds at once: one per level of its part of the tree, and one for
    each micro-shard that it computes."""
    cluster = settings.cluster
    own = -(-num_micro_shards // cluster.num_workers)
    threads = settings.pretraining.fitting_threads(
        num_micro_shards, cluster.num_workers, cluster.cpus_per_worker
    )
    at_once = 1 if threads == "all" else max(1, cluster.cpus_per_worker // threads)
    return own.bit_length() + min(own, at_once)


def _activation_bytes(
    config: BertConfig, num_tokens: int, mean_length: float, settings: Settings
) -> int:
    """What is kept for the backward pass, as torch keeps it in fp32.

    Per layer and token about 12 vectors of the width (inputs of projections, norms, dropout) and 3
    of the feed-forward width; attention's scores are recomputed by SDPA. With activation
    checkpointing only each layer's input, and one layer in full. The MLM head keeps its logits of
    the masked tokens twice.
    """
    layer = num_tokens * (12 * config.hidden_size + 3 * config.intermediate_size)
    if settings.pretraining.activation_checkpointing:
        layers = layer + config.num_hidden_layers * num_tokens * config.hidden_size
    else:
        layers = config.num_hidden_layers * layer
    logits = 2 * round(num_tokens * settings.samples.masking_rate) * config.vocab_size
    return _FLOAT * (layers + logits)


def print_plan(settings: Settings, samples: PretrainingSamples) -> None:
    """Prints the plan, a figure per line."""
    plan = make_plan(settings, samples)
    pretraining, workers = settings.pretraining, settings.cluster.num_workers
    manifest = samples.store.manifest
    lines = {
        "parameters": f"{plan.num_parameters:,} ({plan.num_embedding_parameters:,} in embeddings)",
        "memory": f"{_gigabytes(plan.state_bytes)} weights, gradients and optimizer, about "
        f"{_gigabytes(plan.activation_bytes)} activations per worker",
        "tokens": f"{manifest.num_tokens:,} in {manifest.num_documents:,} documents",
        "samples": f"{plan.samples_per_epoch:,} per epoch, {plan.tokens_per_sample:.0f} tokens on "
        "average",
        "steps": f"{pretraining.steps:,} of {pretraining.batch_size:,} samples in "
        f"{pretraining.num_micro_shards(settings.samples.max_length)} micro-shards; "
        f"{plan.steps_per_epoch:,.1f} per epoch, {plan.epochs:,.2f} epochs",
        "compute": f"{plan.flops_per_step:.3g} FLOPs per step, "
        f"{plan.flops_per_second:.3g} FLOPs/s measured here per worker",
        "time": f"about {duration(plan.seconds)} ({plan.seconds / 3600:.2f} hours) with {workers} "
        f"worker{'s' if workers != 1 else ''} like this machine, each undisturbed",
    }
    for name, text in lines.items():
        print(f"{name:<12}{text}")


def _gigabytes(num_bytes: int) -> str:
    return f"{num_bytes / 2**30:.2f} GiB"
