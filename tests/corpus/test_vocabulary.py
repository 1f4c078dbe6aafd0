from collections.abc import Callable
from pathlib import Path

import pytest
from tokenizers import Tokenizer as Reference

import rust_tok
from raybert.corpus import Corpus, train_tokenizer
from raybert.corpus.tokenizer_folder import TokenizerFolder
from raybert.corpus.vocabulary import WordCounter, count_in_process, sample_of
from raybert.errors import UserError
from raybert.settings import CorpusSettings, TokenizerSettings


def corpus_of(path: Path, **settings) -> Corpus:
    return Corpus.open(CorpusSettings(paths=(str(path),), range_mebibytes=4 / 1024, **settings))


WORDPIECE = TokenizerSettings(vocab_size=300)
BPE = TokenizerSettings(kind="bpe", vocab_size=400)
TRAINERS: dict[str, Callable[..., rust_tok.Tokenizer]] = {
    "wordpiece": rust_tok.train_wordpiece,
    "bpe": rust_tok.train_bpe,
}


@pytest.mark.parametrize("settings", [WORDPIECE, BPE], ids=lambda s: s.kind)
def test_vocabulary_is_that_of_the_lines_in_memory(
    corpus_file: Path, documents: list[str], settings: TokenizerSettings
):
    tokenizer = train_tokenizer(corpus_of(corpus_file, sentences="lines"), settings)
    lines = [line for document in documents for line in document.split("\n")]
    in_memory = TRAINERS[settings.kind](lines, vocab_size=settings.vocab_size)
    assert tokenizer.to_json() == in_memory.to_json()
    assert tokenizer.vocab_size == settings.vocab_size


def test_settings_reach_the_trainer(corpus_file: Path):
    corpus = corpus_of(corpus_file)
    cased = train_tokenizer(corpus, TokenizerSettings(vocab_size=300, lowercase=False))
    assert any(token[0].isupper() for token in cased.get_vocab() if token[0] != "[")
    few = train_tokenizer(corpus, TokenizerSettings(vocab_size=300, limit_alphabet=10))
    assert sum(len(token) == 1 for token in few.get_vocab()) == 10
    spaced = train_tokenizer(corpus, BPE.model_copy(update={"add_prefix_space": True}))
    assert spaced.encode("the", None, False) == spaced.encode(" the", None, False)
    rare = train_tokenizer(corpus, TokenizerSettings(vocab_size=3000, min_frequency=10**6))
    assert rare.vocab_size < 200


def test_too_many_words_leave_the_rare_ones_out(corpus_file: Path):
    corpus = corpus_of(corpus_file)
    whole = count_in_process(WordCounter(corpus.settings, WORDPIECE), corpus.ranges())
    assert not whole.pruned
    few = count_in_process(
        WordCounter(corpus.settings, WORDPIECE, whole.num_words - 1), corpus.ranges()
    )
    assert few.pruned
    assert few.num_words == whole.num_words > len(few.counts)
    assert few.counts == whole.counts.prune(WORDPIECE.min_frequency)


def test_mistakes(tmp_path: Path, corpus_file: Path):
    with pytest.raises(UserError, match="vocab_size"):
        train_tokenizer(corpus_of(corpus_file), TokenizerSettings(vocab_size=20))
    (tmp_path / "a.txt").write_text("\0\n\n\x01")
    with pytest.raises(UserError, match="the corpus is empty: there is no word in it"):
        train_tokenizer(corpus_of(tmp_path / "a.txt"), WORDPIECE)


def test_a_sample_is_spread_over_the_corpus(tmp_path: Path):
    for name in "abcd":
        (tmp_path / f"{name}.txt").write_text(f"{name} text\n\n" * 200_000)
    corpus = Corpus.open(CorpusSettings(paths=(str(tmp_path),), range_mebibytes=64))
    for wanted in (200_000, 1_000_000, 3_000_000):
        ranges = sample_of(corpus, wanted)
        taken = sum(text_range.text_bytes for text_range in ranges)
        assert wanted <= taken < wanted + 2 * max(s.text_bytes for s in ranges)
        share = [
            sum(str(s.source)[-5] == name for r in ranges for s in r.segments) for name in "ac"
        ]
        assert min(share) > 0
        assert max(share) - min(share) <= 1
    assert sample_of(corpus, 10**9) == sample_of(corpus, None) == corpus.ranges()


@pytest.mark.parametrize("settings", [WORDPIECE, BPE], ids=lambda s: s.kind)
def test_a_folder_is_committed_once(
    tmp_path: Path, corpus_file: Path, documents: list[str], settings: TokenizerSettings
):
    corpus, out = corpus_of(corpus_file), tmp_path / "out"
    folder = TokenizerFolder.prepare(corpus, settings, str(out))
    assert not folder.finished
    tokenizer = train_tokenizer(corpus, settings)
    folder.write(tokenizer)
    vocabulary = {"vocab.txt"} if settings.kind == "wordpiece" else {"vocab.json", "merges.txt"}
    assert {path.name for path in out.iterdir()} == vocabulary | {
        "manifest.json",
        "origin.json",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    reference = Reference.from_file(str(out / "tokenizer.json"))
    assert [e.ids for e in reference.encode_batch(documents)] == tokenizer.encode_batch(documents)

    again = TokenizerFolder.prepare(corpus, settings, str(out))
    assert again.finished
    assert again.read().fingerprint == tokenizer.fingerprint
    # What only shapes shards makes no other tokenizer.
    held_out = corpus_of(corpus_file, held_out_share=0.5)
    assert TokenizerFolder.prepare(held_out, settings, str(out)).finished
    other = settings.model_copy(update={"vocab_size": 1000})
    with pytest.raises(UserError, match=f"vocab_size: {settings.vocab_size} -> 1000"):
        TokenizerFolder.prepare(corpus, other, str(out))
    (out / "tokenizer.json").write_text("{}")
    with pytest.raises(UserError, match=r"tokenizer.json has 2 bytes, .* delete"):
        TokenizerFolder.prepare(corpus, settings, str(out))
