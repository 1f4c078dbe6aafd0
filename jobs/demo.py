"""Text in, a BERT out: tokenizer, token shards, pretraining, export, fill-mask.

    python jobs/demo.py --run runs/demo

Without --corpus.paths it takes the default corpus. Run again, it does what is missing.
"""

import sys
import time
from pathlib import Path

from raybert.cluster import start
from raybert.corpus.jobs import tokenize_corpus_job, train_tokenizer_job
from raybert.inference import fill_mask
from raybert.settings import Settings
from raybert.settings.command_line import run_job
from raybert.training.driver import pretrain

CONFIG = Path(__file__).parent / "configs" / "demo.yaml"
SENTENCES = (
    "This function returns a [MASK] of the given shape.",
    "If the file does not exist, an [MASK] is raised.",
    "The default value is [MASK].",
    "Returns [MASK] if the two objects are equal.",
    "The number of [MASK] must be greater than zero.",
)


def demo(settings: Settings) -> None:
    assert settings.run is not None  # required at the door
    began = time.monotonic()
    folder = Path(settings.run)
    tokenizer, tokens, run = (folder / name for name in ("tokenizer", "tokens", "pretraining"))
    with start(settings.cluster):
        _heading("1. a tokenizer, trained on the text")
        train_tokenizer_job(settings.model_copy(update={"output": str(tokenizer)}))
        _heading("2. token shards")
        trained = settings.tokenizer.model_copy(update={"path": str(tokenizer)})
        tokenize_corpus_job(
            settings.model_copy(update={"output": str(tokens), "tokenizer": trained})
        )
        _heading(f"3. pretraining on {settings.cluster.num_workers} workers")
        pretrain(settings.model_copy(update={"tokens": str(tokens), "run": str(run)}))
    _heading("4. what it has learned: the likeliest words for [MASK]")
    for sentence, guesses in zip(SENTENCES, fill_mask(run / "export", SENTENCES), strict=True):
        words = ", ".join(f"{guess.token!r} {guess.probability:.0%}" for guess in guesses)
        print(f"{sentence}\n    {words}")
    print(f"\n{time.monotonic() - began:.0f} s in all. What there is now:")
    print(f"  {run / 'export'}  loads with transformers' AutoModelForPreTraining")
    print(f"  tensorboard --logdir {run / 'tensorboard'}  shows the curves")


def _heading(text: str) -> None:
    print(f"\n== {text}", flush=True)


if __name__ == "__main__":
    arguments = sys.argv[1:]
    if "--config" not in arguments:
        arguments = ["--config", str(CONFIG), *arguments]
    run_job(
        demo,
        description="Text in, a BERT out: tokenizer, token shards, pretraining, fill-mask.",
        sections=("run", "corpus", "tokenizer", "model", "samples", "pretraining", "cluster"),
        required=("run",),
        arguments=arguments,
    )
