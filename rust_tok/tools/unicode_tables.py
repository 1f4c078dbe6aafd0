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
from collections.abc import Iterable, Iterator, Sequence
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
BAR = "█"  # nothing composes with it, decomposes to it, or touches it
OTHERS = [code for code in CODE_POINTS if code != ord(BAR)]


def probe_mapping(normalizer: normalizers.Normalizer) -> dict[int, str]:
    """What becomes of each code point that does not stay as it is, from one call."""
    outs = normalizer.normalize_str(BAR.join(map(chr, OTHERS))).split(BAR)
    pairs = zip(OTHERS, outs, strict=True)
    return {code: out for code, out in pairs if out != chr(code)}


def probe_flags() -> list[int]:
    def bert(**on: bool) -> dict[int, str]:
        off = {"clean_text": False, "handle_chinese_chars": False, "strip_accents": False}
        return probe_mapping(normalizers.BertNormalizer(**{**off, "lowercase": False, **on}))

    bit = {name: 1 << position for position, name in enumerate(FLAGS)}
    flags = [0] * 0x110000

    def mark(name: str, codes: Iterable[int]) -> None:
        for code in codes:
            flags[code] |= bit[name]

    cleaned, nfd = bert(clean_text=True), probe_mapping(normalizers.NFD())
    assert set(cleaned.values()) == {"", " "}
    mark("REMOVED", (code for code, out in cleaned.items() if out == ""))
    mark("BLANK", (code for code, out in cleaned.items() if out == " "))
    mark("BLANK", [ord(" ")])
    padded = bert(handle_chinese_chars=True)
    assert all(out == f" {chr(code)} " for code, out in padded.items())
    mark("IDEOGRAPH", padded)
    stripped = bert(strip_accents=True)
    mark("NONSPACING", (code for code, out in stripped.items() if out == "" and code not in nfd))
    gone = probe_mapping(normalizers.StripAccents())
    assert set(gone.values()) == {""}
    mark("MARK", gone)

    splits = pre_tokenizers.BertPreTokenizer()
    inside = probe_runs(splits, CODE_POINTS, "a{}a")
    for code, words in probe_words(splits, sorted({*CODE_POINTS} - inside), "a{}a"):
        if words == ["a", "a"]:
            mark("WHITE_SPACE", [code])
        elif words == ["a", chr(code), "a"]:
            mark("BERT_PUNCTUATION", [code])
        else:
            assert len(words) == 1, hex(code)
    pieces = pre_tokenizers.ByteLevel(add_prefix_space=False)
    rest = set(CODE_POINTS)
    for left, name in (("!", None), ("a", "LETTER"), ("1", "NUMBER")):
        joined = probe_runs(pieces, sorted(rest), left + "{}")
        found = probe_words(pieces, sorted(rest - joined), left + "{}")
        joined |= {code for code, words in found if len(words) == 1}
        rest -= joined
        if name:
            mark(name, joined)
    mark("SPLIT_SPACE", rest)

    word = AddedToken("XX", single_word=True, normalized=False)
    before, after = probe_added(word, "{}XX", False), probe_added(word, "XX{}", False)
    assert before == after
    mark("WORD", before)
    left = probe_added(AddedToken("XX", lstrip=True, normalized=False), "{}XX", True)
    right = probe_added(AddedToken("XX", rstrip=True, normalized=False), "XX{}", True)
    assert left == right
    mark("STRIPPED", left)
    return flags


def probe_runs(splits: pre_tokenizers.PreTokenizer, codes: Sequence[int], form: str) -> set[int]:
    """Code points of the runs that are one piece in the form: so is each of them then."""
    joined = set()
    for start in range(0, len(codes), 64):
        run = codes[start : start + 64]
        if len(splits.pre_tokenize_str(form.format("".join(map(chr, run))))) == 1:
            joined.update(run)
    return joined


def probe_words(
    splits: pre_tokenizers.PreTokenizer, codes: Sequence[int], form: str
) -> Iterator[tuple[int, list[str]]]:
    """The pieces of each code point in the form."""
    for code in codes:
        yield code, [piece for piece, _ in splits.pre_tokenize_str(form.format(chr(code)))]


def probe_added(token: AddedToken, form: str, whole: bool) -> set[int]:
    """Code points whose form is one id (or else none of the token's ids)."""
    tokenizer = Tokenizer(models.WordLevel({"?": 0}, unk_token="?"))
    tokenizer.add_tokens([token])
    result = set()
    for start in range(0, len(CODE_POINTS), 65536):
        codes = CODE_POINTS[start : start + 65536]
        encoded = tokenizer.encode_batch_fast([form.format(chr(code)) for code in codes])
        for code, encoding in zip(codes, encoded, strict=True):
            if encoding.ids == ([1] if whole else [0]):
                result.add(code)
    return result


def probe_ranks() -> list[int]:
    """Order the marks that canonical ordering moves, from what NFD does with pairs of them."""
    nfd = normalizers.NFD()
    low, high = "̴", "ͅ"  # the lowest and the highest combining class
    changed = probe_mapping(nfd)
    codes = [code for code in OTHERS if code not in changed]
    befores = nfd.normalize_str(BAR.join(chr(code) + low for code in codes)).split(BAR)
    afters = nfd.normalize_str(BAR.join(high + chr(code) for code in codes)).split(BAR)
    moving = {low, high}
    for code, before, after in zip(codes, befores, afters, strict=True):
        c = chr(code)
        if before == low + c or after == c + high:
            moving.add(c)
    moving = sorted(moving)

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
    pairs = list(itertools.product(moving, repeat=2))
    outs = nfd.normalize_str(BAR.join(a + b for a, b in pairs)).split(BAR)
    for (a, b), out in zip(pairs, outs, strict=True):
        assert out == (b + a if ranks[ord(a)] > ranks[ord(b)] else a + b), (a, b)
    return ranks


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
