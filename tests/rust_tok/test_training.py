"""Trainers against those of `tokenizers`."""

import itertools
import json
import signal
import threading
from collections.abc import Iterator, Sequence

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from real_texts import docstrings
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

import rust_tok

SPECIAL_TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
# Not ASCII, hostile, and long: what docstrings lack.
ODD_TEXTS = [
    "",
    " ",
    "naïve café Ångström Straße",
    "日本語のテキスト 中文",
    "e\u0301\u0301 \u200b\ufffd\x00\x07 🙂👩‍👩‍👧",
    "a" * 5000,
    "ab" * 3000 + " " + "ba" * 2999,
]


def real_texts() -> list[str]:
    return [*docstrings("email", 40), *docstrings("numpy", 60), *ODD_TEXTS]


def their_bpe(
    texts: Sequence[str],
    vocab_size: int,
    min_frequency: int = 2,
    add_prefix_space: bool = False,
    special_tokens: Sequence[str] = SPECIAL_TOKENS,
) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=add_prefix_space)
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=min_frequency,
        special_tokens=list(special_tokens),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def their_wordpiece(
    texts: Sequence[str],
    vocab_size: int,
    lowercase: bool = True,
    special_tokens: Sequence[str] = SPECIAL_TOKENS,
    limit_alphabet: int = 1000,
) -> dict[str, int]:
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocab_size,
        min_frequency=2,
        special_tokens=list(special_tokens),
        limit_alphabet=limit_alphabet,
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer.get_vocab()


def model_of(text: str) -> tuple[dict[str, int], list[list[str]]]:
    model = json.loads(text)["model"]
    return model["vocab"], model["merges"]


@pytest.mark.parametrize(
    ("vocab_size", "min_frequency", "add_prefix_space"),
    [(261, 2, False), (1000, 2, True), (8000, 2, False), (30_000, 1, True), (30_000, 3, False)],
)
def test_bpe_is_theirs(vocab_size: int, min_frequency: int, add_prefix_space: bool) -> None:
    texts = real_texts()
    theirs = their_bpe(texts, vocab_size, min_frequency, add_prefix_space)
    ours = rust_tok.train_bpe(
        texts,
        vocab_size=vocab_size,
        min_frequency=min_frequency,
        add_prefix_space=add_prefix_space,
    )
    assert model_of(ours.to_json()) == model_of(theirs.to_str())


WORDS = st.text(st.sampled_from("ab"), min_size=1, max_size=24) | st.text(
    st.sampled_from("abcdé"), min_size=1, max_size=8
)


@settings(max_examples=300, deadline=None)
@given(
    words=st.lists(WORDS, min_size=1, max_size=60),
    num_merges=st.integers(0, 200),
    min_frequency=st.integers(0, 3),
    special=st.sampled_from([[], ["ab"], ["a", "bb"]]),
)
def test_bpe_is_theirs_where_merges_collide(
    words: list[str], num_merges: int, min_frequency: int, special: list[str]
) -> None:
    """Few letters: several merges spell the same token, and most counts are tied."""
    vocab_size = 256 + len(special) + num_merges
    texts = [" ".join(words)]
    theirs = their_bpe(texts, vocab_size, min_frequency, special_tokens=special)
    ours = rust_tok.train_bpe(
        texts, vocab_size=vocab_size, min_frequency=min_frequency, special_tokens=special
    )
    assert model_of(ours.to_json()) == model_of(theirs.to_str())


def pinned_order(texts: Sequence[str], lowercase: bool) -> list[str]:
    """Special tokens that give every symbol its id, so that theirs has no chance left."""
    counts = rust_tok.WordCounts("wordpiece", lowercase=lowercase)
    counts.count(texts)
    words = pa.table(counts)["word"].to_pylist()
    alphabet = sorted({character for word in words for character in word})
    return [*SPECIAL_TOKENS, *alphabet, *(f"##{character}" for character in alphabet)]


@pytest.mark.parametrize(("vocab_size", "lowercase"), [(2000, True), (30_000, False)])
def test_wordpiece_is_theirs_with_the_order_of_symbols_given(
    vocab_size: int, lowercase: bool
) -> None:
    texts = real_texts()
    special_tokens = pinned_order(texts, lowercase)
    theirs = their_wordpiece(texts, vocab_size, lowercase, special_tokens)
    ours = rust_tok.train_wordpiece(
        texts, vocab_size=vocab_size, lowercase=lowercase, special_tokens=special_tokens
    )
    assert ours.get_vocab() == theirs


