import csv
import io

import pytest
from rich.console import Console
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from raybert.storage import Location
from raybert.tuning.leaderboard import Leaderboard, write_hparams
from raybert.tuning.ledger import Evaluation, Ledger
from raybert.tuning.progress import Standing, SweepDisplay, describe

SPACE = {
    "finetuning.learning_rate": {"uniform": (0.1, 1.0)},
    "finetuning.head_dropout": {"choice": (None, 0.1)},
}


@pytest.fixture
def ledger(tmp_path) -> Ledger:
    ledger = Ledger(Location.parse(tmp_path))
    for number, (state, figure) in enumerate(
        [("finished", 0.7), ("stopped", 0.8), ("failed", None), ("open", 0.6)]
    ):
        values = {"finetuning.learning_rate": 0.1 + number, "finetuning.head_dropout": None}
        key = ledger.add(values).key
        if figure is not None:
            metrics = {"accuracy": figure, "loss": 1 - figure}
            ledger.evaluated(key, Evaluation(5, 1.0, metrics), num_steps=10, seconds=4.0)
        ledger.update(key, state=state, reason="out | of\nmemory" if state == "failed" else None)
    return ledger


def test_every_trial_stands_in_both_files(ledger, tmp_path):
    board = Leaderboard(ledger.entries(), SPACE, "accuracy", higher=True)
    board.write(Location.parse(tmp_path))
    rows = list(csv.DictReader((tmp_path / "leaderboard.csv").open()))
    assert [row["trial"] for row in rows] == ["1", "0", "3", "2"]
    assert [row["rank"] for row in rows] == ["1", "2", "3", ""]
    assert rows[0]["accuracy"] == "0.8"
    assert rows[0]["finetuning.head_dropout"] == "none"
    assert rows[3]["reason"] == "out | of\nmemory"
    lines = (tmp_path / "leaderboard.md").read_text().splitlines()
    assert len(lines) == 2 + 4
    assert "out \\| of memory" in lines[-1]
    assert "unfinished" in lines[4]


def test_the_lower_figure_wins_where_lower_is_better(ledger):
    board = Leaderboard(ledger.entries(), SPACE, "loss", higher=False)
    assert [row[1] for row in board.rows] == [1, 0, 3, 2]


def test_hparams_stand_once_for_each_trial_that_is_done(ledger, tmp_path):
    sweep = Location.parse(tmp_path)
    for _ in range(2):
        write_hparams(sweep, ledger.entries(), "accuracy", higher=True)
    folders = sorted((tmp_path / "tensorboard").iterdir())
    assert [folder.name for folder in folders] == [e.name for e in ledger.entries()[:2]]
    events = EventAccumulator(str(folders[0])).Reload()
    assert events.Scalars("eval/accuracy")[0].value == pytest.approx(0.7)
    assert "_hparams_/session_start_info" in events.summary_metadata


def standing(ledger: Ledger) -> Standing:
    return Standing(ledger.entries(), frozenset({ledger.entries()[3].key}), 6, "accuracy", True, 2)


def test_one_line_says_how_it_stands(ledger):
    assert describe(standing(ledger)) == (
        "3/6 trials, 1 stopped early, 1 failed, 1 running  "
        "best accuracy 0.8000 (learning_rate 1.1, head_dropout none)  4 s left"
    )


def test_a_log_gets_lines_and_a_terminal_a_table(ledger):
    log = io.StringIO()
    display = SweepDisplay(log, plain_interval_s=0)
    display.show(standing(ledger))
    display.show(standing(ledger))
    lines = log.getvalue().splitlines()
    assert sum(line.startswith("trial 2 failed") for line in lines) == 1
    assert sum(line.startswith("3/6 trials") for line in lines) == 2

    terminal = io.StringIO()
    display = SweepDisplay(terminal)
    display._console = Console(file=terminal, force_terminal=True, width=120)
    display.show(standing(ledger))
    display.close()
    assert "running" in terminal.getvalue()
    assert "learning_rate 1.1" in terminal.getvalue()
