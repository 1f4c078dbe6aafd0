"""What the benchmark of a job's start makes of the stamps of the clock."""

from pathlib import Path

import pytest
from benchmarks.bench_start import PARTS, parts_of, read_stamps


def test_parts_add_up_to_the_whole():
    stamps = {name: 100.0 + number**2 for number, name in enumerate(PARTS, start=1)}
    parts = parts_of(100.0, stamps)
    assert list(parts) == list(PARTS.values())
    assert list(parts.values()) == [2 * number - 1 for number in range(1, len(PARTS) + 1)]
    del stamps["Ray"]
    with pytest.raises(KeyError):
        parts_of(100.0, stamps)


def test_first_stamp_of_a_name_counts(tmp_path: Path):
    (tmp_path / "stamps").write_text("1.5 driver's process\n2.0 Ray\n3.0 Ray\n")
    assert read_stamps(tmp_path / "stamps") == {"driver's process": 1.5, "Ray": 2.0}
