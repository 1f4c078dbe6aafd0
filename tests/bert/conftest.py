"""Shared by the tests of bert: one thread, Triton's interpreter, and seeded padded batches."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from bert.batch import IGNORED_LABEL, PackedBatch
from bert.config import BertConfig

# Triton reads it when a kernel is defined, its own ones when it is imported.
os.environ.setdefault("TRITON_INTERPRET", "1")


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@dataclass(frozen=True)
class PaddedBatch:
    """A batch as Hugging Face's models take it."""

    input_ids: Tensor
    attention_mask: Tensor
    token_type_ids: Tensor
    labels: Tensor
    next_sentence_label: Tensor

    def packed(self) -> PackedBatch:
        return PackedBatch.from_padded(
            self.input_ids,
            self.attention_mask,
            self.token_type_ids,
            self.labels,
            self.next_sentence_label,
        )

    @property
    def inputs(self) -> dict[str, Tensor]:
        return {
            "input_ids": self.input_ids,
            "attention_mask": self.attention_mask,
            "token_type_ids": self.token_type_ids,
        }


@pytest.fixture
def small_config() -> BertConfig:
    return BertConfig(
        vocab_size=211,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=40,
    )


@pytest.fixture
def make_padded() -> Callable[..., PaddedBatch]:
    def make(config: BertConfig, lengths: list[int], seed: int = 0) -> PaddedBatch:
        generator = torch.Generator().manual_seed(seed)
        shape = (len(lengths), max(lengths))

        def ids(low: int, high: int) -> Tensor:
            return torch.randint(low, high, shape, generator=generator)

        mask = torch.arange(shape[1]) < torch.tensor(lengths)[:, None]
        input_ids = torch.where(mask, ids(5, config.vocab_size), 0)
        chosen = (torch.rand(shape, generator=generator) < 0.15) & mask
        chosen[0, 0] = True
        return PaddedBatch(
            input_ids,
            mask.long(),
            torch.where(mask, ids(0, 2), 0),
            torch.where(chosen, ids(5, config.vocab_size), IGNORED_LABEL),
            torch.randint(0, 2, (len(lengths),), generator=generator),
        )

    return make
