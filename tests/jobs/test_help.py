"""What every job says about itself."""

import subprocess
import sys
from pathlib import Path

import pytest

JOBS = Path(__file__).parents[2] / "jobs"
# Runs a job's file as `python FILE --help` does, and tells what it has imported.
TOLD = """
import runpy, sys
sys.argv = [sys.argv[1], "--help"]
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
finally:
    print("imported", *({"torch", "ray"} & set(sys.modules)))
"""


@pytest.mark.parametrize("name", ["pretrain", "finetune", "tune", "predict"])
def test_help_comes_before_the_imports_that_take_seconds(name):
    command = [sys.executable, "-c", TOLD, str(JOBS / f"{name}.py")]
    found = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    *said, imported = found.stdout.splitlines()
    assert imported == "imported"
    assert any(line.startswith("usage:") for line in said)
    assert any("--cluster.num_workers" in line for line in said)
