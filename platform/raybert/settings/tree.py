"""The whole tree. One object says what a job does; nothing else configures raybert."""

from pydantic import Field

from raybert.settings.cluster import ClusterSettings
from raybert.settings.corpus import CorpusSettings
from raybert.settings.data import DataSettings
from raybert.settings.finetuning import FinetuningSettings
from raybert.settings.marks import Section, operational
from raybert.settings.model import ModelSettings
from raybert.settings.prediction import InputSettings, PredictionSettings
from raybert.settings.pretraining import PretrainingSettings
from raybert.settings.samples import SampleSettings
from raybert.settings.tokenizer import TokenizerSettings
from raybert.settings.tuning import TuningSettings


class Settings(Section):
    """Folders and sections; a job shows and accepts those it uses."""

    tokens: str | None = operational(None, "folder of token shards", path=True)
    run: str | None = operational(None, "folder of the run: checkpoints, logs, export", path=True)
    output: str | None = operational(None, "folder to write to", path=True)
    plan: bool = operational(False, "print what the job would do and cost, and do nothing")
    corpus: CorpusSettings = Field(default_factory=CorpusSettings)
    tokenizer: TokenizerSettings = Field(default_factory=TokenizerSettings)
    model: ModelSettings = Field(default_factory=ModelSettings)
    samples: SampleSettings = Field(default_factory=SampleSettings)
    pretraining: PretrainingSettings = Field(default_factory=PretrainingSettings)
    data: DataSettings = Field(default_factory=DataSettings)
    finetuning: FinetuningSettings = Field(default_factory=FinetuningSettings)
    tuning: TuningSettings = Field(default_factory=TuningSettings)
    input: InputSettings = Field(default_factory=InputSettings)
    prediction: PredictionSettings = Field(default_factory=PredictionSettings)
    cluster: ClusterSettings = Field(default_factory=ClusterSettings)
