"""Text of many kinds for the benchmarks, the same on every call.

English and code are real: what stands between triple quotes in the installed packages, and the
packages' sources. The other kinds are made from word lists by a seeded generator, with the lengths
and the frequencies (Zipf's law) of real text; a file of one's own can stand in for any of them.
"""

import random
import re
import sysconfig
from collections.abc import Callable, Iterator
from itertools import accumulate
from pathlib import Path

DOCUMENT_BYTES = 2048

_QUOTED = re.compile(r'"""(.*?)"""', re.DOTALL)
_SPECIAL = re.compile(r"\[(PAD|UNK|CLS|SEP|MASK)\]|<\|endoftext\|>")


def documents(num_bytes: int, document_bytes: int = DOCUMENT_BYTES) -> list[str]:
    """English: documentation strings of the installed packages."""
    return _cut(_filled(_quoted, num_bytes), num_bytes, document_bytes)


def code(num_bytes: int, document_bytes: int = DOCUMENT_BYTES) -> list[str]:
    """Python sources of the installed packages."""
    return _cut(_filled(_sources, num_bytes), num_bytes, document_bytes)


def of_file(path: str, num_bytes: int, document_bytes: int = DOCUMENT_BYTES) -> list[str]:
    """A text file of one's own, from its beginning; again from there if it is too short."""
    text = Path(path).read_text(encoding="utf-8", errors="replace")
    return _cut(_filled(lambda: iter([text]), num_bytes), num_bytes, document_bytes)


def chinese_and_japanese(num_bytes: int) -> list[str]:
    """Words of one to three characters, kana between them, full-width punctuation."""
    rng = random.Random(1)
    han, kana = range(0x4E00, 0x4E00 + 6000), range(0x3041, 0x3094)
    lexicon = [_word(rng, han, 1, 3) for _ in range(30_000)]
    lexicon += [_word(rng, kana, 1, 4) for _ in range(3000)]
    rng.shuffle(lexicon)
    return _made(rng, lexicon, num_bytes, joint="", stops="，、。。！？「」")


def with_marks(num_bytes: int) -> list[str]:
    """Arabic with vowel signs and Hindi with matras and viramas, words with blanks between."""
    rng = random.Random(2)
    arabic = [_marked(rng, range(0x627, 0x64B), range(0x64B, 0x653)) for _ in range(15_000)]
    hindi = [
        _marked(rng, range(0x915, 0x93A), [*range(0x93E, 0x94D), 0x94D, 0x902])
        for _ in range(15_000)
    ]
    lexicon = [word for pair in zip(arabic, hindi, strict=True) for word in pair]
    return _made(rng, lexicon, num_bytes, joint=" ", stops="،؟।.")


def chat(num_bytes: int) -> list[str]:
    """Short messages full of emoji: skin tones, joiners, flags, variation selectors."""
    rng = random.Random(3)
    emoji = [chr(c) for c in range(0x1F600, 0x1F650)] + [chr(c) for c in range(0x1F400, 0x1F440)]
    emoji += ["👩\u200d💻", "👨\u200d👩\u200d👧", "🇩🇪", "👍🏽", "❤\ufe0f", "1\ufe0f\u20e3"] * 8
    words = [
        *("lol", "ok", "yes", "no", "omg", "see", "you", "tomorrow", "great", "thx", "haha"),
        *("what", "when", "who", "is", "coming", "2nite"),
    ]
    return _made(rng, words + emoji * 2, num_bytes, joint=" ", stops="!?….", document_bytes=200)


def log_lines(num_bytes: int) -> list[str]:
    """Time stamps, levels, addresses, hexadecimal ids, numbers: hardly a word twice."""
    rng = random.Random(4)
    levels = ("INFO", "WARN", "DEBUG", "ERROR")

    def lines() -> Iterator[str]:
        while True:
            yield (
                f"2026-{rng.randrange(1, 13):02}-{rng.randrange(1, 29):02}T"
                f"{rng.randrange(24):02}:{rng.randrange(60):02}:{rng.random() * 60:09.6f}Z "
                f"{rng.choice(levels)} [worker-{rng.randrange(64)}] 10.{rng.randrange(256)}."
                f"{rng.randrange(256)}.{rng.randrange(256)}:{rng.randrange(65536)} "
                f"req={rng.getrandbits(64):016x} GET /api/v{rng.randrange(4)}/items/"
                f"{rng.randrange(10**7)}?q={rng.randrange(100)} {rng.choice((200, 404, 500))} "
                f"{rng.random():.4f}s\n"
            )

    return _cut(_taken(lines(), num_bytes), num_bytes, DOCUMENT_BYTES)


