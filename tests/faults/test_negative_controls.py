"""The suite is able to fail: the order of effects broken on purpose, judged as the real one is.

Each control runs one story twice, with the code as it is and with one sentence of PROTOCOL.md
taken out of it. The first finds nothing wrong, the second must.
"""

from collections.abc import AsyncIterator, Callable

import pytest

from libs.common.database import SessionMaker
from libs.common.errors import UnavailableError
from libs.common.postgres import Transactions, create_pool
from services.poller.poll import Run
from services.writer import conclude
from services.writer.account import Account
from tests.services.poller.fakes import FakeSource
from tests.services.poller.world import World as PollerWorld
from tests.services.writer.world import World, crash_at, make_world, upsert

both = pytest.mark.parametrize("is_broken", [False, True], ids=["as_it_is", "broken"])
ROWS = 60  # More than are written singly.


@pytest.fixture
async def world(sessions: SessionMaker, role_url: Callable[[str], str]) -> AsyncIterator[World]:
    made = await make_world(sessions, role_url("writer"))
    yield made
    await made.pool.close()


@pytest.fixture
async def poller(
    sessions: SessionMaker, role_url: Callable[[str], str]
) -> AsyncIterator[PollerWorld]:
    pool = create_pool(role_url("poller"), size_max=5, application_name="test")
    made = PollerWorld(sessions, Transactions(pool))
    await made.set_up()
    yield made
    await pool.close()


@both
async def test_a_cursor_stored_before_the_acknowledgement_loses_pages(
    poller: PollerWorld, monkeypatch: pytest.MonkeyPatch, *, is_broken: bool
) -> None:
    """Fault 4 (negative control): what was handed to the broker counts as being there."""
    if is_broken:

        async def hasty(self: Run, *, waiting_max: int) -> None:
            self._acknowledged = self._sweeping

        monkeypatch.setattr(Run, "_note_acknowledged", hasty)
    source = FakeSource()
    source.add(*(f"c{number:03}" for number in range(100)))
    integration = await poller.integrate()
    assignment = await poller.claim_one(integration)
    poller.journal.is_down = True
    with pytest.raises(UnavailableError):
        await poller.run(assignment, source).poll()
    poller.journal.is_down = False
    await poller.lapse(integration)

    [again] = await poller.claim()
    await poller.run(again, source).poll()

    assert len(poller.journal.ends) == 1, "the run was not told to its end"
    lost = set(source.contacts) - set(poller.journal.ids())
    assert bool(lost) is is_broken


@both
async def test_units_that_belong_to_nobody_are_never_given_back(
    world: World, monkeypatch: pytest.MonkeyPatch, *, is_broken: bool
) -> None:
    """Negative control: who takes over does not know whose the open units are."""
    if is_broken:
        monkeypatch.setattr(Account, "load", lambda self, stored: None)
    await world.begin_run(1)
    await world.limit(2)
    record = world.record(upsert("a"), upsert("b"))

    writer = await world.killed(world.writer(reached=crash_at("called")), record)
    await world.write(writer, record)
    await world.drain(writer)

    unsettled = (await world.held(), await world.parked())
    assert world.account.keys() == {"a@example.com", "b@example.com"}
    assert (unsettled != (0, {})) is is_broken
    assert await world.posted() == (0 if is_broken else 2)


@both
async def test_a_row_deleted_without_comparing_versions_loses_the_newer_one(
    world: World, monkeypatch: pytest.MonkeyPatch, *, is_broken: bool
) -> None:
    """Negative control: what ends deletes whatever is parked, not only what it has written."""
    if is_broken:
        monkeypatch.setattr(conclude, "is_overtaken", lambda item, view: False)
    await world.begin_run(1)
    writer = world.writer()
    await world.write(writer, world.record(*[upsert(f"c{number:03}") for number in range(ROWS)]))
    await world.write(writer, world.record(upsert("c001", ms=2000, VORNAME="Newer"), page=2))
    world.account.land()
    for _ in range(6):
        writer.clock.ahead_s += 70.0
        await writer.leases.renew()
        await world.drain(writer)

    assert await world.parked() == {}
    stands = world.account.contacts["c001@example.com"].attributes["VORNAME"]
    assert (stands != "Newer") is is_broken
