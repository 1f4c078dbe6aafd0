"""Word counts: any split of the counting gives the same, and Arrow carries it whole."""

from collections import Counter

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from real_texts import docstrings
from tokenizers import normalizers, pre_tokenizers

import rust_tok

KINDS = [
    {"kind": "wordpiece", "lowercase": True},
    {"kind": "wordpiece", "lowercase": False},
    {"kind": "bpe", "add_prefix_space": True},
    {"kind": "bpe", "add_prefix_space": False},
]


def counted(kind: dict, texts) -> rust_tok.WordCounts:
    counts = rust_tok.WordCounts(**kind)
    counts.count(texts)
    return counts


def as_dict(counts: rust_tok.WordCounts) -> dict[str, int]:
    table = pa.table(counts)
    return dict(zip(table["word"].to_pylist(), table["count"].to_pylist(), strict=True))


def their_words(kind: dict, text: str) -> list[str]:
    if kind["kind"] == "bpe":
        split = pre_tokenizers.ByteLevel(add_prefix_space=kind["add_prefix_space"])
        alphabet = byte_of_character()
        return [
            bytes(alphabet[c] for c in word).decode() for word, _ in split.pre_tokenize_str(text)
        ]
    text = normalizers.BertNormalizer(lowercase=kind["lowercase"]).normalize_str(text)
    return [word for word, _ in pre_tokenizers.BertPreTokenizer().pre_tokenize_str(text)]


def byte_of_character() -> dict[str, int]:
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    moved = {chr(0x100 + place): byte for place, byte in enumerate(others)}
    return {chr(byte): byte for byte in printable} | moved


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_words_are_theirs(kind: dict) -> None:
    texts = [*docstrings("email", 40), "", "naïve ÅNGSTRÖM 日本語", "don't\n\n stop  it's"]
    expected = Counter(word for text in texts if text for word in their_words(kind, text))
    counts = counted(kind, texts)
    assert as_dict(counts) == expected
    assert (len(counts), counts.total) == (len(expected), expected.total())


TEXTS = st.lists(st.none() | st.text("abé '1\n", max_size=30), max_size=12)


@settings(max_examples=100, deadline=None)
@given(
    texts=TEXTS,
    cut=st.integers(0, 12),
    parts=st.integers(1, 5),
    kind=st.sampled_from(KINDS),
)
def test_partitions_of_a_cluster_add_up(
    texts: list[str | None], cut: int, parts: int, kind: dict
) -> None:
    column = pa.array(texts, pa.string())
    whole = counted(kind, column)
    tasks = [counted(kind, column[:cut]), counted(kind, column[cut:])]
    sent = [[pa.table(part) for part in task.partition(parts)] for task in tasks]
    driver = rust_tok.WordCounts(**kind)
    for of_tasks in zip(*sent, strict=True):
        merged = rust_tok.WordCounts(**kind)
        for part in of_tasks:
            merged.merge(rust_tok.WordCounts.from_arrow(part))
        driver.merge(rust_tok.WordCounts.from_arrow(pa.record_batch(merged)))
    assert driver == whole
    assert pa.table(driver).equals(pa.table(whole), check_metadata=True)


def test_training_on_merged_parts_is_training_on_the_texts() -> None:
    texts = docstrings("email", 40)
    merged = rust_tok.WordCounts("wordpiece")
    for task in (texts[:50], texts[50:]):
        for part in counted(KINDS[0], task).partition(3):
            merged.merge(part)
    ours = rust_tok.train_wordpiece(merged, vocab_size=2000)
    assert ours.to_json() == rust_tok.train_wordpiece(texts, vocab_size=2000).to_json()


def test_threads_do_not_change_a_thing(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = pa.array([f"word{n % 977} Text, {n}" * 50 for n in range(5000)])
    for train in (rust_tok.train_bpe, rust_tok.train_wordpiece):
        fingerprints = set()
        for threads in ("1", "2", "5"):
            monkeypatch.setenv("RAYON_NUM_THREADS", threads)
            fingerprints.add(train(texts, vocab_size=1000).fingerprint)
        assert len(fingerprints) == 1


def test_counts_are_kept_in_64_bits() -> None:
    schema = pa.table(rust_tok.WordCounts("bpe")).schema
    table = pa.table({"word": ["a"], "count": pa.array([2**63], pa.uint64())}, schema=schema)
    counts = rust_tok.WordCounts.from_arrow(table)
    assert counts.total == 2**63
    with pytest.raises(rust_tok.TokenizerError, match="64 bits"):
        counts.merge(counts.prune(0))


def test_pruning_takes_rare_words_apart() -> None:
    counts = counted(KINDS[0], ["often often rare"])
    assert as_dict(counts.prune(2)) == {"often": 2, "r": 2, "a": 1, "e": 1}


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (pa.table({"word": ["a"], "count": pa.array([1], pa.uint64())}), "rust_tok.words"),
        (pa.table({"word": ["a"]}), "rust_tok.words"),
        (
            pa.table({"word": ["a"]}).replace_schema_metadata(
                {"rust_tok.words": "bpe(add_prefix_space=true)"}
            ),
            "`count`",
        ),
        (
            pa.table(
                {"word": ["a", None], "count": pa.array([1, 2], pa.uint64())}
            ).replace_schema_metadata({"rust_tok.words": "bpe(add_prefix_space=true)"}),
            "null",
        ),
        (
            pa.table(
                {"word": ["a", "b"], "count": pa.array([1, None], pa.uint64())}
            ).replace_schema_metadata({"rust_tok.words": "bpe(add_prefix_space=true)"}),
            "null",
        ),
        (
            pa.table({"word": ["a"], "count": pa.array([1], pa.uint64())}).replace_schema_metadata(
                {"rust_tok.words": "unigram"}
            ),
            "unigram",
        ),
    ],
)
def test_other_tables_are_refused(table: pa.Table, message: str) -> None:
    with pytest.raises(rust_tok.TokenizerError, match=message):
        rust_tok.WordCounts.from_arrow(table)


def test_counts_of_other_settings_are_refused() -> None:
    for kind in KINDS[1:]:
        with pytest.raises(rust_tok.TokenizerError, match="different settings"):
            rust_tok.WordCounts(**KINDS[0]).merge(rust_tok.WordCounts(**kind))
    with pytest.raises(rust_tok.TokenizerError, match="allowed"):
        rust_tok.WordCounts("unigram")  # pyright: ignore[reportArgumentType]
    with pytest.raises(rust_tok.TokenizerError, match="at least 1"):
        rust_tok.WordCounts("bpe").partition(0)


def test_memory_per_distinct_word_is_bounded() -> None:
    """A small version of `benchmarks/many_words.py`."""
    counts = rust_tok.WordCounts("wordpiece")
    for start in range(0, 1_000_000, 100_000):
        counts.count(pa.array([" ".join(f"w{n:08x}" for n in range(start, start + 100_000))]))
    assert len(counts) == 1_000_000
    # Half of each array may be room to grow: 9 bytes of text, 16 of entry, 8 of slot.
    assert counts.nbytes <= 2 * (9 + 16 + 2 * 8) * len(counts)
