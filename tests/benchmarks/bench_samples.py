"""Are batches ready when the step wants them? Rate of making them, balance, and what a step waits.

python tests/benchmarks/bench_samples.py [TOKENS]

The text is documentation, in documents of 2 kB as an article's beginning has: a sample is a pair of
several sentences that fills most of its 128 tokens. Counted is everything that a core does for
samples, the windows of each epoch cut, paired and shuffled, too.

There is no peer to name: the side to beat is the step itself. The step is the fastest that there
is (the tiny model), so every other one waits for a smaller share of its time.
"""

import re
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import torch
from text import documents

import rust_tok
from bert.memory import tune_allocator
from raybert.corpus import Corpus, tokenize
from raybert.samples import BatchLoader, PretrainingSamples, compiled
from raybert.settings import Settings
from raybert.settings.layers import Given
from raybert.settings.loading import load
from raybert.tokens import TokenStore
from raybert.training.engine import Engine
from raybert.training.first_weights import build_model
from raybert.training.objectives import PretrainingObjective

NUM_MICRO_SHARDS = 4
ROUNDS = 5
STEPS = 40
ROUND_SECONDS = 1.0


def settings_for(paths: tuple[str, ...]) -> Settings:
    given = {"model.size": "tiny", "corpus.paths": paths, "pretraining.batch_size": 256}
    return load({name: Given(value, "the benchmark") for name, value in given.items()})


def make_tokens(folder: Path) -> Path:
    text = folder / "text.txt"
    # A blank line would end a document.
    texts = [re.sub(r"\n\s*\n", "\n", piece) for piece in documents(20_000_000)]
    text.write_text("\n\n".join(texts), encoding="utf-8")
    tokenizer = rust_tok.train_wordpiece(pa.array(texts), vocab_size=8000)
    tokenize(Corpus.open(settings_for((str(text),)).corpus), tokenizer, str(folder / "tokens"))
    return folder / "tokens"


@dataclass(frozen=True)
class Rate:
    """Of one core, medians; evenness is mean / largest micro-shard, in tokens."""

    sequences: float
    tokens: float
    evenness: float

    def __str__(self) -> str:
        mean = self.tokens / self.sequences
        return f"{self.sequences:>11,.0f} {self.tokens:>13,.0f} {mean:>8.1f} {self.evenness:>7.1%}"


def rate_of(samples: PretrainingSamples, batch_size: int) -> Rate:
    sequence_rates, token_rates, balances = [], [], []
    position = 0
    for _ in range(ROUNDS):
        num_sequences, num_tokens, begin = 0, 0, time.thread_time()
        while time.thread_time() - begin < ROUND_SECONDS:
            batches = samples.micro_shards(
                position, batch_size, NUM_MICRO_SHARDS, range(NUM_MICRO_SHARDS)
            )
            sizes = [batch.num_tokens for batch in batches]
            balances.append(sum(sizes) / len(sizes) / max(sizes))
            position += batch_size
            num_sequences += batch_size
            num_tokens += sum(sizes)
        seconds = time.thread_time() - begin
        sequence_rates.append(num_sequences / seconds)
        token_rates.append(num_tokens / seconds)
    return Rate(*map(statistics.median, (sequence_rates, token_rates, balances)))


def waiting_share(settings: Settings, store: TokenStore, samples: PretrainingSamples) -> float:
    """Share of the time of steps that goes by waiting for a batch, the first few left out."""
    batch_size = settings.pretraining.batch_size
    objective = PretrainingObjective()
    model = build_model(settings, store)
    engine = Engine(model, objective, settings.pretraining, num_micro_shards=NUM_MICRO_SHARDS)
    with BatchLoader(samples, batch_size, NUM_MICRO_SHARDS, engine.micro_shards) as loader:
        for step, batches in loader:
            engine.step(step, batches)
            if step == 5:
                loader.wait_seconds, begin = 0.0, time.perf_counter()
            if step == 5 + STEPS:
                return loader.wait_seconds / (time.perf_counter() - begin)
    raise AssertionError("the loader has no end")


def main() -> None:
    torch.set_num_threads(1)
    tune_allocator()  # as training's workers do
    with tempfile.TemporaryDirectory() as folder:
        tokens = sys.argv[1] if len(sys.argv) > 1 else str(make_tokens(Path(folder)))
        store = TokenStore.open(tokens)
        settings = settings_for(())
        samples = PretrainingSamples(store, settings.samples, settings.pretraining.seed)
        print(f"{samples.num_samples:,} samples an epoch, at most {settings.samples.max_length}")
        print(f"by {'compiled code' if compiled.usable() else 'numpy'}, on one core:")
        print("batch  sequences/s      tokens/s  tokens/sequence  micro-shards even")
        for batch_size in (64, 256, 4096):
            print(f"{batch_size:5} {rate_of(samples, batch_size)}")
        share = waiting_share(settings, store, samples)
        print(f"tiny model, {settings.pretraining.batch_size} samples a step: waits {share:.2%}")


if __name__ == "__main__":
    main()
