"""What is read does not depend on when PostgreSQL last looked at how much there is.

A plan that was made while tables were nearly empty is kept by its connection until they are
analysed again. It must not be one that reads all of an integration by then. Rows that are read are
counted, not seconds.
"""

from collections.abc import Awaitable, Callable

import pytest
from sqlalchemy import text

from libs.common.postgres import Transaction
from services.writer import pair_store, store
from services.writer.values import Place
from tests.services.writer.world import World

ASKED, LINKED = 100, 3_000
# A row may be found by its address and by its id, and then have a pair; nobody else is read.
READ_MAX = 4 * ASKED
# From the sixth time on, PostgreSQL may keep one plan for whatever is asked for.
TIMES = 8

Look = Callable[[Transaction, World], Awaitable[int]]


def address(number: int) -> str:
    return f"contact-{number}@example.com"


async def new_contacts(session: Transaction, world: World) -> int:
    """Look at contacts that are not linked, and whose addresses others hold."""
    asked = {f"new-{number}": address(number) for number in range(ASKED)}
    return len((await store.glance(session, world.integration, asked)).owned)


async def known_contacts(session: Transaction, world: World) -> int:
    asked = {f"c-{number}": address(number) for number in range(ASKED)}
    return len((await store.glance(session, world.integration, asked)).links)


async def owners(session: Transaction, world: World) -> int:
    places = [Place(world.integration, address(number)) for number in range(ASKED)]
    return len(await store.owners(session, places))


async def pairs_by_id(session: Transaction, world: World) -> int:
    asked = dict.fromkeys([f"r-{number}" for number in range(ASKED)])
    return len(await pair_store.pairs_by_contact(session, world.integration, asked, 1))


async def pairs_by_address(session: Transaction, world: World) -> int:
    asked = {f"unknown-{number}": address(number) for number in range(ASKED)}
    return len(await pair_store.pairs_by_contact(session, world.integration, asked, 1))


LINKS = (
    "insert into delivery.links (workspace_id, integration_id, source_id, state, identity, email,"
    " version_ms, run_no, operation) select :w, :i, 'c-' || n, 'linked', a, a, 1000, 1, 'upsert'"
    " from generate_series(cast(:first as int), :last) n,"
    " lateral (select 'contact-' || n || '@example.com' as a) address"
)
PAIRS = (
    "insert into delivery.pairs (integration_id, source_id, workspace_id, remote_id,"
    " mapping_version) select :i, 'c-' || n, :w, 'r-' || n, 1"
    " from generate_series(cast(:first as int), :last) n"
)
ANALYZE = "analyze delivery.links, delivery.pairs"


async def fill(world: World, first: int, last: int) -> None:
    """Link and pair contacts; nobody looks at how many there are."""
    for statement in (LINKS, PAIRS):
        await world.execute(
            statement, w=world.workspace, i=world.integration, first=first, last=last
        )


async def analyse_while_written(world: World) -> None:
    """Let statistics be of tables that have pages, and nobody on them yet."""
    async with world.owner() as writing:
        for statement in (LINKS, PAIRS):
            values = {"w": world.workspace, "i": world.integration, "first": 0, "last": 999}
            await writing.execute(text(statement), values)
        await world.execute(ANALYZE)
        await writing.rollback()


async def rows_read(session: Transaction) -> int:
    """Return how many rows of the writer's tables this transaction has read."""
    found = await session.connection.fetchval(
        "select sum(coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0))"
        " from pg_stat_xact_user_tables where schemaname = 'delivery'"
    )
    return int(found)


@pytest.mark.parametrize("analysed", ["being written", 0, 1, 20, 200])
@pytest.mark.parametrize(
    "look", [new_contacts, known_contacts, owners, pairs_by_id, pairs_by_address]
)
async def test_a_plan_that_was_made_early_reads_only_what_is_asked_for(
    world: World, look: Look, analysed: int | str
) -> None:
    """Whatever was known of the tables when it was made, and however they have grown since."""
    early = analysed if isinstance(analysed, int) else 0
    if early:
        await fill(world, 0, early - 1)
        await world.execute(ANALYZE)
    elif analysed:
        await analyse_while_written(world)

    async with world.sessions.begin() as session:  # One connection, so one plan.
        for _ in range(TIMES):
            await look(session, world)
        await fill(world, early, LINKED - 1)
        before = await rows_read(session)
        found = await look(session, world)
        read = await rows_read(session) - before

    assert found == ASKED
    assert read <= READ_MAX