def one_line(num_bytes: int) -> list[str]:
    """One enormous line without a blank: letters and digits as in base64."""
    rng = random.Random(5)
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    return ["".join(rng.choices(letters, k=num_bytes))]


def repeated(num_bytes: int) -> list[str]:
    """What quadratic merges die of: words of a megabyte, of one character or of two by turns."""
    size = min(1 << 20, num_bytes // 4)
    return ["a" * size, "ab" * (size // 2), "é" * (size // 2), "!" * size]


def tiny(num_bytes: int) -> list[str]:
    """English in strings of 20 bytes."""
    return documents(num_bytes, 20)


def huge(num_bytes: int) -> list[str]:
    """English in two documents."""
    return documents(num_bytes, num_bytes // 2)


KINDS: dict[str, Callable[[int], list[str]]] = {
    "English": documents,
    "code": code,
    "CJK": chinese_and_japanese,
    "tiny strings": tiny,
    "Arabic, Hindi": with_marks,
    "emoji chat": chat,
    "log lines": log_lines,
    "one line": one_line,
    "repeated": repeated,
    "huge documents": huge,
}


def _files() -> Iterator[str]:
    for root in (sysconfig.get_path("stdlib"), sysconfig.get_path("purelib")):
        for path in sorted(Path(root).rglob("*.py")):
            try:
                text = path.read_text(encoding="utf-8")
            except (UnicodeDecodeError, OSError):
                continue
            yield _SPECIAL.sub("", text)


def _quoted() -> Iterator[str]:
    return (text for file in _files() for text in _QUOTED.findall(file) if len(text) > 80)


def _sources() -> Iterator[str]:
    return _files()


def _filled(pieces: Callable[[], Iterator[str]], num_bytes: int) -> str:
    """Text of a source, from the beginning again where it isn't enough."""
    text = _taken(pieces(), num_bytes)
    if not text:
        raise SystemExit("no text was found to measure on")
    return (text * (num_bytes // len(text.encode()) + 1)) if len(text) < num_bytes else text


def _taken(pieces: Iterator[str], num_bytes: int) -> str:
    taken, total = [], 0
    for piece in pieces:
        taken.append(piece)
        total += len(piece.encode())
        if total >= num_bytes:
            break
    return "\n".join(taken)


def _cut(text: str, num_bytes: int, document_bytes: int) -> list[str]:
    """Documents of about this many bytes each (characters, where they are ASCII)."""
    pieces, total = [], 0
    for start in range(0, len(text), document_bytes):
        piece = text[start : start + document_bytes]
        pieces.append(piece)
        total += len(piece.encode())
        if total >= num_bytes:
            break
    return pieces


def _word(rng: random.Random, codes: range, shortest: int, longest: int) -> str:
    return "".join(chr(rng.choice(codes)) for _ in range(rng.randint(shortest, longest)))


def _marked(rng: random.Random, letters: range, marks: range | list[int]) -> str:
    """A word of letters, most of them with a mark."""
    pairs = range(rng.randint(2, 6))
    return "".join(
        chr(rng.choice(letters)) + (chr(rng.choice(marks)) if rng.random() < 0.6 else "")
        for _ in pairs
    )


def _made(
    rng: random.Random,
    lexicon: list[str],
    num_bytes: int,
    *,
    joint: str,
    stops: str,
    document_bytes: int = DOCUMENT_BYTES,
) -> list[str]:
    """Documents of words by Zipf's law, a stop behind some of them."""
    weights = list(accumulate(1 / (rank + 2.7) for rank in range(len(lexicon))))
    made, total = [], 0
    while total < num_bytes:
        words = rng.choices(lexicon, cum_weights=weights, k=document_bytes // 4)
        text, size = [], 0
        for word in words:
            text.append(word + rng.choice(stops) if rng.random() < 0.1 else word)
            size += len(text[-1].encode()) + len(joint)
            if size >= document_bytes:
                break
        made.append(joint.join(text))
        total += len(made[-1].encode())
    return made
