"""What the benchmark of checkpoints makes of a worker's clocks."""

import itertools
from pathlib import Path

import pytest
from benchmarks.checkpoint_cost import PARTS, Record, Save, costs, median_cost


def run_of(extras: list[float], writing: float = 2.5, every: int = 10) -> Record:
    """Steps of one second; a checkpoint after every tenth, which makes the steps slower."""
    seconds = [1.0] * (every * (len(extras) + 1))
    saves = []
    parts = dict.fromkeys(PARTS, 0.1)
    for number, extra in enumerate(extras, start=1):
        last = every * number - 1
        seconds[last] += sum(parts.values())
        seconds[last + 1] += extra
        saves.append(Save(every * number, parts, writing))
    saves.append(Save(len(seconds)))
    begins = [0.0, *itertools.accumulate(seconds)]
    for save in saves:
        save.written_by = begins[save.done - 1] + writing
    return Record(begins, saves)


def test_cost_is_what_steps_take_longer_than_the_quiet_ones_after_them():
    found = costs(run_of([0.5, 0.25, 3.0]))
    assert [cost.slower for cost in found] == pytest.approx([0.5, 0.25, 3.0])
    assert [cost.extra for cost in found] == pytest.approx([1.0, 0.75, 3.5])
    assert [cost.step for cost in found] == pytest.approx([1.0] * 3)
    assert median_cost(found).extra == pytest.approx(1.0)


def test_checkpoints_too_close_to_each_other_are_refused():
    with pytest.raises(ValueError, match="take more steps between them"):
        costs(run_of([0.5, 0.5], writing=6.0))


def test_record_is_read_as_it_was_written(tmp_path: Path):
    record = run_of([0.5])
    record.write(tmp_path / "record.json")
    assert Record.read(tmp_path / "record.json") == record
