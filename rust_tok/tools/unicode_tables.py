"""Probe the installed `tokenizers` for its Unicode tables and write the ones rust_tok embeds.

    python tools/unicode_tables.py [FOLDER]      # default: crates/tok/src/unicode

Every normalizer and pre-tokenizer of `tokenizers` carries the tables of the crates it was built
with, and they are of different Unicode versions. The only trustworthy source is its behaviour:
each code point is put through each of them, and what comes out is written down.

Files, all little endian:

- `index.bin`    u16 per block of 64 code points: number of the block in `blocks.bin`
- `blocks.bin`   u16 per code point of each distinct block: number of its record
- `records.bin`  16 bytes each: u16 flags, u8 rank, u8 unused, then three mappings
                 (lowercase, canonical, compatibility decomposition) of u24 start, u8 length
                 in bytes; length 0 means the code point itself
- `pool.txt`     UTF-8 text that the mappings point into
- `compose.bin`  u32 first, u32 second, u32 composed, sorted

`rank` orders combining marks as canonical ordering does (0: never moves); the numbers are not
Unicode's combining classes, only their order is the same. Hangul syllables are left out of the
mappings: the arithmetic of the standard covers them, which is checked here.
"""

import itertools
import struct
import sys
from functools import cmp_to_key
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers

BLOCK = 64
HANGUL = range(0xAC00, 0xAC00 + 11172)
FLAGS = (
    "WHITE_SPACE",  # char::is_whitespace of Rust: splits BERT words
    "REMOVED",  # dropped by clean_text
    "BLANK",  # replaced by a space by clean_text
    "IDEOGRAPH",  # padded by handle_chinese_chars
    "NONSPACING",  # dropped by the BertNormalizer's strip_accents
    "BERT_PUNCTUATION",  # a word of its own in the BertPreTokenizer
    "LETTER",  # \p{L} of the byte-level split
    "NUMBER",  # \p{N} of the byte-level split
    "SPLIT_SPACE",  # \s of the byte-level split
    "WORD",  # \w at the sides of an added token with single_word
    "STRIPPED",  # \s beside an added token with lstrip or rstrip
    "MARK",  # dropped by the StripAccents normalizer
)
CODE_POINTS = [code for code in range(0x110000) if not 0xD800 <= code <= 0xDFFF]


def probe_flags() -> list[int]:
    def bert(**on: bool) -> normalizers.Normalizer:
        off = {"clean_text": False, "handle_chinese_chars": False, "strip_accents": False}
        return normalizers.BertNormalizer(**{**off, "lowercase": False, **on})

    clean, chinese = bert(clean_text=True), bert(handle_chinese_chars=True)
    strip, mark = bert(strip_accents=True), normalizers.StripAccents()
    nfd = normalizers.NFD()
    words, pieces = pre_tokenizers.BertPreTokenizer(), pre_tokenizers.ByteLevel(False)
    bit = {name: 1 << position for position, name in enumerate(FLAGS)}
    whole, sides, strips = probe_added_tokens()

    flags = [0] * 0x110000
    for code in CODE_POINTS:
        c = chr(code)
        found = 0
        cleaned = clean.normalize_str(c)
        if cleaned == "":
            found |= bit["REMOVED"]
        elif cleaned == " ":
            found |= bit["BLANK"]
        else:
            assert cleaned == c, hex(code)
        if chinese.normalize_str(c) == f" {c} ":
            found |= bit["IDEOGRAPH"]
        if strip.normalize_str(c) == "" and nfd.normalize_str(c) == c:
            found |= bit["NONSPACING"]
        if mark.normalize_str(c) == "":
            found |= bit["MARK"]
        split = [piece for piece, _ in words.pre_tokenize_str(f"a{c}a")]
        if split == ["a", "a"]:
            found |= bit["WHITE_SPACE"]
        elif split == ["a", c, "a"]:
            found |= bit["BERT_PUNCTUATION"]
        else:
            assert split == [f"a{c}a"], hex(code)
        for left, name in (("a", "LETTER"), ("1", "NUMBER"), ("!", None)):
            if len(pieces.pre_tokenize_str(f"{left}{c}")) == 1:
                found |= bit[name] if name else 0
                break
        else:
            found |= bit["SPLIT_SPACE"]
        if whole[code]:
            found |= bit["WORD"]
            assert sides[code], f"{code:#x} is \\w on one side only"
        if strips[code]:
            found |= bit["STRIPPED"]
        flags[code] = found
    return flags


def probe_added_tokens() -> tuple[list[bool], list[bool], list[bool]]:
    """For each code point: is it \\w before a token, after a token, \\s beside a token."""

    def tokenizer(token: AddedToken) -> Tokenizer:
        made = Tokenizer(models.WordLevel({"?": 0}, unk_token="?"))
        made.add_tokens([token])
        return made

    def probe(token: AddedToken, form: str, expected: int) -> list[bool]:
        made = tokenizer(token)
        result = [False] * 0x110000
        for start in range(0, len(CODE_POINTS), 65536):
            codes = CODE_POINTS[start : start + 65536]
            encoded = made.encode_batch([form.format(chr(code)) for code in codes])
            for code, encoding in zip(codes, encoded, strict=True):
                result[code] = len(encoding.ids) == expected
        return result

    word = AddedToken("XX", single_word=True, normalized=False)
    before, after = probe(word, "{}XX", 1), probe(word, "XX{}", 1)
    left = probe(AddedToken("XX", lstrip=True, normalized=False), "{}XX", 1)
    right = probe(AddedToken("XX", rstrip=True, normalized=False), "XX{}", 1)
    assert left == right
    return before, after, left


