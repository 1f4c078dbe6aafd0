"""Text in, a BERT out, and what one does with it: every job of raybert in a few minutes.

    python jobs/demo.py --run runs/demo

Without --corpus.paths it takes the default corpus, whose labels make a task for a classifier. Run
again, it does what is missing.
"""

import json
import sys
import textwrap
import time
from pathlib import Path

from rich.console import Console

from raybert.cluster import start
from raybert.corpus.default import default_corpus
from raybert.corpus.jobs import tokenize_corpus_job, train_tokenizer_job
from raybert.demo import PackageTask, compare, comparison_table, nearest, write_package_task
from raybert.inference import fill_mask, load
from raybert.settings import Settings
from raybert.settings.command_line import run_job
from raybert.storage import Location
from raybert.training.driver import pretrain
from raybert.tuning.driver import tune
from raybert.tuning.winner import read_best

CONFIG = Path(__file__).parent / "configs" / "demo.yaml"
MASKED = (
    "This function returns a [MASK] of the given shape.",
    "If the file does not exist, an [MASK] is raised.",
    "The default value is [MASK].",
    "Returns [MASK] if the two objects are equal.",
    "The number of [MASK] must be greater than zero.",
)
QUESTIONS = (
    "Computes the gradient of the loss with respect to the weights on the GPU.",
    "Return the shortest path between two nodes of a directed graph.",
    "Start remote actors on the nodes of a cluster and wait for their results.",
    "Join two data frames on a column and fill missing values in each group.",
    "Solve the equation symbolically and simplify the resulting expression.",
)


def demo(settings: Settings) -> None:
    assert settings.run is not None  # required at the door
    began = time.monotonic()
    folder = Path(settings.run)
    task = None
    if not settings.corpus.paths:
        task = _labelled_task(folder / "data")
        corpus = settings.corpus.model_copy(update={"paths": (str(task.pretraining),)})
        settings = settings.model_copy(update={"corpus": corpus})
    # Ray Data's helpers stay for as long as their cluster, and would take from the memory of what
    # comes after them.
    with start(settings.cluster):
        tokens = _tokenized(settings, folder)
    with start(settings.cluster) as cluster:
        if cluster.dashboard_url:
            print(f"\nwatch it on {cluster.dashboard_hint}")
        model = _pretrained(settings, tokens, folder / "pretraining")
        _fill_masks(model)
        searched = None if task is None else _search(settings, task, model, folder / "search")
    made = [(model, "loads with transformers' AutoModelForPreTraining")]
    if task is not None and searched is not None:
        _heading("6. is it worth it? The same test rows for everyone")
        _compare(searched, task, folder)
        _heading("7. predictions, and neighbours in the space of embeddings")
        _predict(folder / "search", task)
        made.append((folder / "search" / "export", "AutoModelForSequenceClassification"))
        made.append((folder / "search" / "report.md", "the classifier's report"))
        made.append((folder / "search" / "leaderboard.md", "all trials"))
    print(f"\n{time.monotonic() - began:.0f} s in all. What there is now:")
    for path, what in made:
        print(f"  {path}  {what}")
    print(f"  tensorboard --logdir {folder}  shows the curves")


def _labelled_task(folder: Path) -> PackageTask:
    corpus = default_corpus(
        on_making=lambda: print("collecting the default corpus, which takes most of a minute …")
    )
    return write_package_task(corpus, folder)


def _tokenized(settings: Settings, folder: Path) -> Path:
    tokenizer, tokens = folder / "tokenizer", folder / "tokens"
    _heading("1. a tokenizer, trained on the text")
    train_tokenizer_job(settings.model_copy(update={"output": str(tokenizer)}))
    _heading("2. token shards")
    trained = settings.tokenizer.model_copy(update={"path": str(tokenizer)})
    tokenize_corpus_job(settings.model_copy(update={"output": str(tokens), "tokenizer": trained}))
    return tokens


def _pretrained(settings: Settings, tokens: Path, run: Path) -> Path:
    _heading(f"3. pretraining on {settings.cluster.num_workers} workers")
    pretrain(settings.model_copy(update={"tokens": str(tokens), "run": str(run)}))
    return run / "export"


def _fill_masks(model: Path) -> None:
    _heading("4. what it has learned: the likeliest words for [MASK]")
    for sentence, guesses in zip(MASKED, fill_mask(model, MASKED), strict=True):
        words = ", ".join(f"{guess.token!r} {guess.probability:.0%}" for guess in guesses)
        print(f"{sentence}\n    {words}")


def _search(settings: Settings, task: PackageTask, model: Path, folder: Path) -> Settings:
    """Finetunes with a search; the settings of the sweep."""
    _heading("5. a search for the classifier: which package does this documentation come from?")
    data = settings.data.model_copy(
        update={
            "train": str(task.train),
            "validation": str(task.validation),
            "test": str(task.test),
            "label_column": "package",
        }
    )
    searched = settings.model_copy(
        update={
            "run": str(folder),
            "data": data,
            "model": settings.model.model_copy(update={"init_from": str(model)}),
            "cluster": settings.cluster.model_copy(update={"num_workers": 1}),
        }
    )
    tune(searched)
    return searched


def _compare(settings: Settings, task: PackageTask, folder: Path) -> None:
    best = read_best(Location.parse(folder / "search"))
    assert best is not None  # the search has ended
    num_rows = len(task.test.read_text(encoding="utf-8").splitlines())
    rows = compare(settings, best, folder / "random")
    Console().print(comparison_table(rows, num_rows, len(task.packages)))


def _predict(classifier: Path, task: PackageTask) -> None:
    model = load(classifier)
    lines = task.test.read_text(encoding="utf-8").splitlines()
    texts = [json.loads(line)["text"] for line in lines]
    answers = model.predict(QUESTIONS)
    neighbours = nearest(model, QUESTIONS, texts)
    for question, answer, near in zip(QUESTIONS, answers, neighbours, strict=True):
        print(f"{question}\n    {answer['prediction']}, {answer['probability']:.0%}")
        for cosine, text in near:
            print(f"    {cosine:.2f}  {textwrap.shorten(text, 84, placeholder=' …')}")


def _heading(text: str) -> None:
    print(f"\n== {text}", flush=True)


if __name__ == "__main__":
    arguments = sys.argv[1:]
    if "--config" not in arguments:
        arguments = ["--config", str(CONFIG), *arguments]
    run_job(
        demo,
        description="Text in, a BERT out, and a classifier from it: every job, small.",
        sections=(
            "run",
            "corpus",
            "tokenizer",
            "model",
            "samples",
            "pretraining",
            "data",
            "finetuning",
            "tuning",
            "cluster",
        ),
        required=("run",),
        arguments=arguments,
    )
