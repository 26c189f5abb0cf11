"""The sandbox's clock."""

from datetime import UTC, datetime

from sandbox.clock import Clock


def test_a_clock_is_moved_and_reset() -> None:
    clock = Clock(lambda: 1_000.5)

    clock.move(60)
    clock.move(-10)

    assert (clock.now_s(), clock.now_ms()) == (1_050.5, 1_050_500)
    assert clock.now() == datetime(1970, 1, 1, 0, 17, 30, 500_000, tzinfo=UTC)
    clock.reset()
    assert clock.now_s() == 1_000.5
