"""A tiny model folder and labelled files that it can learn, made in a moment."""

import csv
import json
import random
from pathlib import Path
from typing import Any

import rust_tok
from bert.bert import BertForPreTraining
from bert.config import BertConfig
from bert.hf import save_pretrained
from raybert.settings import DataSettings, FinetuningSettings, ModelSettings, Settings
from raybert.tokens.tokenizer_files import tokenizer_files

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
ANIMALS, FRUITS, STONES = (
    ("cat", "dog", "horse", "cow", "sheep"),
    ("apple", "pear", "plum", "cherry", "fig"),
    ("granite", "basalt", "slate", "marble", "flint"),
)
FILLERS = ("the", "a", "and", "with", "over", "under", "old", "new", "big", "small", "##s", "##ing")
WORDS = (*SPECIAL, *ANIMALS, *FRUITS, *STONES, *FILLERS)
KINDS = {"animal": ANIMALS, "fruit": FRUITS, "stone": STONES}


def write_model(folder: Path, *, positions: int = 64, layers: int = 2) -> Path:
    """A Hugging Face folder of an untrained BERT of width 32."""
    config = BertConfig.named(
        "tiny",
        vocab_size=len(WORDS),
        num_hidden_layers=layers,
        hidden_size=32,
        num_attention_heads=2,
        max_position_embeddings=positions,
        initializer_range=0.2,  # so that so narrow a model learns in a few steps
    )
    save_pretrained(BertForPreTraining(config, seed=3), folder)
    (folder / "vocab.txt").write_text("".join(f"{word}\n" for word in WORDS))
    tokenizer = rust_tok.Tokenizer.from_file(str(folder / "vocab.txt"))
    files = tokenizer_files(tokenizer.to_json().encode(), max_length=positions)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def sentence(dice: random.Random, kind: str) -> str:
    """A few fillers around two words of a kind."""
    words = dice.choices(FILLERS[:10], k=dice.randint(2, 8)) + dice.choices(KINDS[kind], k=2)
    dice.shuffle(words)
    return " ".join(words)


def sentences(number: int, kinds: tuple[str, ...] = tuple(KINDS)) -> list[dict[str, Any]]:
    """Rows `text`, `label`."""
    dice = random.Random(number)
    picked = [kinds[i % len(kinds)] for i in range(number)]
    return [{"text": sentence(dice, kind), "label": kind} for kind in picked]


def write_csv(path: Path, rows: list[dict[str, Any]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def write_jsonl(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def settings(model: Path, train: Path, run: Path, **changes: Any) -> Settings:
    """Few, quick steps; `data={…}` and `finetuning={…}` change settings of a section."""
    data = {"train": str(train), "max_length": 32, **changes.pop("data", {})}
    finetuning = {
        "epochs": 3,
        "batch_size": 8,
        "learning_rate": 3e-3,
        "log_every": 2,
        "precision": "fp32",
        **changes.pop("finetuning", {}),
    }
    return Settings(
        run=str(run),
        model=ModelSettings(init_from=str(model)),
        data=DataSettings(**data),
        finetuning=FinetuningSettings(**finetuning),
        **changes,
    )
