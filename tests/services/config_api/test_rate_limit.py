"""Our own rate limit."""

import pytest

from services.config_api import rate_limit
from services.config_api.rate_limit import RateLimiter
from tests.services.config_api.clocks import MovedClock


def test_calls_beyond_the_limit_are_told_when_to_come_back() -> None:
    clock = MovedClock()
    limiter = RateLimiter(clock, calls=2, window_s=60)

    first, second, third = (limiter.take("one") for _ in range(3))

    assert [first.is_allowed, second.is_allowed, third.is_allowed] == [True, True, False]
    assert first.headers == {
        "RateLimit-Policy": '"workspace";q=2;w=60',
        "RateLimit": '"workspace";r=1;t=30',
    }
    assert third.retry_after_s == 30
    assert limiter.take("other").is_allowed
    clock.move(third.retry_after_s)
    assert limiter.take("one").is_allowed


def test_the_limiter_remembers_a_bounded_number_of_callers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rate_limit, "CALLERS_MAX", 2)
    limiter = RateLimiter(MovedClock(), calls=2, window_s=60)

    for number in range(3):
        limiter.take(number)

    assert len(limiter._buckets) == 2
