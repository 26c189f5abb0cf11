"""Looks after the ledger: its months ahead and behind, what is finished, and what metrics tell.

A missing partition makes every hold fail, on purpose: without a ledger, no write. So months are
made three ahead, and the metric tells long before one is missing. What is over is taken away some
at a time: months of postings that are kept no longer, finished holds that no record can name again,
and the text of uploaded files that were read long ago.
"""

import asyncio
from math import inf

import asyncpg
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession

from libs.common import logs, metrics
from libs.common.database import SessionMaker
from libs.common.postgres import is_transient, transact
from services.quota import store
from services.quota.lease import pause

MONTHS_AHEAD = 3
IMPORT_DAYS_KEPT = 30  # PROTOCOL.md 11: after the run that read it.
FORGET_ROWS = 10_000  # A transaction of some tens of milliseconds.
SHARES = (0.5, 0.8, 0.9, 0.999999, inf)  # The last but one: all but those used up.

AHEAD = metrics.gauge("ledger_partitions_months", "Months ahead with a partition for postings.")
HOLD_OPEN = metrics.gauge("ledger_hold_open", "Units reserved and neither posted nor released.")
DRIFT = metrics.gauge(
    "ledger_reconcile_drift", "Drifts that stand, by check: their amounts added up.", ["check"]
)
USED = metrics.gauge(
    "quota_used_ratio", "Workspaces that have used at most this share of the month's.", ["le"]
)
FORGOTTEN = metrics.counter("ledger_rows_forgotten_total", "Rows that nobody needs any more.")

log = logs.get(__name__)


async def keep_up(
    sessions: SessionMaker, stop: asyncio.Event, *, every_s: float, months_kept: int
) -> None:
    """Make months and take away what is over, now and again until told to stop."""
    while not stop.is_set():
        await make_partitions(sessions)
        await drop_partitions(sessions, months_kept=months_kept)
        while not stop.is_set() and await forget(sessions):
            continue
        while not stop.is_set() and await forget_imports(sessions):
            continue
        await pause(stop, every_s)


async def make_partitions(sessions: SessionMaker) -> int:
    """Make what is missing of the next months; return how many were made."""

    async def work(session: AsyncSession) -> int:
        made = await store.make_partitions(session, months=MONTHS_AHEAD)
        AHEAD.set(await store.months_ahead(session))
        return made

    made = await transact(sessions, work)
    if made:
        log.info("partitions_made", count=made)
    return made


async def drop_partitions(sessions: SessionMaker, *, months_kept: int) -> int:
    """Drop months of postings that are kept no longer; return how many, 0 if it must wait."""

    async def work(session: AsyncSession) -> int:
        return await store.drop_partitions(session, months_kept=months_kept)

    try:
        # Not again at once: while it waits for its lock, writers wait behind it.
        dropped = await transact(sessions, work, attempts_max=1)
    except (DBAPIError, asyncpg.PostgresError) as error:
        if not is_transient(error):
            raise
        log.info("partitions_not_dropped", reason=type(error).__name__)
        return 0
    if dropped:
        log.info("partitions_dropped", count=dropped)
    return dropped


async def forget(sessions: SessionMaker) -> int:
    """Take some of what is over away; return how many rows, 0 when there is no more."""

    async def work(session: AsyncSession) -> int:
        return await store.forget(session, rows=FORGET_ROWS)

    forgotten = await transact(sessions, work)
    FORGOTTEN.inc(forgotten)
    return forgotten


async def forget_imports(sessions: SessionMaker) -> int:
    """Take away one uploaded file that nobody reads any more; return 0 when there is no more."""

    async def work(session: AsyncSession) -> int:
        return await store.forget_imports(session, days=IMPORT_DAYS_KEPT)

    forgotten = await transact(sessions, work)
    if forgotten:
        log.info("import_forgotten")
    return forgotten


async def keep_measuring(sessions: SessionMaker, stop: asyncio.Event, *, every_s: float) -> None:
    """Say how the ledger stands until told to stop; then say nothing: another one does."""
    try:
        while not stop.is_set():
            await measure(sessions)
            await pause(stop, every_s)
    finally:
        HOLD_OPEN.set(0)
        DRIFT.clear()
        USED.clear()


async def measure(sessions: SessionMaker) -> None:
    """Say how the ledger stands."""

    async def work(session: AsyncSession) -> store.Standing:
        return await store.standing(session, SHARES)

    standing = await transact(sessions, work)
    HOLD_OPEN.set(standing.units_open)
    for share, workspaces in zip(SHARES, standing.used, strict=True):
        USED.labels(f"{share:g}" if share < inf else "+Inf").set(workspaces)
    DRIFT.clear()
    for check, drift in standing.drifts.items():
        DRIFT.labels(check).set(drift)
