"""A pool of asyncpg's own, and transactions on what it lends, or what an engine does."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any
from uuid import uuid4

import asyncpg
import pytest
from sqlalchemy.exc import DBAPIError

from libs.common import database, postgres
from libs.common.postgres import (
    FAILURES,
    Pool,
    Transaction,
    Transactions,
    create_pool,
    fetch_alone,
    is_transient,
    look,
    transact,
    transact_alone,
)
from tests.databases import in_own_loop

CONNECTIONS = 5


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    pool = create_pool(database_url, size_max=CONNECTIONS, application_name="test")
    yield pool
    await pool.close()


@pytest.fixture(params=["pool", "engine"])
async def transactions(
    request: pytest.FixtureRequest, database_url: str, pool: Pool
) -> AsyncIterator[Transactions]:
    if request.param == "pool":
        yield Transactions(pool)
        return
    engine = database.create_engine(
        database_url, pool_size_max=CONNECTIONS, application_name="test"
    )
    yield Transactions(database.EnginePool(engine))
    await engine.dispose()


async def test_a_plain_transaction_is_all_or_nothing_and_leaves_its_connection_whole(
    transactions: Transactions,
) -> None:
    """Proves R10: what was rolled back is not there, and the next transaction begins anew."""
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


@pytest.mark.parametrize("run", [transact, transact_alone, look])
async def test_a_backend_killed_under_plain_work_costs_a_second_try(
    transactions: Transactions, run: Any
) -> None:
    """Proves R10: the whole of it is run again, on another connection."""
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


async def test_a_statement_alone_is_committed_as_it_is_answered(transactions: Transactions) -> None:
    async with transactions.begin() as session:
        await session.connection.execute("create table alone (id int)")

    async def insert(session: Transaction) -> int:
        found: int = await session.connection.fetchval("insert into alone values (1) returning id")
        async with transactions.begin() as other:
            assert await other.connection.fetchval("select count(*) from alone") == 1
        return found

    assert await transact_alone(transactions, insert) == 1


async def test_what_follows_from_a_look_is_all_or_nothing(transactions: Transactions) -> None:
    """Proves R10: a transaction that is begun within a look is one."""
    async with transactions.begin() as session:
        await session.connection.execute("create table after (id int)")

    async def add(*, fails: bool) -> int:
        async def work(session: Transaction) -> int:
            seen: int = await session.connection.fetchval("select count(*) from after")
            async with session.begin():
                await session.connection.execute("insert into after values (1)")
                if fails:
                    raise KeyError
                await session.connection.execute("insert into after values (2)")
            return seen

        return await look(transactions, work)

    with pytest.raises(KeyError):
        await add(fails=True)
    assert [await add(fails=False), await add(fails=False)] == [0, 2]


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
    transactions: Transactions,
) -> None:
    """Proves R10: what a deferred trigger says is the statement's own error, and nothing stands."""
    async with transactions.begin() as session:
        await session.connection.execute(LOSES_TWICE)

    async def insert(session: Transaction) -> int:
        found: int = await session.connection.fetchval("insert into late values (1) returning id")
        return found

    assert await transact_alone(transactions, insert) == 1
    async with transactions.begin() as other:
        assert await other.connection.fetchval("select count(*) from late") == 1


SLEEPS = "select from pg_stat_activity where pid = $1 and wait_event = 'PgSleep'"


@pytest.mark.parametrize("opened", [Transactions.begin, Transactions.alone])
async def test_plain_work_that_is_given_up_leaves_nobody_its_connection(
    transactions: Transactions, opened: Any
) -> None:
    backends: list[int] = []
    begun = asyncio.Event()

    async def wait() -> None:
        async with opened(transactions) as session:
            backends.append(await session.connection.fetchval("select pg_backend_pid()"))
            begun.set()
            await session.connection.execute("select pg_sleep(60)")

    waiting = asyncio.create_task(wait())
    await begun.wait()
    # A server that is told before it has begun does not hear of it.
    while not await fetch_alone(transactions, SLEEPS, *backends):  # noqa: ASYNC110 - no event
        await asyncio.sleep(0.01)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting

    async with transactions.begin() as session:
        assert await session.connection.fetchval("select pg_backend_pid()") not in backends


async def test_a_statement_alone_is_a_transaction(transactions: Transactions) -> None:
    workspace = uuid4()
    insert = "insert into config.workspaces (workspace_id, name) values ($1, $2) returning name"

    [row] = await fetch_alone(transactions, insert, workspace, "a")
    with pytest.raises(asyncpg.UniqueViolationError):
        await fetch_alone(transactions, insert, workspace, "b")

    assert row["name"] == "a"
    [row] = await fetch_alone(transactions, "select name from config.workspaces")
    assert row["name"] == "a"


