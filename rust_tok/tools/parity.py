"""Hold rust_tok's ids and texts against the installed `tokenizers`, string by string.

    python rust_tok/tools/parity.py [--strings 10000000] [--seed 1] [--only NAME]

The tokenizers have the sections of the published files (bert-base uncased, cased, multilingual,
chinese; MiniLM; gpt2; roberta) over vocabularies trained here on the strings themselves, and some
that no published file has but the format allows. Real files can be added with `--file`.
Prints the differences and exits 1 if there is one.
"""

import argparse
import ast
import itertools
import json
import random
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

import rust_tok

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
SPACES = "\t\n\r\x0b\x0c\x1c\x85\xa0\u1680\u2000\u2003\u2028\u2029\u202f\u205f\u3000  "
CONTROLS = "\x00\x01\x07\x08\x1b\x7f\x80\x9f\xad\u200b\u200d\u200e\u2060\ufeff\ufffd\ufffe\ue000"
MARKS = "\u0300\u0301\u0316\u0323\u0327\u0338\u0345\u05b0\u064b\u093c\u094d\u0bcd\u302e\u3099"
EMOJI = [
    "😀", "👩\u200d💻", "👨\u200d👩\u200d👧", "🇩🇪", "👍🏽", "❤\ufe0f", "1\ufe0f\u20e3",
    "🏴\U000e0067\U000e007f",
]  # fmt: skip
FRAGMENTS = [
    *SPECIAL, "<s>", "</s>", "<mask>", "<|endoftext|>", " <mask> ", "[mask]", "[MASK", "MASK]",
    "added", "ADDED", "Added token", "added token", "straße", "STRASSE", "ŞİŞLİ", "ΌΣΟΣ", "ß",
    "'s", "'ll", "'t", "don't", "I'VE", "''", "...", "—", "“quoted”", "$1,000.50", "½", "²", "Ⅷ",
    "٣", "ﬁ", "中文", "日本語テキスト", "한국어", "각", "ไทย", "हिन्दी", "العربيّة", "עברית",
    "Tiếng Việt", "ångström", "unaffable", "tokenization", "antidisestablishmentarianism",
    "http://a.b/c?d=e&f#g", "x_y-z", "##ing", "##", "Ġ", "Ċ", "ĠĠ", "\u0130", "\u1e9e",
    "\U0001d400", "\u1100\u1161\u11a8", "a" * 101, "é" * 99, "b" * 100, "     ", "\n\n",
    " \n ", "\r\n", "\t\t",
]  # fmt: skip


def documentation() -> list[str]:
    """Paragraphs and lines of the standard library's documentation strings."""
    texts: dict[str, None] = {}
    for path in sorted(Path(sysconfig.get_path("stdlib")).glob("[a-z]*.py")):
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                text = ast.get_docstring(node, clean=False) or ""
                texts.update(dict.fromkeys(text.split("\n\n")))
                texts.update(dict.fromkeys(text.split("\n")))
    return list(texts)


def blocks() -> Iterator[str]:
    """Every code point, between letters and beside its neighbours; of the planes without any
    character, and of the private ones, one group of 16 in 64.
    """
    full = range(0, 0x33480, 16), range(0xE0000, 0xE1000, 16)
    sparse = range(0x33480, 0xE0000, 1024), range(0xE1000, 0x110000, 1024)
    for start in itertools.chain(*full, *sparse):
        codes = [code for code in range(start, start + 16) if not 0xD800 <= code < 0xE000]
        if codes:
            chars = [chr(code) for code in codes]
            yield "".join(chars)
            yield "a".join(chars) + " " + " ".join(chars[:4])


def hostile() -> list[str]:
    return [
        "", " ", "\x00", "\ufeff", "a", "A", "[UNK]", "[CLS][SEP]", "[MASK][MASK] [MASK]", "\u0301",
        "\u0301" * 50, "a" + "\u0301\u0316" * 50, "中" * 300, "a" * 300, "a" * 1_000_000,
        "x yz, " * 170_000, "ab" * 20_000, " " * 50_000, "\n" * 50_000, "é" * 20_000, "!?" * 20_000,
        "[MASK]" * 5000, "가" * 5000, "😀" * 10_000, "'s" * 1000, "\U0010ffff", "\ud7ff\ue000",
    ]  # fmt: skip


