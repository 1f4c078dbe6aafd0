"""The whole tree. One object says what a job does; nothing else configures raybert."""

from pydantic import Field, model_validator

from raybert.settings.cluster import ClusterSettings
from raybert.settings.corpus import CorpusSettings
from raybert.settings.marks import Section, operational
from raybert.settings.model import ModelSettings
from raybert.settings.pretraining import PretrainingSettings
from raybert.settings.samples import SampleSettings
from raybert.settings.tokenizer import TokenizerSettings


class Settings(Section):
    """Folders and sections; a job shows and accepts those it uses."""

    tokens: str | None = operational(None, "folder of token shards")
    run: str | None = operational(None, "folder of the run: checkpoints, logs, export")
    output: str | None = operational(None, "folder to write to")
    plan: bool = operational(False, "print what the job would do and cost, and do nothing")
    corpus: CorpusSettings = Field(default_factory=CorpusSettings)
    tokenizer: TokenizerSettings = Field(default_factory=TokenizerSettings)
    model: ModelSettings = Field(default_factory=ModelSettings)
    samples: SampleSettings = Field(default_factory=SampleSettings)
    pretraining: PretrainingSettings = Field(default_factory=PretrainingSettings)
    cluster: ClusterSettings = Field(default_factory=ClusterSettings)

    @model_validator(mode="after")
    def _sections_agree(self) -> "Settings":
        length, positions = self.samples.max_length, self.model.max_position_embeddings
        if length > positions:
            raise ValueError(
                f"samples.max_length {length} is more than "
                f"model.max_position_embeddings {positions}"
            )
        shards = self.pretraining.num_micro_shards(length)
        if self.cluster.num_workers > shards:
            raise ValueError(
                f"cluster.num_workers {self.cluster.num_workers} is more than the {shards} "
                "micro-shards of a step: raise pretraining.micro_shards or take fewer workers"
            )
        return self