SLEEP_IN = (
    "select pg_backend_pid() from pg_sleep(case when $1 = pg_backend_pid() then 20 else 0 end)"
)


async def test_a_backend_killed_under_a_statement_costs_a_second_try(
    transactions: Transactions, database_url: str
) -> None:
    """Fault 33."""
    [[first]] = await fetch_alone(transactions, "select pg_backend_pid()")
    sleep = asyncio.create_task(fetch_alone(transactions, SLEEP_IN, first))
    await asyncio.sleep(0.1)

    in_own_loop(kill(database_url, first))

    [[second]] = await asyncio.wait_for(sleep, timeout=60)
    assert second != first


async def test_a_statement_that_is_given_up_leaves_nobody_its_connection(
    transactions: Transactions,
) -> None:
    [[first]] = await fetch_alone(transactions, "select pg_backend_pid()")
    [[again]] = await fetch_alone(transactions, "select pg_backend_pid()")
    sleep = asyncio.create_task(fetch_alone(transactions, "select pg_sleep(20)"))
    await asyncio.sleep(0.1)

    sleep.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sleep
    [[later]] = await asyncio.wait_for(
        fetch_alone(transactions, "select pg_backend_pid()"), timeout=60
    )

    assert first == again != later


async def test_a_statement_that_takes_too_long_leaves_nobody_its_connection(
    transactions: Transactions,
) -> None:
    async def wait(session: Transaction) -> None:
        await session.connection.execute("select pg_sleep(20)", timeout=0.1)

    [[first]] = await fetch_alone(transactions, "select pg_backend_pid()")
    with pytest.raises(TimeoutError):
        await transact_alone(transactions, wait, attempts_max=1)
    [[later]] = await fetch_alone(transactions, "select pg_backend_pid()")

    assert first != later


@pytest.mark.parametrize("is_heard_of", [True, False])
async def test_each_dead_connection_costs_an_attempt_at_most(
    transactions: Transactions, database_url: str, is_heard_of: bool
) -> None:
    """Proves R10: none if our loop has heard that the server was killed."""
    all_hold_one = asyncio.Barrier(CONNECTIONS)
    backends: set[int] = set()

    async def hold_one() -> None:
        async with transactions.begin() as session:
            backends.add(await session.connection.fetchval("select pg_backend_pid()"))
            await all_hold_one.wait()

    await asyncio.gather(*[hold_one() for _ in range(CONNECTIONS)])
    tries = 0

    async def work(session: Transaction) -> int:
        nonlocal tries
        tries += 1
        process: int = await session.connection.fetchval("select pg_backend_pid()")
        return process

    in_own_loop(kill(database_url, *backends))  # Meanwhile our loop hears of nothing.
    if is_heard_of:
        for _ in range(10):
            await asyncio.sleep(0)
    later = await asyncio.gather(*[look(transactions, work) for _ in range(CONNECTIONS)])

    assert len(backends) == CONNECTIONS
    assert not backends & set(later)
    assert tries <= (1 if is_heard_of else 2) * CONNECTIONS


async def test_an_error_of_the_works_own_is_told_though_the_connection_died(
    transactions: Transactions, database_url: str
) -> None:
    async def work(session: Transaction) -> None:
        backend = await session.connection.fetchval("select pg_backend_pid()")
        in_own_loop(kill(database_url, backend))
        with pytest.raises(FAILURES):
            await session.connection.fetchval("select 1")
        raise LookupError

    with pytest.raises(LookupError):
        await transact_alone(transactions, work, attempts_max=1)
    assert await fetch_alone(transactions, "select 1")


async def test_to_lend_a_connection_asks_the_server_nothing(pool: Pool) -> None:
    asked: list[str] = []

    async with pool.lend() as connection:
        first = connection.get_server_pid()
        connection.add_query_logger(lambda query: asked.append(query.query))
        await connection.fetchval("select 1")
    async with pool.lend() as connection:
        again = connection.get_server_pid()
        await connection.fetchval("select 2")
    await asyncio.sleep(0)  # What was asked is told in the next turn of the loop.

    assert first == again
    assert asked == ["select 1", "select 2"]


async def test_a_connection_is_waited_for_but_not_for_ever(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "LENT_S", 0.2)
    pool = create_pool(database_url, size_max=1, application_name="test")
    transactions = Transactions(pool)

    async with pool.lend() as connection:
        waiting = asyncio.create_task(fetch_alone(transactions, "select 1", attempts_max=1))
        with pytest.raises(TimeoutError) as told:
            await waiting
        assert await connection.fetchval("select 2") == 2

    assert is_transient(told.value)
    assert await fetch_alone(transactions, "select 3")
    await pool.close()


