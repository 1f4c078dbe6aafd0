"""A corpus to token shards in one process: what is in them, reruns, refusals."""

import gzip
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pytest
from folders import content

import rust_tok
from raybert.corpus import Corpus, open_tokenizer, tokenize
from raybert.corpus.ranges import TextRange
from raybert.corpus.shards import LAST, REPLACED, SKIPPED, WITHOUT_TOKENS, ShardMaker
from raybert.corpus.tokenization import Finished, in_process, prepare
from raybert.errors import InvalidContent, UserError
from raybert.settings import CorpusSettings
from raybert.storage import Location
from raybert.tokens import TokenStore, document_id

SMALL = 4 / 1024  # MiB: a dozen ranges of the test's corpus


def corpus_of(path: Path | str, **settings) -> Corpus:
    return Corpus.open(CorpusSettings(paths=(str(path),), **{"range_mebibytes": SMALL, **settings}))


def times(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("shard-*")}


def documents_in(folder: Path) -> list[list[list[int]]]:
    store = TokenStore.open(folder)
    shards = [store.shard(i) for i in range(store.num_shards)]
    return [
        [ids.tolist() for ids in shard.document(i)]
        for shard in shards
        for i in range(shard.num_documents)
    ]


def found_sentences(document: str) -> list[str]:
    column = pa.array(rust_tok.split_sentences(pa.array([document])))
    return [" ".join(sentence.split()) for sentence in column[0].as_py()]


@pytest.mark.parametrize("kind", ["wordpiece", "bpe"])
@pytest.mark.parametrize("sentences", ["split", "lines"])
def test_shards_hold_the_ids_of_the_documents(
    tmp_path: Path,
    corpus_file: Path,
    documents: list[str],
    kind: str,
    sentences: str,
    request: pytest.FixtureRequest,
):
    tokenizer: rust_tok.Tokenizer = request.getfixturevalue(kind)
    manifest = tokenize(corpus_of(corpus_file, sentences=sentences), tokenizer, tmp_path / "out")
    assert len(manifest.shards) > 5
    found = documents_in(tmp_path / "out")
    assert len(found) == len(documents)
    for document, ids in zip(documents, found, strict=True):
        if sentences == "lines":
            assert ids == [tokenizer.encode(line, None, False) for line in document.split("\n")]
            continue
        assert ids == [tokenizer.encode(text, None, False) for text in found_sentences(document)]
    shard = TokenStore.open(tmp_path / "out").shard(0)
    assert shard.document_ids_D16[0].tobytes() == document_id(documents[0])


def test_files_of_any_cut_give_the_same_documents(
    tmp_path: Path, corpus_file: Path, wordpiece: rust_tok.Tokenizer
):
    packed = tmp_path / "packed.txt.gz"
    packed.write_bytes(gzip.compress(corpus_file.read_bytes()))
    whole = tokenize(corpus_of(corpus_file, range_mebibytes=1), wordpiece, tmp_path / "whole")
    cut = tokenize(corpus_of(corpus_file), wordpiece, tmp_path / "cut")
    streamed = tokenize(corpus_of(packed), wordpiece, tmp_path / "streamed")
    assert (len(whole.shards), len(cut.shards) > 5) == (1, True)
    assert whole.num_tokens == cut.num_tokens == streamed.num_tokens
    expected = documents_in(tmp_path / "whole")
    assert documents_in(tmp_path / "cut") == documents_in(tmp_path / "streamed") == expected


def test_a_compressed_file_becomes_several_shards(
    tmp_path: Path, corpus_file: Path, wordpiece: rust_tok.Tokenizer
):
    packed = tmp_path / "packed.txt.gz"
    packed.write_bytes(gzip.compress(corpus_file.read_bytes()))
    manifest = tokenize(corpus_of(packed), wordpiece, tmp_path / "out")
    assert [s.notes[LAST] for s in manifest.shards] == [0] * (len(manifest.shards) - 1) + [1]
    assert len(manifest.shards) > 3
    # Without its last shard a range is not finished.
    before = content(tmp_path / "out")
    (tmp_path / "out" / f"{manifest.shards[-1].name}.json").unlink()
    (tmp_path / "out" / "manifest.json").unlink()
    tokenize(corpus_of(packed), wordpiece, tmp_path / "out")
    assert content(tmp_path / "out") == before


def backwards(maker: ShardMaker, ranges: Sequence[TextRange]) -> Iterator[Finished]:
    return in_process(maker, ranges[::-1])


