"""Bulk prediction against `transformers`: rows per second, texts in, vectors or labels out.

A model of MiniLM's shape with fresh weights and a tokenizer trained on the text; the same folder,
rows, threads and float32 on all sides. Peers: `transformers`' pipeline as documented (batch_size),
and the best hand-made loop we know: fast tokenizer over all texts at once, sorted by length in
tokens, padded per batch, SDPA, inference_mode, pooled in torch; its batch size is the best of
several, tried first. Before timing, the outputs of all sides are compared.

python tests/benchmarks/bench_prediction.py [ROWS] [THREADS]
"""

import re
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
import transformers
from harness import interleave, print_table
from text import documents

import rust_tok
from raybert.inference.model_folder import load_model
from raybert.inference.predictor import Predictor
from raybert.settings import PredictionSettings
from raybert.storage import write_file
from raybert.storage.location import Location
from raybert.tokens.tokenizer_files import tokenizer_files

ROUNDS = 5
MAX_LENGTH = 256
BATCH_SIZES = (16, 32, 64, 128)
PIPELINE_BATCH_SIZE = 32
TRIED_ROWS = 256
VOCAB_SIZE = 30_522


def sentences(num_rows: int) -> list[str]:
    """Sentences and short paragraphs of documentation."""
    pieces = (
        piece.strip()
        for document in documents(4_000_000)
        for piece in re.split(r"(?<=[.!?])\s+|\n\n", document)
    )
    found = list(dict.fromkeys(piece for piece in pieces if 20 < len(piece) < 1000))
    if len(found) < num_rows:
        raise SystemExit(f"the installed packages hold {len(found)} sentences, not {num_rows}")
    return found[:num_rows]


def write_models(folder: Path, texts: Sequence[str]) -> tuple[Path, Path]:
    """A backbone and a classifier of three labels."""
    tokenizer = rust_tok.train_wordpiece(texts, vocab_size=VOCAB_SIZE)
    config = transformers.BertConfig(
        vocab_size=max(tokenizer.vocab_size, 1000),
        hidden_size=384,
        num_hidden_layers=6,
        num_attention_heads=12,
        intermediate_size=1536,
        num_labels=3,
    )
    torch.manual_seed(0)
    for name, model in (
        ("backbone", transformers.BertModel(config)),
        ("classifier", transformers.BertForSequenceClassification(config)),
    ):
        model.save_pretrained(folder / name)
        files = tokenizer_files(tokenizer.to_json().encode(), max_length=MAX_LENGTH)
        for file, content in files.items():
            write_file(Location(str(folder / name / file)), content)
    return folder / "backbone", folder / "classifier"


class HandMadeLoop:
    """What an experienced person writes with `transformers`."""

    def __init__(self, folder: Path, model_class: type, batch_size: int) -> None:
        self._tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        self._model = model_class.from_pretrained(folder).eval()
        self.batch_size = batch_size

    def run(self, texts: Sequence[str], pool: Callable) -> np.ndarray:
        encoded = self._tokenizer(list(texts), truncation=True, max_length=MAX_LENGTH)
        lengths = [len(ids) for ids in encoded["input_ids"]]
        order = sorted(range(len(texts)), key=lambda row: -lengths[row])
        out = None
        with torch.inference_mode():
            for first in range(0, len(order), self.batch_size):
                rows = order[first : first + self.batch_size]
                batch = self._tokenizer.pad(
                    {name: [values[row] for row in rows] for name, values in encoded.items()},
                    return_tensors="pt",
                )
                values = pool(self._model(**batch), batch["attention_mask"])
                if out is None:
                    out = np.empty((len(texts), values.shape[1]), np.float32)
                out[rows] = values.numpy()
        assert out is not None
        return out


def mean_of_tokens(output, mask) -> torch.Tensor:
    weights = mask.unsqueeze(-1).float()
    return (output.last_hidden_state * weights).sum(1) / weights.sum(1)


def logits(output, mask) -> torch.Tensor:
    return output.logits


def best_loop(folder: Path, model_class: type, pool: Callable, texts: Sequence[str]):
    """The loop with the batch size that is fastest here, over all lengths."""
    sample = texts[:: max(1, len(texts) // TRIED_ROWS)]
    seconds: dict[int, float] = {}
    loop = HandMadeLoop(folder, model_class, BATCH_SIZES[0])
    loop.run(sample, pool)
    for batch_size in BATCH_SIZES:
        loop.batch_size = batch_size
        begin = time.perf_counter()
        loop.run(sample, pool)
        seconds[batch_size] = time.perf_counter() - begin
    loop.batch_size = min(seconds, key=seconds.__getitem__)
    return loop


def bench_embeddings(folder: Path, texts: list[str]) -> None:
    settings = PredictionSettings(kind="embeddings", pooling="mean", max_length=MAX_LENGTH)
    ours = Predictor(load_model(folder, "embeddings", "model.path"), settings)
    column = pa.array(texts, pa.string())
    loop = best_loop(folder, transformers.BertModel, mean_of_tokens, texts)
    expected = loop.run(texts, mean_of_tokens)
    found = ours.predict(column).columns["embedding"].flatten().to_numpy().reshape(expected.shape)
    worst = np.abs(found - expected).max()
    assert worst < 1e-4, worst
    sides = {
        "raybert": lambda: ours.predict(column),
        f"hand-made loop, batch {loop.batch_size}": lambda: loop.run(texts, mean_of_tokens),
    }
    timings = interleave(sides, rounds=ROUNDS)
    title = f"embeddings, equal to {worst:.0e}; {torch.get_num_threads()} threads, float32"
    print_table(title, timings, ours="raybert", amount=len(texts), unit="rows/s")


def bench_labels(folder: Path, texts: list[str]) -> None:
    settings = PredictionSettings(kind="labels", max_length=MAX_LENGTH)
    ours = Predictor(load_model(folder, "labels", "model.path"), settings)
    column = pa.array(texts, pa.string())
    model_class = transformers.BertForSequenceClassification
    loop = best_loop(folder, model_class, logits, texts)
    pipe = transformers.pipeline(
        "text-classification", model=str(folder), device="cpu", batch_size=PIPELINE_BATCH_SIZE
    )

    def run_pipeline() -> list[dict]:
        return pipe(texts, truncation=True, max_length=MAX_LENGTH)

    probability = ours.predict(column).columns["probability"].to_numpy()
    theirs = np.array([row["score"] for row in run_pipeline()])
    from_loop = torch.from_numpy(loop.run(texts, logits)).softmax(-1).max(-1).values.numpy()
    worst = max(np.abs(probability - theirs).max(), np.abs(probability - from_loop).max())
    assert worst < 1e-4, worst
    sides = {
        "raybert": lambda: ours.predict(column),
        f"hand-made loop, batch {loop.batch_size}": lambda: loop.run(texts, logits),
        f"pipeline, batch {PIPELINE_BATCH_SIZE}": run_pipeline,
    }
    timings = interleave(sides, rounds=ROUNDS)
    title = f"labels, equal to {worst:.0e}; {torch.get_num_threads()} threads, float32"
    print_table(title, timings, ours="raybert", amount=len(texts), unit="rows/s")


def main(num_rows: int = 2000, num_threads: int = 2) -> None:
    torch.set_num_threads(num_threads)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    texts = sentences(num_rows)
    with tempfile.TemporaryDirectory() as temporary:
        backbone, classifier = write_models(Path(temporary), texts)
        bench_embeddings(backbone, texts)
        bench_labels(classifier, texts)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
