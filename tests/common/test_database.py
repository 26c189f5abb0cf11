"""Transactions that are run again as a whole, and what a role may see."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any
from uuid import uuid4

import asyncpg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from libs.common import database
from libs.common.database import (
    SessionMaker,
    Transaction,
    Transactions,
    driver,
    engine_of,
    fetch_alone,
    look,
    transact,
    transact_alone,
)


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
        connection = await database.driver(session)
        process = await connection.fetchval("select pg_backend_pid()")
        if tries == 1:
            async with sessions.begin() as other:
                await other.execute(text("select pg_terminate_backend(:p)"), {"p": process})
        return int(await connection.fetchval("select 42"))

    assert await transact(sessions, work) == 42
    assert tries == 2


async def test_a_plain_transaction_is_all_or_nothing_and_leaves_its_connection_whole(
    sessions: SessionMaker,
) -> None:
    """Proves R10: what was rolled back is not there, and the next transaction begins anew."""
    transactions = Transactions(engine_of(sessions))
    async with transactions.begin() as session:
        await session.connection.execute("create table plain (id int)")

    async def insert_and(follows: str) -> None:
        async with transactions.begin() as session:
            await session.connection.execute("insert into plain values (1)")
            if not follows:
                raise KeyError
            await session.connection.execute(follows)

    with pytest.raises(KeyError):
        await insert_and("")
    with pytest.raises(asyncpg.UndefinedTableError):
        await insert_and("insert into nowhere values (2)")
    async with transactions.begin() as session:
        await session.connection.execute("insert into plain values (3)")

    async with transactions.begin() as session:
        assert await session.connection.fetchval("select array_agg(id) from plain") == [3]
        assert await driver(session) is session.connection


@pytest.mark.parametrize("run", [transact, transact_alone, look])
async def test_a_backend_killed_under_plain_work_costs_a_second_try(
    sessions: SessionMaker, run: Any
) -> None:
    """Proves R10: the whole of it is run again, on another connection."""
    transactions = Transactions(engine_of(sessions))
    backends: list[int] = []

    async def work(session: Transaction) -> int:
        backends.append(await session.connection.fetchval("select pg_backend_pid()"))
        if len(backends) == 1:
            async with transactions.begin() as other:
                await other.connection.execute("select pg_terminate_backend($1)", backends[0])
        found: int = await session.connection.fetchval("select 7")
        return found

    assert await run(transactions, work) == 7
    assert len(set(backends)) == 2


async def test_a_statement_alone_is_committed_as_it_is_answered(sessions: SessionMaker) -> None:
    transactions = Transactions(engine_of(sessions))
    async with transactions.begin() as session:
        await session.connection.execute("create table alone (id int)")

    async def insert(session: Transaction) -> int:
        found: int = await session.connection.fetchval("insert into alone values (1) returning id")
        async with transactions.begin() as other:
            assert await other.connection.fetchval("select count(*) from alone") == 1
        return found

    assert await transact_alone(transactions, insert) == 1


LOSES_TWICE = """
create table late (id int);
create sequence lost_races;
create function lose() returns trigger language plpgsql as $$ begin
  if nextval('lost_races') < 3 then raise exception 'lost' using errcode = '40001'; end if;
  return null;
end $$;
create constraint trigger lose after insert on late deferrable initially deferred
  for each row execute function lose();
"""


async def test_a_statement_alone_that_is_refused_by_the_commit_is_run_again(
    sessions: SessionMaker,
) -> None:
    """Proves R10: what a deferred trigger says is the statement's own error, and nothing stands."""
    transactions = Transactions(engine_of(sessions))
    async with transactions.begin() as session:
        await session.connection.execute(LOSES_TWICE)

    async def insert(session: Transaction) -> int:
        found: int = await session.connection.fetchval("insert into late values (1) returning id")
        return found

    assert await transact_alone(transactions, insert) == 1
    async with transactions.begin() as other:
        assert await other.connection.fetchval("select count(*) from late") == 1


@pytest.mark.parametrize("opened", [Transactions.begin, Transactions.alone])
async def test_plain_work_that_is_given_up_leaves_nobody_its_connection(
    sessions: SessionMaker, opened: Any
) -> None:
    transactions = Transactions(engine_of(sessions))
    backends: list[int] = []
    begun = asyncio.Event()

    async def wait() -> None:
        async with opened(transactions) as session:
            backends.append(await session.connection.fetchval("select pg_backend_pid()"))
            begun.set()
            await session.connection.execute("select pg_sleep(60)")

    waiting = asyncio.create_task(wait())
    await begun.wait()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting

    async with transactions.begin() as session:
        assert await session.connection.fetchval("select pg_backend_pid()") not in backends


async def test_a_statement_alone_is_a_transaction(sessions: SessionMaker) -> None:
    workspace = uuid4()
    insert = "insert into config.workspaces (workspace_id, name) values ($1, $2) returning name"

    [row] = await fetch_alone(sessions, insert, workspace, "a")
    with pytest.raises(asyncpg.UniqueViolationError):
        await fetch_alone(sessions, insert, workspace, "b")

    assert row["name"] == "a"
    async with sessions.begin() as session:
        assert await session.scalar(text("select name from config.workspaces")) == "a"


async def test_a_backend_killed_under_a_statement_costs_a_second_try(
    role_url: Callable[[str], str], sessions: SessionMaker
) -> None:
    """Fault 33."""
    engine = database.create_engine(role_url("api"), pool_size_max=1, application_name="test")
    ours = database.session_maker(engine)
    [[first]] = await fetch_alone(ours, "select pg_backend_pid()")
    sleep = asyncio.create_task(
        fetch_alone(ours, "select pg_backend_pid() from pg_sleep(case when $1 = pg_backend_pid() "
                    "then 20 else 0 end)", first)
    )  # fmt: skip
    await asyncio.sleep(0.1)

    async with sessions.begin() as session:
        await session.execute(text("select pg_terminate_backend(:p)"), {"p": first})

    [[second]] = await asyncio.wait_for(sleep, timeout=60)
    assert second != first
    await engine.dispose()


async def test_a_statement_that_is_given_up_leaves_nobody_its_connection(
    role_url: Callable[[str], str],
) -> None:
    engine = database.create_engine(role_url("api"), pool_size_max=1, application_name="test")
    ours = database.session_maker(engine)
    [[first]] = await fetch_alone(ours, "select pg_backend_pid()")
    [[again]] = await fetch_alone(ours, "select pg_backend_pid()")
    sleep = asyncio.create_task(fetch_alone(ours, "select pg_sleep(20)"))
    await asyncio.sleep(0.1)

    sleep.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sleep
    [[later]] = await asyncio.wait_for(fetch_alone(ours, "select pg_backend_pid()"), timeout=60)

    assert first == again != later
    await engine.dispose()


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
            connection = await database.driver(session)
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
