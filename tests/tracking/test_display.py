import io
import re

import pytest

from raybert.tracking import Display, Row
from raybert.tracking.display import duration


def rows(*steps: int) -> list[Row]:
    scalars = {
        "train/loss": 7.25,
        "throughput/tokens_per_sec": 12345.6,
        "time/data_wait_fraction": 0.004,
    }
    return [Row(step, 0.0, scalars) for step in steps]


def test_a_log_file_gets_plain_lines_and_no_bars():
    stream = io.StringIO()
    display = Display(40, stream, plain_interval_s=0)
    display.resume([])
    for row in rows(10, 20, 30, 40):
        display.log(row)
    display.close()
    lines = stream.getvalue().splitlines()
    assert lines[0] == "step 10/40  loss 7.2500  12,346 tokens/s  data wait 0.4%"
    assert re.fullmatch(r"step 40/40  loss 7\.2500  .* 0 s left", lines[3])
    assert len(lines) == 4
    assert "\x1b" not in stream.getvalue()


def test_between_intervals_only_evaluations_and_the_end_are_shown():
    stream = io.StringIO()
    display = Display(4000, stream, plain_interval_s=1e9)
    display.resume([])
    for row in rows(*range(1, 500)):
        display.log(row)
    display.log(
        Row(500, 0.0, {"eval/loss": 6.5, "eval/mlm_accuracy": 0.123, "eval/perplexity": 99})
    )
    display.log(rows(4000)[0])
    lines = stream.getvalue().splitlines()
    assert lines[0].startswith("step 1/4,000")
    assert lines[1].startswith("step 500/4,000")
    assert lines[2] == "step 500: held-out loss 6.5000, perplexity 99.0, mlm accuracy 12.3%"
    assert lines[3].startswith("step 4,000/4,000")
    assert len(lines) == 4


def test_a_terminal_gets_one_steady_line_and_notes_above_it(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    stream = Terminal()
    display = Display(40, stream)
    display.resume([])
    for row in rows(10, 20):
        display.log(row)
    display.note("a note")
    display.close()
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", stream.getvalue())
    assert "20/40" in text
    assert "12,346 tokens/s" in text
    assert "a note" in text


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0 s"), (59, "59 s"), (61, "1 min"), (3599, "1 h 00 min"), (7500, "2 h 05 min")],
)
def test_durations_are_written_as_people_do(seconds, words):
    assert duration(seconds) == words
