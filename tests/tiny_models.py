"""What the tiny models of the inference tests know, and their tokenizer's files."""

from pathlib import Path

import rust_tok
from raybert.tokens.tokenizer_files import tokenizer_files

WORDS = [f"{'abcdefghij'[i % 10]}{i}" for i in range(90)]
POSITIONS = 32
LABELS = {0: "good", 1: "bad", 2: "so so"}


def write_tokenizer(folder: Path) -> None:
    vocab = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    (folder / "vocab.txt").write_text("".join(f"{token}\n" for token in vocab))
    tokenizer = rust_tok.Tokenizer.from_file(str(folder / "vocab.txt"))
    for name, content in tokenizer_files(
        tokenizer.to_json().encode(), max_length=POSITIONS
    ).items():
        (folder / name).write_bytes(content)
