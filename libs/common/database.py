"""PostgreSQL through SQLAlchemy: engines, sessions, and what a role may see.

Promises: sessions are run by `libs.common.postgres.transact`, as asyncpg's own transactions are;
what dies or loses a race is the same to it. For the API, quota and notifier; the services that
contacts go through carry no SQLAlchemy (docs/decisions/0158).
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import asyncpg
from sqlalchemy import event, text
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import InvalidatePoolError
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_sessionmaker,
    create_async_engine,
)
from sqlalchemy.pool import ConnectionPoolEntry, PoolProxiedConnection

from libs.common.postgres import (
    CONNECT_S,
    LENT_S,
    STATEMENT_S,
    Transaction,
    Transactions,
    is_spoilt,
    server_settings,
)

SessionMaker = async_sessionmaker[AsyncSession]


def create_engine(url: str, *, pool_size_max: int, application_name: str) -> AsyncEngine:
    """Return an engine for `postgresql://…`; it never holds more than `pool_size_max` connections.

    Time-outs and settings are those of `libs.common.postgres`.
    """
    engine = create_async_engine(
        url.replace("postgresql://", "postgresql+asyncpg://", 1),
        pool_size=pool_size_max,
        max_overflow=0,
        pool_timeout=LENT_S,
        connect_args={
            "timeout": CONNECT_S,
            "command_timeout": STATEMENT_S,
            "server_settings": server_settings(application_name, by_key=False),
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


class EnginePool:
    """Lends connections of an engine's pool, for code that is shared with who has no engine."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    @asynccontextmanager
    async def lend(self) -> AsyncIterator[asyncpg.Connection]:
        """Lend a connection; it is closed, not lent on, if its block leaves it `is_spoilt`."""
        lent = await self._engine.raw_connection()
        connection = lent.driver_connection
        assert isinstance(connection, asyncpg.Connection)
        try:
            yield connection
        except BaseException as error:
            if is_spoilt(connection, error):
                lent.invalidate()
            raise
        finally:
            lent.close()


def transactions_of(sessions: SessionMaker) -> Transactions:
    """Return what opens transactions of asyncpg's own on the engine of sessions."""
    engine = sessions.kw["bind"]
    assert isinstance(engine, AsyncEngine)
    return Transactions(EnginePool(engine))


async def transaction_of(session: AsyncSession) -> Transaction:
    """Return a session's transaction as one of asyncpg's own, for what knows no sessions."""
    connection = await session.connection()
    raw = await connection.get_raw_connection()
    inner = raw.driver_connection
    assert isinstance(inner, asyncpg.Connection)
    if not inner.is_in_transaction():
        # What SQLAlchemy does before its own first statement, for which there is no public way: a
        # statement that does nothing would cost as much again as the whole transaction.
        adapted: Any = raw.dbapi_connection
        await adapted._start_transaction()  # noqa: SLF001  # see above
    return Transaction(inner)


async def enter_workspace(session: AsyncSession, workspace: UUID) -> None:
    """Show this session's transaction one workspace's rows only (row-level security, X3)."""
    await session.execute(
        text("select set_config('app.workspace', :workspace, true)"), {"workspace": str(workspace)}
    )


async def become_operator(session: AsyncSession) -> None:
    """Act as the operator's role until this transaction ends."""
    await session.execute(text("set local role contactsync_operator"))
