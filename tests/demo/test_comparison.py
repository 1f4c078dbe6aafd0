import io

import numpy as np
from rich.console import Console

from raybert.demo import comparison_table, nearest
from raybert.demo.comparison import Compared


def test_the_best_accuracy_is_marked_whoever_has_it():
    rows = [Compared("ours", 0.5, 0.4, None), Compared("words", 0.75, 0.7, 1.25)]
    console = Console(file=io.StringIO(), width=100)
    console.print(comparison_table(rows, 1200, 10))
    printed = console.file.getvalue()
    assert "1,200 test rows of 10 packages" in printed
    ours, words = (next(x for x in printed.splitlines() if name in x) for name in ("ours", "words"))
    assert "50.0%" in ours
    assert "*" not in ours
    assert "75.0% *" in words
    assert "1.2" in words


class Angles:
    """A model whose embedding of a number is a vector of that angle in degrees."""

    def embed(self, texts, *, normalize):
        assert normalize
        angles = np.radians([float(text) for text in texts])
        return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def test_neighbours_are_those_of_the_smallest_angle():
    found = nearest(Angles(), ["0", "90"], ["80", "5", "-10", "200"], top=2)
    assert [[text for _, text in near] for near in found] == [["5", "-10"], ["80", "5"]]
    assert found[0][0][0] == np.float32(np.cos(np.radians(5)))
