"""Transactions that are run again as a whole, and what a role may see."""

import asyncio
from collections.abc import AsyncIterator, Callable
from uuid import uuid4

import asyncpg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from libs.common import database
from libs.common.database import SessionMaker
from libs.common.postgres import transact


@pytest.fixture
async def api(role_url: Callable[[str], str]) -> AsyncIterator[SessionMaker]:
    engine = database.create_engine(role_url("api"), pool_size_max=2, application_name="test")
    yield database.session_maker(engine)
    await engine.dispose()


async def test_a_killed_backend_costs_a_second_try_of_the_whole(sessions: SessionMaker) -> None:
    """Fault 33."""
    tries = 0

    async def work(session: AsyncSession) -> int:
        nonlocal tries
        tries += 1
        process = await session.scalar(text("select pg_backend_pid()"))
        if tries == 1:
            async with sessions.begin() as other:
                await other.execute(text("select pg_terminate_backend(:p)"), {"p": process})
        return int(await session.scalar(text("select 42")) or 0)

    assert await transact(sessions, work) == 42
    assert tries == 2


async def test_a_backend_killed_under_the_driver_costs_a_second_try(
    sessions: SessionMaker,
) -> None:
    """Fault 33."""
    tries = 0

    async def work(session: AsyncSession) -> int:
        nonlocal tries
        tries += 1
        connection = (await database.transaction_of(session)).connection
        process = await connection.fetchval("select pg_backend_pid()")
        if tries == 1:
            async with sessions.begin() as other:
                await other.execute(text("select pg_terminate_backend(:p)"), {"p": process})
        return int(await connection.fetchval("select 42"))

    assert await transact(sessions, work) == 42
    assert tries == 2


async def test_a_deadlock_is_run_again(sessions: SessionMaker) -> None:
    """Fault 36."""
    async with sessions.begin() as session:
        await session.execute(text("create table public.rows (id int primary key, n int)"))
        await session.execute(text("insert into public.rows values (1, 0), (2, 0)"))
    both_hold_one = asyncio.Barrier(2)
    tries = 0

    async def cross(first: int, second: int) -> None:
        async def work(session: AsyncSession) -> None:
            nonlocal tries
            tries += 1
            add = text("update public.rows set n = n + 1 where id = :id")
            await session.execute(add, {"id": first})
            if tries <= 2:
                await both_hold_one.wait()
            await session.execute(add, {"id": second})

        await transact(sessions, work)

    await asyncio.gather(cross(1, 2), cross(2, 1))

    async with sessions.begin() as session:
        assert await session.scalar(text("select sum(n) from public.rows")) == 4
    assert tries == 3


async def test_a_server_that_takes_no_writes_yet_is_waited_for(sessions: SessionMaker) -> None:
    """Fault 34: a fail-over, until the server that was promoted takes writes."""
    tries = 0
    async with sessions.begin() as session:
        await session.execute(text("create table public.rows (id int)"))

    async def work(session: AsyncSession) -> None:
        nonlocal tries
        tries += 1
        if tries <= 2:
            await session.execute(text("set transaction read only"))
        await session.execute(text("insert into public.rows values (1)"))

    await transact(sessions, work)

    async with sessions.begin() as session:
        assert await session.scalar(text("select count(*) from public.rows")) == 1
    assert tries == 3


async def test_a_broken_rule_is_not_tried_again(sessions: SessionMaker) -> None:
    tries = 0

    async def work(session: AsyncSession) -> None:
        nonlocal tries
        tries += 1
        insert = "insert into config.workspaces (workspace_id, name, plan) values (:w, 'a', 'x')"
        await session.execute(text(insert), {"w": uuid4()})

    with pytest.raises(IntegrityError):
        await transact(sessions, work)
    assert tries == 1


async def test_a_server_that_is_not_there_is_given_up_after_the_last_try() -> None:
    engine = database.create_engine(
        "postgresql://nobody@127.0.0.1:1/none", pool_size_max=1, application_name="test"
    )
    tries = 0

    async def work(session: AsyncSession) -> None:
        nonlocal tries
        tries += 1
        await session.execute(text("select 1"))

    with pytest.raises(OSError, match=r"refused|onnect"):
        await transact(database.session_maker(engine), work, attempts_max=3)
    assert tries == 3
    await engine.dispose()


async def test_the_drivers_connection_is_the_transactions_own(sessions: SessionMaker) -> None:
    workspace = uuid4()
    with pytest.raises(LookupError):  # noqa: PT012  # the block is the transaction
        async with sessions.begin() as session:
            connection = (await database.transaction_of(session)).connection
            assert isinstance(connection, asyncpg.Connection)
            await connection.execute(
                "insert into config.workspaces (workspace_id, name) values ($1, 'a')", workspace
            )
            raise LookupError

    async with sessions.begin() as session:
        assert await session.scalar(text("select count(*) from config.workspaces")) == 0


async def test_a_workspace_sees_only_what_is_its_own(
    sessions: SessionMaker, api: SessionMaker
) -> None:
    """Proves X3."""
    mine, foreign = uuid4(), uuid4()
    async with sessions.begin() as session:
        for workspace in (mine, foreign):
            await session.execute(
                text("insert into config.workspaces (workspace_id, name) values (:w, 'a')"),
                {"w": workspace},
            )

    async with api.begin() as session:
        assert (await session.scalars(text("select 1 from config.workspaces"))).all() == []
    async with api.begin() as session:
        await database.enter_workspace(session, mine)
        seen = await session.scalars(text("select workspace_id from config.workspaces"))
        assert seen.all() == [mine]
    async with api.begin() as session:
        await database.become_operator(session)
        assert await session.scalar(text("select count(*) from config.workspaces")) == 2


async def test_a_workspace_cannot_write_another_ones_rows(api: SessionMaker) -> None:
    """Proves X3."""
    with pytest.raises(DBAPIError, match="row-level security"):  # noqa: PT012  # one transaction
        async with api.begin() as session:
            await database.enter_workspace(session, uuid4())
            await session.execute(
                text("insert into config.workspaces (workspace_id, name) values (:w, 'a')"),
                {"w": uuid4()},
            )
