"""jobs/pretrain.py or jobs/finetune.py with a fault: a process is killed, once, at an exact place.

    python faulty_training.py FAULT.json --tokens … --run …

The fault is JSON. `job`: which of the two. `what`: "worker" or "driver" is killed in the middle of
a step, or "saving": worker 0 while it writes a checkpoint. `rank`: the worker that strikes.
`number`: of the step, counted from 0, or of the checkpoint. `marker`: a file that is made when it
strikes, so that it strikes once, with the metrics log as it stood then.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from raybert.finetuning.driver import finetune
from raybert.finetuning.worker import finetuning_worker
from raybert.settings.command_line import run_job
from raybert.training.driver import pretrain
from raybert.training.workers import Launch, pretraining_worker

JOBS = {
    "pretrain": (pretrain, pretraining_worker, ("tokens", "samples", "pretraining")),
    "finetune": (finetune, finetuning_worker, ("data", "finetuning")),
}


class FaultyWorker:
    """A worker that arms the fault and then does what every worker does."""

    def __init__(self, fault: dict[str, Any]) -> None:
        self.fault = fault

    def __call__(self, launch: Launch) -> dict[str, Any]:
        import ray.train

        if ray.train.get_context().get_world_rank() == self.fault["rank"]:
            arm = _arm_saving if self.fault["what"] == "saving" else _arm_step
            arm(self.fault)
        _, worker, _ = JOBS[self.fault["job"]]
        return worker(launch)


def _strike(fault: dict[str, Any], pid: int) -> None:
    log = Path(fault["run"]) / "metrics.jsonl"
    Path(fault["marker"]).write_bytes(log.read_bytes() if log.is_file() else b"")
    os.kill(pid, signal.SIGKILL)
    time.sleep(600)  # until the killed driver's cluster ends this process


def _arm_step(fault: dict[str, Any]) -> None:
    """Strikes when the gradient is there and the weights have not changed."""
    from raybert.training.optimizer import AdamW

    update = AdamW.step

    def step(self, *args: Any, **kwargs: Any) -> None:
        if self.num_updates.item() == fault["number"] and not Path(fault["marker"]).exists():
            _strike(fault, fault["driver"] if fault["what"] == "driver" else os.getpid())
        update(self, *args, **kwargs)

    AdamW.step = step


def _arm_saving(fault: dict[str, Any]) -> None:
    """Strikes when the weights of a checkpoint are written and its optimizer is cut short."""
    from raybert.training import checkpoints

    write = checkpoints.write_tensors
    files = iter(range(1 << 30))

    def write_tensors(place: Any, tensors: Any) -> None:
        # Each checkpoint has two such files.
        if next(files) == 2 * fault["number"] + 1 and not Path(fault["marker"]).exists():
            with place.open_output_stream() as stream:
                stream.write(b"cut short")
            _strike(fault, os.getpid())
        write(place, tensors)

    checkpoints.write_tensors = write_tensors


if __name__ == "__main__":
    fault = json.loads(Path(sys.argv[1]).read_text()) | {"driver": os.getpid()}
    job, _, sections = JOBS[fault["job"]]
    worker = FaultyWorker(fault)
    run_job(
        lambda settings: job(settings, worker),
        description="Training with a fault.",
        sections=("run", "plan", "model", "cluster", *sections),
        arguments=sys.argv[2:],
    )
