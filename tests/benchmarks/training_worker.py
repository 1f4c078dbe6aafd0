"""A process that holds one side of the training benchmark and steps it when told to.

    python training_worker.py SIDE CASE PRECISION THREADS

A process of its own per side, because allocator settings last, and so that its peak of memory is
its own. Lines in: "probe FILE" writes tensors to compare, "step" takes one, "flops" measures what a
matrix product reaches now; a line of JSON answers each.
"""

import json
import resource
import sys
import time
import warnings

import torch
from safetensors.torch import save_file
from training_cases import ALL
from training_sides import build

from bert.memory import tune_allocator
from raybert.training.throughput import measure_peak


def main() -> None:
    name, case, precision, threads = sys.argv[1:]
    torch.set_num_threads(int(threads))
    if name != "as documented":
        tune_allocator()
    warnings.filterwarnings("ignore")
    answers, sys.stdout = sys.stdout, sys.stderr  # Trainer prints
    side = build(name, ALL[case], precision)  # pyright: ignore[reportArgumentType]
    before = _peak_bytes()

    def answer(**fields: object) -> None:
        print(json.dumps(fields), file=answers, flush=True)

    answer(ready=True)
    for line in sys.stdin:
        word, *rest = line.split()
        if word == "probe":
            save_file({k: v.contiguous() for k, v in side.probe().items()}, rest[0])
            answer(probed=True)
        elif word == "flops":
            answer(flops=measure_peak(torch.device("cpu"), precision))  # pyright: ignore[reportArgumentType]
        else:
            begin = time.perf_counter()
            side.step()
            answer(seconds=time.perf_counter() - begin, peak=_peak_bytes(), built=before)


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    main()
