"""The sides of the training benchmark: what one step is for us and for `transformers`.

A side is built once and stepped again and again. Both begin a step with the same examples in host
memory, so that making a batch of them is counted on both sides.
"""

import itertools
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import transformers
from torch import Tensor, nn
from torch.nn import functional as F
from training_cases import CUTS, Case, Example, packed, padded, pairs, sentences

from bert.batch import send
from bert.bert import BertBackbone, BertForPreTraining, BertForSequenceClassification
from bert.dropout import DropoutKey
from bert.hf import to_hf_tensors
from bert.loss import cross_entropy_sum, pretraining_sums
from bert.prepacked import prepack
from raybert.samples.packing import deal
from raybert.settings import PretrainingSettings
from raybert.training.engine import Engine
from raybert.training.objectives import PretrainingObjective, Sums
from raybert.training.precision import PrecisionName, dtype_of, forward_context

CPU = torch.device("cpu")
BATCH = 16  # of finetuning
EMBEDDING_BATCH = 64


@dataclass(frozen=True)
class Side:
    """Something to time.

    Attributes:
        step: the work.
        probe: a loss and gradients under Hugging Face's names, without dropout, in float32;
            or results to compare, under any name.
    """

    step: Callable[[], object]
    probe: Callable[[], dict[str, Tensor]]


def our_engine(
    model: nn.Module, objective, batch_size: int, precision: PrecisionName, **arguments
) -> Engine:
    settings = PretrainingSettings(batch_size=batch_size, learning_rate=1e-4)
    reduction = arguments.pop("reduction", settings.reduction)
    settings = settings.model_copy(update={"reduction": reduction})
    arguments.setdefault("num_micro_shards", 1)
    return Engine(model, objective, settings, precision=precision, **arguments)


def our_pretraining(
    case: Case, precision: PrecisionName, device: torch.device = CPU, **arguments: Any
) -> Side:
    """`arguments` are the engine's, or its setting `reduction`."""
    examples = pairs(case)
    shards = _dealt(examples, arguments.get("num_micro_shards", 1))
    engine = our_engine(
        BertForPreTraining(case.config).to(device),
        PretrainingObjective(),
        case.count,
        precision,
        **arguments,
    )
    steps = itertools.count()

    def probe() -> dict[str, Tensor]:
        model = BertForPreTraining(case.config).to(device)
        loss = pretraining_sums(model, packed(examples).to(device)).mean()
        loss.backward()
        for parameter in model.parameters():
            assert parameter.grad is not None
            parameter.data = parameter.grad
        return {"loss": loss.detach(), **to_hf_tensors(model)}

    return Side(lambda: engine.step(next(steps), [packed(shard) for shard in shards]), probe)


def _dealt(examples: list[Example], num_shards: int) -> list[list[Example]]:
    """As a run deals them."""
    dealt = deal(np.array([len(example.ids) for example in examples]), num_shards)
    return [[examples[i] for i in places] for places in dealt]


def their_model(case: Case) -> nn.Module:
    theirs = transformers.BertForPreTraining(
        transformers.BertConfig(**case.config.to_hf_dict(), attn_implementation="sdpa")
    )
    ours = to_hf_tensors(BertForPreTraining(case.config))
    missing, unexpected = theirs.load_state_dict(ours, strict=False)
    unexplained = [name for name in missing if "decoder" not in name and "position_ids" not in name]
    if unexplained or unexpected:
        raise SystemExit(f"weights don't fit: {unexplained} {unexpected}")
    return theirs


def their_loss(
    model: nn.Module,
    groups: list[dict[str, Tensor]],
    context: Callable[[], AbstractContextManager[object]],
    backward: bool,
) -> Tensor:
    """transformers gives means per call; sums over the counts make them the batch's loss."""
    device = next(model.parameters()).device
    num_masked = sum(int((fields["labels"] != -100).sum()) for fields in groups)
    num_pairs = sum(len(fields["labels"]) for fields in groups)
    total = torch.zeros((), device=device)
    for in_host_memory in groups:
        fields = {name: send(tensor, device) for name, tensor in in_host_memory.items()}
        inputs = {k: fields[k] for k in ("input_ids", "token_type_ids", "attention_mask")}
        with context():
            out = model(**inputs)
            logits = out.prediction_logits.flatten(0, 1).float()
            mlm = F.cross_entropy(logits, fields["labels"].flatten(), reduction="sum")
            nsp_logits = out.seq_relationship_logits.float()
            nsp = F.cross_entropy(nsp_logits, fields["next_sentence_label"], reduction="sum")
        loss = mlm / num_masked + nsp / num_pairs
        if backward:
            loss.backward()
        total += loss.detach()
    return total


def their_pretraining(
    case: Case, precision: PrecisionName, num_groups: int, device: torch.device = CPU
) -> Side:
    examples = pairs(case)
    model = their_model(case).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)

    def step() -> None:
        optimizer.zero_grad()
        groups = padded(examples, num_groups)
        their_loss(model, groups, lambda: forward_context(precision, device), backward=True)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    def probe() -> dict[str, Tensor]:
        exact = their_model(case).to(device).eval()
        loss = their_loss(exact, padded(examples), lambda: forward_context("fp32", device), True)
        grads = {name: p.grad for name, p in exact.named_parameters() if p.grad is not None}
        return {"loss": loss, **grads}

    model.train()
    return Side(step, probe)


@dataclass(frozen=True)
class _Classification:
    """Classes of sentences."""

    names: tuple[str, ...] = ("class",)

    def counts(self, batch) -> tuple[int, ...]:
        return (batch.num_sequences,)

    def sums(self, model, batch, dropout: DropoutKey | None) -> Sums:
        loss, correct = cross_entropy_sum(model(batch, dropout), batch.labels)
        return Sums((loss,), (correct,))


