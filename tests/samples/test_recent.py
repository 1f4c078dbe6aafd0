import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from raybert.samples.recent import Recent


def test_results_used_last_are_kept():
    made = []
    recent = Recent(2)

    def get(key):
        return recent.get(key, lambda: made.append(key) or key)

    assert [get(key) for key in (1, 2, 1, 3, 1, 2)] == [1, 2, 1, 3, 1, 2]
    assert made == [1, 2, 3, 2]


def test_many_who_ask_at_once_get_one_result():
    recent = Recent(2)
    everybody = threading.Barrier(4)
    made = []

    def get(_):
        everybody.wait()
        return recent.get("key", lambda: made.append(1) or object())

    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(get, range(4)))
    assert len(made) == 1
    assert len(set(map(id, results))) == 1


def test_another_key_does_not_wait():
    recent = Recent(2)
    started, go_on = threading.Event(), threading.Event()

    def slow():
        started.set()
        assert go_on.wait(60)
        return "slow"

    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(recent.get, "slow", slow)
        assert started.wait(60)
        assert recent.get("quick", lambda: "quick") == "quick"
        go_on.set()
        assert future.result() == "slow"


def test_a_failure_is_raised_and_tried_again():
    recent = Recent(2)
    with pytest.raises(ZeroDivisionError):
        recent.get("key", lambda: 1 // 0)
    assert recent.get("key", lambda: 1) == 1