def test_wordpiece_is_no_further_from_theirs_than_theirs() -> None:
    texts = real_texts()
    theirs = [set(their_wordpiece(texts, 2000, limit_alphabet=60)) for _ in range(6)]
    ours = set(rust_tok.train_wordpiece(texts, vocab_size=2000, limit_alphabet=60).get_vocab())
    between_theirs = max(len(a ^ b) for a, b in itertools.combinations(theirs, 2))
    assert min(len(ours ^ other) for other in theirs) <= between_theirs


def test_every_source_gives_the_same() -> None:
    texts = real_texts()
    counts = rust_tok.WordCounts("bpe")
    counts.count(texts)
    half = len(texts) // 2
    sources = [
        iter(texts),
        pa.array(texts),
        pa.chunked_array([pa.array([*texts[:half], None]), pa.array(texts[half:])]),
        counts,
    ]
    trained = [rust_tok.train_bpe(source, vocab_size=2000).to_json() for source in sources]
    assert len(set(trained)) == 1


def test_a_trained_tokenizer_is_whole() -> None:
    texts = real_texts()
    for ours in (
        rust_tok.train_wordpiece(texts, vocab_size=3000),
        rust_tok.train_bpe(texts, vocab_size=3000),
    ):
        theirs = Tokenizer.from_str(ours.to_json())
        assert ours.special_tokens == SPECIAL_TOKENS
        pair = ("The quick [MASK] fox.", "Straße 日本")
        ids = ours.encode(*pair)
        assert ids == theirs.encode(*pair).ids
        assert [ids[0], ids[-1]] == [2, 3]
        assert ids.count(4) == 1


def test_a_mask_takes_its_blank_in_bpe() -> None:
    tokenizer = rust_tok.train_bpe(["the mask is"] * 3, vocab_size=300)
    ids = tokenizer.encode("the [MASK] is", add_special_tokens=False)
    assert [tokenizer.id_to_token(token) for token in ids] == ["the", "[MASK]", "Ġis"]


def test_progress_is_told() -> None:
    told: list[tuple[str, int, int | None]] = []
    rust_tok.train_bpe(
        pa.array(real_texts()), vocab_size=400, progress=lambda *event: told.append(event)
    )
    assert [event for event in told if event[0] == "count"][-1][1] == len(real_texts())
    assert told[-1] == ("merge", 400, 400)


@pytest.mark.parametrize("stage", ["count", "merge"])
def test_what_progress_raises_ends_the_training(stage: str) -> None:
    def stop(told: str, done: int, wanted: int | None) -> None:
        if told == stage:
            raise RuntimeError(told)

    with pytest.raises(RuntimeError, match=stage):
        rust_tok.train_wordpiece(["ab ab"], progress=stop)


@pytest.fixture
def ctrl_c_interrupts() -> Iterator[None]:
    """Python's own handler, which a process that was started in the background lacks."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("ctrl_c_interrupts")
def test_ctrl_c_ends_the_training() -> None:
    endless = itertools.repeat("no Python code runs between these texts")
    main = threading.main_thread().ident
    assert main is not None
    threading.Timer(0.5, signal.pthread_kill, (main, signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        rust_tok.train_wordpiece(endless)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: rust_tok.train_bpe(["a"], vocab_size=200), "261 entries"),
        (lambda: rust_tok.train_wordpiece(["abc"], vocab_size=9), "10 entries.*limit_alphabet"),
        (lambda: rust_tok.train_wordpiece(["a"], special_tokens=["<pad>"]), r"\[UNK\]"),
        (lambda: rust_tok.train_bpe(["a"], special_tokens=[""]), "empty"),
        (lambda: rust_tok.train_bpe(rust_tok.WordCounts("wordpiece")), "different settings"),
        (
            lambda: rust_tok.train_wordpiece(rust_tok.WordCounts("wordpiece", lowercase=False)),
            "different settings",
        ),
    ],
)
def test_a_mistake_is_refused(call, message: str) -> None:
    with pytest.raises(rust_tok.TokenizerError, match=message):
        call()


@pytest.mark.parametrize("source", ["one text", 5, [b"bytes"], pa.array([1, 2])])
def test_a_wrong_source_is_refused(source) -> None:
    with pytest.raises(TypeError):
        rust_tok.train_bpe(source)
