"""PostgreSQL on asyncpg alone: a pool, and transactions that are run again when they lost a race.

Promises: a unit of work is one transaction, opened and ended here (`transact`); it is run again
as a whole when its connection died or its lock was lost, never in part (RELIABILITY R10), so the
work handed in must be idempotent and must not call anything but the database (R6). What a pool
lends is whole: a connection that was given up with a statement under way is closed, never lent on.

SQLAlchemy's engines and sessions are `libs.common.database`; it is a fifth of a process's memory,
so nothing of it is imported here.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol, TypeVar, cast
from uuid import UUID

import asyncpg

from libs.common.backoff import Backoff

T = TypeVar("T")
Session = TypeVar("Session")
SessionCo = TypeVar("SessionCo", covariant=True)

# 40001 serialization failure, 40P01 deadlock, 55P03 lock not available in time; 08… the connection
# failed, 57P… the server ends it or is starting, 25006 it takes no writes yet, as after a fail-over
# (https://www.postgresql.org/docs/18/errcodes-appendix.html).
RETRIED_STATES = ("40001", "40P01", "55P03", "08", "57P01", "57P02", "57P03", "57P05", "25006")

# What asyncpg raises when its connection is gone; the last is its own confusion on killed
# backends (asyncpg#1069). A time-out is an OSError.
GONE = (OSError, asyncpg.InterfaceError, asyncpg.InternalClientError)
# Everything that a statement or a connection may raise.
FAILURES = (asyncpg.PostgresError, *GONE)

CONNECT_S = 10.0
STATEMENT_S = 30.0
# How long a connection is waited for that others have.
LENT_S = 30.0
# How long a server is told that a connection ends, before it is cut.
CLOSE_S = 5.0

# With the back-off below about half a minute in all: longer than a crash-restart of PostgreSQL.
ATTEMPTS_MAX = 10
BACKOFF_FIRST_S = 0.05
BACKOFF_MOST_S = 5.0


def server_settings(application_name: str, *, by_key: bool) -> dict[str, str]:
    """Return what a connection of ours asks of the server.

    JIT is off: our statements are short, and compiling them costs more than running them.
    `by_key`: whoever logs in here names the rows it wants, so a table is read through only where no
    index will do. A plan that is made while a table is nearly empty would read it through, and is
    kept while the table grows.
    """
    settings = {"application_name": application_name, "jit": "off"}
    if by_key:
        settings["enable_seqscan"] = "off"
    return settings


@dataclass(frozen=True, slots=True)
class Transaction:
    """A transaction of asyncpg's own: statements have `$1`, `$2`, …, errors are asyncpg's."""

    connection: asyncpg.Connection

    def begin(self) -> AbstractAsyncContextManager[object]:
        """Open a transaction after a look on its connection, within `look`.

        It is committed unless its block raises; whatever is in it must be idempotent.
        """
        return cast("AbstractAsyncContextManager[object]", self.connection.transaction())


class Lends(Protocol):
    """What lends connections: a `Pool`, or an engine (`libs.common.database.EnginePool`)."""

    def lend(self) -> AbstractAsyncContextManager[asyncpg.Connection]:
        """Lend a connection; it is closed, not lent on, if its block leaves it `is_spoilt`."""


class Pool:
    """Connections of one role, of which there are never more than `size_max`.

    They are made when they are wanted, so that a process starts before its database does, and kept.
    asyncpg's own pool gives each back by a task, which costs as much as a short statement
    (docs/decisions/0158).
    """

    def __init__(self, url: str, *, size_max: int, settings: dict[str, str]) -> None:
        self._url = url
        self._settings = settings
        self._places = asyncio.Semaphore(size_max)
        self._free: list[asyncpg.Connection] = []  # The last one given back is lent first.
        self._lent: set[asyncpg.Connection] = set()
        self._is_closed = False

    def lend(self) -> "_Loan":
        """Lend a connection; it is closed, not lent on, if its block leaves it `is_spoilt`.

        Entering raises TimeoutError if none is given back in time, and what asyncpg raises if the
        server cannot be reached.
        """
        return _Loan(self)

    async def take(self) -> asyncpg.Connection:
        """Return a connection that is open; raise as `lend` does."""
        assert not self._is_closed, "the pool is closed"
        if self._places.locked():
            async with asyncio.timeout(LENT_S):
                await self._places.acquire()
        else:
            await self._places.acquire()  # At once.
        try:
            connection = self._open_one() or await asyncpg.connect(
                self._url,
                timeout=CONNECT_S,
                command_timeout=STATEMENT_S,
                server_settings=self._settings,
            )
        except BaseException:
            self._places.release()
            raise
        self._lent.add(connection)
        return connection

    def _open_one(self) -> asyncpg.Connection | None:
        """Return one that was given back; the driver knows without asking which were closed."""
        while self._free:
            connection = self._free.pop()
            if not connection.is_closed():
                return connection
        return None

    def give_back(self, connection: asyncpg.Connection, error: BaseException | None) -> None:
        """Take a connection back, after its block has raised `error` or nothing."""
        self._lent.discard(connection)
        self._places.release()
        if self._is_closed or (error is not None and is_spoilt(connection, error)):
            connection.terminate()
        else:
            self._free.append(connection)

    async def close(self) -> None:
        """Close the connections, and cut those that are lent: nobody is there to give them back."""
        self._is_closed = True
        for lent in self._lent:
            lent.terminate()
        free, self._free = self._free, []
        closing = [connection.close(timeout=CLOSE_S) for connection in free]
        await asyncio.gather(*closing, return_exceptions=True)


class _Loan:
    """One connection of a pool, for as long as a block lasts."""

    __slots__ = ("_connection", "_pool")

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def __aenter__(self) -> asyncpg.Connection:
        self._connection = await self._pool.take()
        return self._connection

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        stack: TracebackType | None,
    ) -> None:
        self._pool.give_back(self._connection, error)


def is_spoilt(connection: asyncpg.Connection, error: BaseException) -> bool:
    """Return whether a connection may not be lent on after its block has raised `error`.

    It was cut, timed out or was cancelled with a statement perhaps under way, of which the next
    one would get the answer; or its transaction could not be rolled back.
    """
    if not isinstance(error, Exception) or isinstance(error, GONE):
        return True
    return bool(connection.is_closed() or connection.is_in_transaction())


def create_pool(url: str, *, size_max: int, application_name: str, by_key: bool = False) -> Pool:
    """Return a pool for `postgresql://…`; see `server_settings`. Nothing is connected yet."""
    settings = server_settings(application_name, by_key=by_key)
    return Pool(url, size_max=size_max, settings=settings)


def is_transient(error: BaseException) -> bool:
    """Return whether running the same transaction again may succeed.

    A connection that cannot be made or that died, or a lost race for a lock; asked of asyncpg's
    errors and of SQLAlchemy's, which tell by an attribute that a connection is gone.
    """
    if getattr(error, "connection_invalidated", False):
        return True
    cause: BaseException | None = error
    while cause is not None:
        state = getattr(cause, "sqlstate", None) or ""
        if isinstance(cause, GONE) or state.startswith(RETRIED_STATES):
            return True
        cause = cause.__cause__
    return False


class Opens(Protocol[SessionCo]):
    """What opens transactions: `Transactions`, or a session maker."""

    def begin(self) -> AbstractAsyncContextManager[SessionCo]:
        """Return a transaction, which is committed unless its block raises."""


class Alone(Protocol[SessionCo]):
    """What runs a statement as a transaction of its own: `Transactions`."""

    def alone(self) -> AbstractAsyncContextManager[SessionCo]:
        """Return what runs one statement, which is committed by the time it is answered."""


class Transactions:
    """Opens transactions of asyncpg's own, on connections that are lent."""

    def __init__(self, pool: Lends) -> None:
        self._pool = pool

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[Transaction]:
        """Open a transaction; it is committed unless its block raises."""
        async with self._pool.lend() as connection, connection.transaction():
            yield Transaction(connection)

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[Transaction]:
        """Run one statement, and nothing else: it is committed by the time it is answered.

        Beginning and committing would be two answers more to wait for. Two statements would be two
        transactions, of which the first stands if the second fails.
        """
        async with self._pool.lend() as connection:
            yield Transaction(connection)


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

    If what it reads calls for more, that is done within `session.begin()`, at the end.
    Its statements see no more of one another than within a transaction of ours, in which each sees
    what was committed when it began; and to begin and to end one are two answers to wait for.
    """
    return await transact_alone(sessions, work, attempts_max=attempts_max)


async def fetch_alone(
    sessions: Alone[Transaction],
    statement: str,
    *arguments: object,
    attempts_max: int = ATTEMPTS_MAX,
) -> "list[asyncpg.Record[Any]]":
    """Run one statement as a transaction of its own, again like `transact`; return its rows.

    Its parameters are `$1`, `$2`, …; its errors are asyncpg's.
    """

    async def fetch(session: Transaction) -> "list[asyncpg.Record[Any]]":
        return list(await session.connection.fetch(statement, *arguments))

    return await transact_alone(sessions, fetch, attempts_max=attempts_max)


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


async def enter_workspace(session: Transaction, workspace: UUID) -> None:
    """Show this transaction one workspace's rows only (row-level security, X3)."""
    await session.connection.execute("select set_config('app.workspace', $1, true)", str(workspace))
