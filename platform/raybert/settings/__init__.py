"""One frozen settings tree from YAML, environment and command line, without torch and Ray.

A new section is a file with a `Section` of `identity` and `operational` fields and a line in
tree.py; loading, `--help`, messages, paths and identity follow from the fields. What has to agree
with other sections stands in agreement.py.
"""

from raybert.settings.cluster import ClusterSettings
from raybert.settings.corpus import CorpusSettings
from raybert.settings.data import DataSettings
from raybert.settings.finetuning import FinetuningSettings
from raybert.settings.model import ModelSettings
from raybert.settings.prediction import InputSettings, PredictionSettings
from raybert.settings.pretraining import PretrainingSettings
from raybert.settings.samples import SampleSettings
from raybert.settings.tokenizer import TokenizerSettings
from raybert.settings.tree import Settings
from raybert.settings.tuning import TuningSettings

__all__ = [
    "ClusterSettings",
    "CorpusSettings",
    "DataSettings",
    "FinetuningSettings",
    "InputSettings",
    "ModelSettings",
    "PredictionSettings",
    "PretrainingSettings",
    "SampleSettings",
    "Settings",
    "TokenizerSettings",
    "TuningSettings",
]
