"""The month ends while contacts are written and writers die: whose unit it is decides the month.

Real services; only the ledger's clock is moved, as the tests of its boundaries do everywhere.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg
import pytest

from local import stack
from local.stack import Options
from tests.faults.steps import arm
from tests.integration import oracle
from tests.integration.chaos import slow_down
from tests.integration.scene import QUICK, QUICK_BY_SERVICE, Deaths, Scene, set_up

CONTACTS, WAYS = 190, 2  # Of each fewer than an import takes: they go in three turns.
COUNTS = {"writer": 2}
AMPLE = 100_000
EDITED, STILL_FREE = 30, 8  # Once little is left: more are edited than find a unit.
WITHIN_S, LOOK_S = 60.0, 0.05
IDLE_S = 3.0  # A stopped poller looks every second.

_SHIFT = """
create or replace function ledger.now() returns timestamptz language sql volatile
as $$ select clock_timestamp() + interval '{seconds} s' $$
"""

# Which month a posting is in, which its hold is of, and where both were by the ledger's clock; `$1`
# is the machine's time when a month ended.
_CHARGED = """
select p.integration_id, p.source_id, p.period, h.period as hold_period,
  h.created_at < $1 as is_held_before, p.posted_at < $1 as is_posted_before
from ledger.postings p join ledger.holds h using (hold_id)
"""
_POSTED = "select coalesce(sum(posted), 0) from ledger.periods"
_WAITING = "select count(*) from delivery.parked where reason = 'quota'"


@dataclass(slots=True)
class Months:
    """The ledger's clock, and what it has to say."""

    connection: asyncpg.Connection

    async def end_in(self, seconds: float) -> datetime:
        """Let the ledger's present month end so soon; return the machine's time of that."""
        now = await self.connection.fetchval("select clock_timestamp()")
        ledger_now = await self.connection.fetchval("select ledger.now()")
        month = ledger_now.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
        end = (month + timedelta(days=32)).replace(day=1)
        ends_at = now + timedelta(seconds=seconds)
        off = (end - ends_at).total_seconds()
        await self.connection.execute(_SHIFT.format(seconds=off))
        return datetime.fromtimestamp(ends_at.timestamp(), UTC)

    async def count(self, statement: str) -> int:
        """Return a statement's only number."""
        return int(await self.connection.fetchval(statement))


async def until(condition: Callable[[], Awaitable[bool]], otherwise: str) -> None:
    """Return once a condition holds; fail with words if it does not in time."""
    try:
        async with asyncio.timeout(WITHIN_S):
            while not await condition():  # noqa: ASYNC110  # the database and files tell nobody
                await asyncio.sleep(LOOK_S)
    except TimeoutError:
        raise AssertionError(otherwise) from None


@pytest.mark.timeout(900)
async def test_a_month_ends_while_contacts_are_written_again_and_stopped_ones_resume(
    tmp_path: Path, embedded: None
) -> None:
    """Fault 48. Proves Q1, Q3, Q5 and X2: charged once, in the month of its hold; none is lost."""
    failpoints = tmp_path / "failpoints"
    failpoints.mkdir()
    options = Options(
        tmp_path / "stack",
        durable=False,
        counts=COUNTS,
        environment={**QUICK, "ENVIRONMENT": "test", "FAILPOINTS": str(failpoints)},
        environments=QUICK_BY_SERVICE,
    )
    async with stack.running(options, Deaths().hear) as running:
        made = set_up(running, ways=WAYS, contacts=CONTACTS, quota=AMPLE, seed=1)
        async with made as scene, oracle.database(running) as connection:
            await slow_down(scene)
            months = Months(connection)
            await _the_month_ends_under_way(scene, months, failpoints)
            await _the_month_ends_while_stopped(scene, months)
            left = await oracle.wait_until_quiet(scene, within_s=WITHIN_S)
            problems = await oracle.problems(scene)

    assert not left, f"this never ended: {left}"
    assert not problems


async def _the_month_ends_under_way(scene: Scene, months: Months, failpoints: Path) -> None:
    """In a month's last hour and the next one's first all is written; two writers die meanwhile."""
    await months.end_in(3600.0)  # Until this test says so: it may have to wait for a busy machine.
    await scene.activate()
    await until(lambda: _has_posted(months, 1), "nothing was written")
    before = arm(failpoints, "writer.called")
    await until(lambda: _is_gone(before), "nobody called for anything")
    ended_at = await months.end_in(0.0)
    after = arm(failpoints, "writer.settled")
    await until(lambda: _is_gone(after), "nothing was written in the new month")
    assert await oracle.wait_until_quiet(scene, within_s=WITHIN_S) == []

    charged = await months.connection.fetch(_CHARGED, ended_at)
    contacts = {(row["integration_id"], row["source_id"]) for row in charged}
    wanted = sum([len((await scene.wanted(way)).contacts) for way in scene.ways])
    first, second = sorted({row["period"] for row in charged})
    assert len(charged) == len(contacts) == wanted
    for row in charged:
        month = first if row["is_held_before"] else second
        assert (row["period"], row["hold_period"]) == (month, month)
    # Held before and posted after: what the dead have left behind.
    assert any(row["is_held_before"] and not row["is_posted_before"] for row in charged)


async def _the_month_ends_while_stopped(scene: Scene, months: Months) -> None:
    """Let the quota be used up, then the month end: all goes on by itself."""
    used = (await scene.quota())["used"]
    await scene.allow(used + STILL_FREE)
    await scene.edit(EDITED, random.Random(1))
    await scene.ask_for_runs()
    # How many wait is not known: what one integration uses up can stop the other before it reads.
    assert await oracle.wait_until_stopped(scene.stack, within_s=WITHIN_S) == []
    assert await months.count(_WAITING) > 0
    await until(lambda: _rests(scene), "pollers go on though the quota is used up")
    await scene.ask_for_runs()
    assert await _rests(scene)

    await months.end_in(0.0)
    await until(lambda: _nobody_waits(months), "who was stopped did not go on")


async def _calls(scene: Scene) -> list[int]:
    accounts = [scene.source, *(way.destination for way in scene.ways)]
    return [(await account.calls())["total"] for account in accounts]


async def _has_posted(months: Months, tasks: int) -> bool:
    return await months.count(_POSTED) >= tasks


async def _nobody_waits(months: Months) -> bool:
    return await months.count(_WAITING) == 0


async def _rests(scene: Scene) -> bool:
    """Return whether no account is called for longer than pollers take to look again."""
    before = await _calls(scene)
    await asyncio.sleep(IDLE_S)
    return await _calls(scene) == before


async def _is_gone(armed: Path) -> bool:
    return not await asyncio.to_thread(armed.exists)
