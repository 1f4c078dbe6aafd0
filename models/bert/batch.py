"""One packed batch type for training, evaluation and prediction: sequences end to end, no padding.

Shape suffixes: T tokens of all sequences, S sequences, M masked tokens, B rows and L columns of a
padded batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from itertools import groupby
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bert.config import BertConfig

IGNORED_LABEL = -100


def send(tensor: Tensor, device: torch.device | str) -> Tensor:
    """A tensor on another device, without waiting for it.

    Only from page-locked memory can a GPU copy while the host goes on; torch's allocator doesn't
    hand that memory out again before the copy is done.
    """
    if torch.device(device).type == "cuda" and tensor.device.type == "cpu":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


@dataclass(frozen=True)
class Run:
    """Consecutive sequences of one length: what one dense attention call can take."""

    first_sequence: int
    num_sequences: int
    length: int
    first_token: int

    @property
    def tokens(self) -> slice:
        """Its rows of a packed (T, ...) tensor."""
        return slice(self.first_token, self.first_token + self.num_sequences * self.length)

    def split(self, max_sequences: int) -> Iterator[Run]:
        """The run in parts of at most so many sequences."""
        for start in range(0, self.num_sequences, max_sequences):
            yield Run(
                self.first_sequence + start,
                min(max_sequences, self.num_sequences - start),
                self.length,
                self.first_token + start * self.length,
            )


@dataclass(frozen=True)
class SequenceLayout:
    """Where sequences begin and end in a packed tensor; known on the host, so it never waits.

    Attributes:
        lengths: tokens per sequence.
        cu_seqlens: int32 (S+1,), their running sum from 0, on the device of the batch.
    """

    lengths: tuple[int, ...]
    cu_seqlens: Tensor

    @classmethod
    def of(cls, lengths: Sequence[int], device: torch.device | str = "cpu") -> SequenceLayout:
        """The layout of sequences of these lengths."""
        offsets = np.zeros(len(lengths) + 1, dtype=np.int32)
        np.cumsum(np.asarray(lengths, dtype=np.int64), out=offsets[1:])
        return cls(tuple(int(n) for n in lengths), torch.from_numpy(offsets).to(device))

    @property
    def num_sequences(self) -> int:
        return len(self.lengths)

    @cached_property
    def num_tokens(self) -> int:
        return sum(self.lengths)

    @cached_property
    def max_length(self) -> int:
        return max(self.lengths)

    @cached_property
    def runs(self) -> tuple[Run, ...]:
        """Maximal runs of neighbours of equal length. Sorting a batch by length makes them few."""
        return tuple(self._find_runs())

    def _find_runs(self) -> Iterator[Run]:
        first_sequence = first_token = 0
        for length, group in groupby(self.lengths):
            num_sequences = len(list(group))
            yield Run(first_sequence, num_sequences, length, first_token)
            first_sequence += num_sequences
            first_token += num_sequences * length

    @cached_property
    def positions(self) -> Tensor:
        """Place of each token in its sequence: int32 (T,)."""
        tokens_T = torch.arange(self.num_tokens, dtype=torch.int32, device=self.cu_seqlens.device)
        return tokens_T - self.cu_seqlens[self.sequences]

    @cached_property
    def sequences(self) -> Tensor:
        """Which sequence each token belongs to: int32 (T,)."""
        device = self.cu_seqlens.device
        return torch.repeat_interleave(
            torch.arange(self.num_sequences, dtype=torch.int32, device=device),
            self.cu_seqlens.diff(),
            output_size=self.num_tokens,
        )

    @property
    def first_tokens(self) -> Tensor:
        """Place of each sequence's first token ([CLS]): int32 (S,)."""
        return self.cu_seqlens[:-1]