async def test_there_are_never_more_connections_than_allowed(pool: Pool) -> None:
    # Who is connected slowly is not left behind: the others wait with what they have.
    all_hold_one = asyncio.Barrier(CONNECTIONS)

    async def hold_one() -> int:
        async with pool.lend() as connection:
            await all_hold_one.wait()
            return int(connection.get_server_pid())

    async with asyncio.timeout(60):
        backends = await asyncio.gather(*[hold_one() for _ in range(4 * CONNECTIONS)])

    assert len(set(backends)) == CONNECTIONS


async def test_who_waits_for_a_connection_no_more_takes_none(database_url: str) -> None:
    pool = create_pool(database_url, size_max=1, application_name="test")
    transactions = Transactions(pool)

    async with pool.lend():
        waiting = [asyncio.create_task(fetch_alone(transactions, "select 1")) for _ in range(3)]
        await asyncio.sleep(0)
        waiting[0].cancel()
    waiting[1].cancel()  # It has been woken, and has not gone on yet.
    await asyncio.wait(waiting)

    assert [each.cancelled() for each in waiting] == [True, True, False]
    assert await asyncio.wait_for(fetch_alone(transactions, "select 2"), timeout=10)
    await pool.close()


async def test_a_pool_that_is_closed_keeps_no_connection(database_url: str) -> None:
    pool = create_pool(database_url, size_max=2, application_name="closing")

    with pytest.raises(asyncpg.InterfaceError):  # noqa: PT012  # the block has the connection
        async with pool.lend() as connection:
            async with pool.lend() as other:
                await other.fetchval("select 1")
            await pool.close()
            await connection.fetchval("select 1")

    assert other.is_closed()


async def test_what_is_being_connected_as_a_pool_is_closed_is_not_kept(database_url: str) -> None:
    pool = create_pool(database_url, size_max=1, application_name="test")

    async def use() -> Any:
        async with pool.lend() as connection:
            await connection.fetchval("select 1")
        return connection

    using = asyncio.create_task(use())
    await asyncio.sleep(0)
    await pool.close()

    assert (await using).is_closed()
    with pytest.raises(AssertionError, match="the pool is closed"):
        await fetch_alone(Transactions(pool), "select 1")


async def test_a_pool_is_made_before_its_server_is_there() -> None:
    pool = create_pool("postgresql://nobody@127.0.0.1:1/none", size_max=1, application_name="test")
    tries = 0

    class Counting(Transactions):
        def alone(self) -> Any:
            nonlocal tries
            tries += 1
            return super().alone()

    with pytest.raises(OSError, match=r"refused|onnect"):
        await fetch_alone(Counting(pool), "select 1", attempts_max=3)

    assert tries == 3
    await pool.close()


def test_who_asks_by_key_reads_no_table_through(database_url: str) -> None:
    async def plan(*, by_key: bool) -> tuple[str, str, str]:
        pool = create_pool(database_url, size_max=1, application_name="who", by_key=by_key)
        [row] = await fetch_alone(
            Transactions(pool),
            "select current_setting('enable_seqscan') as a, current_setting('jit') as b,"
            " current_setting('application_name') as c",
        )
        await pool.close()
        return tuple(row)

    assert in_own_loop(plan(by_key=True)) == ("off", "off", "who")
    assert in_own_loop(plan(by_key=False)) == ("on", "off", "who")


@pytest.mark.parametrize("is_gone", [True, False])
def test_sqlalchemys_word_for_a_connection_that_is_gone_is_known(is_gone: bool) -> None:
    error = DBAPIError("select 1", None, Exception("lost"), connection_invalidated=is_gone)

    assert is_transient(error) == is_gone


async def test_a_workspace_sees_only_its_own_here_too(
    role_url: Callable[[str], str], transactions: Transactions
) -> None:
    """Proves X3."""
    mine, foreign = uuid4(), uuid4()
    for each in (mine, foreign):
        insert = "insert into config.workspaces (workspace_id, name) values ($1, 'a')"
        await fetch_alone(transactions, insert, each)
    pool = create_pool(role_url("api"), size_max=1, application_name="test")
    api = Transactions(pool)
    seen = "select workspace_id from config.workspaces"

    async with api.begin() as session:
        await postgres.enter_workspace(session, mine)
        assert [row[0] for row in await session.connection.fetch(seen)] == [mine]
    assert await fetch_alone(api, seen) == []
    await pool.close()


async def kill(url: str, *backends: int) -> None:
    connection = await asyncpg.connect(url)
    ended = await connection.fetch(
        "select pg_terminate_backend(b, 10000) from unnest($1::int[]) b", backends
    )
    assert len(ended) == len(backends)
    await connection.close()
