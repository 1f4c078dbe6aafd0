"""Hugging Face folders: what transformers needs besides the weights, and the final export."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from bert.config import BertConfig
from bert.hf import config_json
from raybert.errors import InvalidContent
from raybert.storage import Location, committed_folder, write_file
from raybert.tokens.tokenizer_files import num_ids, tokenizer_files
from raybert.training.checkpoints import WEIGHTS
from raybert.training.tensor_files import write_tensors

FOLDER = "export"


def huggingface_files(model: nn.Module, tokenizer_json: bytes) -> dict[str, bytes]:
    """The small files of a Hugging Face folder by name: config.json and the tokenizer's.

    Args:
        model: one of bert's models.
        tokenizer_json: the content of a tokenizer.json.

    Raises:
        InvalidContent: it is none, or has more tokens than the model.
    """
    config: BertConfig = model.config  # pyright: ignore[reportAssignmentType]
    files = {
        "config.json": config_json(model).encode(),
        **tokenizer_files(tokenizer_json, max_length=config.max_position_embeddings),
    }
    num_tokens = num_ids(tokenizer_json)
    if num_tokens > config.vocab_size:
        raise InvalidContent(
            f"the tokenizer has {num_tokens} tokens, the model's vocabulary {config.vocab_size}"
        )
    return files


def model_card(
    name: str, config: BertConfig, facts: Mapping[str, str], metrics: Mapping[str, float]
) -> str:
    """The README.md of an exported model.

    Args:
        name: of the run.
        config: the model's.
        facts: what a reader should know of the training, a line each ("steps": "10,000").
        metrics: held-out results by name.
    """
    lines = [
        "---",
        "library_name: transformers",
        "pipeline_tag: fill-mask",
        "tags: [bert, fill-mask, raybert]",
        "---",
        f"# {name}",
        "",
        "A BERT (Devlin et al. 2018) pretrained from plain text with raybert: masked words and "
        "next sentences.",
        "",
        f"- layers {config.num_hidden_layers}, hidden size {config.hidden_size}, heads "
        f"{config.num_attention_heads}, vocabulary {config.vocab_size}, positions "
        f"{config.max_position_embeddings}",
        *(f"- {key}: {value}" for key, value in facts.items()),
        "",
        "| held-out metric | value |",
        "|---|---|",
        *(f"| {key} | {value:.4g} |" for key, value in metrics.items()),
        "",
        "```python",
        "from transformers import AutoModelForPreTraining, AutoTokenizer",
        "",
        'tokenizer = AutoTokenizer.from_pretrained("path/to/this/folder")',
        'model = AutoModelForPreTraining.from_pretrained("path/to/this/folder")',
        "```",
        "",
    ]
    return "\n".join(lines)


def write_export(
    location: Location, weights: Mapping[str, Tensor], files: Mapping[str, bytes], card: str
) -> None:
    """Commits a Hugging Face folder; one that is there already is replaced.

    Args:
        location: the folder.
        weights: by Hugging Face's names, in host memory.
        files: of `huggingface_files`.
        card: the README.md.
    """
    with committed_folder(location) as staging:
        for name, content in {**files, "README.md": card.encode()}.items():
            write_file(staging / name, content)
        write_tensors(staging / WEIGHTS, weights)