@dataclass(frozen=True)
class PackedBatch:
    """Sequences laid end to end, with what is to be predicted about them.

    Built on the CPU, checked once with `validate`, moved with `to`. Building checks dtypes and
    shapes (ValueError); `validate` reads the values too.

    Sequences of equal length should be neighbours (sort by length): attention takes a run of them
    at once. The results do not depend on it.

    Attributes:
        input_ids: int64 (T,), token ids.
        position_ids: int64 (T,), place of each token in its sequence.
        token_type_ids: int64 (T,), segment of each token.
        lengths: tokens per sequence, S numbers on the host.
        cu_seqlens: int32 (S+1,), running sum of lengths from 0.
        masked_index: int64 (M,), places in 0..T of the tokens to predict, or None.
        masked_labels: int64 (M,), the ids to predict there.
        next_sentence_labels: int64 (S,), 0 = the second part follows the first, 1 = it is a random
            one, -100 = not counted; or None.
        labels: what finetuning predicts: (S,) or (T,) int64, or (S,) / (S, C) float32; or None.
    """

    input_ids: Tensor
    position_ids: Tensor
    token_type_ids: Tensor
    lengths: tuple[int, ...]
    cu_seqlens: Tensor
    masked_index: Tensor | None = None
    masked_labels: Tensor | None = None
    next_sentence_labels: Tensor | None = None
    labels: Tensor | None = None

    def __post_init__(self) -> None:
        num_tokens, num_sequences = self.input_ids.shape[0], len(self.lengths)
        if num_sequences == 0:
            raise ValueError("a batch needs at least one sequence")
        for name in ("input_ids", "position_ids", "token_type_ids"):
            _require(name, getattr(self, name), torch.int64, (num_tokens,))
        _require("cu_seqlens", self.cu_seqlens, torch.int32, (num_sequences + 1,))
        if (self.masked_index is None) != (self.masked_labels is None):
            raise ValueError("masked_index and masked_labels are given together or not at all")
        if self.masked_index is not None:
            num_masked = self.masked_index.shape[0]
            _require("masked_index", self.masked_index, torch.int64, (num_masked,))
            _require("masked_labels", self.masked_labels, torch.int64, (num_masked,))
        if self.next_sentence_labels is not None:
            _require(
                "next_sentence_labels", self.next_sentence_labels, torch.int64, (num_sequences,)
            )
        if self.labels is not None and self.labels.shape[0] not in (num_sequences, num_tokens):
            raise ValueError(
                f"labels has {self.labels.shape[0]} rows; a batch of {num_sequences} sequences "
                f"and {num_tokens} tokens needs one per sequence or one per token"
            )

    @property
    def num_tokens(self) -> int:
        """T."""
        return self.input_ids.shape[0]

    @property
    def num_sequences(self) -> int:
        """S."""
        return len(self.lengths)

    @property
    def num_masked(self) -> int:
        """M."""
        return 0 if self.masked_index is None else self.masked_index.shape[0]

    @cached_property
    def num_pairs(self) -> int:
        """How many of next_sentence_labels count. `to` carries it along, so a GPU is not asked."""
        if self.next_sentence_labels is None:
            return 0
        return int((self.next_sentence_labels != IGNORED_LABEL).sum())

    @cached_property
    def layout(self) -> SequenceLayout:
        """Where the sequences begin and end."""
        return SequenceLayout(self.lengths, self.cu_seqlens)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> PackedBatch:
        """The batch on another device; with non_blocking the host doesn't wait (`send`)."""
        if non_blocking:
            return self._map(lambda tensor: send(tensor, device))
        return self._map(lambda tensor: tensor.to(device))

    def _map(self, function: Any) -> PackedBatch:
        tensors = {
            f.name: function(value)
            for f in fields(self)
            if isinstance(value := getattr(self, f.name), Tensor)
        }
        mapped = replace(self, **tensors)
        mapped.__dict__["num_pairs"] = self.num_pairs
        return mapped

    def validate(self, config: BertConfig) -> PackedBatch:
        """Check every value against a model's configuration; on a GPU this waits for the device.

        Returns:
            The batch itself.

        Raises:
            ValueError: naming the field, what was found and what is allowed.
        """
        offsets = self.cu_seqlens.tolist()
        if min(self.lengths) < 1:
            raise ValueError(f"sequence {self.lengths.index(min(self.lengths))} is empty")
        if offsets != [0, *np.cumsum(self.lengths).tolist()]:
            raise ValueError("cu_seqlens must be the running sum of lengths, from 0")
        if offsets[-1] != self.num_tokens:
            raise ValueError(
                f"lengths add up to {offsets[-1]}, but there are {self.num_tokens} tokens"
            )
        longest = max(self.lengths)
        if longest > config.max_position_embeddings:
            raise ValueError(
                f"sequence {self.lengths.index(longest)} has {longest} tokens; the model has "
                f"{config.max_position_embeddings} positions"
            )
        _require_range("input_ids", self.input_ids, config.vocab_size)
        _require_range("position_ids", self.position_ids, config.max_position_embeddings)
        _require_range("token_type_ids", self.token_type_ids, config.type_vocab_size)
        if self.masked_index is not None and self.masked_labels is not None:
            _require_range("masked_index", self.masked_index, self.num_tokens)
            _require_range("masked_labels", self.masked_labels, config.vocab_size)
            if self.masked_index.unique().numel() != self.num_masked:
                raise ValueError("masked_index names a token twice")
        if self.next_sentence_labels is not None:
            counted = self.next_sentence_labels[self.next_sentence_labels != IGNORED_LABEL]
            _require_range("next_sentence_labels", counted, 2)
        if self.labels is not None and self.labels.dtype == torch.int64:
            _require_range("labels", self.labels[self.labels != IGNORED_LABEL], config.num_labels)
        return self

    @classmethod
    def from_sequences(
        cls,
        input_ids: Sequence[Sequence[int]],
        token_type_ids: Sequence[Sequence[int]] | None = None,
        next_sentence_labels: Sequence[int] | None = None,
        labels: Tensor | None = None,
    ) -> PackedBatch:
        """Pack lists of ids, one per sequence; segments are 0 unless given."""
        lengths = tuple(len(ids) for ids in input_ids)
        if not lengths:
            raise ValueError("a batch needs at least one sequence")
        if token_type_ids is None:
            types = np.zeros(sum(lengths), dtype=np.int64)
        elif tuple(len(types) for types in token_type_ids) != lengths:
            raise ValueError("token_type_ids needs as many ids per sequence as input_ids")
        else:
            types = _flat(token_type_ids)
        return cls(
            input_ids=torch.from_numpy(_flat(input_ids)),
            position_ids=torch.from_numpy(np.concatenate([np.arange(n) for n in lengths])),
            token_type_ids=torch.from_numpy(types),
            lengths=lengths,
            cu_seqlens=SequenceLayout.of(lengths).cu_seqlens,
            next_sentence_labels=None
            if next_sentence_labels is None
            else torch.as_tensor(next_sentence_labels, dtype=torch.int64),
            labels=labels,
        )

    @classmethod
    def from_padded(
        cls,
        input_ids_BL: Tensor,
        attention_mask_BL: Tensor | None = None,
        token_type_ids_BL: Tensor | None = None,
        masked_labels_BL: Tensor | None = None,
        next_sentence_labels: Tensor | None = None,
        labels: Tensor | None = None,
    ) -> PackedBatch:
        """Pack a padded batch as Hugging Face's models take it.

        Tokens whose mask is 0 are left out; the others keep their column as position, wherever the
        padding is. masked_labels_BL holds -100 where nothing is to be predicted.
        """
        if input_ids_BL.ndim != 2:
            raise ValueError(f"input_ids must be (B, L), not {tuple(input_ids_BL.shape)}")
        for name, tensor in (
            ("attention_mask", attention_mask_BL),
            ("token_type_ids", token_type_ids_BL),
            ("masked_labels", masked_labels_BL),
        ):
            if tensor is not None and tensor.shape != input_ids_BL.shape:
                raise ValueError(
                    f"{name} has shape {tuple(tensor.shape)}, input_ids {tuple(input_ids_BL.shape)}"
                )
        kept_BL = (
            torch.ones_like(input_ids_BL, dtype=torch.bool)
            if attention_mask_BL is None
            else attention_mask_BL != 0
        )
        if token_type_ids_BL is None:
            token_type_ids_BL = torch.zeros_like(input_ids_BL)
        columns_BL = torch.arange(input_ids_BL.shape[1], device=input_ids_BL.device)
        lengths = tuple(kept_BL.sum(dim=1).tolist())
        masked: dict[str, Tensor] = {}
        if masked_labels_BL is not None:
            labels_T = masked_labels_BL[kept_BL]
            masked["masked_index"] = (labels_T != IGNORED_LABEL).nonzero().squeeze(1)
            masked["masked_labels"] = labels_T[masked["masked_index"]]
        return cls(
            input_ids=input_ids_BL[kept_BL],
            position_ids=columns_BL.expand_as(input_ids_BL)[kept_BL],
            token_type_ids=token_type_ids_BL[kept_BL],
            lengths=lengths,
            cu_seqlens=SequenceLayout.of(lengths, input_ids_BL.device).cu_seqlens,
            next_sentence_labels=next_sentence_labels,
            labels=labels,
            **masked,
        )


