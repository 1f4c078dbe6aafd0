"""Tiny models of every kind as Hugging Face folders, written by transformers."""

import random
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import transformers
from tiny_models import LABELS, POSITIONS, WORDS, write_tokenizer


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Gives the folder of a fresh model of a class of transformers, made once."""
    made: dict[str, Path] = {}

    def make(class_name: str, **config: object) -> Path:
        key = f"{class_name} {sorted(config.items())}"
        if key not in made:
            folder = made[key] = tmp_path_factory.mktemp("model")
            write_tokenizer(folder)
            torch.manual_seed(0)
            values = {
                "vocab_size": 95,
                "hidden_size": 32,
                "num_hidden_layers": 2,
                "num_attention_heads": 2,
                "intermediate_size": 64,
                "max_position_embeddings": POSITIONS,
                "initializer_range": 0.5,
            }
            model_class = getattr(transformers, class_name)
            model_class(transformers.BertConfig(**(values | config))).save_pretrained(folder)
        return made[key]

    return make


@pytest.fixture(scope="session")
def classifier(model_folder: Callable[..., Path]) -> Path:
    return model_folder(
        "BertForSequenceClassification",
        id2label=LABELS,
        label2id={name: i for i, name in LABELS.items()},
        problem_type="single_label_classification",
    )


@pytest.fixture(scope="session")
def texts() -> list[str]:
    """Of 1 to 40 words, so that some are longer than the models take."""
    dice = random.Random(0)
    return [" ".join(dice.choices(WORDS, k=dice.randint(1, 40))) for _ in range(60)]
