"""What both sides of the training benchmark are given: the same sequences, masks and labels."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from bert.batch import PackedBatch
from bert.config import BertConfig
from raybert.settings.optimization import MicroShardThreads

MASKING_RATE = 0.15
VOCAB_SIZE = 30_522
SEED = 0


@dataclass(frozen=True)
class Case:
    """One row of the table.

    Attributes:
        name: of the row.
        size: of the model, for `BertConfig.named`; "minilm" is 6 layers of 384.
        count, max_length: sequences of a step, and the longest they may be.
        num_groups: by length, into which the tuned side cuts a batch.
        rounds: that are timed.
    """

    name: str
    size: str
    count: int
    max_length: int
    num_groups: int
    rounds: int

    @property
    def config(self) -> BertConfig:
        if self.size == "minilm":
            return BertConfig(
                vocab_size=VOCAB_SIZE,
                hidden_size=384,
                num_hidden_layers=6,
                num_attention_heads=12,
                intermediate_size=1536,
            )
        return BertConfig.named(self.size, vocab_size=VOCAB_SIZE)


PRETRAINING = (
    Case("small, 32 pairs ≤ 128", "mini", 32, 128, 4, 7),
    Case("base, 16 pairs ≤ 128", "base", 16, 128, 2, 3),
    Case("small, 8 pairs ≤ 512", "mini", 8, 512, 4, 5),
)
FINETUNING = Case("finetuning base, single sentences", "base", 64, 128, 1, 3)
EMBEDDING = Case("bulk embedding, MiniLM-sized", "minilm", 512, 128, 1, 5)
SCALING = (
    Case("small, 32 pairs ≤ 128 per worker", "mini", 32, 128, 1, 7),
    Case("base, 16 pairs ≤ 128 per worker", "base", 16, 128, 1, 3),
    # So few pairs that giving the weights to each other takes about as long as a pass.
    Case("base, 4 pairs ≤ 128 per worker", "base", 4, 128, 1, 3),
)
# Our side with a batch cut into so many micro-shards, of so many CPU threads each; uncut is the
# most that one worker can do with a batch this small.
CUTS: dict[str, tuple[int, MicroShardThreads]] = {
    "raybert": (1, "all"),
    "raybert, 2 in turn": (2, "all"),
    "raybert, 2 side by side": (2, 1),
    "raybert, 4 in turn": (4, "all"),
    "raybert, 4 side by side": (4, 1),
}
SMOKE = Case("smoke, 4 pairs ≤ 32", "mini", 4, 32, 2, 2)
ALL = {case.name: case for case in (*PRETRAINING, FINETUNING, EMBEDDING, *SCALING, SMOKE)}


@dataclass(frozen=True)
class Example:
    """A sequence before any batch is made of it.

    Attributes:
        ids, segments: int64 (L,).
        label: next sentence, or the class of a sentence.
        masked: places of the tokens to predict, increasing.
    """

    ids: np.ndarray
    segments: np.ndarray
    label: int
    masked: np.ndarray


def pairs(case: Case, seed: int = SEED) -> list[Example]:
    """Sentence pairs, their lengths spread evenly from a quarter of the longest on."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(case.max_length // 4, case.max_length + 1, case.count)
    return [_example(rng, int(length)) for length in lengths]


def sentences(case: Case, seed: int = SEED) -> list[Example]:
    """Single sentences with the skewed lengths of prose: log-normal, a median of 24 tokens."""
    rng = np.random.default_rng(seed)
    lengths = np.clip(rng.lognormal(np.log(24), 0.6, case.count), 4, case.max_length)
    return [_example(rng, int(length)) for length in lengths]


def _example(rng: np.random.Generator, length: int) -> Example:
    half = length // 2
    masked = rng.choice(length, max(1, round(MASKING_RATE * length)), replace=False)
    return Example(
        ids=rng.integers(1000, VOCAB_SIZE, length),
        segments=np.repeat([0, 1], [half, length - half]),
        label=int(rng.integers(0, 2)),
        masked=np.sort(masked),
    )


def packed(examples: Sequence[Example], classify: bool = False) -> PackedBatch:
    """Our batch, sorted by length."""
    examples = sorted(examples, key=lambda example: len(example.ids))
    labels = [example.label for example in examples]
    batch = PackedBatch.from_sequences(
        [example.ids for example in examples],  # pyright: ignore[reportArgumentType]
        None if classify else [example.segments for example in examples],  # pyright: ignore
        None if classify else labels,
        torch.tensor(labels) if classify else None,
    )
    if classify:
        return batch
    begins = np.concatenate([[0], np.cumsum(batch.lengths)[:-1]])
    index = torch.from_numpy(
        np.concatenate([b + e.masked for b, e in zip(begins, examples, strict=True)])
    )
    masked = {"masked_index": index, "masked_labels": batch.input_ids[index]}
    return PackedBatch(**batch.__dict__ | masked)


def padded(examples: Sequence[Example], num_groups: int = 1) -> list[dict[str, Tensor]]:
    """The same as transformers wants it: one padded batch, or several of similar lengths."""
    if num_groups > 1:
        examples = sorted(examples, key=lambda example: len(example.ids))
    groups = np.array_split(np.arange(len(examples)), num_groups)
    return [_padded([examples[i] for i in group]) for group in groups]


def _padded(examples: Sequence[Example]) -> dict[str, Tensor]:
    shape = len(examples), max(len(example.ids) for example in examples)
    ids, segments, mask = (np.zeros(shape, dtype=np.int64) for _ in range(3))
    labels = np.full(shape, -100, dtype=np.int64)
    for row, example in enumerate(examples):
        length = len(example.ids)
        ids[row, :length] = example.ids
        segments[row, :length] = example.segments
        mask[row, :length] = 1
        labels[row, example.masked] = example.ids[example.masked]
    arrays = {
        "input_ids": ids,
        "token_type_ids": segments,
        "attention_mask": mask,
        "labels": labels,
        "next_sentence_label": np.array([example.label for example in examples]),
    }
    return {name: torch.from_numpy(array) for name, array in arrays.items()}
