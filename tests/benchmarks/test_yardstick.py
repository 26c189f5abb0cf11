import threading
import time

import pytest

from benchmarks import yardstick
from benchmarks.yardstick import Yardstick, best_of, look


def test_a_look_is_by_the_turn_and_by_what_this_thread_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    used_ns = iter([1_000_000, 1_000_000 + 200 * yardstick.TURNS])
    monkeypatch.setattr(time, "thread_time_ns", lambda: next(used_ns))

    assert look() == 200.0


def test_the_best_is_not_a_single_lucky_look() -> None:
    assert best_of([1.0, *([2.0] * 40), *([4.0] * 59)]) == 2.0


def test_a_pace_is_the_best_look_by_the_mean_one() -> None:
    measured = Yardstick(best_ns=100.0, looks=[100.0, 200.0, 300.0])

    assert measured.pace == pytest.approx(0.5)


def test_without_a_look_nothing_is_known_to_be_in_the_way() -> None:
    assert Yardstick(best_ns=100.0).pace == 1.0


def test_it_looks_for_as_long_as_it_is_held_and_keeps_the_best(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    took_ns, has_looked = 0.0, threading.Semaphore(0)

    def look_once() -> float:
        has_looked.release()
        return took_ns

    monkeypatch.setattr(yardstick, "EVERY_S", 0.0)
    monkeypatch.setattr(yardstick, "look", look_once)
    measured = Yardstick()

    for took_ns in (100.0, 400.0):  # noqa: B007  # `look_once` reads it
        has_looked = threading.Semaphore(0)
        with measured.held():
            for _ in range(yardstick.WARM_UP_LOOKS + 1):
                assert has_looked.acquire(timeout=30.0)

    assert set(measured.looks) == {400.0}
    assert measured.best_ns == 100.0
    assert measured.pace == 0.25
    assert not [each for each in threading.enumerate() if each.name == yardstick.THREAD]