def test_order_of_the_work_changes_no_byte(
    tmp_path: Path, corpus_file: Path, wordpiece: rust_tok.Tokenizer
):
    corpus = corpus_of(corpus_file)
    prepare(corpus, wordpiece, tmp_path / "one").run()
    prepare(corpus, wordpiece, tmp_path / "two").run(backwards)
    assert content(tmp_path / "one") == content(tmp_path / "two")


def test_the_error_of_an_earlier_range_comes_first(
    tmp_path: Path,
    corpus_file: Path,
    wordpiece: rust_tok.Tokenizer,
    monkeypatch: pytest.MonkeyPatch,
):
    """A shard is written while the next range is read, which fails too."""
    work = prepare(corpus_of(corpus_file), wordpiece, tmp_path / "out")
    data = bytearray(corpus_file.read_bytes())
    data[-10] = 0xFF
    corpus_file.write_bytes(data)
    *_, before, last = work.ranges

    def failing_write(folder: Location, name: str, **_: object) -> None:
        raise OSError(f"no disk for {name}")

    monkeypatch.setattr("raybert.corpus.shards.write_shard", failing_write)
    with pytest.raises(OSError, match=f"no disk for shard-{before.name}"):
        list(work.maker.make([before, last]))
    with pytest.raises(InvalidContent, match="not UTF-8"):
        list(work.maker.make([last]))


