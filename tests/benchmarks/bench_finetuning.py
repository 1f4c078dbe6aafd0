"""Wall time of a finetuning run against `transformers`' Trainer: same model, rows and settings.

A BERT of 4 layers x 256 with random weights and a vocabulary of its own, on sentences of the
installed packages' documentation (any text does: the time does not depend on what is learned); two
epochs with evaluation and a checkpoint after each. See `finetuning_sides` for what is counted.

python tests/benchmarks/bench_finetuning.py [ROWS] [ROUNDS]
"""

import itertools
import logging
import random
import shutil
import sys
import tempfile
from pathlib import Path

import transformers
from finetuning_sides import Example, Ours, Recipe, Task, Theirs
from harness import interleave, print_table
from text import documents

import rust_tok
from bert.bert import BertForPreTraining
from bert.config import BertConfig
from bert.hf import save_pretrained
from raybert.tokens.tokenizer_files import tokenizer_files

LABELS = ("one", "two", "three", "four")
RECIPE = Recipe(epochs=2)


def examples(number: int) -> list[Example]:
    """Texts of 5 to 80 words with labels that mean nothing."""
    dice = random.Random(0)
    words = " ".join(documents(number * 600)).split()
    found, begin = [], 0
    while len(found) < number:
        length = min(80, 5 + int(dice.expovariate(1 / 20)))
        found.append(Example(" ".join(words[begin : begin + length]), dice.choice(LABELS)))
        begin += length
    return found


def write_model(folder: Path, texts: list[str]) -> Path:
    tokenizer = rust_tok.train_wordpiece(texts, 8000)
    config = BertConfig.named("mini", vocab_size=tokenizer.vocab_size)
    save_pretrained(BertForPreTraining(config), folder)
    for name, content in tokenizer_files(tokenizer.to_json().encode(), max_length=512).items():
        (folder / name).write_bytes(content)
    return folder


def main() -> None:
    num_rows = int(sys.argv[1]) if len(sys.argv) > 1 else 512
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 5
    logging.disable(logging.WARNING)
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    rows = examples(num_rows * 3 // 2)
    task = Task.drawn("sentences", rows, num_rows, num_rows // 4, num_rows // 8)
    with tempfile.TemporaryDirectory(prefix="raybert-bench-") as temporary:
        folder = Path(temporary)
        model = write_model(folder / "model", [example.text for example in rows])
        sides = {
            "raybert": Ours(model, task, RECIPE, folder / "data"),
            "transformers' Trainer": Theirs(model, task, RECIPE),
        }
        seeds = itertools.count()

        def once(name: str) -> None:
            sides[name].run(next(seeds), folder / "run")
            shutil.rmtree(folder / "run")

        timings = interleave({name: lambda n=name: once(n) for name in sides}, rounds=rounds)
    print_table(
        f"finetuning: {num_rows} rows, {RECIPE.epochs} epochs, BERT mini",
        timings,
        ours="raybert",
        amount=num_rows * RECIPE.epochs,
        unit="rows/s",
    )


if __name__ == "__main__":
    main()
