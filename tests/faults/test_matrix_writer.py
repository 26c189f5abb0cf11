"""Redeliveries, orders and clocks as a writer meets them, on real PostgreSQL."""

import itertools
from collections.abc import AsyncIterator, Callable
from datetime import datetime, timedelta
from uuid import uuid4

import pytest

from libs.common.database import SessionMaker
from libs.common.events import Effect, Event
from services.writer.lease import Leases
from tests.services.writer.world import Clock, World, make_world, upsert

REPLAYS = 3
COPIES = 100
VERSIONS = 4


@pytest.fixture
async def world(sessions: SessionMaker, role_url: Callable[[str], str]) -> AsyncIterator[World]:
    made = await make_world(sessions, role_url("writer"))
    yield made
    await made.pool.close()


def edited(page: int) -> list[Effect]:
    return [upsert(f"c{number}", ms=page * 1000, VORNAME=f"{page}") for number in range(8)]


async def test_a_topic_read_again_from_its_start_changes_nothing(world: World) -> None:
    """Fault 15: everything comes 4 times, one record 100 times: charged once, and nothing moves."""
    await world.begin_run(1)
    log: list[Event] = [
        world.record(
            *[upsert(f"c{number}", ms=page * 1000, VORNAME=f"{page}") for number in range(8)],
            page=page,
        )
        for page in range(1, 4)
    ]
    writer = world.writer()
    for event in log:
        await world.write(writer, event)
    stands, calls = dict(world.account.contacts), world.account.calls["write"]

    for _ in range(REPLAYS):
        await world.write(writer, *log)
    await world.write(writer, *[log[0]] * COPIES)
    for event in [log[1]] * COPIES:
        await writer.live.handle(world.destination, [event])

    assert world.account.contacts == stands
    assert world.account.calls["write"] == calls
    assert await world.posted() == 24
    await world.check_ledger()


async def test_versions_in_any_order_end_with_the_newest(world: World) -> None:
    """Fault 16: four versions of a contact in every order, one contact for each order."""
    orders = list(itertools.permutations(range(1, VERSIONS + 1)))
    await world.begin_run(1)
    writer = world.writer()
    for step in range(VERSIONS):
        effects: list[Effect] = [
            upsert(f"c{number}", ms=order[step] * 1000, VORNAME=f"version {order[step]}")
            for number, order in enumerate(orders)
        ]
        await world.write(writer, world.record(*effects, page=step + 1))
        await world.drain(writer)

    stands = {each.attributes["VORNAME"] for each in world.account.contacts.values()}
    assert len(world.account.contacts) == len(orders)
    assert stands == {f"version {VERSIONS}"}
    for number in range(len(orders)):
        written = [
            each.attributes["VORNAME"] for each in world.account.writes_of(f"c{number}@example.com")
        ]
        assert written == sorted(written), "an older version was written over a newer one"
    await world.check_ledger()


class Wrong(Clock):
    """The clock of a machine that is an hour off; its monotonic clock is not."""

    def __init__(self, off: timedelta) -> None:
        super().__init__()
        self._off = off

    def now(self) -> datetime:
        return super().now() + self._off


@pytest.mark.parametrize("hours", [-1, 1])
async def test_a_machine_whose_clock_is_off_takes_no_lease_and_keeps_its_own(
    world: World, hours: int
) -> None:
    """Fault 47: leases are the database's clock and intervals the monotonic one, never the time."""
    off = timedelta(hours=hours)
    mine = Leases(world.sessions, Clock(), uuid4())
    wrong = Leases(world.sessions, Wrong(off), uuid4())
    held = await mine.acquire(world.destination, world.workspace)
    assert held is not None

    assert await wrong.acquire(world.destination, world.workspace) is None
    await mine.release(held)
    taken = await wrong.acquire(world.destination, world.workspace)
    assert taken is not None
    taken.check()
    await wrong.renew()
    taken.check()
    assert await mine.acquire(world.destination, world.workspace) is None
