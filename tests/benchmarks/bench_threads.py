"""What a second thread brings to encoding, and what the machine lets it bring.

    python tests/benchmarks/bench_threads.py [--quick] [--only bpe]

Three groups of processes take turns on the same text: one process on one thread, one on two
threads, and two on one thread each, which share nothing but the machine. Where two such processes
together are not twice as fast as one alone, the cores share caches, memory or clock, and no number
of threads can do better. Rates are of `encode_arrow`, medians of the rounds; ratios are medians of
each round's own.

warm: the tokenizer has seen the text before. cold: a fresh tokenizer, made before the clock runs.
"""

import argparse
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, contextmanager
from multiprocessing.connection import Connection

from rich.console import Console
from rich.table import Table
from text_files import MAIN_KINDS, read_column, training_sample, write_texts
from tokenizer_sides import tokenizer_file

VOCAB_SIZE = 30_522
ROUNDS = 15
GOAL = 1.85
ONE, THREADS, PROCESSES = "one thread", "two threads", "two processes"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="small texts, two rounds: a smoke run")
    parser.add_argument("--only", choices=("wordpiece", "bpe"))
    arguments = parser.parse_args()
    cpus = sorted(os.sched_getaffinity(0))[-2:]
    if len(cpus) < 2:
        raise SystemExit("two CPUs are needed to see what a second thread brings; there is one")
    rounds, scale = (2, 0.05) if arguments.quick else (ROUNDS, 1.0)
    with tempfile.TemporaryDirectory() as folder:
        texts = write_texts(MAIN_KINDS, scale, {}, folder)
        for algorithm in ("wordpiece", "bpe"):
            if arguments.only in (None, algorithm):
                tokenizer = tokenizer_file(algorithm, training_sample(texts), VOCAB_SIZE, folder)
                _print(algorithm, _rates(tokenizer, texts, cpus, rounds))


def _rates(
    tokenizer: str, texts: Mapping[str, str], cpus: Sequence[int], rounds: int
) -> dict[tuple[str, str], dict[str, list[float]]]:
    """Bytes per second of every round, by kind of text and state, then by group."""
    first, second = cpus
    with ExitStack() as running:
        groups = {
            ONE: [running.enter_context(_process(tokenizer, [second]))],
            THREADS: [running.enter_context(_process(tokenizer, [first, second]))],
            PROCESSES: [running.enter_context(_process(tokenizer, [cpu])) for cpu in cpus],
        }
        measured = {}
        for kind, path in texts.items():
            num_bytes = {name: _give_text(group, path) for name, group in groups.items()}
            for state in ("warm", "cold"):
                rates = {name: [] for name in groups}
                for _ in range(rounds):
                    for name, group in groups.items():
                        rates[name].append(num_bytes[name] / _seconds(group, state))
                measured[kind, state] = rates
        return measured


@contextmanager
def _process(tokenizer: str, cpus: Sequence[int]):
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_work, args=(there, tokenizer, cpus))
    process.start()
    there.close()
    try:
        yield here
    finally:
        here.close()
        process.join()


def _work(told: Connection, tokenizer: str, cpus: Sequence[int]) -> None:
    """Takes texts to encode and states to encode them in until nobody is at the other end."""
    os.environ["RAYON_NUM_THREADS"] = str(len(cpus))
    os.sched_setaffinity(0, cpus)
    import rust_tok

    known = rust_tok.Tokenizer.from_file(tokenizer)
    column = None
    while True:
        try:
            what, value = told.recv()
        except EOFError:
            return
        if what == "text":
            column = read_column(value)
            for _ in range(3):  # fills the caches of all threads
                known.encode_arrow(column)
            told.send(sum(len(document.encode()) for document in column.to_pylist()))
            continue
        used = known if value == "warm" else rust_tok.Tokenizer.from_file(tokenizer)
        told.send("ready")
        told.recv()
        begin = time.perf_counter()
        ids = used.encode_arrow(column)
        told.send((begin, time.perf_counter()))
        del ids, used


def _give_text(group: Sequence[Connection], path: str) -> int:
    """Bytes that the group encodes in a round."""
    for process in group:
        process.send(("text", path))
    return sum(process.recv() for process in group)


def _seconds(group: Sequence[Connection], state: str) -> float:
    """From the first begin to the last end; the clock is the same in all processes."""
    for process in group:
        process.send(("state", state))
    for process in group:
        process.recv()
    for process in group:
        process.send("go")
    begins, ends = zip(*(process.recv() for process in group), strict=True)
    return max(ends) - min(begins)


def _print(
    algorithm: str, measured: Mapping[tuple[str, str], Mapping[str, Sequence[float]]]
) -> None:
    table = Table(title=f"{algorithm}, MB/s", title_justify="left")
    table.add_column("text")
    columns = (ONE, THREADS, PROCESSES, "threads", "processes", "threads, of processes")
    for column in columns:
        table.add_column(column, justify="right")
    table.add_column(f"threads ≥ {GOAL}x")
    for (kind, state), rates in measured.items():
        threads, processes = (_ratio(rates[name], rates[ONE]) for name in (THREADS, PROCESSES))
        table.add_row(
            f"{kind}, {state}",
            *(f"{statistics.median(rate) / 1e6:,.0f}" for rate in rates.values()),
            f"{threads:.2f}x",
            f"{processes:.2f}x",
            f"{_ratio(rates[THREADS], rates[PROCESSES]):.2f}x",
            "holds" if threads >= GOAL else "misses",
        )
    Console(width=130).print(table)


def _ratio(rates: Sequence[float], to: Sequence[float]) -> float:
    return statistics.median(mine / other for mine, other in zip(rates, to, strict=True))


if __name__ == "__main__":
    main()
