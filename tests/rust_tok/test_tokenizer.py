"""Files in and out, refusals by name, pickling, fingerprints, threads."""

import json
import multiprocessing
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tokenizers

import rust_tok


def hugging_face(path: Path) -> tokenizers.Tokenizer:
    return tokenizers.Tokenizer.from_file(str(path))


def test_saved_files_are_those_of_tokenizers(oracle_files: dict[str, Path], tmp_path: Path) -> None:
    for name, path in oracle_files.items():
        saved = tmp_path / f"{name}.json"
        rust_tok.Tokenizer.from_file(path).save(saved)
        assert hugging_face(saved).to_str() == hugging_face(path).to_str(), name
        again = rust_tok.Tokenizer.from_file(saved)
        assert again.to_json() == saved.read_text()


def test_truncation_and_padding_are_kept_and_not_applied(
    oracle_files: dict[str, Path], tmp_path: Path
) -> None:
    tokenizer = rust_tok.Tokenizer.from_file(oracle_files["minilm"])
    assert len(tokenizer.encode("a " * 50)) == 52
    assert len(tokenizer.encode("a")) == 3
    tokenizer.save(tmp_path / "saved.json")
    assert hugging_face(tmp_path / "saved.json").truncation["max_length"] == 8
    assert hugging_face(tmp_path / "saved.json").padding["length"] == 8
    plain = rust_tok.Tokenizer.from_file(oracle_files["bert-base-uncased"])
    assert tokenizer.fingerprint == plain.fingerprint


def test_vocabulary(oracle_files: dict[str, Path]) -> None:
    for path in oracle_files.values():
        ours, theirs = rust_tok.Tokenizer.from_file(path), hugging_face(path)
        assert ours.get_vocab() == theirs.get_vocab()
        assert ours.vocab_size == theirs.get_vocab_size()
        for id in range(9010):
            assert ours.id_to_token(id) == theirs.id_to_token(id)
        for token in [*list(ours.get_vocab())[:100], "no such token"]:
            assert ours.token_to_id(token) == theirs.token_to_id(token)
    bert = rust_tok.Tokenizer.from_file(oracle_files["bert-base-uncased"])
    assert bert.special_tokens == ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    assert "WordPiece" in repr(bert)


def test_vocab_txt(oracle_files: dict[str, Path], tmp_path: Path, strings: list[str]) -> None:
    texts = strings[-300:]
    for name, lowercase in (("bert-base-uncased", True), ("bert-base-cased", False)):
        whole = rust_tok.Tokenizer.from_file(oracle_files[name])
        whole.save_vocab(tmp_path)
        for option in (None, lowercase):
            read = rust_tok.Tokenizer.from_file(tmp_path / "vocab.txt", lowercase=option)
            assert read.encode_batch(texts) == whole.encode_batch(texts)
        other = rust_tok.Tokenizer.from_file(tmp_path / "vocab.txt", lowercase=not lowercase)
        assert other.encode_batch(texts) != whole.encode_batch(texts)


def test_vocab_json_and_merges(oracle_files: dict[str, Path], tmp_path: Path) -> None:
    rust_tok.Tokenizer.from_file(oracle_files["gpt2"]).save_vocab(tmp_path)
    files = str(tmp_path / "vocab.json"), str(tmp_path / "merges.txt")
    theirs = tokenizers.Tokenizer(tokenizers.models.BPE.from_file(*files))
    model = json.loads(hugging_face(oracle_files["gpt2"]).to_str())["model"]
    assert json.loads(theirs.to_str())["model"]["merges"] == model["merges"]
    assert json.loads(theirs.to_str())["model"]["vocab"] == model["vocab"]


def test_pickle_and_fingerprint(oracle_files: dict[str, Path]) -> None:
    prints = {}
    for name, path in oracle_files.items():
        tokenizer = rust_tok.Tokenizer.from_file(path)
        copy = pickle.loads(pickle.dumps(tokenizer))
        assert copy.to_json() == tokenizer.to_json()
        assert copy.fingerprint == tokenizer.fingerprint
        prints[name] = tokenizer.fingerprint
    assert all(len(bytes.fromhex(text)) == 16 for text in prints.values())
    assert prints["roberta"] != prints["gpt2"]
    assert prints["bert-base-cased"] != prints["bert-base-multilingual-cased"]


