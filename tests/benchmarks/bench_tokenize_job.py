"""The tokenization job's map tasks on a Ray cluster against the same calls of rust_tok in-process.

    python tests/benchmarks/bench_tokenize_job.py [--quick] [--megabytes 520] [--english FILE]

In-process, one thread encodes text that is in memory: the documents as they are, and the calls that
a task makes of them (sentences found and trimmed, then encoded). The job reads the same text from
files, does these calls, hashes documents and commits shards, one task per CPU. Its rate is that of
the map tasks, without the start of their processes: the text over the seconds that tasks took. The
wall clock of the whole is shown, too.
"""

import argparse
import functools
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("RAYON_NUM_THREADS", "1")

import pyarrow as pa
import text

import rust_tok
from bert.memory import tune_allocator
from raybert.cluster import WorkerRequest, start
from raybert.corpus.content import PassedOver
from raybert.corpus.corpus import Corpus
from raybert.corpus.ray_tasks import tokenize_ranges
from raybert.corpus.reading import Reader
from raybert.corpus.sentences import ids_of, sentences_of
from raybert.corpus.tokenization import Finished, prepare
from raybert.settings import ClusterSettings, CorpusSettings

ROUNDS = 7
GOAL = 0.8
SAMPLE_MEGABYTES = 40
FILES = 4


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="40 MB, two rounds: a smoke run")
    parser.add_argument("--megabytes", type=float, default=520)
    parser.add_argument("--english", help="a text file in place of documentation strings")
    arguments = parser.parse_args()
    megabytes, rounds = (40, 2) if arguments.quick else (arguments.megabytes, ROUNDS)
    num_cpus = os.cpu_count() or 1
    tune_allocator()  # as the job's tasks do
    with tempfile.TemporaryDirectory() as folder:
        documents = _documents(arguments.english)
        paths = _write_corpus(documents, int(megabytes * 1e6), Path(folder))
        corpus = Corpus.open(CorpusSettings(paths=tuple(map(str, paths))))
        print(f"{corpus.num_bytes / 1e6:.0f} MB in {len(paths)} files, {num_cpus} CPUs")
        for kind, train in (("wordpiece", rust_tok.train_wordpiece), ("bpe", rust_tok.train_bpe)):
            tokenizer = train(pa.array(documents[:4000]))
            plain, calls = _in_process(corpus, tokenizer, rounds)
            tasks, wall = _job(corpus, tokenizer, Path(folder) / kind, num_cpus)
            _report(kind, num_cpus, plain, calls, tasks, wall)


def _documents(path: str | None) -> list[str]:
    num_bytes = SAMPLE_MEGABYTES * 1_000_000
    found = text.of_file(path, num_bytes) if path else text.documents(num_bytes)
    # A blank line would end a document.
    return [document.replace("\n\n", "\n") for document in found]


def _write_corpus(documents: list[str], num_bytes: int, folder: Path) -> list[Path]:
    """The documents again and again, each copy with a line of its own, so that none is equal."""
    paths = [folder / f"corpus-{number}.txt" for number in range(FILES)]
    copy = 0
    for path in paths:
        written = 0
        with path.open("w", encoding="utf-8") as file:
            while written < num_bytes / FILES:
                for number, document in enumerate(documents):
                    written += file.write(f"Copy {copy} of document {number}.\n{document}\n\n")
                    if written >= num_bytes / FILES:
                        break
                copy += 1
    return paths


def _in_process(corpus: Corpus, tokenizer: rust_tok.Tokenizer, rounds: int) -> tuple[float, float]:
    """Bytes per second on one thread: of encoding documents, and of the calls of a task."""
    batches: list[pa.Array] = []
    held, limit = 0, SAMPLE_MEGABYTES * 1_000_000
    for text_range in corpus.ranges():
        for batch in Reader().read(text_range, PassedOver()):
            batches.append(batch)
            held += batch.nbytes
        if held >= limit:
            break

    def plain(batch: pa.Array) -> None:
        pa.array(tokenizer.encode_arrow(batch, split_special_tokens=True))

    def calls(batch: pa.Array) -> None:
        ids_of(sentences_of(batch, corpus.settings), tokenizer)

    def seconds(call: Callable[[pa.Array], None]) -> float:
        begin = time.perf_counter()
        for batch in batches:
            call(batch)
        return time.perf_counter() - begin

    taken = [(seconds(plain), seconds(calls)) for _ in range(rounds + 1)][1:]
    first, second = (statistics.median(column) for column in zip(*taken, strict=True))
    return held / first, held / second


def _job(
    corpus: Corpus, tokenizer: rust_tok.Tokenizer, folder: Path, num_cpus: int
) -> tuple[float, float]:
    """Bytes per second of a map task, and of the whole by the clock on the wall."""
    work = prepare(corpus, tokenizer, str(folder))
    finished: list[Finished] = []
    request = WorkerRequest(num_workers=num_cpus, num_cpus=1)
    with start(ClusterSettings(), request) as cluster:
        carry_out = functools.partial(tokenize_ranges, expectation=cluster.expectation)
        begin = time.perf_counter()
        work.run(carry_out, finished.append)
        wall = time.perf_counter() - begin
    seconds = sum(done.seconds for done in finished)
    return corpus.num_bytes / seconds, corpus.num_bytes / wall


def _report(
    kind: str, num_cpus: int, plain: float, calls: float, tasks: float, wall: float
) -> None:
    share = tasks / calls
    verdict = "holds" if share >= GOAL else "misses"
    print(
        f"{kind}, MB/s per core: encoding documents {plain / 1e6:.0f}, the task's calls "
        f"{calls / 1e6:.0f}, map tasks of the job {tasks / 1e6:.0f}\n"
        f"  map tasks reach {share:.0%} of the same calls in-process (goal {GOAL:.0%}: {verdict})\n"
        f"  and {tasks / plain:.0%} of encoding documents alone\n"
        f"  on {num_cpus} CPUs by the clock, start of processes included: {wall / 1e6:.0f} MB/s",
        flush=True,
    )


if __name__ == "__main__":
    main()
