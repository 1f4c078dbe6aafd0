"""Times all tokenizers on all kinds of text in one process, interleaved; started by
`bench_tokenizers.py`, which sets the threads.

    python tests/benchmarks/tokenizer_worker.py JOB RESULTS

JOB and RESULTS are JSON files: see `Job` and `Result`.
"""

import dataclasses
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SLICE_BYTES = 1 << 20

Clock = Callable[[], float]


@dataclass(frozen=True)
class Job:
    """One algorithm on a number of threads.

    Attributes:
        tokenizer: a tokenizer.json.
        texts: Arrow files with a column `text`, by kind of text.
        rounds: of every call, cold and warm.
        cpu_time: count the seconds of the CPU, of all threads, for a machine that isn't quiet.
    """

    algorithm: str
    num_threads: int
    tokenizer: str
    texts: dict[str, str]
    rounds: int
    cpu_time: bool


@dataclass
class Result:
    """What a side took on a kind of text.

    Attributes:
        call: the one that was the fastest.
        different: rows whose ids are not those of rust_tok; such a side isn't timed.
        num_rows, num_bytes: of the text, or the slice of it, that was encoded.
        construction, cold, warm: seconds of each round.
    """

    side: str
    kind: str
    call: str = ""
    different: int = 0
    num_rows: int = 0
    num_bytes: int = 0
    construction: list[float] = field(default_factory=list)
    cold: list[float] = field(default_factory=list)
    warm: list[float] = field(default_factory=list)


def main() -> None:
    job = Job(**json.loads(Path(sys.argv[1]).read_text()))
    _limit_threads(job.num_threads)
    # What is measured is imported only now: pools are made for the CPUs that are allowed.
    import pyarrow as pa
    from tokenizer_sides import sides

    results: list[Result] = []
    with tempfile.TemporaryDirectory() as folder:
        for kind, path in job.texts.items():
            with pa.memory_map(path) as file:
                documents = pa.ipc.open_file(file).read_all()["text"].to_pylist()
            found = sides(job.algorithm, job.num_threads)
            results += _measure(job, kind, documents, found, folder)
    Path(sys.argv[2]).write_text(json.dumps([dataclasses.asdict(r) for r in results]))


def _limit_threads(num_threads: int) -> None:
    os.environ["RAYON_NUM_THREADS"] = str(num_threads)
    os.environ["FASTOKENS_BPE_THREADS"] = str(num_threads)
    os.environ["TOKENIZERS_PARALLELISM"] = "true" if num_threads > 1 else "false"
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-num_threads:])


def _measure(
    job: Job, kind: str, documents: list[str], sides: list[Any], folder: str
) -> list[Result]:
    from tokenizer_sides import Texts

    whole, small = Texts(documents, folder), Texts(_slice(documents), folder)
    texts = {side.name: small if side.slow else whole for side in sides}
    reference = {id(t): _reference(sides[0], job.tokenizer, t) for t in (whole, small)}
    clock = time.process_time if job.cpu_time else time.perf_counter
    results, running = [], []
    for side in sides:
        own = texts[side.name]
        result = Result(side.name, kind, num_rows=len(own.documents), num_bytes=own.num_bytes)
        results.append(result)
        tokenizer = side.make(job.tokenizer)
        call, ids = _fastest(clock, side, tokenizer, own)
        result.call = call.name
        result.different = ids.num_different_rows(reference[id(own)])
        if not result.different:
            running.append((side, call, tokenizer, own, result))
    if results[-1].side == "tokenizers" and results[-1].different:
        raise SystemExit(
            f"{job.algorithm}, {kind}: the ids of {results[-1].different} rows are not those of "
            "tokenizers; nothing was timed"
        )
    for _ in range(job.rounds):
        for _, call, tokenizer, own, result in running:
            result.warm.append(_seconds(clock, call, tokenizer, own))
    for _ in range(job.rounds):
        for side, call, _, own, result in running:
            begin = clock()
            fresh = side.make(job.tokenizer)
            result.construction.append(clock() - begin)
            result.cold.append(_seconds(clock, call, fresh, own))
            del fresh
    return results


def _slice(documents: list[str]) -> list[str]:
    """The first documents, about `SLICE_BYTES` of them; at most so much of the first."""
    taken, total = [], 0
    for text in documents:
        taken.append(text[:SLICE_BYTES])
        total += len(text.encode())
        if total >= SLICE_BYTES:
            break
    return taken


def _reference(side: Any, tokenizer: str, texts: Any) -> Any:
    (call,) = side.calls
    return call.ids(call.run(side.make(tokenizer), texts))


def _fastest(clock: Clock, side: Any, tokenizer: Any, texts: Any) -> tuple[Any, Any]:
    """The call that takes the least time on caches that are warm, and the ids it gives."""
    best = None
    for call in side.calls:
        given = call.run(tokenizer, texts)
        seconds = _seconds(clock, call, tokenizer, texts) if len(side.calls) > 1 else 0.0
        if best is None or seconds < best[0]:
            best = seconds, call, call.ids(given)
    return best[1], best[2]


def _seconds(clock: Clock, call: Any, tokenizer: Any, texts: Any) -> float:
    begin = clock()
    given = call.run(tokenizer, texts)
    seconds = clock() - begin
    del given
    return seconds


if __name__ == "__main__":
    main()
