"""Groups of worker processes: each is `python -m MODULE RANK SIZE FOLDER`, which fills a file."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

TESTS = Path(__file__).parents[1]


def run_group(module: str, folder: Path, size: int) -> list[dict[str, Any]]:
    """Runs one group of worker processes of a module; each worker's outcomes."""
    folder.mkdir()
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    workers = [
        subprocess.Popen(
            [sys.executable, "-m", module, str(rank), str(size), str(folder)],
            cwd=TESTS,
            env=environment,
        )
        for rank in range(size)
    ]
    try:
        assert [worker.wait(timeout=300) for worker in workers] == [0] * size
    finally:
        for worker in workers:
            worker.kill()
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(size)]
