"""jobs/pretrain.py with a clock: writes down when the driver and its processes get where.

python start_job.py STAMPS --config … --tokens … --run …
"""

import os
import sys
import time
from pathlib import Path

ENTERED = time.time()


def stamp(path: str, name: str, seconds: float | None = None) -> None:
    """Appends a line: seconds since 1970, name."""
    with Path(path).open("a", encoding="utf-8") as file:
        file.write(f"{time.time() if seconds is None else seconds!r} {name}\n")


def process_began() -> float:
    """Of this process, in seconds since 1970."""
    ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
    up = float(Path("/proc/uptime").read_text().split()[0])
    return time.time() - up + ticks / os.sysconf("SC_CLK_TCK")


class ClockedWorker:
    """A worker that stamps its way to the first step, and does what every worker does.

    Args:
        path: of the stamps.
    """

    def __init__(self, path: str) -> None:
        self._path = path

    def __call__(self, launch):
        stamp(self._path, "worker's process", process_began())
        stamp(self._path, "worker's function")
        from raybert.training.engine import Engine
        from raybert.training.workers import pretraining_worker

        step = Engine.step

        def first_step(engine, *args):
            Engine.step = step
            stamp(self._path, "model built")
            report = step(engine, *args)
            _ = report.loss  # waits for the device
            stamp(self._path, "first step")
            return report

        Engine.step = first_step
        return pretraining_worker(launch)


def main(path: str, arguments: list[str]) -> None:
    stamp(path, "driver's process", process_began())
    stamp(path, "driver's script", ENTERED)
    from raybert.settings.command_line import run_job

    def pretrain(settings) -> None:
        stamp(path, "settings")
        from raybert.training import driver, launching

        stamp(path, "driver's imports")
        start, fit = launching.start, launching.GroupFit.start

        def clocked_start(*args, **kwargs):
            stamp(path, "checks")
            return _Stamping(start(*args, **kwargs), path, "Ray")

        def clocked_fit(thread) -> None:
            stamp(path, "trainer")
            fit(thread)

        launching.start = clocked_start
        launching.GroupFit.start = clocked_fit
        driver.pretrain(settings, ClockedWorker(path))

    run_job(
        pretrain,
        description="Pretraining with a clock.",
        sections=("tokens", "run", "plan", "model", "samples", "pretraining", "cluster"),
        arguments=arguments,
    )


class _Stamping:
    """A context manager that stamps when it is entered."""

    def __init__(self, inner, path: str, name: str) -> None:
        self._inner, self._path, self._name = inner, path, name

    def __enter__(self):
        entered = self._inner.__enter__()
        stamp(self._path, self._name)
        return entered

    def __exit__(self, *error):
        return self._inner.__exit__(*error)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
