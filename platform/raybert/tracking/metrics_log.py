"""metrics.jsonl: every logged step, one JSON object per line. All other trackers follow it."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path

from raybert.storage import Location, write_file
from raybert.tracking.row import Row

FILE = "metrics.jsonl"


class MetricsLog:
    """Appends rows to a file.

    A line is handed to the system as soon as it is logged: a killed process loses none. A killed
    machine may; `flush`, called before a checkpoint is committed, makes sure that the log reaches
    at least as far as every checkpoint.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = None

    def resume(self, step: int) -> list[Row]:
        """Opens the log after dropping what came after `step`, which is going to be done again.

        Returns:
            The rows that stand.
        """
        rows = [row for row in read_rows(self._path) if row.step <= step]
        self._path.parent.mkdir(parents=True, exist_ok=True)
        write_file(Location.parse(self._path), "".join(map(_line, rows)).encode())
        self._file = self._path.open("a", encoding="utf-8")
        return rows

    def log(self, row: Row) -> None:
        assert self._file is not None  # resume comes first
        self._file.write(_line(row))
        self._file.flush()

    def flush(self) -> None:
        if self._file is not None:
            os.fsync(self._file.fileno())

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def read_rows(path: Path) -> list[Row]:
    """The rows of a metrics.jsonl; a last line cut short by a kill is passed over."""
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8").split("\n")
    # Behind the last newline stands nothing, or what a killed writer left.
    return [_row(line) for line in lines[:-1]]


def _row(line: str) -> Row:
    fields = json.loads(line)
    step, seconds = int(fields.pop("step")), float(fields.pop("time"))
    return Row(step, seconds, {k: math.nan if v is None else v for k, v in fields.items()})


def _line(row: Row) -> str:
    # JSON has no NaN and no infinity.
    scalars = {name: value if math.isfinite(value) else None for name, value in row.scalars.items()}
    return json.dumps({"step": row.step, "time": round(row.time, 3), **scalars}) + "\n"