def set_at(*keys: str | int, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(file: dict[str, Any]) -> None:
        section: Any = file
        for key in keys[:-1]:
            section = section[key]
        section[keys[-1]] = value

    return change


@pytest.mark.parametrize(
    ("base", "change", "message"),
    [
        ("gpt2", set_at("model", "dropout", value=0.1), "model: dropout 0.1"),
        ("gpt2", set_at("model", "byte_fallback", value=True), "model: byte_fallback"),
        ("gpt2", set_at("model", "end_of_word_suffix", value="</w>"), "end_of_word_suffix"),
        ("gpt2", set_at("model", "continuing_subword_prefix", value="#"), "continuing_subword"),
        ("gpt2", set_at("pre_tokenizer", value=None), "pre_tokenizer: null"),
        ("gpt2", set_at("pre_tokenizer", value={"type": "Metaspace"}), "Metaspace .*BertPreTok"),
        ("gpt2", set_at("decoder", value={"type": "Fuse"}), "decoder: Fuse"),
        ("gpt2", set_at("normalizer", value={"type": "Nmt"}), "normalizer: Nmt"),
        (
            "gpt2",
            set_at(
                "normalizer",
                value={"type": "Sequence", "normalizers": [{"type": "NFC"}, {"type": "Prepend"}]},
            ),
            "normalizer Sequence: Prepend",
        ),
        ("gpt2", set_at("model", value={"type": "Unigram", "vocab": [["a", 0.5]]}), "Unigram"),
        ("gpt2", set_at("version", value="2.0"), "version: 2.0"),
        (
            "gpt2",
            set_at("pre_tokenizer", value={"type": "BertPreTokenizer"}),
            "BPE with BertPreTokenizer",
        ),
        (
            "roberta",
            set_at(
                "post_processor",
                value={
                    "type": "Sequence",
                    "processors": [
                        {"type": "BertProcessing", "sep": ["a", 1], "cls": ["b", 2]}
                    ] * 2,
                },
            ),
            "Sequence of several",
        ),
    ],
)  # fmt: skip
def test_what_is_not_done_is_refused_by_name(
    base: str,
    change: Callable[[dict[str, Any]], None],
    message: str,
    oracle_files: dict[str, Path],
    tmp_path: Path,
) -> None:
    file = json.loads(oracle_files[base].read_text())
    change(file)
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(file))
    with pytest.raises(rust_tok.UnsupportedError, match=message) as refusal:
        rust_tok.Tokenizer.from_file(path)
    assert str(path) in str(refusal.value)
    assert "allowed: " in str(refusal.value)


@pytest.mark.parametrize(
    ("base", "change", "message"),
    [
        ("gpt2", set_at("model", "merges", 3, value="a b c"), 'merge 4: "a b c" is not two'),
        ("gpt2", set_at("model", "merges", 3, value="qq zz"), 'merge 4: "qq" is not in the vocab'),
        ("bert-base-cased", set_at("model", "unk_token", value="?!"), 'unk_token "\\?!" is not in'),
        ("bert-base-cased", set_at("model", "vocab", "zzz", value=5), "have the same id 5"),
        ("bert-base-cased", set_at("model", "vocab", "z", value=2**25), "is over 16777215"),
        ("bert-base-cased", set_at("model", "surprise", value=1), "unknown field `surprise`"),
        ("bert-base-cased", set_at("normalizer", "lowercase", value="no"), "normalizer BertNorm"),
        (
            "bert-base-cased",
            set_at("post_processor", "special_tokens", value={}),
            'single names "\\[CLS\\]", which special_tokens does not define',
        ),
    ],
)
def test_a_damaged_file_is_refused_with_its_place(
    base: str,
    change: Callable[[dict[str, Any]], None],
    message: str,
    oracle_files: dict[str, Path],
    tmp_path: Path,
) -> None:
    file = json.loads(oracle_files[base].read_text())
    change(file)
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(file))
    with pytest.raises(rust_tok.DamagedFileError, match=message):
        rust_tok.Tokenizer.from_file(path)