def unpack(values_T: Tensor, attention_mask_BL: Tensor) -> Tensor:
    """Spread packed rows (T, ...) over a padded batch (B, L, ...), zeros where the mask is 0."""
    kept_BL = attention_mask_BL != 0
    padded = values_T.new_zeros(*kept_BL.shape, *values_T.shape[1:])
    return padded.masked_scatter(
        kept_BL.view(*kept_BL.shape, *[1] * (values_T.ndim - 1)).expand_as(padded), values_T
    )


def _flat(sequences: Sequence[Sequence[int]]) -> np.ndarray:
    return np.concatenate([np.asarray(ids, dtype=np.int64) for ids in sequences])


def _require(name: str, tensor: Any, dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    if tensor.dtype != dtype or tensor.shape != shape:
        raise ValueError(
            f"{name} must be {str(dtype).removeprefix('torch.')} of shape {shape}, "
            f"not {str(tensor.dtype).removeprefix('torch.')} of shape {tuple(tensor.shape)}"
        )


def _require_range(name: str, ids: Tensor, limit: int) -> None:
    if ids.numel() == 0:
        return
    lowest, highest = (int(value) for value in ids.aminmax())
    if lowest < 0 or highest >= limit:
        found = lowest if lowest < 0 else highest
        raise ValueError(f"{name} holds {found}; allowed is 0 to {limit - 1}")
