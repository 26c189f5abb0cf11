"""PostgreSQL: engines, sessions, and transactions that are run again when they lost a race.

Promises: a unit of work is one transaction, opened and ended here (`transact`); it is run again
as a whole when its connection died or its lock was lost, never in part (RELIABILITY R10), so the
work handed in must be idempotent and must not call anything but the database (R6).
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar
from uuid import UUID

import asyncpg
from sqlalchemy import event, text
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DBAPIError, InvalidatePoolError, SQLAlchemyError
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_sessionmaker,
    create_async_engine,
)
from sqlalchemy.pool import ConnectionPoolEntry, PoolProxiedConnection

from libs.common.backoff import Backoff

SessionMaker = async_sessionmaker[AsyncSession]

T = TypeVar("T")
Session = TypeVar("Session")
SessionCo = TypeVar("SessionCo", covariant=True)

# 40001 serialization failure, 40P01 deadlock, 55P03 lock not available in time; 08… the connection
# failed, 57P… the server ends it or is starting, 25006 it takes no writes yet, as after a fail-over
# (https://www.postgresql.org/docs/18/errcodes-appendix.html).
RETRIED_STATES = ("40001", "40P01", "55P03", "08", "57P01", "57P02", "57P03", "57P05", "25006")

# What asyncpg raises when its connection is gone; the last is its own confusion on killed
# backends (asyncpg#1069).
GONE = (OSError, asyncpg.InterfaceError, asyncpg.InternalClientError)
# Everything that a statement or a connection may raise, SQLAlchemy's way or asyncpg's own.
FAILURES = (SQLAlchemyError, asyncpg.PostgresError, *GONE)

# With the back-off below about half a minute in all: longer than a crash-restart of PostgreSQL.
ATTEMPTS_MAX = 10
BACKOFF_FIRST_S = 0.05
BACKOFF_MOST_S = 5.0


def create_engine(
    url: str, *, pool_size_max: int, application_name: str, by_key: bool = False
) -> AsyncEngine:
    """Return an engine for `postgresql://…`; it never holds more than `pool_size_max` connections.

    JIT is off: our statements are short, and compiling them costs more than running them.
    `by_key`: whoever logs in here names the rows it wants, so a table is read through only where no
    index will do. A plan that is made while a table is nearly empty would read it through, and is
    kept while the table grows.
    """
    settings = {"application_name": application_name, "jit": "off"}
    if by_key:
        settings["enable_seqscan"] = "off"
    engine = create_async_engine(
        url.replace("postgresql://", "postgresql+asyncpg://", 1),
        pool_size=pool_size_max,
        max_overflow=0,
        pool_timeout=30,
        connect_args={
            "timeout": 10,
            "command_timeout": 30,
            "server_settings": settings,
        },
    )
    event.listen(engine.sync_engine, "checkout", _refuse_closed)
    return engine


def _refuse_closed(
    connection: DBAPIConnection, _record: ConnectionPoolEntry, _proxy: PoolProxiedConnection
) -> None:
    """Let the pool replace its connections once one of them was closed by the server.

    The driver knows without asking. SQLAlchemy's own ping asks: three round trips and half a
    millisecond of our time before every transaction, and what dies a moment later is met by
    `transact` all the same.
    """
    if connection.driver_connection.is_closed():
        raise InvalidatePoolError


def session_maker(engine: AsyncEngine) -> SessionMaker:
    """Return what opens sessions: `async with sessions.begin() as session` is one transaction."""
    return async_sessionmaker(engine, expire_on_commit=False)


def engine_of(sessions: SessionMaker) -> AsyncEngine:
    """Return the engine that sessions are opened on."""
    engine = sessions.kw["bind"]
    assert isinstance(engine, AsyncEngine)
    return engine


def is_transient(error: BaseException) -> bool:
    """Return whether running the same transaction again may succeed.

    A connection that cannot be made or that died, or a lost race for a lock; asked of
    SQLAlchemy's errors and of asyncpg's own, which `driver` lets through.
    """
    if isinstance(error, DBAPIError) and error.connection_invalidated:
        return True
    cause: BaseException | None = error
    while cause is not None:
        state = getattr(cause, "sqlstate", None) or ""
        if isinstance(cause, GONE) or state.startswith(RETRIED_STATES):
            return True
        cause = cause.__cause__
    return False


class Opens(Protocol[SessionCo]):
    """What opens transactions: a session maker, or `Transactions`."""

    def begin(self) -> AbstractAsyncContextManager[SessionCo]:
        """Return a transaction, which is committed unless its block raises."""


@dataclass(frozen=True, slots=True)
class Transaction:
    """A transaction of asyncpg's own: statements have `$1`, `$2`, …, errors are asyncpg's."""

    connection: asyncpg.Connection


class Alone(Protocol[SessionCo]):
    """What runs a statement as a transaction of its own: `Transactions`."""

    def alone(self) -> AbstractAsyncContextManager[SessionCo]:
        """Return what runs one statement, which is committed by the time it is answered."""


class Transactions:
    """Opens transactions past SQLAlchemy's session, on connections of the engine's pool.

    For whoever has many short ones: they cost 0.2 instead of 0.6 ms of our time.
    """

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[Transaction]:
        """Open a transaction; it is committed unless its block raises."""
        lent = await self._engine.raw_connection()
        connection = lent.driver_connection
        assert isinstance(connection, asyncpg.Connection)
        try:
            async with connection.transaction():
                yield Transaction(connection)
        except Exception:
            if connection.is_closed() or connection.is_in_transaction():
                lent.invalidate()  # It could not be rolled back.
            raise
        except BaseException:
            lent.invalidate()  # Cancelled, perhaps with a statement under way.
            raise
        finally:
            lent.close()

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[Transaction]:
        """Run one statement, and nothing else: it is committed by the time it is answered.

        Beginning and committing would be two answers more to wait for. Two statements would be two
        transactions, of which the first stands if the second fails.
        """
        lent = await self._engine.raw_connection()
        connection = lent.driver_connection
        assert isinstance(connection, asyncpg.Connection)
        try:
            yield Transaction(connection)
        except Exception as error:
            if isinstance(error, GONE) or connection.is_closed():
                lent.invalidate()  # Cut, or timed out with the statement under way.
            raise
        except BaseException:
            lent.invalidate()  # Cancelled, perhaps with the statement under way.
            raise
        finally:
            lent.close()


async def transact(
    sessions: Opens[Session],
    work: Callable[[Session], Awaitable[T]],
    *,
    attempts_max: int = ATTEMPTS_MAX,
) -> T:
    """Run `work` in one transaction, the whole of it again after a transient failure.

    A commit whose answer was lost is run again too: `work` must be idempotent. The last
    attempt's error is raised.
    """

    async def attempt() -> T:
        async with sessions.begin() as session:
            return await work(session)

    return await _repeated(attempt, attempts_max)


async def transact_alone(
    sessions: Alone[Session],
    statement: Callable[[Session], Awaitable[T]],
    *,
    attempts_max: int = ATTEMPTS_MAX,
) -> T:
    """Run one statement as a transaction of its own, again like `transact`.

    It must be idempotent as well: the answer may be lost after it was committed. What a deferred
    trigger refuses as it is committed is raised as the statement's own error.
    """

    async def attempt() -> T:
        async with sessions.alone() as session:
            return await statement(session)

    return await _repeated(attempt, attempts_max)


async def look(
    sessions: Alone[Session],
    work: Callable[[Session], Awaitable[T]],
    *,
    attempts_max: int = ATTEMPTS_MAX,
) -> T:
    """Run `work`, which only reads, without a transaction around it, again like `transact`.

    Its statements see no more of one another than within a transaction of ours, in which each sees
    what was committed when it began; and to begin and to end one are two answers to wait for.
    """
    return await transact_alone(sessions, work, attempts_max=attempts_max)


async def fetch_alone(
    sessions: SessionMaker, statement: str, *arguments: object, attempts_max: int = ATTEMPTS_MAX
) -> "list[asyncpg.Record[Any]]":
    """Run one statement as a transaction of its own, again like `transact`; return its rows.

    Its parameters are `$1`, `$2`, …; its errors are asyncpg's. For what is run over and over: it
    costs 0.13 ms of our time, a transaction of a session with one statement 0.9 ms.
    """
    engine = engine_of(sessions)

    async def attempt() -> "list[asyncpg.Record[Any]]":
        lent = await engine.raw_connection()
        connection = lent.driver_connection
        assert isinstance(connection, asyncpg.Connection)
        try:
            return list(await connection.fetch(statement, *arguments))
        except asyncpg.PostgresError:
            raise  # Answered: the connection is as good as before.
        except BaseException:
            lent.invalidate()  # Cut, or cancelled with a statement under way.
            raise
        finally:
            lent.close()

    return await _repeated(attempt, attempts_max)


async def _repeated(attempt_once: Callable[[], Awaitable[T]], attempts_max: int) -> T:
    backoff = Backoff(first_s=BACKOFF_FIRST_S, most_s=BACKOFF_MOST_S)
    attempt = 0
    while True:
        try:
            return await attempt_once()
        except Exception as error:
            attempt += 1
            if attempt >= attempts_max or not is_transient(error):
                raise
        await backoff.wait()


async def driver(session: AsyncSession | Transaction) -> asyncpg.Connection:
    """Return asyncpg's connection of this transaction, for statements with arrays on hot paths."""
    if isinstance(session, Transaction):
        return session.connection
    connection = await session.connection()
    raw = await connection.get_raw_connection()
    inner = raw.driver_connection
    assert isinstance(inner, asyncpg.Connection)
    if not inner.is_in_transaction():
        # What SQLAlchemy does before its own first statement, for which there is no public way: a
        # statement that does nothing would cost as much again as the whole transaction.
        adapted: Any = raw.dbapi_connection
        await adapted._start_transaction()  # noqa: SLF001  # see above
    return inner


async def enter_workspace(session: AsyncSession, workspace: UUID) -> None:
    """Show this transaction one workspace's rows only (row-level security, X3)."""
    await session.execute(
        text("select set_config('app.workspace', :workspace, true)"), {"workspace": str(workspace)}
    )


async def become_operator(session: AsyncSession) -> None:
    """Act as the operator's role until this transaction ends."""
    await session.execute(text("set local role contactsync_operator"))