def mixtures(seed: int, real: list[str]) -> Iterator[str]:
    """Random strings without end: fragments, code points of one block, of all, real text, cut."""
    rng = random.Random(seed)
    pick = rng.choice
    singles = [*SPACES, *CONTROLS, *MARKS, *EMOJI, *FRAGMENTS]
    letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,;:!?-'\"()  "
    while True:
        kind = rng.random()
        if kind < 0.35:
            yield "".join(pick(singles) for _ in range(rng.randrange(1, 8)))
        elif kind < 0.5:
            yield "".join(
                pick(singles) if rng.random() < 0.3 else pick(letters)
                for _ in range(rng.randrange(1, 30))
            )
        elif kind < 0.65:
            start = rng.randrange(0x20, 0x1FBFF)
            codes = (start + rng.randrange(64) for _ in range(rng.randrange(1, 16)))
            yield "".join(chr(code) for code in codes if not 0xD800 <= code < 0xE000)
        elif kind < 0.7:
            codes = (rng.randrange(0x110000) for _ in range(rng.randrange(1, 6)))
            yield "".join(chr(code) for code in codes if not 0xD800 <= code < 0xE000)
        else:
            text = pick(real)
            start = rng.randrange(len(text) + 1)
            cut = text[start : start + rng.randrange(80)]
            yield cut + pick(singles) + cut[::-1][:10] if kind > 0.9 else cut


def strings(count: int, seed: int = 1) -> Iterator[str]:
    """Hostile ones, code points, documentation, then mixtures up to the count."""
    real = documentation()
    ordered = itertools.chain(hostile(), blocks(), real, mixtures(seed, real))
    return itertools.islice(ordered, count)


def trained(texts: list[str]) -> dict[str, dict[str, Any]]:
    """WordPiece (lowercase, cased) and byte-level BPE as `tokenizers` trains and saves them."""

    def finished(tokenizer: Tokenizer, trainer: trainers.Trainer) -> dict[str, Any]:
        tokenizer.train_from_iterator(texts, trainer)
        return json.loads(tokenizer.to_str())

    def wordpiece(lowercase: bool) -> dict[str, Any]:
        tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
        tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        tokenizer.decoder = decoders.WordPiece()
        settings = {"vocab_size": 8000, "special_tokens": SPECIAL, "limit_alphabet": 3000}
        return finished(tokenizer, trainers.WordPieceTrainer(**settings, show_progress=False))

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=8000,
        special_tokens=["<s>", "<pad>", "</s>", "<unk>", "<mask>", "<|endoftext|>"],
        show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    bpe = finished(tokenizer, trainer)
    return {"uncased": wordpiece(True), "cased": wordpiece(False), "bpe": bpe}


