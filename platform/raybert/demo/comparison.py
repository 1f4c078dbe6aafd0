"""Is the found classifier worth its while? Its figures beside those of the baselines."""

import shutil
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table

from raybert.demo.baselines import Baseline, majority, tfidf_logistic_regression
from raybert.finetuning.data import prepare_data
from raybert.finetuning.trainer import FinetuningTrainer
from raybert.settings import Settings
from raybert.storage import Location
from raybert.tuning.space import with_values
from raybert.tuning.winner import Best


@dataclass(frozen=True)
class Compared:
    """A row of the comparison: who, and how well on the test rows."""

    name: str
    accuracy: float
    macro_f1: float
    seconds: float | None


def compare(settings: Settings, best: Best, folder: Path) -> Iterator[Compared]:
    """Scores everyone on the test rows, the found classifier first.

    Args:
        settings: of the sweep, with its three data files.
        best: what it found, scored on the test rows.
        folder: of the run from random weights; an earlier one is replaced.

    Raises:
        UserError: scikit-learn is not installed.
    """
    assert settings.data.train is not None  # the sweep had them
    assert settings.data.test is not None
    test = best.models[best.exported].test
    assert test is not None
    yield Compared("BERT, pretrained here, found by the search", *_figures(test), None)
    yield _from_random_weights(with_values(settings, best.values), folder)
    files = Path(settings.data.train), Path(settings.data.test)
    yield _row("TF-IDF, logistic regression", tfidf_logistic_regression(*files))
    yield _row("the most frequent package", majority(*files))


def _from_random_weights(settings: Settings, folder: Path) -> Compared:
    """The same shape, tokenizer and settings, without anything learned in pretraining."""
    fresh = settings.finetuning.model_copy(update={"fresh_weights": True})
    settings = settings.model_copy(update={"finetuning": fresh, "run": str(folder)})
    shutil.rmtree(folder, ignore_errors=True)
    began = time.perf_counter()
    trainer = FinetuningTrainer(settings, prepare_data(settings), Location.parse(folder))
    trainer.train()
    result = trainer.finish()
    assert result is not None  # this process is the only worker
    assert result.test is not None  # there are test rows
    seconds = time.perf_counter() - began
    return Compared("the same BERT from random weights", *_figures(result.test), seconds)


def _figures(metrics: Mapping[str, float]) -> tuple[float, float]:
    return metrics["accuracy"], metrics["macro_f1"]


def _row(name: str, baseline: Baseline) -> Compared:
    return Compared(name, baseline.accuracy, baseline.macro_f1, baseline.seconds)


def comparison_table(compared: Iterable[Compared], num_rows: int, num_packages: int) -> Table:
    """For the terminal; the best accuracy is marked."""
    rows = list(compared)
    top = max(row.accuracy for row in rows)
    title = f"{num_rows:,} test rows of {num_packages} packages, never seen in pretraining"
    table = Table(title=title, title_justify="left")
    table.add_column("classifier")
    for name in ("accuracy", "macro F1", "seconds"):
        table.add_column(name, justify="right")
    for row in rows:
        mark = " *" if row.accuracy == top else ""
        seconds = "" if row.seconds is None else f"{row.seconds:.1f}"
        table.add_row(row.name, f"{row.accuracy:.1%}{mark}", f"{row.macro_f1:.1%}", seconds)
    return table
