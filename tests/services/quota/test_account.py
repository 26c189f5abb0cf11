"""The ledger's months are there before they are needed."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
from sqlalchemy import text

from libs.common import database
from libs.common.database import SessionMaker
from services.quota.account import MONTHS_AHEAD, keep_partitions, make_partitions


@pytest.fixture
async def quota(role_url: Callable[[str], str]) -> AsyncIterator[SessionMaker]:
    engine = database.create_engine(role_url("quota"), pool_size_max=2, application_name="test")
    yield database.session_maker(engine)
    await engine.dispose()


async def partitions(sessions: SessionMaker) -> int:
    async with sessions.begin() as session:
        count = await session.scalar(
            text("select count(*) from pg_inherits where inhparent = 'ledger.postings'::regclass")
        )
        return int(count or 0)


async def test_three_months_ahead_are_there_from_the_start(quota: SessionMaker) -> None:
    assert await partitions(quota) == 1 + MONTHS_AHEAD
    assert await make_partitions(quota) == 0


async def test_a_new_month_gets_its_partition_until_told_to_stop(
    quota: SessionMaker, sessions: SessionMaker
) -> None:
    """Fault 39."""
    async with sessions.begin() as session:
        await session.execute(
            text(
                "create or replace function ledger.now() returns timestamptz language sql volatile "
                "as $$ select clock_timestamp() + interval '2 months' $$"
            )
        )
    stop = asyncio.Event()
    keeping = asyncio.create_task(keep_partitions(quota, stop, every_s=0.01))
    async with asyncio.timeout(10):
        while await partitions(quota) < 3 + MONTHS_AHEAD:  # noqa: ASYNC110  # a table has no event
            await asyncio.sleep(0.01)
    stop.set()

    await asyncio.wait_for(keeping, 5)
