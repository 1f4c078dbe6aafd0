"""The shape of a BERT, with Hugging Face's field names so that config.json needs no translation."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

# (layers, hidden size, heads); the feed-forward width is four times the hidden size. Tiny to
# medium are Turc et al. 2019, "Well-Read Students Learn Better"; base and large Devlin et al. 2018.
_NAMED_SIZES = {
    "tiny": (2, 128, 2),
    "mini": (4, 256, 4),
    "small": (4, 512, 8),
    "medium": (8, 512, 8),
    "base": (12, 768, 12),
    "large": (24, 1024, 16),
}

_PROBLEM_TYPES = (
    "regression",
    "single_label_classification",
    "multi_label_classification",
)

# Fields of config.json that would make another model of it, and the only value we compute.
_ONLY_VALUE = {
    "hidden_act": "gelu",
    "position_embedding_type": "absolute",
    "is_decoder": False,
    "add_cross_attention": False,
    "tie_word_embeddings": True,
}


@dataclass(frozen=True)
class BertConfig:
    """Sizes and rates of a BERT (Devlin et al. 2018, https://arxiv.org/abs/1810.04805).

    Post-layer-norm, learned absolute positions, exact (erf) GELU: nothing else is offered.
    A value out of range raises ValueError.

    Attributes:
        vocab_size: rows of the word embedding table.
        hidden_size: width D of the residual stream, a multiple of num_attention_heads.
        num_hidden_layers: encoder layers.
        num_attention_heads: heads H per layer.
        intermediate_size: width F of the feed-forward layer.
        hidden_dropout_prob: rate after embeddings, attention output and feed-forward output.
        attention_probs_dropout_prob: rate on the attention probabilities.
        max_position_embeddings: longest sequence, in tokens.
        type_vocab_size: segment ids allowed (0 = first, 1 = second sentence).
        initializer_range: standard deviation of fresh weights.
        layer_norm_eps: epsilon inside the square root of LayerNorm.
        pad_token_id: id whose embedding row starts at zero and gets no gradient as an input.
        classifier_dropout: rate before a classification head; None means hidden_dropout_prob.
        num_labels: outputs of a classification head (1 with problem_type "regression").
        label_names: one name per label, "id2label" on disk; empty means LABEL_0, LABEL_1, ...
        problem_type: what a sequence classification head is trained for; None leaves it open.
    """

    vocab_size: int = 30522
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    hidden_dropout_prob: float = 0.1
    attention_probs_dropout_prob: float = 0.1
    max_position_embeddings: int = 512
    type_vocab_size: int = 2
    initializer_range: float = 0.02
    layer_norm_eps: float = 1e-12
    pad_token_id: int | None = 0
    classifier_dropout: float | None = None
    num_labels: int = 2
    label_names: tuple[str, ...] = ()
    problem_type: str | None = None

    def __post_init__(self) -> None:
        for name in (
            "vocab_size",
            "hidden_size",
            "num_hidden_layers",
            "num_attention_heads",
            "intermediate_size",
            "max_position_embeddings",
            "type_vocab_size",
            "num_labels",
        ):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} must be an integer of at least 1, not {value!r}")
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"hidden_size ({self.hidden_size}) must be a multiple of "
                f"num_attention_heads ({self.num_attention_heads})"
            )
        for name in ("hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout"):
            rate = getattr(self, name)
            if rate is not None and not 0 <= rate < 1:
                raise ValueError(f"{name} must lie in [0, 1), not {rate!r}")
        if self.pad_token_id is not None and not 0 <= self.pad_token_id < self.vocab_size:
            raise ValueError(
                f"pad_token_id ({self.pad_token_id}) must lie below vocab_size ({self.vocab_size})"
            )
        if self.label_names and len(self.label_names) != self.num_labels:
            raise ValueError(
                f"label_names has {len(self.label_names)} names for {self.num_labels} labels"
            )
        if self.problem_type is not None and self.problem_type not in _PROBLEM_TYPES:
            allowed = ", ".join(_PROBLEM_TYPES)
            raise ValueError(f"problem_type must be one of {allowed}, not {self.problem_type!r}")

    @classmethod
    def named(cls, size: str, **overrides: Any) -> BertConfig:
        """A published size: tiny, mini, small, medium, base or large, with any field overridden.

        An overridden hidden_size takes the feed-forward width along (four times), unless that is
        given too.
        """
        if size not in _NAMED_SIZES:
            raise ValueError(f"size must be one of {', '.join(_NAMED_SIZES)}, not {size!r}")
        num_layers, hidden_size, num_heads = _NAMED_SIZES[size]
        sizes: dict[str, Any] = {
            "num_hidden_layers": num_layers,
            "hidden_size": hidden_size,
            "num_attention_heads": num_heads,
            "intermediate_size": 4 * overrides.get("hidden_size", hidden_size),
        }
        return cls(**{**sizes, **overrides})

    @property
    def head_size(self) -> int:
        """Width of one attention head."""
        return self.hidden_size // self.num_attention_heads

    @property
    def head_dropout_prob(self) -> float:
        """Rate before a classification head."""
        if self.classifier_dropout is None:
            return self.hidden_dropout_prob
        return self.classifier_dropout

    def replace(self, **changes: Any) -> BertConfig:
        """The same configuration with some fields changed."""
        return replace(self, **changes)

    def to_hf_dict(self) -> dict[str, Any]:
        """The content of a Hugging Face config.json (without `architectures`)."""
        names = self.label_names or tuple(f"LABEL_{i}" for i in range(self.num_labels))
        content = {f.name: getattr(self, f.name) for f in fields(self)}
        del content["num_labels"], content["label_names"]
        if self.problem_type is None:
            del content["problem_type"]
        return {
            "model_type": "bert",
            **_ONLY_VALUE,
            **content,
            "id2label": {str(i): name for i, name in enumerate(names)},
            "label2id": {name: i for i, name in enumerate(names)},
        }

    @classmethod
    def from_hf_dict(cls, content: dict[str, Any]) -> BertConfig:
        """Read a Hugging Face config.json; a BERT variant we would compute wrongly is refused."""
        for name, value in _ONLY_VALUE.items():
            found = content.get(name, value)
            if found != value:
                raise ValueError(f"{name} is {found!r}; only {value!r} is supported")
        known = {f.name for f in fields(cls)} - {"label_names"}
        values = {name: content[name] for name in known & content.keys()}
        labels = content.get("id2label") or {}
        names = tuple(str(name) for _, name in sorted(labels.items(), key=lambda x: int(x[0])))
        # Old files carry num_labels beside a placeholder id2label of another length.
        if names and values.setdefault("num_labels", len(names)) == len(names):
            placeholders = tuple(f"LABEL_{i}" for i in range(len(names)))
            values["label_names"] = () if names == placeholders else names
        return cls(**values)
