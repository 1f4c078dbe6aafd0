"""One pretraining step against `transformers`' BertForPreTraining on the same sequences.

Data on the device, forward, loss, backward, clipping and optimizer step are counted on both sides.
Two peers: as documented (padded, fp32, torch's fused AdamW, SDPA) and the same with sequences
grouped by length. Before timing, loss and gradients of both are compared on the same batch.

python tests/benchmarks/bench_training_step.py [SIZE] [SEQUENCES] [MAX_LENGTH]
"""

import itertools
import sys
from collections.abc import Callable

import numpy as np
import torch
import transformers
from harness import interleave, print_table

from bert.batch import PackedBatch
from bert.bert import BertForPreTraining
from bert.config import BertConfig
from bert.hf import to_hf_tensors
from bert.loss import pretraining_sums
from raybert.settings import PretrainingSettings
from raybert.training.engine import Engine
from raybert.training.objectives import PretrainingObjective

ROUNDS = 7
MASKING_RATE = 0.15
VOCAB_SIZE = 30_522
NUM_GROUPS = 4


def sequences(count: int, max_length: int) -> tuple[list[list[int]], list[list[int]], list[int]]:
    """Ids, segments and next-sentence labels with the lengths of sentence pairs."""
    rng = np.random.default_rng(0)
    lengths = np.clip(rng.integers(max_length // 4, max_length + 1, count), 8, max_length)
    ids = [rng.integers(1000, VOCAB_SIZE, n).tolist() for n in lengths]
    segments = [[0] * (n // 2) + [1] * (n - n // 2) for n in lengths]
    return ids, segments, rng.integers(0, 2, count).tolist()


def packed_batch(ids, segments, labels) -> PackedBatch:
    order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
    batch = PackedBatch.from_sequences(
        [ids[i] for i in order], [segments[i] for i in order], [labels[i] for i in order]
    )
    rng = np.random.default_rng(1)
    num_masked = round(MASKING_RATE * batch.num_tokens)
    index = np.sort(rng.choice(batch.num_tokens, num_masked, replace=False))
    masked_index = torch.from_numpy(index)
    return PackedBatch(
        **{**batch.__dict__, "masked_index": masked_index}
        | {"masked_labels": batch.input_ids[masked_index]}
    )


def padded_batches(batch: PackedBatch, num_groups: int) -> list[dict[str, torch.Tensor]]:
    """The same sequences, masks and labels as transformers wants them, in groups by length."""
    labels_T = torch.full_like(batch.input_ids, -100)
    labels_T[batch.masked_index] = batch.masked_labels
    groups = np.array_split(np.arange(batch.num_sequences), num_groups)
    return [_padded(batch, labels_T, group.tolist()) for group in groups]


def _padded(batch: PackedBatch, labels_T: torch.Tensor, rows: list[int]) -> dict[str, torch.Tensor]:
    begins = batch.cu_seqlens.tolist()
    length = max(batch.lengths[row] for row in rows)
    fields = {
        name: torch.full((len(rows), length), fill)
        for name, fill in (
            ("input_ids", 0),
            ("token_type_ids", 0),
            ("attention_mask", 0),
            ("labels", -100),
        )
    }
    for i, row in enumerate(rows):
        span, width = slice(begins[row], begins[row + 1]), batch.lengths[row]
        fields["input_ids"][i, :width] = batch.input_ids[span]
        fields["token_type_ids"][i, :width] = batch.token_type_ids[span]
        fields["attention_mask"][i, :width] = 1
        fields["labels"][i, :width] = labels_T[span]
    return {**fields, "next_sentence_label": batch.next_sentence_labels[rows]}


def their_model(config: BertConfig, ours: BertForPreTraining) -> torch.nn.Module:
    theirs = transformers.BertForPreTraining(
        transformers.BertConfig(**config.to_hf_dict(), attn_implementation="sdpa")
    )
    missing, unexpected = theirs.load_state_dict(to_hf_tensors(ours), strict=False)
    unexplained = [name for name in missing if "decoder" not in name and "position_ids" not in name]
    if unexplained or unexpected:
        raise SystemExit(f"weights don't fit: {unexplained} {unexpected}")
    return theirs


def theirs_loss(model, batch: PackedBatch, groups) -> torch.Tensor:
    """transformers gives means per call; weighting them by counts makes the batch's loss."""
    losses = []
    for fields in groups:
        out = model(**{k: v for k, v in fields.items() if not k.endswith(("labels", "label"))})
        labels = fields["labels"].view(-1)
        mlm = torch.nn.functional.cross_entropy(
            out.prediction_logits.view(labels.numel(), -1), labels, reduction="sum"
        )
        nsp = torch.nn.functional.cross_entropy(
            out.seq_relationship_logits, fields["next_sentence_label"], reduction="sum"
        )
        losses.append(mlm / batch.num_masked + nsp / batch.num_pairs)
    return torch.stack(losses).sum()


def require_agreement(ours, theirs, batch: PackedBatch, groups) -> None:
    ours.eval(), theirs.eval()
    mine = pretraining_sums(ours, batch).mean()
    other = theirs_loss(theirs, batch, groups)
    mine.backward(), other.backward()
    mine_grad = ours.backbone.embeddings.word.weight.grad
    other_grad = theirs.bert.embeddings.word_embeddings.weight.grad
    torch.testing.assert_close(mine, other, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(mine_grad, other_grad, rtol=1e-3, atol=1e-6)
    ours.zero_grad(), theirs.zero_grad()
    print("loss and gradients agree on the same batch")


def their_step(model, batch: PackedBatch, groups) -> Callable[[], None]:
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    model.train()

    def step() -> None:
        optimizer.zero_grad()
        theirs_loss(model, batch, groups).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    return step


def main() -> None:
    size = sys.argv[1] if len(sys.argv) > 1 else "mini"
    count = int(sys.argv[2]) if len(sys.argv) > 2 else 32
    max_length = int(sys.argv[3]) if len(sys.argv) > 3 else 128
    config = BertConfig.named(size, vocab_size=VOCAB_SIZE)
    batch = packed_batch(*sequences(count, max_length))
    print(
        f"{size}: {count} sequences of at most {max_length} tokens, {batch.num_tokens} tokens, "
        f"fp32, {torch.get_num_threads()} threads"
    )
    model = BertForPreTraining(config)
    theirs, grouped = their_model(config, model), their_model(config, model)
    one, four = padded_batches(batch, 1), padded_batches(batch, NUM_GROUPS)
    require_agreement(model, theirs, batch, one)
    sides = {
        "raybert": our_step(model, batch),
        "transformers, as documented": their_step(theirs, batch, one),
        "transformers, grouped by length": their_step(grouped, batch, four),
    }
    timings = interleave(sides, rounds=ROUNDS)
    print_table(
        f"pretraining step, {size}", timings, ours="raybert", amount=batch.num_tokens, unit="tok/s"
    )


def our_step(model: BertForPreTraining, batch: PackedBatch) -> Callable[[], None]:
    settings = PretrainingSettings(batch_size=batch.num_sequences, learning_rate=1e-4)
    engine = Engine(model, PretrainingObjective(), settings, num_micro_shards=1)
    steps = itertools.count()
    return lambda: engine.step(next(steps), [batch])


if __name__ == "__main__":
    main()
