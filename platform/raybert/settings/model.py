"""The shape of the model and where its first weights come from."""

from typing import Literal

from pydantic import model_validator

from bert.config import BertConfig
from raybert.settings.marks import Section, identity, operational

ModelSize = Literal["tiny", "mini", "small", "medium", "base", "large"]


class ModelSettings(Section):
    """A named size, with single parts overridden where given."""

    size: ModelSize = identity(
        "small",
        "layers x width: tiny 2x128, mini 4x256, small 4x512, medium 8x512, base 12x768, "
        "large 24x1024",
    )
    hidden_size: int | None = identity(None, "width; none takes the size's", ge=1)
    num_hidden_layers: int | None = identity(None, "layers; none takes the size's", ge=1)
    num_attention_heads: int | None = identity(None, "heads; none takes the size's", ge=1)
    intermediate_size: int | None = identity(
        None, "feed-forward width; none takes four times the width", ge=1
    )
    max_position_embeddings: int = identity(512, "longest sequence the model can take", ge=8)
    hidden_dropout: float = identity(0.1, "dropout after embeddings and sublayers", ge=0, lt=1)
    attention_dropout: float = identity(0.1, "dropout on attention probabilities", ge=0, lt=1)
    path: str | None = operational(
        None,
        "a trained model to use as it is: a run, its export or a Hugging Face BERT folder",
        path=True,
    )
    init_from: str | None = identity(
        None,
        "start from a Hugging Face BERT folder, a run or its export, whose shape it takes, "
        "and not from fresh weights",
        path=True,
    )

    @model_validator(mode="after")
    def _heads_divide_width(self) -> "ModelSettings":
        named = BertConfig.named(self.size)
        width = self.hidden_size or named.hidden_size
        heads = self.num_attention_heads or named.num_attention_heads
        if width % heads:
            raise ValueError(
                f"model.hidden_size {width} is not a multiple of model.num_attention_heads {heads} "
                f"(model.size {self.size} gives what is not set)"
            )
        return self
