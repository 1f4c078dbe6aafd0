"""rust_tok and its peers encode the same texts: WordPiece and byte-level BPE, 1 and 2 threads.

    python tests/benchmarks/bench_tokenizers.py [--quick] [--english FILE] [--cjk FILE] [--only bpe]

Every package runs its fastest documented call that gives ids to Python, chosen for each kind of
text by trying; rust_tok's `encode_arrow`, and beside it its call on lists. All of them take turns
in one process per algorithm and number of threads, and the ids are held against each other before
any time is taken: a package whose ids differ is not timed. Rates are medians of the rounds.
`tokenizers` gets a slice of about 1 MB: it has the same rate on more.

What a second thread brings is measured by itself: `bench_threads.py`.

warm: the tokenizer has seen this text before. cold: a fresh tokenizer, text that it never saw; what
it takes to make one is a table of its own.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import text
from rich.console import Console
from rich.table import Table
from text_files import MAIN_KINDS, training_sample, write_texts
from tokenizer_sides import sides, tokenizer_file

VOCAB_SIZE = 30_522
LISTS = "rust_tok, lists"
# (algorithm, kind, state, peer): how many times as fast rust_tok is to be, on one thread.
GOALS = {
    ("wordpiece", "warm", "nanotoken"): 1.5,
    ("wordpiece", "cold", "nanotoken"): 2.0,
    ("bpe", "warm", "gigatoken"): 1.0,
    ("bpe", "cold", "gigatoken"): 1.5,
    ("bpe", "cold", "tokie"): 1.0,
}
NO_CLIFF = 0.8
CONSTRUCTION_SECONDS = 0.1

Results = list[dict[str, Any]]


def main() -> None:
    arguments = _arguments()
    rounds = 2 if arguments.quick else arguments.rounds
    scale = 0.05 if arguments.quick else arguments.scale
    with tempfile.TemporaryDirectory() as folder:
        texts = write_texts(_kinds(arguments), scale, _own(arguments), folder)
        sample = training_sample(texts)
        gathered: dict[tuple[str, int], Results] = {}
        for algorithm in ("wordpiece", "bpe"):
            if arguments.only not in (None, algorithm):
                continue
            tokenizer = tokenizer_file(algorithm, sample, VOCAB_SIZE, folder)
            for num_threads in _thread_numbers(arguments.threads):
                kinds = [k for k in texts if num_threads == 1 or k in MAIN_KINDS]
                job = {
                    "algorithm": algorithm,
                    "num_threads": num_threads,
                    "tokenizer": tokenizer,
                    "texts": {kind: texts[kind] for kind in kinds},
                    "rounds": rounds,
                    "cpu_time": arguments.cpu_time,
                }
                gathered[algorithm, num_threads] = _run(job, folder)
                _print_rates(algorithm, num_threads, gathered[algorithm, num_threads], kinds)
                if num_threads == 1:
                    _print_construction(algorithm, gathered[algorithm, 1])
        _print_goals(gathered)


def _thread_numbers(wanted: str | None) -> list[int]:
    if wanted:
        return sorted(int(number) for number in wanted.split(","))
    return sorted({1, min(2, os.cpu_count() or 1)})


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="small texts, two rounds: a smoke run")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--scale", type=float, default=1.0, help="of the sizes of the texts")
    parser.add_argument("--english", help="a text file in place of documentation strings")
    parser.add_argument("--code", help="a text file in place of installed sources")
    parser.add_argument("--cjk", help="a text file in place of generated words")
    parser.add_argument("--cpu-time", action="store_true", help="for a machine that isn't quiet")
    parser.add_argument("--threads", help="comma-separated, 1,2 if not given")
    parser.add_argument("--only", choices=("wordpiece", "bpe"))
    parser.add_argument("--kinds", help="comma-separated, of: " + ", ".join(text.KINDS))
    return parser.parse_args()


def _kinds(arguments: argparse.Namespace) -> list[str]:
    return arguments.kinds.split(",") if arguments.kinds else list(text.KINDS)


def _own(arguments: argparse.Namespace) -> dict[str, str | None]:
    return {"English": arguments.english, "code": arguments.code, "CJK": arguments.cjk}


def _run(job: Mapping[str, Any], folder: str) -> Results:
    given, wanted = Path(folder) / "job.json", Path(folder) / "results.json"
    given.write_text(json.dumps(job))
    worker = Path(__file__).with_name("tokenizer_worker.py")
    subprocess.run([sys.executable, worker, given, wanted], check=True)
    return json.loads(wanted.read_text())


def _rate(result: Mapping[str, Any], state: str) -> float:
    return result["num_bytes"] / 1e6 / statistics.median(result[state])


def _print_rates(algorithm: str, num_threads: int, results: Results, kinds: list[str]) -> None:
    by_place = {(r["side"], r["kind"]): r for r in results}
    threads = "1 thread" if num_threads == 1 else f"{num_threads} threads"
    table = Table(title=f"{algorithm}, {threads}: MB/s warm | cold", title_justify="left")
    table.add_column("kind of text")
    names = list(dict.fromkeys(r["side"] for r in results))
    versions = {side.name: side.version for side in sides(algorithm, num_threads)}
    for name in names:
        label = name if name.startswith("rust_tok") else f"{name} {versions[name]}"
        table.add_column(label, justify="right", no_wrap=False)
    table.add_column("rust_tok is, of the best peer", justify="right")
    for kind in kinds:
        row = [by_place[name, kind] for name in names]
        table.add_row(kind, *map(_cell, row), _against_best(row))
    Console(width=150).print(table)
    calls = {(r["side"], r["call"]): [] for r in results}
    for r in results:
        calls[r["side"], r["call"]].append(r["kind"])
    for (side, call), where in calls.items():
        print(f"  {side} through {call}: {'all' if len(where) == len(kinds) else ', '.join(where)}")


def _cell(result: Mapping[str, Any]) -> str:
    if result["different"]:
        return f"{result['different']:,} of {result['num_rows']:,} rows differ"
    return " | ".join(f"{_rate(result, state):,.1f}" for state in ("warm", "cold"))


def _against_best(row: Results) -> str:
    ours, *others = row
    peers = [r for r in others if r["side"] != LISTS and not r["different"]]
    return " | ".join(
        f"{_rate(ours, state) / max(_rate(peer, state) for peer in peers):.2f}x"
        for state in ("warm", "cold")
    )


def _print_construction(algorithm: str, results: Results) -> None:
    seconds: dict[str, list[float]] = {}
    for result in results:
        seconds.setdefault(result["side"], []).extend(result["construction"])
    made = ", ".join(
        f"{name} {statistics.median(s) * 1e3:.0f} ms" for name, s in seconds.items() if s
    )
    print(f"  a fresh tokenizer, {algorithm}: {made}")


def _print_goals(gathered: Mapping[tuple[str, int], Results]) -> None:
    table = Table(title="goals", title_justify="left")
    for column in ("what", "goal", "measured", ""):
        table.add_column(column, justify="left" if column == "what" else "right")

    def add(what: str, goal: float, measured: float, unit: str, *, least: bool = True) -> None:
        holds = measured >= goal if least else measured <= goal
        sign = "≥" if least else "≤"
        table.add_row(
            what, f"{sign} {goal:g}{unit}", f"{measured:.2f}{unit}", "holds" if holds else "misses"
        )

    for (algorithm, num_threads), results in gathered.items():
        by_place = {(r["side"], r["kind"]): r for r in results if not r["different"]}
        if num_threads > 1:
            continue
        for (wanted, state, peer), goal in GOALS.items():
            places = ("rust_tok", "English"), (peer, "English")
            if wanted == algorithm and all(place in by_place for place in places):
                mine, theirs = (_rate(by_place[place], state) for place in places)
                add(f"{algorithm}, English, {state}: of {peer}", goal, mine / theirs, "x")
        kinds = dict.fromkeys(kind for _, kind in by_place)
        for kind in kinds:
            peers = [
                r
                for (side, k), r in by_place.items()
                if k == kind and not side.startswith("rust_tok")
            ]
            for state in ("warm", "cold"):
                best = max(peers, key=lambda r: _rate(r, state))
                ratio = _rate(by_place["rust_tok", kind], state) / _rate(best, state)
                add(f"{algorithm}, {kind}, {state}: of {best['side']}", NO_CLIFF, ratio, "x")
        made = statistics.median(
            s for r in results if r["side"] == "rust_tok" for s in r["construction"]
        )
        add(
            f"{algorithm}: construction", CONSTRUCTION_SECONDS * 1e3, made * 1e3, " ms", least=False
        )
    Console(width=110).print(table)


if __name__ == "__main__":
    main()
