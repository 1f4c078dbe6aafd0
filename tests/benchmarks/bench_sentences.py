"""Sentence splitting of rust_tok against the crate unicode-segmentation, equal boundaries.

python tests/benchmarks/bench_sentences.py [--quick] [--english FILE]
"""

import argparse
import json
import subprocess
import tempfile
from pathlib import Path

import text
from harness import Timing, print_table

RUST = Path(__file__).parents[2] / "rust_tok"
EXAMPLE = ("cargo", "run", "--release", "--quiet", "--package", "tok", "--example")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--english", help="a text file in place of documentation strings")
    arguments = parser.parse_args()
    num_bytes, rounds = (1_000_000, 2) if arguments.quick else (20_000_000, 7)
    path = arguments.english
    documents = text.of_file(path, num_bytes) if path else text.documents(num_bytes)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "english.txt"
        file.write_text("".join(documents), encoding="utf-8")
        command = [*EXAMPLE, "sentence_rates", "--", str(file), str(rounds)]
        done = subprocess.run(command, cwd=RUST, check=True, stdout=subprocess.PIPE, text=True)
    given = json.loads(done.stdout)
    print(f"{given['sentences']:,} sentences, the same from both")
    print_table(
        "sentences, 1 thread (goal: 5x)",
        {name: Timing(tuple(given[name])) for name in ("rust_tok", "unicode-segmentation")},
        ours="rust_tok",
        amount=given["bytes"] / 1e6,
        unit="MB/s",
    )


if __name__ == "__main__":
    main()
