"""Pretraining samples: pairs, masks and packed batches as a pure function of the position."""

from raybert.samples.chunks import ChunkRule
from raybert.samples.loader import BatchLoader
from raybert.samples.pretraining import PretrainingSamples
from raybert.samples.special_tokens import SpecialTokens
from raybert.samples.statistics import SampleStatistics

__all__ = [
    "BatchLoader",
    "ChunkRule",
    "PretrainingSamples",
    "SampleStatistics",
    "SpecialTokens",
]
