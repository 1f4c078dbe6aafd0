"""What the jobs train_tokenizer and tokenize_corpus do, with what a person sees of it."""

from __future__ import annotations

import functools
import time

from raybert.cluster import WorkerRequest, start
from raybert.corpus.corpus import Corpus
from raybert.corpus.default import default_corpus
from raybert.corpus.shards import REPLACED, SKIPPED, TEXT_BYTES
from raybert.corpus.tokenization import open_tokenizer, prepare
from raybert.corpus.tokenizer_folder import TokenizerFolder
from raybert.corpus.vocabulary import WordCounter, sample_of, train
from raybert.errors import UserError
from raybert.settings import Settings
from raybert.tokens import Manifest
from raybert.tracking.work import COUNTING, TOKENIZING, WorkProgress

# A task takes one CPU; there are as many at a time as the cluster has.
_TASK = WorkerRequest(num_workers=1, num_cpus=1)


def train_tokenizer_job(settings: Settings) -> None:
    """Trains a tokenizer on a cluster and commits its folder.

    Raises:
        UserError: see `Corpus.open`, `TokenizerFolder.prepare`, `ray_tasks.count_ranges`, `train`.
    """
    if settings.output is None:
        raise UserError("--output is missing: the folder for the tokenizer")
    if settings.tokenizer.path is not None:
        raise UserError("tokenizer.path is for a trained tokenizer; this job writes to --output")
    corpus = _open(settings)
    folder = TokenizerFolder.prepare(corpus, settings.tokenizer, settings.output)
    if folder.finished:
        size = folder.read().vocab_size
        print(f"{folder.place} is there already: {size:,} entries, from this text and settings")
        return
    began = time.monotonic()
    ranges = sample_of(corpus, settings.tokenizer.sample_bytes)
    _say(corpus)
    with (
        start(settings.cluster, _TASK, outputs=[folder.place]) as cluster,
        WorkProgress(COUNTING, sum(r.text_bytes for r in ranges), folder.place.name) as progress,
    ):
        from raybert.corpus.ray_tasks import count_ranges

        counted = count_ranges(
            WordCounter(settings.corpus, settings.tokenizer),
            ranges,
            lambda text_range: progress.advance(text_range.text_bytes),
            expectation=cluster.expectation,
        )
    _say_passed_over(counted.passed_over.skipped, counted.passed_over.replaced)
    print(f"{counted.num_words:,} distinct words", end="")
    if counted.pruned:
        print(
            f", more than the {WordCounter.max_words:,} that a trainer is given: those seen fewer "
            f"than {settings.tokenizer.min_frequency} times count by their characters alone",
            end="",
        )
    print(flush=True)
    tokenizer = train(counted, settings.tokenizer)
    folder.write(tokenizer)
    seconds = time.monotonic() - began
    print(
        f"{folder.place}: {settings.tokenizer.kind} tokenizer of {tokenizer.vocab_size:,} entries, "
        f"{seconds:.1f} s"
    )


def tokenize_corpus_job(settings: Settings) -> None:
    """Writes the token shards of a corpus on a cluster and commits their manifest.

    Raises:
        UserError: see `Corpus.open`, `open_tokenizer`, `prepare`, `Tokenization.run`.
    """
    if settings.output is None:
        raise UserError("--output is missing: the folder for the token shards")
    tokenizer = open_tokenizer(settings.tokenizer.path)
    corpus = _open(settings)
    work = prepare(corpus, tokenizer, settings.output)
    if work.finished is not None:
        print(f"{work.maker.folder} is there already: {_summary(work.finished)}")
        return
    began = time.monotonic()
    _say(corpus)
    with (
        start(settings.cluster, _TASK, outputs=[work.maker.folder]) as cluster,
        WorkProgress(
            TOKENIZING, sum(r.text_bytes for r in work.ranges), work.maker.folder.name
        ) as progress,
    ):
        from raybert.corpus.ray_tasks import tokenize_ranges

        carry_out = functools.partial(tokenize_ranges, expectation=cluster.expectation)
        manifest = work.run(carry_out, lambda done: progress.advance(done.text_range.text_bytes))
    seconds = time.monotonic() - began
    notes = [shard.notes for shard in manifest.shards]
    _say_passed_over(sum(n[SKIPPED] for n in notes), sum(n[REPLACED] for n in notes))
    rate = sum(n[TEXT_BYTES] for n in notes) / 1e6 / seconds
    print(f"{work.maker.folder}: {_summary(manifest)}, {seconds:.1f} s ({rate:.1f} MB/s)")


def _open(settings: Settings) -> Corpus:
    if not settings.corpus.paths:
        default_corpus(on_making=_say_making)
    return Corpus.open(settings.corpus)


def _say_making() -> None:
    print("collecting the default corpus from the installed packages, this once …", flush=True)


def _summary(manifest: Manifest) -> str:
    return (
        f"{manifest.num_tokens:,} tokens in {manifest.num_sentences:,} sentences of "
        f"{manifest.num_documents:,} documents, {len(manifest.shards)} shards"
    )


def _say(corpus: Corpus) -> None:
    what = "file" if len(corpus.sources) == 1 else "files"
    megabytes = corpus.num_bytes / 1e6
    name = "your text" if corpus.settings.paths else "the default corpus (documentation strings)"
    print(f"{name}: {len(corpus.sources)} {what}, {megabytes:,.1f} MB", flush=True)


def _say_passed_over(skipped: int, replaced: int) -> None:
    if skipped or replaced:
        print(f"broken documents: {skipped:,} skipped, {replaced:,} mended with U+FFFD")