def test_broken_json_is_refused_with_its_line(
    oracle_files: dict[str, Path], tmp_path: Path
) -> None:
    path = tmp_path / "tokenizer.json"
    rust_tok.Tokenizer.from_file(oracle_files["bert-base-cased"]).save(path)
    lines = path.read_text().split("\n")
    broken = next(
        number
        for number, line in enumerate(lines)
        if line.endswith('"##s": 80,') or '"the"' in line
    )
    for text in ("oops", "-1,"):
        path.write_text("\n".join([*lines[:broken], text, *lines[broken:]]))
        with pytest.raises(rust_tok.DamagedFileError, match=rf"json: line {broken + 1}, column"):
            rust_tok.Tokenizer.from_file(path)
    path.write_text("\n".join(lines[:broken]))
    with pytest.raises(rust_tok.DamagedFileError, match="EOF"):
        rust_tok.Tokenizer.from_file(path)
    path.write_bytes(b"{\xff")
    with pytest.raises(rust_tok.DamagedFileError, match="not UTF-8 at byte 1"):
        rust_tok.Tokenizer.from_file(path)
    with pytest.raises(FileNotFoundError, match="nothing.json"):
        rust_tok.Tokenizer.from_file(tmp_path / "nothing.json")
    with pytest.raises(rust_tok.TokenizerError, match="lowercase is for a vocab"):
        rust_tok.Tokenizer.from_file(oracle_files["gpt2"], lowercase=True)


def test_a_vocab_txt_without_the_special_tokens_is_refused(tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_text("[PAD]\n[UNK]\n[SEP]\na\n")
    with pytest.raises(rust_tok.DamagedFileError, match=r"\[CLS\] is missing"):
        rust_tok.Tokenizer.from_file(tmp_path / "vocab.txt")


def encode_in_child(tokenizer: rust_tok.Tokenizer, texts: list[str], queue: Any) -> None:
    queue.put(tokenizer.encode_batch(texts))


def test_a_forked_process_encodes(oracle_files: dict[str, Path], strings: list[str]) -> None:
    """The parent's threads don't exist in a fork: waiting for them would never end."""
    tokenizer = rust_tok.Tokenizer.from_file(oracle_files["bert-base-uncased"])
    texts = strings[-20_000:]
    expected = tokenizer.encode_batch(texts)
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=encode_in_child, args=(tokenizer, texts, queue))
    child.start()
    assert queue.get(timeout=120) == expected
    child.join(timeout=60)


def test_other_threads_run_during_a_batch(
    oracle_files: dict[str, Path], strings: list[str]
) -> None:
    tokenizer = rust_tok.Tokenizer.from_file(oracle_files["bert-base-uncased"])
    texts = strings[-50_000:]
    expected = tokenizer.encode_batch(texts)
    results: list[list[list[int]]] = []
    threads = [
        threading.Thread(target=lambda: results.append(tokenizer.encode_batch(texts)))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [expected] * 3


def test_import_is_alone() -> None:
    """No Arrow library, no numpy: nothing but the standard library is imported."""
    script = (
        "import sys, rust_tok; print(sorted({'pyarrow', 'numpy', 'tokenizers'} & {*sys.modules}))"
    )
    shown = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, check=True, text=True
    )
    assert shown.stdout.strip() == "[]"


@pytest.mark.parametrize(("found", "damage"), [('"[UNK]": ', "-1"), ('"added_tokens": ', "7")])
def test_the_place_of_a_damage_in_a_file_of_one_line(found: str, damage: str) -> None:
    text = json.dumps(json.loads(rust_tok.train_wordpiece(["a b"], vocab_size=40).to_json()))
    place = text.index(found) + len(found)
    broken = text[:place] + damage + text[place:].lstrip("0123456789")
    with pytest.raises(rust_tok.DamagedFileError, match=r"line 1, column") as error:
        rust_tok.Tokenizer.from_json(broken)
    column = int(str(error.value).split("column ")[1].split(":")[0])
    assert abs(column - place) <= 2
