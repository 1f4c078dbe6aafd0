"""rust_tok against Hugging Face's `tokenizers`, encoding and training, both algorithms.

python tests/benchmarks/bench_tokenizers.py [MEGABYTES]
"""

import os
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")

import pyarrow as pa
from harness import interleave, print_table
from text import documents
from tokenizers import Tokenizer

import rust_tok

ROUNDS = 5
VOCAB_SIZE = 30_522


def train_ours(kind: str, column: pa.Array) -> rust_tok.Tokenizer:
    train = {"wordpiece": rust_tok.train_wordpiece, "bpe": rust_tok.train_bpe}[kind]
    return train(column, vocab_size=VOCAB_SIZE)


def train_theirs(kind: str, texts: list[str]) -> Tokenizer:
    from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    common = {"vocab_size": VOCAB_SIZE, "min_frequency": 2, "special_tokens": special}
    if kind == "wordpiece":
        tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
        tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        tokenizer.decoder = decoders.WordPiece()
        trainer = trainers.WordPieceTrainer(**common, show_progress=False)
    else:
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(**common, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def main() -> None:
    megabytes = float(sys.argv[1]) if len(sys.argv) > 1 else 20.0
    texts = documents(int(megabytes * 1e6))
    column = pa.array(texts)
    amount = sum(len(text.encode()) for text in texts) / 1e6
    print(f"{amount:.1f} MB of English in {len(texts)} documents, {os.cpu_count()} CPUs")
    for kind in ("wordpiece", "bpe"):
        ours = train_ours(kind, column)
        with tempfile.TemporaryDirectory() as folder:
            file = str(Path(folder) / "tokenizer.json")
            ours.save(file)
            theirs = Tokenizer.from_file(file)
        expected = [e.ids for e in theirs.encode_batch_fast(texts, add_special_tokens=False)]
        found = pa.array(ours.encode_arrow(column)).to_pylist()
        if found != expected:
            raise SystemExit(f"{kind}: the ids differ, nothing was timed")
        sides = {
            "rust_tok encode_arrow": lambda ours=ours: ours.encode_arrow(column),
            "rust_tok encode_batch": lambda ours=ours: ours.encode_batch(
                texts, add_special_tokens=False
            ),
            "tokenizers encode_batch_fast": lambda theirs=theirs: [
                e.ids for e in theirs.encode_batch_fast(texts, add_special_tokens=False)
            ],
        }
        timings = interleave(sides, rounds=ROUNDS)
        print_table(
            f"{kind}: encode", timings, ours="rust_tok encode_arrow", amount=amount, unit="MB/s"
        )
        sides = {
            "rust_tok": lambda kind=kind: train_ours(kind, column),
            "tokenizers": lambda kind=kind: train_theirs(kind, texts),
        }
        timings = interleave(sides, rounds=3, warmup=0)
        print_table(
            f"{kind}: train {VOCAB_SIZE} entries",
            timings,
            ours="rust_tok",
            amount=amount,
            unit="MB/s",
        )


if __name__ == "__main__":
    main()
