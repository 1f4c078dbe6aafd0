"""Training of tokenizers: rust_tok and its peers on the same lines of text, 2 threads.

    python tests/benchmarks/bench_tokenizer_training.py [--quick] [--english FILE]

Every package gets the text in the form that it reads the fastest: an Arrow column, a file, or an
iterator. Merges of byte-level BPE must be those of `tokenizers`, else nothing is printed but the
difference; the vocabulary of WordPiece is shown with the share that is common, because `tokenizers`
breaks ties by chance there. What takes longer than `SLOW_SECONDS` runs in three of the rounds.
"""

import argparse
import json
import os
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib import util
from itertools import takewhile
from pathlib import Path
from typing import Any

os.environ.setdefault("RAYON_NUM_THREADS", "2")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")

import pyarrow as pa
import text
from harness import Timing, print_table, timed
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

import rust_tok

NUM_THREADS = int(os.environ["RAYON_NUM_THREADS"])
ROUNDS = 7
SLOW_SECONDS = 5.0
VOCAB_SIZE = 30_522
MEGABYTES = {"english": 40, "code": 31}
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
# The split of GPT-2, as byte-level BPE has it.
PATTERN = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"

Merges = list[tuple[str, str]]


@dataclass(frozen=True)
class Corpus:
    lines: list[str]
    column: pa.Array
    file: str


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="small texts, two rounds: a smoke run")
    parser.add_argument("--english", help="a text file in place of documentation strings")
    arguments = parser.parse_args()
    scale, rounds = (0.02, 2) if arguments.quick else (1.0, ROUNDS)
    with tempfile.TemporaryDirectory() as folder:
        corpus = _corpus(arguments.english, scale, folder)
        amount = Path(corpus.file).stat().st_size / 1e6
        print(f"{amount:.1f} MB in {len(corpus.lines):,} lines, {NUM_THREADS} threads")
        _compare("BPE", _bpe_sides(corpus), _require_same_merges, rounds, amount)
        _compare("WordPiece", _wordpiece_sides(corpus), _say_common_vocabulary, rounds, amount)


def _corpus(english: str | None, scale: float, folder: str) -> Corpus:
    num_bytes = {name: int(size * 1e6 * scale) for name, size in MEGABYTES.items()}
    prose = (
        text.of_file(english, num_bytes["english"])
        if english
        else text.documents(num_bytes["english"])
    )
    whole = "".join(prose) + "\n" + "".join(text.code(num_bytes["code"]))
    # Only line feeds end a line, in a file as in the list.
    lines = [line + "\n" for line in whole.replace("\r", "").split("\n")]
    path = Path(folder) / "corpus.txt"
    path.write_text("".join(lines), encoding="utf-8", newline="")
    return Corpus(lines, pa.array(lines, pa.large_string()), str(path))


def _bpe_sides(corpus: Corpus) -> dict[str, Callable[[], Any]]:
    sides: dict[str, Callable[[], Any]] = {
        "rust_tok": lambda: rust_tok.train_bpe(corpus.column, vocab_size=VOCAB_SIZE)
    }
    if util.find_spec("gigabpe"):
        import gigabpe

        sides["gigabpe"] = lambda: gigabpe.train_bpe(
            [corpus.file],
            VOCAB_SIZE,
            special_tokens=SPECIAL,
            min_frequency=2,
            pretokenizer="bytelevel",
            threads=NUM_THREADS,
        )
    if util.find_spec("rustbpe"):
        import rustbpe

        def run_rustbpe() -> Any:
            tokenizer = rustbpe.Tokenizer()
            size = VOCAB_SIZE - len(SPECIAL)
            tokenizer.train_from_iterator(corpus.lines, size, pattern=PATTERN)
            return tokenizer

        sides["rustbpe"] = run_rustbpe
    sides["tokenizers"] = lambda: _hugging_face_bpe(corpus.file)
    return sides


def _hugging_face_bpe(file: str) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE,
        min_frequency=2,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train([file], trainer)
    return tokenizer


def _wordpiece_sides(corpus: Corpus) -> dict[str, Callable[[], Any]]:
    def hugging_face() -> Tokenizer:
        tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
        tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        trainer = trainers.WordPieceTrainer(
            vocab_size=VOCAB_SIZE,
            min_frequency=2,
            special_tokens=SPECIAL,
            limit_alphabet=1000,
            show_progress=False,
        )
        tokenizer.train([corpus.file], trainer)
        return tokenizer

    return {
        "rust_tok": lambda: rust_tok.train_wordpiece(corpus.column, vocab_size=VOCAB_SIZE),
        "tokenizers": hugging_face,
    }


def _compare(
    title: str,
    sides: dict[str, Callable[[], Any]],
    check: Callable[[dict[str, Any]], None],
    rounds: int,
    amount: float,
) -> None:
    """All sides in turns; the first round's results are checked before anything is printed."""
    trained: dict[str, Any] = {}
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    rare = {0, rounds // 2, rounds - 1}
    for number in range(rounds):
        for name, run in sides.items():
            if number not in rare and seconds[name][0] > SLOW_SECONDS:
                continue
            taken, given = timed(run)
            seconds[name].append(taken)
            trained.setdefault(name, given)
        if number == 0:
            check(trained)
    print_table(
        f"{title} training, {VOCAB_SIZE:,} entries",
        {name: Timing(tuple(values)) for name, values in seconds.items()},
        ours="rust_tok",
        amount=amount,
        unit="MB/s",
    )


def _require_same_merges(trained: dict[str, Any]) -> None:
    def of_file(tokenizer: Any) -> Merges:
        text = tokenizer.to_str() if hasattr(tokenizer, "to_str") else tokenizer.to_json()
        return [tuple(pair) for pair in json.loads(text)["model"]["merges"]]

    expected = of_file(trained["tokenizers"])
    given: dict[str, Merges] = {"rust_tok": of_file(trained["rust_tok"])}
    if "gigabpe" in trained:
        given["gigabpe"] = [tuple(pair) for pair in trained["gigabpe"][1]]
    for name, merges in given.items():
        pairs = zip(merges, expected, strict=False)
        same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
        # A package without bytes that never occur has room for a few more merges.
        if same < min(len(merges), len(expected)):
            message = f"merge {same} of {name} is {merges[same]}, of tokenizers {expected[same]}"
            if name == "rust_tok":
                raise SystemExit(message)
            print(message)
        else:
            print(f"{name}: {same:,} merges, those of tokenizers")
    if "rustbpe" in trained:
        _say_common("rustbpe", _rustbpe_tokens(trained["rustbpe"]), _tokens(trained["tokenizers"]))


def _rustbpe_tokens(tokenizer: Any) -> set[str]:
    """In the characters by which `tokenizers` writes bytes: what is printable stands for itself."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    rest = [byte for byte in range(256) if byte not in printable]
    characters = {byte: chr(byte) for byte in printable}
    characters |= {byte: chr(0x100 + number) for number, byte in enumerate(rest)}
    return {
        "".join(characters[byte] for byte in bytes(token))
        for token, _ in tokenizer.get_mergeable_ranks()
    }


def _tokens(tokenizer: Any) -> set[str]:
    return set(tokenizer.get_vocab())


def _say_common_vocabulary(trained: dict[str, Any]) -> None:
    _say_common("rust_tok", _tokens(trained["rust_tok"]), _tokens(trained["tokenizers"]))


def _say_common(name: str, mine: Iterable[str], theirs: set[str]) -> None:
    common = len(theirs.intersection(mine))
    print(f"{name}: {common:,} of the {len(theirs):,} entries of tokenizers")


if __name__ == "__main__":
    main()
