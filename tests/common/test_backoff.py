"""Waits grow, are jittered, and are bounded whatever a provider asks for."""

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from libs.common.backoff import ASKED_MAX_S, Backoff


def highest(_low: float, high: float) -> float:
    return high


def lowest(low: float, _high: float) -> float:
    return low


def test_a_wait_doubles_up_to_its_ceiling() -> None:
    backoff = Backoff(first_s=1, most_s=5, uniform=highest)

    assert [backoff.next_s() for _ in range(5)] == [1, 2, 4, 5, 5]


def test_success_starts_it_anew() -> None:
    backoff = Backoff(first_s=1, most_s=5, uniform=highest)
    backoff.next_s()
    backoff.next_s()

    backoff.reset()

    assert backoff.failures == 0
    assert backoff.next_s() == 1


def test_what_was_asked_for_is_waited_at_least() -> None:
    backoff = Backoff(first_s=1, most_s=5, uniform=lowest)

    assert backoff.next_s(asked_s=30) == 30


def test_an_absurd_wish_is_cut_to_a_day() -> None:
    backoff = Backoff(first_s=1, most_s=5, uniform=lowest)

    assert backoff.next_s(asked_s=1e9) == ASKED_MAX_S
    assert backoff.next_s(asked_s=-5) == 0


async def test_waiting_takes_as_long_as_was_drawn() -> None:
    loop = asyncio.get_running_loop()
    backoff = Backoff(first_s=0.05, most_s=60, uniform=highest)
    began = loop.time()

    await backoff.wait()

    assert 0.04 <= loop.time() - began < 30
    assert backoff.failures == 1


@given(st.integers(0, 5_000))
def test_a_wait_is_bounded_after_any_number_of_failures(failures: int) -> None:
    backoff = Backoff(first_s=0.5, most_s=30)
    backoff.failures = failures

    assert 0 <= backoff.next_s() <= 30
