"""What samples are made of, counted."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from raybert.samples.packing import sample_lengths
from raybert.samples.window import NEXT, NOT_NEXT, SampleRows


@dataclass(frozen=True)
class SampleStatistics:
    """Counts over samples.

    Attributes:
        samples: all of them, the sum of the next four.
        next_pairs: chunks with their true second half.
        exchanged_pairs: chunks with another document's second half.
        borrowing_pairs: chunks of one sentence with another document's, not exchanged.
        unpaired: chunks of one segment: no next-sentence loss, or no other document near.
        left_over: among next_pairs, those that were to exchange but had nobody to do it with.
        tokens: with special tokens.
        borrowed_tokens: second halves of borrowing_pairs; some other sample has them as its own.
        truncated_tokens: what no sample of the epoch shows.
    """

    samples: int = 0
    next_pairs: int = 0
    exchanged_pairs: int = 0
    borrowing_pairs: int = 0
    unpaired: int = 0
    left_over: int = 0
    tokens: int = 0
    borrowed_tokens: int = 0
    truncated_tokens: int = 0

    @classmethod
    def of(cls, rows: SampleRows, num_left_over: int) -> SampleStatistics:
        """Count rows."""
        has_second = rows.second_length_B > 0
        borrowing = rows.single_B & (rows.label_B == NOT_NEXT)
        return cls(
            samples=len(rows),
            next_pairs=int(np.sum(has_second & (rows.label_B == NEXT))),
            exchanged_pairs=int(np.sum(~rows.single_B & (rows.label_B == NOT_NEXT))),
            borrowing_pairs=int(np.sum(borrowing)),
            unpaired=int(np.sum(~has_second)),
            left_over=num_left_over,
            tokens=int(sample_lengths(rows).sum()),
            borrowed_tokens=int(rows.second_length_B[borrowing].sum()),
            truncated_tokens=int(rows.truncated_B.sum()),
        )

    def __add__(self, other: SampleStatistics) -> SampleStatistics:
        return SampleStatistics(
            **{
                f.name: getattr(self, f.name) + getattr(other, f.name)
                for f in dataclasses.fields(self)
            }
        )
