"""A small corpus and tokenizers trained on it."""

import random
from pathlib import Path

import pytest

import rust_tok

WORDS = [
    *("the", "river", "ran", "through", "old", "towns", "where", "nobody", "spoke", "of"),
    *("Ångström's", "naïve", "café", "東京", "now"),
]


def make_documents(num_documents: int, seed: int = 0) -> list[str]:
    """Documents of a few sentences of a few words, some over two lines."""
    draw = random.Random(seed)

    def sentence() -> str:
        words = draw.choices(WORDS, k=draw.randint(3, 12))
        text = " ".join([*words, str(draw.randint(0, 10**6))]).capitalize() + draw.choice(".?!")
        return text.replace(" ", "\n", 1) if draw.random() < 0.2 else text

    return [" ".join(sentence() for _ in range(draw.randint(1, 8))) for _ in range(num_documents)]


@pytest.fixture(scope="session")
def documents() -> list[str]:
    return make_documents(400)


@pytest.fixture
def corpus_file(tmp_path: Path, documents: list[str]) -> Path:
    path = tmp_path / "in" / "corpus.txt"
    path.parent.mkdir()
    path.write_text("\n\n".join(documents))
    return path


@pytest.fixture(scope="session")
def wordpiece(documents: list[str]) -> rust_tok.Tokenizer:
    return rust_tok.train_wordpiece(documents, vocab_size=400)


@pytest.fixture(scope="session")
def bpe(documents: list[str]) -> rust_tok.Tokenizer:
    return rust_tok.train_bpe(documents, vocab_size=500)
