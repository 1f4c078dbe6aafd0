"""The jobs train_tokenizer and tokenize_corpus: mistakes at the door, then on a real cluster."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from folders import content

import rust_tok
from raybert.cluster import RunningCluster
from raybert.corpus import Corpus, tokenize, train_tokenizer
from raybert.corpus.jobs import tokenize_corpus_job, train_tokenizer_job
from raybert.corpus.ranges import TextRange
from raybert.corpus.vocabulary import WordCounter, count_in_process
from raybert.settings import CorpusSettings, Settings, TokenizerSettings
from raybert.settings.command_line import run_job
from raybert.storage import Location

ROOT = Path(__file__).parents[2]
SECTIONS = ("output", "corpus", "tokenizer", "cluster")
CUT = ("--corpus.range_mebibytes", "0.004")


def run(job: Callable[[Settings], None], *arguments: object) -> None:
    run_job(job, description="", sections=SECTIONS, arguments=[str(a) for a in arguments])


def mistake(
    capsys: pytest.CaptureFixture[str], job: Callable[[Settings], None], *arguments: object
) -> str:
    with pytest.raises(SystemExit) as exit_info:
        run(job, *arguments)
    assert exit_info.value.code == 2
    return capsys.readouterr().err


@pytest.fixture
def tokenizer_folder(tmp_path: Path, wordpiece: rust_tok.Tokenizer) -> Path:
    folder = tmp_path / "tokenizer"
    folder.mkdir()
    wordpiece.save(folder / "tokenizer.json")
    return folder


def test_mistakes_are_told_before_a_cluster_starts(
    tmp_path: Path,
    corpus_file: Path,
    tokenizer_folder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
):
    def no_cluster(*_: object, **__: object) -> None:
        raise AssertionError("a cluster was started")

    monkeypatch.setattr("raybert.corpus.jobs.start", no_cluster)
    text, out = ("--corpus.paths", corpus_file), ("--output", tmp_path / "out")
    use = ("--tokenizer.path", tokenizer_folder)
    for job, arguments, message in (
        (train_tokenizer_job, text, "--output is missing"),
        (train_tokenizer_job, (*text, *out, *use), "this job writes to --output"),
        (train_tokenizer_job, ("--corpus.paths", tmp_path / "no*", *out), "no* matches no file"),
        (train_tokenizer_job, (*text, "--output", tokenizer_folder), "holds something else"),
        (tokenize_corpus_job, (*text, *use), "--output is missing"),
        (tokenize_corpus_job, (*text, *out), "tokenizer.path is missing"),
        (tokenize_corpus_job, (*text, *out, "--tokenizer.path", corpus_file), "corpus.txt: "),
        (tokenize_corpus_job, (*text, *out, *use, "--corpus.format", "jsonl"), "line 1: not JSON"),
        (tokenize_corpus_job, (*text, *out, *use, "--corpus.format", "parquet"), "not a parquet"),
        (tokenize_corpus_job, (*text, "--output", corpus_file, *use), "is a file; a folder is"),
    ):
        assert message in mistake(capsys, job, *arguments)
    assert not (tmp_path / "out").exists()


@pytest.mark.cluster
@pytest.mark.parametrize("kind", ["wordpiece", "bpe"])
def test_jobs_give_what_one_process_gives(
    tmp_path: Path,
    corpus_file: Path,
    kind: str,
    ray_cluster: RunningCluster,
    capsys: pytest.CaptureFixture[str],
):
    text = ("--corpus.paths", corpus_file, *CUT)
    train = (*text, "--tokenizer.kind", kind, "--tokenizer.vocab_size", 400)
    folder, out = tmp_path / "tokenizer", tmp_path / "out"
    run(train_tokenizer_job, *train, "--output", folder)
    run(tokenize_corpus_job, *text, "--tokenizer.path", folder, "--output", out)

    corpus = Corpus.open(CorpusSettings(paths=(str(corpus_file),), range_mebibytes=0.004))
    settings = TokenizerSettings.model_validate({"kind": kind, "vocab_size": 400})
    tokenizer = train_tokenizer(corpus, settings)
    tokenize(corpus, tokenizer, tmp_path / "here")
    assert (folder / "tokenizer.json").read_text() == tokenizer.to_json()
    assert content(out) == content(tmp_path / "here")

    capsys.readouterr()
    run(train_tokenizer_job, *train, "--output", folder)
    run(tokenize_corpus_job, *text, "--tokenizer.path", folder, "--output", out)
    first, second = capsys.readouterr().out.splitlines()
    assert f"{folder} is there already: 400 entries" in first
    assert f"{out} is there already: " in second
    assert "held_out_share: 0.01 -> 0.2" in mistake(
        capsys,
        tokenize_corpus_job,
        *(*text, "--tokenizer.path", folder, "--output", out, "--corpus.held_out_share", 0.2),
    )


@pytest.mark.cluster
def test_counts_of_many_tasks_are_those_of_one_process(
    corpus_file: Path, ray_cluster: RunningCluster
):
    from raybert.corpus.ray_tasks import count_ranges

    settings = CorpusSettings(paths=(str(corpus_file),), range_mebibytes=0.002)
    corpus = Corpus.open(settings)
    ranges = corpus.ranges()
    assert len(ranges) > 2 * 16
    whole = count_in_process(WordCounter(settings, TokenizerSettings()), ranges)
    for max_words in (whole.num_words, whole.num_words - 1):
        counter = WordCounter(settings, TokenizerSettings(), max_words)
        heard: list[TextRange] = []
        here = count_in_process(counter, ranges)
        there = count_ranges(counter, ranges, heard.append, expectation=ray_cluster.expectation)
        assert there.counts == here.counts
        assert (there.num_words, there.pruned) == (here.num_words, here.pruned)
        assert sorted(heard, key=lambda text_range: text_range.name) == list(ranges)


@pytest.mark.cluster
def test_broken_text_ends_the_jobs_and_keeps_what_is_finished(
    tmp_path: Path,
    tokenizer_folder: Path,
    ray_cluster: RunningCluster,
    capsys: pytest.CaptureFixture[str],
):
    path = tmp_path / "a.txt"
    path.write_bytes(b"the river\n\n" * 9000 + b"old \xff towns\n\n")
    text = ("--corpus.paths", path, *CUT)
    message = f"error: {path}: not UTF-8 at byte 99004: 0xff, invalid start byte"
    found = mistake(capsys, train_tokenizer_job, *text, "--output", tmp_path / "vocabulary")
    assert found.startswith(message)
    assert not (tmp_path / "vocabulary").exists()
    use = ("--tokenizer.path", tokenizer_folder, "--output", tmp_path / "out")
    found = mistake(capsys, tokenize_corpus_job, *text, *use)
    assert found.startswith(message)
    assert "Traceback" not in found
    assert list((tmp_path / "out").glob("shard-*.json"))
    assert not (tmp_path / "out" / "manifest.json").exists()

    other = ("--tokenizer.path", tokenizer_folder, "--output", tmp_path / "skipped")
    run(tokenize_corpus_job, *text, *other, "--corpus.on_invalid", "skip")
    assert "broken documents: 1 skipped, 0 mended" in capsys.readouterr().out


@pytest.mark.cluster
def test_a_killed_job_run_again_gives_the_same_bytes(
    tmp_path: Path, corpus_file: Path, tokenizer_folder: Path, ray_cluster: RunningCluster
):
    out = tmp_path / "out"
    line = [
        *(sys.executable, str(ROOT / "jobs" / "tokenize_corpus.py")),
        *("--corpus.paths", str(corpus_file), "--corpus.range_mebibytes", "0.0005"),
        *("--tokenizer.path", str(tokenizer_folder), "--output", str(out)),
    ]
    environment = {**os.environ, **ray_cluster.environment}
    job = subprocess.Popen(line, env=environment, stderr=subprocess.PIPE)
    while len(list(out.glob("shard-*.json"))) < 5:
        assert job.poll() is None, job.communicate()[1]
        time.sleep(0.002)
    job.send_signal(signal.SIGKILL)
    job.communicate()
    # Tasks that were running may still finish their shard.
    time.sleep(1)
    kept = {path.name: path.stat().st_mtime_ns for path in out.glob("shard-*")}
    assert not (out / "manifest.json").exists()

    subprocess.run(line, env=environment, check=True, stdout=subprocess.DEVNULL)
    settings = CorpusSettings(paths=(str(corpus_file),), range_mebibytes=0.0005)
    tokenizer = rust_tok.Tokenizer.from_file(tokenizer_folder / "tokenizer.json")
    manifest = tokenize(Corpus.open(settings), tokenizer, tmp_path / "uninterrupted")
    assert len(list(out.glob("shard-*.json"))) > len([n for n in kept if n.endswith(".json")]) >= 5
    assert content(out) == content(tmp_path / "uninterrupted")
    assert manifest.num_tokens > 0
    entries = [name for name in kept if name.endswith(".json")]
    assert all((out / name).stat().st_mtime_ns == kept[name] for name in entries)


@pytest.mark.cluster
def test_jobs_on_remote_files(
    tmp_path: Path,
    corpus_file: Path,
    tokenizer_folder: Path,
    s3_bucket: str,
    ray_cluster: RunningCluster,
):
    folder = Location.parse(s3_bucket) / "jobs"
    with (folder / "in" / "corpus.txt").open_output_stream() as stream:
        stream.write(corpus_file.read_bytes())
    text = ("--corpus.paths", folder / "in", "--corpus.range_mebibytes", 0.02)
    run(
        train_tokenizer_job, *text, "--tokenizer.vocab_size", 300, "--output", folder / "vocabulary"
    )
    use = ("--tokenizer.path", folder / "vocabulary", "--output", folder / "out")
    run(tokenize_corpus_job, *text, *use)
    settings = CorpusSettings(paths=(str(corpus_file),), range_mebibytes=0.02)
    tokenizer = train_tokenizer(Corpus.open(settings), TokenizerSettings(vocab_size=300))
    here = tmp_path / "here"
    tokenize(Corpus.open(settings), tokenizer, here)
    for path in here.glob("shard-*.arrow"):
        assert (folder / "out" / path.name).read_bytes() == path.read_bytes()
    assert (folder / "out" / "manifest.json").is_file()