def test_a_rerun_does_what_is_missing(
    tmp_path: Path, corpus_file: Path, wordpiece: rust_tok.Tokenizer
):
    out, corpus = tmp_path / "out", corpus_of(corpus_file)
    tokenize(corpus, wordpiece, out)
    before, written = content(out), times(out)
    tokenize(corpus, wordpiece, out)
    assert times(out) == written
    shards = sorted(path.name for path in out.glob("shard-*.arrow"))
    (out / "manifest.json").unlink()
    (out / shards[0]).unlink()
    (out / shards[1]).with_suffix(".json").unlink()
    damaged = bytearray(before[shards[2]])
    damaged[len(damaged) // 2] ^= 1
    (out / shards[2]).write_bytes(damaged)
    (out / shards[3]).write_bytes(before[shards[3]][:-8])
    (out / ".staging-shard-x.arrow-0123").write_bytes(b"left by a killed writer")
    tokenize(corpus, wordpiece, out)
    assert content(out) == before
    again = {name for name, time in times(out).items() if time != written[name]}
    assert {Path(name).stem for name in again} == {Path(name).stem for name in shards[:4]}


def test_another_corpus_or_setting_is_refused(
    tmp_path: Path, corpus_file: Path, wordpiece: rust_tok.Tokenizer, bpe: rust_tok.Tokenizer
):
    out = tmp_path / "out"
    tokenize(corpus_of(corpus_file), wordpiece, out)
    before = content(out)
    with pytest.raises(UserError, match=r"held_out_share: 0.01 -> 0.5"):
        tokenize(corpus_of(corpus_file, held_out_share=0.5), wordpiece, out)
    with pytest.raises(UserError, match=f"tokenizer: {wordpiece.fingerprint} -> "):
        tokenize(corpus_of(corpus_file), bpe, out)
    more = corpus_file.with_name("more.txt")
    more.write_text("More text.")
    with pytest.raises(UserError, match=r"more.txt: new"):
        tokenize(corpus_of(corpus_file.parent), wordpiece, out)
    more.unlink()
    os.utime(corpus_file, (1, 1))
    with pytest.raises(UserError, match=r"corpus.txt: has changed"):
        tokenize(corpus_of(corpus_file), wordpiece, out)
    corpus_file.rename(more)
    with pytest.raises(UserError, match=r"corpus.txt: no longer there"):
        tokenize(corpus_of(more), wordpiece, out)
    assert content(out) == before


def test_a_folder_begun_in_another_format_is_refused(
    tmp_path: Path, corpus_file: Path, wordpiece: rust_tok.Tokenizer
):
    out = tmp_path / "out"
    prepare(corpus_of(corpus_file), wordpiece, out)
    origin = json.loads((out / "origin.json").read_text())
    del origin["settings"]["token shards, format version"]  # as version 1 was
    (out / "origin.json").write_text(json.dumps(origin))
    with pytest.raises(UserError, match=r"token shards, format version: .*-> 2"):
        tokenize(corpus_of(corpus_file), wordpiece, out)
    assert not list(out.glob("shard-*"))


def test_a_folder_of_something_else_is_left_alone(
    tmp_path: Path, corpus_file: Path, wordpiece: rust_tok.Tokenizer
):
    (tmp_path / "file").write_text("a person's")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").write_text("a person's")
    with pytest.raises(UserError, match="file is a file; a folder is needed"):
        tokenize(corpus_of(corpus_file), wordpiece, tmp_path / "file")
    with pytest.raises(UserError, match="folder holds something else"):
        tokenize(corpus_of(corpus_file), wordpiece, tmp_path / "folder")
    assert content(tmp_path / "folder") == {"file": b"a person's"}


def test_broken_text_keeps_what_is_finished(tmp_path: Path, wordpiece: rust_tok.Tokenizer):
    path = tmp_path / "a.txt"
    path.write_bytes(b"the river\n\n" * 9000 + b"old \xff towns\n\n" + b"now\n\n" * 100)
    with pytest.raises(InvalidContent, match=r"a.txt: not UTF-8 at byte 99004: 0xff"):
        tokenize(corpus_of(path), wordpiece, tmp_path / "out")
    assert len(list((tmp_path / "out").glob("shard-*.json"))) > 5
    assert not (tmp_path / "out" / "manifest.json").exists()
    counts = {}
    for on_invalid in ("skip", "replace"):
        corpus = corpus_of(path, on_invalid=on_invalid)
        manifest = tokenize(corpus, wordpiece, tmp_path / on_invalid)
        notes = [shard.notes for shard in manifest.shards]
        skipped, replaced = (sum(n[name] for n in notes) for name in (SKIPPED, REPLACED))
        counts[on_invalid] = (manifest.num_documents, skipped, replaced)
    assert counts == {"skip": (9100, 1, 0), "replace": (9101, 0, 1)}


def test_documents_without_tokens_are_counted(tmp_path: Path, wordpiece: rust_tok.Tokenizer):
    path = tmp_path / "a.txt"
    path.write_bytes(b"the river\n\n\0\x01\n\nold towns\n")
    manifest = tokenize(corpus_of(path), wordpiece, tmp_path / "out")
    assert manifest.num_documents == 2
    assert manifest.shards[0].notes[WITHOUT_TOKENS] == 1


@pytest.mark.parametrize("text", [b" \n \n", b"\xef\xbb\xbf", b"\0\n\n\x02"])
def test_an_empty_corpus_is_refused(tmp_path: Path, text: bytes, wordpiece: rust_tok.Tokenizer):
    (tmp_path / "a.txt").write_bytes(text)
    with pytest.raises(UserError, match="the corpus is empty"):
        tokenize(corpus_of(tmp_path / "a.txt"), wordpiece, tmp_path / "out")


def test_one_enormous_line_is_legal(tmp_path: Path, wordpiece: rust_tok.Tokenizer):
    path = tmp_path / "a.txt"
    line = b"the river ran " * (50 * 2**20 // 14)
    path.write_bytes(b"now\n\n" + line + b"\n\nold\n")
    manifest = tokenize(corpus_of(path, range_mebibytes=8), wordpiece, tmp_path / "out")
    per_line = len(wordpiece.encode("the river ran", None, False))
    expected = per_line * (len(line) // 14) + len(wordpiece.encode("now old", None, False))
    assert (manifest.num_documents, manifest.num_tokens) == (3, expected)


def test_remote_shards_are_the_local_ones(
    tmp_path: Path, s3_bucket: str, corpus_file: Path, wordpiece: rust_tok.Tokenizer
):
    remote = Location.parse(s3_bucket) / "tokenized"
    corpus = corpus_of(corpus_file)
    tokenize(corpus, wordpiece, tmp_path / "out")
    tokenize(corpus, wordpiece, remote)
    local = content(tmp_path / "out")
    assert {name: (remote / name).read_bytes() for name in remote.list_files()} == local
    (remote / "manifest.json").delete_file()
    tokenize(corpus, wordpiece, remote)
    assert (remote / "manifest.json").read_bytes() == local["manifest.json"]


def test_tokenizers_are_found_by_file_and_folder(tmp_path: Path, wordpiece: rust_tok.Tokenizer):
    wordpiece.save(tmp_path / "tokenizer.json")
    for path in (tmp_path, tmp_path / "tokenizer.json"):
        assert open_tokenizer(str(path)).fingerprint == wordpiece.fingerprint
    (tmp_path / "old").mkdir()
    wordpiece.save_vocab(tmp_path / "old")
    assert open_tokenizer(str(tmp_path / "old")).get_vocab() == wordpiece.get_vocab()


def test_what_is_no_tokenizer_is_named(tmp_path: Path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "tokenizer.json").write_text('{"model": ')
    for path, message in (
        (None, "tokenizer.path is missing"),
        ("missing", "missing: does not exist"),
        ("empty", r"empty: holds no tokenizer.json or vocab.txt"),
        ("broken", r"broken/tokenizer.json: "),
    ):
        with pytest.raises(UserError, match=message):
            open_tokenizer(None if path is None else str(tmp_path / path))
