"""Sliding windows and daily counters, by a clock that the test moves."""

from collections.abc import Sequence
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from sandbox.clock import Clock
from sandbox.limits import DailyWindow, Limits, Overrun, SlidingWindow, Window


class Calling:
    """Limits of one bucket, and a clock that stands still until it is moved."""

    def __init__(self, *windows: Window, at: datetime | None = None) -> None:
        start_s = (at or datetime(2026, 3, 1, tzinfo=UTC)).timestamp()
        self.clock = Clock(lambda: start_s)
        self.limits = Limits(self.clock, {"calls": windows})

    def call(self, times: int = 1) -> Sequence[bool]:
        """Return for each call whether it was let through."""
        return [self.limits.take("calls") is None for _ in range(times)]


def test_a_window_lets_through_its_limit_and_no_more() -> None:
    calling = Calling(SlidingWindow(3, 10))

    assert calling.call(5) == [True, True, True, False, False]


def test_a_window_slides_by_the_arrival_of_each_call() -> None:
    calling = Calling(SlidingWindow(2, 10))
    calling.call()
    calling.clock.move(6)
    calling.call()

    calling.clock.move(4)  # The first call is 10 s ago, the second 4 s.

    assert calling.call(2) == [True, False]


def test_a_call_counts_when_it_arrived_however_long_it_took() -> None:
    calling = Calling(SlidingWindow(2, 10))
    first_s = calling.clock.now_s()
    calling.clock.move(8)
    calling.call()
    assert calling.limits.take("calls", first_s) is None  # It was answered only now.

    calling.clock.move(3)

    assert calling.call(2) == [True, False]


def test_a_call_that_waited_unseen_counts_from_when_it_may_have_come() -> None:
    """Two seen at once after a stall of a second: 9.5 s later the first of them may be over."""
    calling = Calling(SlidingWindow(2, 10))
    calling.limits.take("calls", unseen_s=1.0)
    calling.limits.take("calls")

    calling.clock.move(9.5)

    assert calling.call(2) == [True, False]


@pytest.mark.parametrize(("seconds", "room"), [(9.94, False), (9.96, True)])
def test_a_call_may_come_fifty_milliseconds_early(seconds: float, room: bool) -> None:
    calling = Calling(SlidingWindow(1, 10))
    calling.call()

    calling.clock.move(seconds)

    assert calling.call() == [room]


def test_a_call_that_is_refused_does_not_fill_the_window() -> None:
    calling = Calling(SlidingWindow(1, 10))
    calling.call()
    calling.clock.move(9)
    calling.call(20)

    calling.clock.move(1)

    assert calling.call() == [True]


def test_every_window_of_a_bucket_must_have_room_and_none_counts_a_refused_call() -> None:
    calling = Calling(SlidingWindow(2, 1), SlidingWindow(3, 60))

    first = calling.call(3)
    calling.clock.move(1)
    second = calling.call(2)

    assert (first, second) == ([True, True, False], [True, False])


def test_an_overrun_tells_which_window_was_full_and_until_when() -> None:
    calling = Calling(SlidingWindow(9, 1), SlidingWindow(1, 60))
    calling.call()
    calling.clock.move(20)

    overrun = calling.limits.take("calls")

    assert isinstance(overrun, Overrun)
    assert (overrun.bucket, overrun.index) == ("calls", 1)
    assert (overrun.reading.limit, overrun.reading.remaining) == (1, 0)
    assert overrun.reading.resets_in_s == pytest.approx(40)


def test_a_reading_says_what_is_left() -> None:
    calling = Calling(SlidingWindow(5, 10))
    calling.call(2)

    (reading,) = calling.limits.read("calls")

    assert (reading.limit, reading.remaining, reading.window_s) == (5, 3, 10)


@pytest.mark.parametrize("zone", ["US/Eastern", "Asia/Tokyo", "UTC"])
def test_a_day_ends_at_midnight_of_its_time_zone(zone: str) -> None:
    evening = datetime(2026, 7, 1, 23, 59, tzinfo=ZoneInfo(zone))
    calling = Calling(DailyWindow(2, zone), at=evening)

    today = calling.call(3)
    calling.clock.move(59)
    (reading,) = calling.limits.read("calls")
    calling.clock.move(1)
    tomorrow = calling.call(3)

    assert today == tomorrow == [True, True, False]
    assert reading.resets_in_s == pytest.approx(1)


def test_a_day_of_a_changing_clock_still_ends_at_midnight() -> None:
    # On 8 March 2026 the clocks of New York go from 2 to 3: the day has 23 hours.
    morning = datetime(2026, 3, 8, 0, 0, tzinfo=ZoneInfo("US/Eastern"))
    calling = Calling(DailyWindow(1, "US/Eastern"), at=morning)
    calling.call()

    (reading,) = calling.limits.read("calls")

    assert reading.resets_in_s == pytest.approx(23 * 3600)


def test_limits_that_are_off_refuse_and_count_nothing() -> None:
    calling = Calling(SlidingWindow(1, 10))
    calling.limits.enabled = False

    assert all(calling.call(50))
    (reading,) = calling.limits.read("calls")
    assert reading.remaining == 1


def test_a_report_tells_what_was_let_through_in_each_second() -> None:
    calling = Calling(SlidingWindow(3, 10))
    second = int(calling.clock.now_s())
    calling.call(2)
    calling.clock.move(2)
    calling.call(4)

    assert calling.limits.report() == {
        "calls": {
            "windows": [{"limit": 3, "window_s": 10}],
            "by_second": [(second, 2), (second + 2, 1)],
        }
    }


def test_a_replaced_bucket_starts_empty() -> None:
    calling = Calling(SlidingWindow(1, 10))
    calling.call()

    calling.limits.replace("calls", [SlidingWindow(2, 10)])

    assert calling.call(3) == [True, True, False]
