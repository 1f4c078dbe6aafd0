"""One frozen settings tree from YAML, environment and command line, without torch and Ray."""

from raybert.settings.cluster import ClusterSettings
from raybert.settings.corpus import CorpusSettings
from raybert.settings.model import ModelSettings
from raybert.settings.pretraining import PretrainingSettings
from raybert.settings.samples import SampleSettings
from raybert.settings.tokenizer import TokenizerSettings
from raybert.settings.tree import Settings

__all__ = [
    "ClusterSettings",
    "CorpusSettings",
    "ModelSettings",
    "PretrainingSettings",
    "SampleSettings",
    "Settings",
    "TokenizerSettings",
]