def probe_ranks() -> list[int]:
    """Order the marks that canonical ordering moves, from what NFD does with pairs of them."""
    nfd = normalizers.NFD()
    low, high = "̴", "ͅ"  # the lowest and the highest combining class
    single = {code: nfd.normalize_str(chr(code)) for code in CODE_POINTS}
    moving = []
    for code in CODE_POINTS:
        c = chr(code)
        if single[code] != c:
            continue
        if nfd.normalize_str(c + low) == low + c or nfd.normalize_str(high + c) == c + high:
            moving.append(c)
    moving += [low, high]
    moving = sorted(set(moving))

    def compare(a: str, b: str) -> int:
        if nfd.normalize_str(a + b) == b + a and a != b:
            return 1
        return -1 if nfd.normalize_str(b + a) == a + b and a != b else 0

    ordered = sorted(moving, key=cmp_to_key(compare))
    ranks = [0] * 0x110000
    rank = 0
    for previous, mark in itertools.pairwise([None, *ordered]):
        if previous is None or compare(previous, mark) != 0:
            rank += 1
        ranks[ord(mark)] = rank
    assert rank < 256
    for a, b in itertools.product(moving, repeat=2):
        swapped = ranks[ord(a)] > ranks[ord(b)]
        assert (nfd.normalize_str(a + b) == b + a) == (swapped or a == b), (a, b)
    return ranks


def probe_mapping(normalizer: normalizers.Normalizer) -> dict[int, str]:
    mapping = {}
    for code in CODE_POINTS:
        out = normalizer.normalize_str(chr(code))
        if out != chr(code):
            mapping[code] = out
    return mapping


def hangul(code: int) -> str:
    lead, rest = divmod(code - 0xAC00, 588)
    vowel, tail = divmod(rest, 28)
    return chr(0x1100 + lead) + chr(0x1161 + vowel) + (chr(0x11A7 + tail) if tail else "")


def probe_compositions(canonical: dict[int, str]) -> dict[tuple[str, str], str]:
    nfc = normalizers.NFC()
    pairs = {}
    for code, decomposed in canonical.items():
        if len(decomposed) < 2 or nfc.normalize_str(decomposed) != chr(code):
            continue
        first = nfc.normalize_str(decomposed[:-1])
        assert len(first) == 1, hex(code)
        pairs[first, decomposed[-1]] = chr(code)
    return pairs


def probe() -> dict[str, bytes]:
    """Every table of the installed `tokenizers`, by file name."""
    flags, ranks = probe_flags(), probe_ranks()
    lower = probe_mapping(normalizers.Lowercase())
    canonical = probe_mapping(normalizers.NFD())
    compatible = probe_mapping(normalizers.NFKD())
    nfc = normalizers.NFC()
    for code in HANGUL:
        assert canonical.pop(code) == compatible.pop(code) == hangul(code)
        assert nfc.normalize_str(hangul(code)) == chr(code)

    pool = ""
    starts: dict[str, int] = {}
    for text in sorted({*lower.values(), *canonical.values(), *compatible.values()}):
        starts[text] = len(pool.encode())
        pool += text

    numbers: dict[bytes, int] = {}
    records = b""
    code_to_record = []
    for code in range(0x110000):
        record = struct.pack("<HBB", flags[code], ranks[code], 0)
        for mapping in (lower, canonical, compatible):
            text = mapping.get(code, "")
            start = starts[text] if text else 0
            record += struct.pack("<I", start | len(text.encode()) << 24)
        if record not in numbers:
            numbers[record] = len(numbers)
            records += record
        code_to_record.append(numbers[record])

    block_numbers: dict[bytes, int] = {}
    index = b""
    for start in range(0, 0x110000, BLOCK):
        block = struct.pack(f"<{BLOCK}H", *code_to_record[start : start + BLOCK])
        index += struct.pack("<H", block_numbers.setdefault(block, len(block_numbers)))

    compose = b"".join(
        struct.pack("<III", ord(a), ord(b), ord(c))
        for (a, b), c in sorted(probe_compositions(canonical).items())
    )
    return {
        "index.bin": index,
        "blocks.bin": b"".join(block_numbers),
        "records.bin": records,
        "pool.txt": pool.encode(),
        "compose.bin": compose,
    }


def main() -> None:
    default = Path(__file__).parents[1] / "crates/tok/src/unicode"
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else default
    for name, content in probe().items():
        (folder / name).write_bytes(content)
        print(f"{name:12} {len(content):8} bytes")


if __name__ == "__main__":
    main()
