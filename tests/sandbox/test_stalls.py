"""Calls that wait unseen while the sandbox stands still are not counted as having come together."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from sandbox.stalls import LATE_S, TICK_S, Stalls, watching_for_stalls


class Reading:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s

    def pass_to_tick(self, stalls: Stalls, *, late_s: float = 0.0) -> None:
        """Let the next tick come, so much later than it is due."""
        due_s = self.now_s + TICK_S
        self.now_s = due_s + late_s
        stalls.tick(due_s)


def test_what_is_read_while_ticks_are_in_time_came_since_the_last_one() -> None:
    reading = Reading()
    stalls = Stalls(reading)
    reading.pass_to_tick(stalls)
    reading.pass_to_tick(stalls, late_s=LATE_S / 2)

    reading.now_s += 0.003

    assert stalls.unseen_s() == pytest.approx(0.003)


def test_what_is_read_after_the_loop_stood_still_may_have_come_at_its_beginning() -> None:
    """Before the tick that should have come, or since: nobody looked."""
    reading = Reading()
    stalls = Stalls(reading)
    reading.pass_to_tick(stalls)

    reading.pass_to_tick(stalls, late_s=0.4)
    assert stalls.unseen_s() == pytest.approx(TICK_S + 0.4)

    reading.pass_to_tick(stalls)
    assert stalls.unseen_s() == 0.0


def test_what_is_read_in_the_midst_of_standing_still_may_have_come_since_the_last_tick() -> None:
    reading = Reading()
    stalls = Stalls(reading)
    reading.pass_to_tick(stalls)

    reading.now_s += 0.7  # A handler computes; its tick is still due.

    assert stalls.unseen_s() == pytest.approx(0.7)


@pytest.fixture
async def watching() -> AsyncIterator[Stalls]:
    async with watching_for_stalls() as stalls:
        yield stalls


async def test_a_loop_that_is_kept_from_its_work_is_noticed(watching: Stalls) -> None:
    await asyncio.sleep(3 * TICK_S)

    time.sleep(0.2)  # noqa: ASYNC251  # it is the loop that is to stand still

    assert watching.unseen_s() >= 0.2
    while watching.unseen_s() > TICK_S:  # noqa: ASYNC110  # until it is in time again
        await asyncio.sleep(TICK_S / 4)
