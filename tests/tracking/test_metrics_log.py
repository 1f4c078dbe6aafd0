import json
import math
import os
import signal
import subprocess
import sys

from hypothesis import given
from hypothesis import strategies as st

from raybert.tracking.metrics_log import MetricsLog, read_rows
from raybert.tracking.row import Row


def log_steps(log: MetricsLog, steps, launch: int) -> None:
    for step in steps:
        log.log(Row(step, 1000.0 * launch + step, {"train/loss": float(step), "launch": launch}))


@given(
    launches=st.lists(
        st.tuples(st.integers(1, 12), st.integers(0, 12), st.integers(0, 30)), max_size=6
    )
)
def test_no_gap_and_no_double_step_whatever_the_kills(tmp_path_factory, launches):
    """Each launch goes on from a checkpoint at or before the last logged step."""
    path = tmp_path_factory.mktemp("log") / "metrics.jsonl"
    reached = 0
    for launch, (num_steps, lost, torn_bytes) in enumerate(launches):
        resumed = max(0, reached - lost)
        log = MetricsLog(path)
        assert [row.step for row in log.resume(resumed)] == list(range(1, resumed + 1))
        log_steps(log, range(resumed + 1, resumed + num_steps + 1), launch)
        log.close()
        reached = resumed + num_steps
        with path.open("a") as file:  # the line a kill cuts short
            file.write('{"step": 99, "time": 1.0, "train/loss": 1'[:torn_bytes])
    rows = read_rows(path)
    assert [row.step for row in rows] == list(range(1, reached + 1))
    assert [row.scalars["train/loss"] for row in rows] == [float(row.step) for row in rows]


def test_what_is_not_finite_stays_json(tmp_path):
    path = tmp_path / "metrics.jsonl"
    log = MetricsLog(path)
    log.resume(0)
    log.log(Row(1, 0.0, {"train/loss": math.nan, "train/grad_norm": math.inf}))
    log.close()
    assert json.loads(path.read_text()) == {
        "step": 1,
        "time": 0.0,
        "train/loss": None,
        "train/grad_norm": None,
    }
    assert math.isnan(read_rows(path)[0].scalars["train/loss"])


def test_a_killed_process_loses_no_line(tmp_path):
    path = tmp_path / "metrics.jsonl"
    code = (
        "import sys, time; from pathlib import Path\n"
        "from raybert.tracking.metrics_log import MetricsLog; from raybert.tracking import Row\n"
        "log = MetricsLog(Path(sys.argv[1])); log.resume(0)\n"
        "for step in range(1, 6): log.log(Row(step, 0.0, {'a': 1.0}))\n"
        "print('logged', flush=True); time.sleep(60)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert [row.step for row in read_rows(path)] == [1, 2, 3, 4, 5]
