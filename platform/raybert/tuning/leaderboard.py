"""The trials of a sweep side by side: leaderboard.csv, leaderboard.md, the terminal, hparams."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.table import Table

from raybert.storage import Location, write_file
from raybert.tracking import tensorboard
from raybert.tuning.ledger import Entry
from raybert.tuning.progress import ranked, shown

if TYPE_CHECKING:
    from raybert.settings.space import Space

CSV = "leaderboard.csv"
MARKDOWN = "leaderboard.md"
_SHOWN_AT_TERMINAL = 10


class Leaderboard:
    """The best trial first; trials without figures, failed ones among them, at the end.

    Args:
        entries: of the ledger.
        space: that was searched; its settings are columns.
        metric: that trials are compared by, and whether higher is better.
    """

    def __init__(
        self, entries: Sequence[Entry], space: Space, metric: str, *, higher: bool
    ) -> None:
        best = ranked(entries, metric, higher=higher)
        ranks = {entry.key: rank for rank, entry in enumerate(best, start=1)}
        rest = [entry for entry in entries if entry.key not in ranks]
        names = dict.fromkeys(
            name for entry in entries for e in entry.evaluations for name in e.metrics
        )
        self._metric = metric
        self._settings = list(space)
        others = [name for name in names if name != metric]
        self.columns = [
            *("rank", "trial", "state", metric, *others),
            *("best_step", "steps", "seconds", *space, "reason", "key"),
        ]
        self.rows = [
            self._row(entry, ranks.get(entry.key), [metric, *others], list(space), metric, higher)
            for entry in [*best, *rest]
        ]

    @staticmethod
    def _row(
        entry: Entry,
        rank: int | None,
        metrics: list[str],
        settings: list[str],
        metric: str,
        higher: bool,
    ) -> list[Any]:
        best = entry.best(metric, higher=higher)
        figures = [best.metrics.get(name) if best else None for name in metrics]
        values = [_plain(entry.values.get(setting)) for setting in settings]
        state = "unfinished" if entry.state == "open" else entry.state
        return [
            *(rank, entry.number, state, *figures),
            *(best.step if best else None, entry.step, round(entry.seconds, 1)),
            *(*values, entry.reason, entry.key),
        ]

    def write(self, sweep: Location) -> None:
        """Commits the two files."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(self.columns)
        writer.writerows(self.rows)
        write_file(sweep / CSV, text.getvalue().encode())
        write_file(sweep / MARKDOWN, self.markdown().encode())

    def markdown(self) -> str:
        lines = [f"| {' | '.join(self.columns)} |", "|" + "---|" * len(self.columns)]
        lines += [f"| {' | '.join(_cell(v) for v in row)} |" for row in self.rows]
        return "\n".join(lines) + "\n"

    def table(self) -> Table:
        """The first trials: figure and settings; the files have the rest."""
        names = ["rank", "trial", "state", self._metric, "seconds", *self._settings]
        places = [self.columns.index(name) for name in names]
        table = Table(box=None, pad_edge=False)
        for name in names:
            table.add_column(name.rsplit(".", 1)[-1], overflow="fold")
        for row in self.rows[:_SHOWN_AT_TERMINAL]:
            table.add_row(*(_cell(row[place]) for place in places))
        return table


def _plain(value: Any) -> Any:
    return "none" if value is None else value


def _cell(value: Any) -> str:
    return "" if value is None else " ".join(shown(value).replace("|", "\\|").split())


def write_hparams(sweep: Location, entries: Sequence[Entry], metric: str, *, higher: bool) -> None:
    """Event files for TensorBoard's HParams tab: one folder for each trial that is done.

    What a killed launch had not written is written by the next; on an object store there are none.
    """
    if not sweep.is_local:
        return
    from torch.utils.tensorboard import SummaryWriter
    from torch.utils.tensorboard.summary import hparams

    for entry in entries:
        best = entry.best(metric, higher=higher)
        folder = sweep.local_path / tensorboard.FOLDER / entry.name
        if entry.state not in ("finished", "stopped") or best is None or folder.is_dir():
            continue
        staged = folder.with_name(f".{folder.name}")
        with SummaryWriter(str(staged)) as writer:
            values = {
                name: value if isinstance(value, bool | int | float) else shown(value)
                for name, value in entry.values.items()
            }
            named = {f"eval/{metric}": best.metrics[metric]}
            for summary in hparams(values, named):
                assert writer.file_writer is not None  # until it is closed
                writer.file_writer.add_summary(summary)
            for evaluation in entry.evaluations:
                for name, value in evaluation.metrics.items():
                    writer.add_scalar(f"eval/{name}", value, evaluation.step)
        staged.rename(folder)
