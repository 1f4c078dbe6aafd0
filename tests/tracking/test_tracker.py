from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

from raybert.storage import Location
from raybert.tracking import RunFolder, Tracker
from raybert.tracking.metrics_log import read_rows
from raybert.tracking.row import Row


class Collected:
    """A sink that remembers."""

    def __init__(self) -> None:
        self.history: list[int] = []
        self.rows: list[Row] = []

    def resume(self, history) -> None:
        self.history = [row.step for row in history]

    def log(self, row: Row) -> None:
        self.rows.append(row)

    def flush(self) -> None: ...
    def close(self) -> None: ...


def scalars_on_disk(folder) -> list[tuple[str, int, float]]:
    """Every scalar of every event file, as any reader of the format sees them."""
    events = (
        event for path in folder.glob("events.*") for event in EventFileLoader(str(path)).Load()
    )
    found = (
        (value.tag, event.step, value.tensor.float_val[0])
        for event in events
        for value in event.summary.value
    )
    return sorted(found)


def launch(run: Location, resumed: int, until: int, sink: Collected) -> None:
    folder = RunFolder(run)
    folder.fetch()
    tracker = Tracker(folder, sink)
    tracker.resume(resumed)
    for step in range(resumed + 1, until + 1):
        tracker.log(step, {"train/loss": step + 0.5})
    tracker.close()
    folder.close()


def test_log_and_tensorboard_agree_after_a_resume(tmp_path):
    run = Location.parse(tmp_path / "run")
    launch(run, 0, 7, Collected())
    sink = Collected()
    launch(run, 4, 9, sink)
    assert sink.history == [1, 2, 3, 4]
    assert [row.step for row in sink.rows] == [5, 6, 7, 8, 9]
    assert [row.step for row in read_rows(tmp_path / "run" / "metrics.jsonl")] == list(range(1, 10))
    expected = [("train/loss", step, step + 0.5) for step in range(1, 10)]
    assert scalars_on_disk(tmp_path / "run" / "tensorboard") == expected


def test_a_remote_run_has_the_same_log_and_tensorboard(s3_bucket, tmp_path):
    bucket, _, query = s3_bucket.partition("?")
    run = Location.parse(f"{bucket}/tracked?{query}")
    launch(run, 0, 7, Collected())
    launch(run, 4, 9, Collected())
    for name in ("metrics.jsonl", *(f"tensorboard/{n}" for n in _events(run))):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes((run / name).read_bytes())
    assert [row.step for row in read_rows(tmp_path / "metrics.jsonl")] == list(range(1, 10))
    expected = [("train/loss", step, step + 0.5) for step in range(1, 10)]
    assert scalars_on_disk(tmp_path / "tensorboard") == expected


def _events(run: Location) -> list[str]:
    return (run / "tensorboard").list_files()