def our_finetuning(case: Case, precision: PrecisionName) -> Side:
    """An epoch over the sentences, in batches of near lengths."""
    examples = sorted(sentences(case), key=lambda example: len(example.ids))
    parts = [examples[i : i + BATCH] for i in range(0, len(examples), BATCH)]
    model = BertForSequenceClassification(case.config)
    engine = our_engine(model, _Classification(), BATCH, precision)
    steps = itertools.count()

    def epoch() -> None:
        for part in parts:
            engine.step(next(steps), [packed(part, classify=True)])

    def probe() -> dict[str, Tensor]:
        fresh = BertForSequenceClassification(case.config)
        with torch.no_grad():
            return {"logits": fresh(packed(parts[0], classify=True))}

    return Side(epoch, probe)


def their_finetuning(case: Case, precision: PrecisionName) -> Side:
    """The same with transformers' Trainer: dynamic padding, lengths grouped."""
    examples = sorted(sentences(case), key=lambda example: len(example.ids))
    rows = [{"input_ids": e.ids, "label": e.label, "length": len(e.ids)} for e in examples]
    config = transformers.BertConfig(**case.config.to_hf_dict(), attn_implementation="sdpa")
    model = transformers.BertForSequenceClassification(config)
    ours = BertForSequenceClassification(case.config)
    model.load_state_dict(to_hf_tensors(ours), strict=False)

    def collate(part: list[dict]) -> dict[str, Tensor]:
        longest = max(row["length"] for row in part)
        ids = torch.zeros(len(part), longest, dtype=torch.int64)
        mask = torch.zeros_like(ids)
        for i, row in enumerate(part):
            ids[i, : row["length"]] = torch.from_numpy(row["input_ids"])
            mask[i, : row["length"]] = 1
        labels = torch.tensor([row["label"] for row in part])
        return {"input_ids": ids, "attention_mask": mask, "labels": labels}

    folder = tempfile.mkdtemp()
    arguments = transformers.TrainingArguments(
        output_dir=folder,
        use_cpu=True,
        bf16=precision == "bf16",
        per_device_train_batch_size=BATCH,
        train_sampling_strategy="group_by_length",
        num_train_epochs=1,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        logging_strategy="no",
        remove_unused_columns=False,
        optim="adamw_torch_fused",
    )
    trainer = transformers.Trainer(
        model=model, args=arguments, train_dataset=rows, data_collator=collate
    )

    def probe() -> dict[str, Tensor]:
        fields = collate(rows[:BATCH])
        fields.pop("labels")
        model.eval()
        with torch.no_grad():
            return {"logits": model(**fields).logits}

    return Side(trainer.train, probe)


def our_embedding(case: Case, precision: PrecisionName) -> Side:
    """Means of the last hidden state of all sentences."""
    examples = sorted(sentences(case), key=lambda example: len(example.ids))
    parts = [examples[i : i + EMBEDDING_BATCH] for i in range(0, len(examples), EMBEDDING_BATCH)]
    models = {
        format: BertBackbone(case.config, with_pooler=False) for format in ("fp32", precision)
    }
    with torch.inference_mode():
        for format, model in models.items():
            prepack(model.eval(), dtype_of(format))

    def embed(format: PrecisionName = precision) -> Tensor:
        model = models[format]
        means = []
        with torch.inference_mode(), forward_context(format, CPU):
            for part in parts:
                batch = packed(part, classify=True)
                hidden_TD = model(batch).hidden_TD.float()
                sums_SD = torch.segment_reduce(
                    hidden_TD, "mean", lengths=torch.tensor(batch.lengths)
                )
                means.append(sums_SD)
        return torch.cat(means)

    return Side(embed, lambda: {"embeddings": embed("fp32")})


def their_embedding(case: Case, precision: PrecisionName) -> Side:
    """The best loop by hand: sorted by length, padded, bf16 where it is fast."""
    examples = sorted(sentences(case), key=lambda example: len(example.ids))
    parts = [examples[i : i + EMBEDDING_BATCH] for i in range(0, len(examples), EMBEDDING_BATCH)]
    config = transformers.BertConfig(**case.config.to_hf_dict(), attn_implementation="sdpa")
    model = transformers.BertModel(config, add_pooling_layer=False)
    model.load_state_dict(to_hf_tensors(BertBackbone(case.config, with_pooler=False)), strict=False)
    model.eval()

    def embed(format: PrecisionName = precision) -> Tensor:
        means = []
        with torch.inference_mode(), forward_context(format, CPU):
            for part in parts:
                (fields,) = padded(part)
                mask = fields["attention_mask"]
                out = model(fields["input_ids"], attention_mask=mask).last_hidden_state.float()
                weights = mask.unsqueeze(-1).float()
                means.append((out * weights).sum(1) / weights.sum(1))
        return torch.cat(means)

    return Side(embed, lambda: {"embeddings": embed("fp32")})


def build(name: str, case: Case, precision: PrecisionName) -> Side:
    """A side by its name."""
    if name in CUTS:
        num_micro_shards, threads = CUTS[name]
        return our_pretraining(
            case, precision, num_micro_shards=num_micro_shards, micro_shard_threads=threads
        )
    if name == "as documented":
        return their_pretraining(case, "fp32", 1)
    if name == "tuned":
        return their_pretraining(case, precision, case.num_groups)
    makers = {
        "raybert finetuning": our_finetuning,
        "Trainer": their_finetuning,
        "raybert embedding": our_embedding,
        "padded loop": their_embedding,
    }
    return makers[name](case, precision)