def published(texts: list[str]) -> dict[str, dict[str, Any]]:
    """Files with the sections of the published ones, and of some others, by name."""
    bases = {name: json.dumps(file) for name, file in trained(texts).items()}
    special = {
        text: {"id": text, "ids": [id], "tokens": [text]}
        for text, id in (("[CLS]", 2), ("[SEP]", 3))
    }
    cls, sep = ({"SpecialToken": {"id": text, "type_id": 0}} for text in special)
    first, second = ({"Sequence": {"id": which, "type_id": 0}} for which in "AB")
    template = {
        "type": "TemplateProcessing",
        "single": [cls, first, sep],
        "pair": [cls, first, sep, second, sep],
        "special_tokens": special,
    }
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False}
    names = ("single_word", "lstrip", "rstrip", "normalized", "special")
    files = {}

    def file(name: str, base: str, **sections: Any) -> dict[str, Any]:
        processor = byte_level if base == "bpe" else template
        files[name] = {**json.loads(bases[base]), "post_processor": processor, **sections}
        return files[name]

    def token(id: int, content: str, *set: str) -> dict[str, Any]:
        return {"id": id, "content": content, **{name: name in set for name in names}}

    del file("bert-base-uncased", "uncased")["model"]["type"]  # as published
    file("bert-base-cased", "cased")
    file("bert-base-multilingual-cased", "cased")["normalizer"]["strip_accents"] = False
    old = {"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]}
    file("bert-base-chinese", "uncased", post_processor=old)
    minilm = file("minilm", "uncased")
    minilm["truncation"] = {
        "direction": "Right", "max_length": 8, "strategy": "LongestFirst", "stride": 0,
    }  # fmt: skip
    minilm["padding"] = {
        "strategy": {"Fixed": 8}, "direction": "Right", "pad_to_multiple_of": None,
        "pad_id": 0, "pad_type_id": 0, "pad_token": "[PAD]",
    }  # fmt: skip
    file("uncased with added tokens", "uncased")["added_tokens"] += [
        token(9000, "Added Token", "normalized"),
        token(9001, "ADDED", "normalized", "single_word"),
        token(9002, "straße", "lstrip"),
        token(9003, "x_y", "rstrip"),
        token(9004, "日本", "single_word"),
        token(9005, "[mask]", "normalized", "special", "lstrip", "rstrip"),
        token(9006, "ångström", "normalized"),
        token(9007, "<mask>", "special", "lstrip", "rstrip"),
    ]
    file("accents without case", "cased")["normalizer"].update(strip_accents=True, clean_text=False)
    file("case without accents", "uncased")["normalizer"].update(
        strip_accents=False, handle_chinese_chars=False
    )
    forms = [{"type": name} for name in ("NFKC", "Lowercase", "NFD", "StripAccents")]
    file("normal forms", "uncased", normalizer={"type": "Sequence", "normalizers": forms})

    gpt2 = file("gpt2", "bpe")
    for name in ("type", "byte_fallback", "ignore_merges"):
        del gpt2["model"][name]
    gpt2["model"].update(continuing_subword_prefix="", end_of_word_suffix="")
    gpt2["model"]["merges"] = [" ".join(pair) for pair in gpt2["model"]["merges"]]
    del gpt2["pre_tokenizer"]["use_regex"]
    gpt2["added_tokens"] = [{**gpt2["added_tokens"][5], "normalized": True}]
    roberta = file("roberta", "bpe")
    roberta["post_processor"] = {
        "type": "RobertaProcessing", "sep": ["</s>", 2], "cls": ["<s>", 0],
        "trim_offsets": True, "add_prefix_space": False,
    }  # fmt: skip
    roberta["added_tokens"][4]["lstrip"] = True
    prefixed = file("prefix space and forms", "bpe", normalizer={"type": "NFC"})
    prefixed["pre_tokenizer"]["add_prefix_space"] = True
    prefixed["model"]["ignore_merges"] = True
    prefixed["added_tokens"] += [
        token(9000, "added", "normalized", "lstrip", "rstrip"),
        token(9001, " x", "lstrip"),
    ]
    unknown = file("unknown bytes", "bpe", normalizer={"type": "NFKD"})
    drop_bytes(unknown["model"], "ãäåæçèéðñ")
    unknown["model"].update(unk_token="<unk>", fuse_unk=True)
    missing = file("missing bytes, no split", "bpe")
    drop_bytes(missing["model"], "ãäåæçèéðñ")
    missing["pre_tokenizer"]["use_regex"] = False
    return files


def drop_bytes(model: dict[str, Any], chars: str) -> None:
    """Take every token with one of the characters out of a BPE model."""
    gone = set(chars)
    model["vocab"] = {text: id for text, id in model["vocab"].items() if not gone & set(text)}
    model["merges"] = [pair for pair in model["merges"] if not gone & set("".join(pair))]


def compare(file: str, texts: list[str], limit: int = 5, encode_only: bool = False) -> list[str]:
    """Differences between `tokenizers` and rust_tok on the texts: none, if all is well."""
    theirs, ours = Tokenizer.from_file(file), rust_tok.Tokenizer.from_file(file)
    theirs.no_truncation()
    theirs.no_padding()
    found = []

    def hold(what: str, texts: list[Any], expected: list[Any], given: list[Any]) -> None:
        if expected != given:
            rows = zip(texts, expected, given, strict=True)
            different = [row for row in rows if row[1] != row[2]]
            for text, want, got in different[:limit]:
                found.append(f"{what}: {str(text)[:200]!r}\n    {want[:40]}\n    {got[:40]}")

    expected = [encoding.ids for encoding in theirs.encode_batch_fast(texts)]
    hold("encode", texts, expected, ours.encode_batch(texts))
    if encode_only:
        return found
    # The other calls share the road: huge strings go it once.
    short = [row for row, text in enumerate(texts) if len(text) < 5000]
    texts, expected = [texts[row] for row in short], [expected[row] for row in short]
    plain = [
        encoding.ids for encoding in theirs.encode_batch_fast(texts[::4], add_special_tokens=False)
    ]
    column = pa.array(ours.encode_arrow(pa.array(texts[::4], pa.large_string())))
    hold("encode_arrow", texts[::4], plain, column.to_pylist())

    some = list(zip(texts[:-1:8], texts[1::8], strict=False))
    firsts, seconds = (pa.array(list(side)) for side in zip(*some, strict=True))
    pairs = [encoding.ids for encoding in theirs.encode_batch_fast(some)]
    column = ours.encode_arrow(firsts, seconds, add_special_tokens=True)
    hold("encode a pair", some, pairs, pa.array(column).to_pylist())
    for length in (5, 12):
        theirs.enable_truncation(length)
        cut = [encoding.ids for encoding in theirs.encode_batch_fast(some[::2])]
        given = pa.array(ours.encode_arrow(firsts, seconds, True, length)).to_pylist()[::2]
        hold(f"a pair cut to {length}", some[::2], cut, given)
        cut = [encoding.ids for encoding in theirs.encode_batch_fast(texts[::16])]
        given = pa.array(ours.encode_arrow(pa.array(texts[::16]), None, True, length)).to_pylist()
        hold(f"cut to {length}", texts[::16], cut, given)
    theirs.no_truncation()

    theirs.encode_special_tokens = True
    expected_text = [encoding.ids for encoding in theirs.encode_batch_fast(texts[::4])]
    given = ours.encode_batch(texts[::4], split_special_tokens=True)
    hold("special tokens as text", texts[::4], expected_text, given)

    for skip in (True, False):
        want = theirs.decode_batch(expected[::4], skip_special_tokens=skip)
        hold("decode", expected[::4], want, ours.decode_batch(expected[::4], skip))
    rng = random.Random(len(texts))
    size = ours.vocab_size + 20
    noise = [
        [rng.randrange(size) for _ in range(rng.randrange(12))] for _ in range(len(texts) // 16)
    ]
    hold("decode noise", noise, theirs.decode_batch(noise), ours.decode_batch(noise))
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--strings", type=int, default=10_000_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", help="part of the name of the tokenizers to test")
    parser.add_argument("--file", action="append", default=[], help="a tokenizer.json")
    arguments = parser.parse_args()
    failed = False
    with tempfile.TemporaryDirectory() as folder:
        files = {Path(path).parent.name: path for path in arguments.file}
        for name, content in published(documentation() + list(blocks())[:8000]).items():
            files[name] = str(Path(folder) / f"{name}.json")
            Path(files[name]).write_text(json.dumps(content))
        names = [name for name in files if (arguments.only or "") in name]
        started, done = time.monotonic(), 0
        texts = strings(arguments.strings, arguments.seed)
        for chunk in iter(lambda: list(itertools.islice(texts, 20_000)), []):
            for name in names:
                for difference in compare(files[name], chunk):
                    print(f"{name}: {difference}")
                    failed = True
            done += len(chunk)
            took = time.monotonic() - started
            print(f"{done:,} strings x {len(names)} tokenizers, {took:.0f} s", flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
