"""Looks after the ledger: the months its postings go into, ahead of time.

A missing partition makes every hold fail, on purpose: without a ledger, no write. So months are
made three ahead, and the metric tells long before one is missing.
"""

import asyncio

from sqlalchemy.ext.asyncio import AsyncSession

from libs.common import logs, metrics
from libs.common.database import SessionMaker, transact
from services.quota import store

MONTHS_AHEAD = 3

AHEAD = metrics.gauge("ledger_partitions_months", "Months ahead with a partition for postings.")

log = logs.get(__name__)


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


async def keep_partitions(sessions: SessionMaker, stop: asyncio.Event, *, every_s: float) -> None:
    """Make partitions now and again until told to stop."""
    while not stop.is_set():
        await make_partitions(sessions)
        try:
            async with asyncio.timeout(every_s):
                await stop.wait()
        except TimeoutError:
            continue
