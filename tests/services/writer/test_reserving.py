"""Units are held, and it is written down whose they are, by one statement (ADR 0151)."""

import asyncio
from typing import Any
from unittest.mock import AsyncMock

import msgspec
import pytest
from sqlalchemy import text

from libs.common import ledger
from libs.common.errors import LeaseLostError
from libs.common.postgres import Transaction
from services.writer import store
from tests.fakes import CrashError
from tests.services.writer.world import World, crash_at, upsert

WAITS_WITHIN_S = 30.0


def contacts(number: int) -> list[Any]:
    return [upsert(f"c{each}") for each in range(number)]


async def names_of_units(world: World) -> list[str]:
    """Return whose units are open, by the intents."""
    rows = await world.rows("select units from delivery.intents")
    tasks = [each for row in rows for each in msgspec.json.decode(bytes(row.units))]
    return sorted(each["source_id"] if isinstance(each, dict) else each[1] for each in tasks)


async def test_it_is_one_statement_by_itself(world: World) -> None:
    """No answer is waited for but its own: nothing is begun, held, written and committed apart."""
    await world.begin_run(1)
    writer, asked = world.writer(), list[str]()
    await world.write(writer, world.record(upsert("first")))  # The driver asks for types, once.
    async with world.sessions.begin() as session:
        session.connection.add_query_logger(lambda query: asked.append(query.query))
    await world.write(writer, world.record(*contacts(3), page=2))

    at = next(place for place, query in enumerate(asked) if "delivery.reserve" in query)
    assert not [query for query in asked if "ledger.hold" in query or "into delivery.int" in query]
    bounds = [query for query in asked[:at] if query.startswith(("BEGIN", "COMMIT"))]
    assert not bounds or bounds[-1].startswith("COMMIT")  # Reads have no transaction.
    assert asked[at + 1].startswith("BEGIN")
    assert await world.posted() == 4
    await world.check_ledger()


async def test_where_a_part_is_left_its_units_go_to_the_first_and_nobody_else(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Proves Q1 and Q3: an intent names nobody that no unit was granted for."""
    await world.begin_run(1)
    await world.limit(2)
    in_steps = AsyncMock(wraps=ledger.hold)
    monkeypatch.setattr(ledger, "hold", in_steps)

    with pytest.raises(CrashError):
        await world.write(world.writer(reached=crash_at("held")), world.record(*contacts(5)))

    assert in_steps.await_count == 1
    assert len(await names_of_units(world)) == await world.held() == 2
    await world.check_ledger()


async def test_who_has_lost_the_lease_holds_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Proves X2 (R11): the token is asked for in the statement itself."""
    await world.begin_run(1)
    reserve = store.reserve

    async def reserve_late(session: Transaction, **wishes: Any) -> int | None:
        await world.execute("update delivery.destinations set fencing = fencing + 1")
        return await reserve(session, **wishes)

    monkeypatch.setattr(store, "reserve", reserve_late)
    with pytest.raises(LeaseLostError):
        await world.write(world.writer(), world.record(*contacts(2)))

    assert await world.held() == 0
    assert await world.one("select count(*) from delivery.intents") == 0
    assert not world.account.calls


async def test_room_that_is_gone_by_the_commit_is_not_used(world: World) -> None:
    """Proves Q1: it is refused as it is committed, asked again, and granted what is left."""
    await world.begin_run(1)
    await world.limit(1000)
    await world.write(world.writer(), world.record(upsert("first")))
    await world.lapse()

    async with world.owner.begin() as lowering:
        await lowering.execute(text("select ledger.set_limit(:w, 3)"), {"w": world.workspace})
        writing = asyncio.create_task(
            world.write(world.writer(), world.record(*contacts(5), page=2))
        )
        await until_one_waits(world)
    await writing

    assert await world.posted() == 3
    assert len(await world.parked()) == 3
    await world.check_ledger()


async def until_one_waits(world: World) -> None:
    """Wait until the month's row is waited for, in the commit of a reservation."""
    async with asyncio.timeout(WAITS_WITHIN_S):
        while not await world.one(  # noqa: ASYNC110  # a lock has no event
            "select count(*) from pg_stat_activity where wait_event_type = 'Lock'"
            " and datname = current_database() and query like '%delivery.reserve%'"
        ):
            await asyncio.sleep(0.01)


async def test_an_answer_that_is_lost_is_asked_for_again_and_holds_once(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Proves Q1 and X2: the statement was committed, and its writer does not know."""
    await world.begin_run(1)
    reserve, answers = store.reserve, []

    async def reserve_unheard(session: Transaction, **wishes: Any) -> int | None:
        answers.append(await reserve(session, **wishes))
        if len(answers) == 1:
            raise ConnectionResetError
        return answers[-1]

    monkeypatch.setattr(store, "reserve", reserve_unheard)
    with pytest.raises(CrashError):
        await world.write(world.writer(reached=crash_at("held")), world.record(*contacts(3)))

    assert answers == [3, 3]
    assert await world.held() == 3
    await world.check_ledger()
