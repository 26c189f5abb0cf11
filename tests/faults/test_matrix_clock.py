"""The database's clock jumps, by an hour or over the month's end, while everything is under way.

What a jump does is told in two ways, because the server's own clock is not moved here:
`ledger.now()` (the one clock of quota periods) is replaced, and every stored time of leases, blocks
and parked rows is put as far to the other side, as it looks to a clock that has jumped.
"""

import random
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta

import pytest

from libs.common.database import SessionMaker
from libs.common.errors import LeaseLostError
from libs.common.events import Effect
from tests.fakes import CrashError
from tests.services.writer.world import World, crash_at, make_world, upsert

HOUR, DAY, MONTH = timedelta(hours=1), timedelta(days=1), timedelta(days=31)
JUMPS = (HOUR, -HOUR, DAY, -DAY, MONTH, -MONTH)
MONTHS_AWAY_MAX = 2  # Partitions are there for so many months on both sides.
STEPS = 24
LIMIT = 12  # Of a month: it is reached in most of them.
CRASHES = ("classified", "held", "called", "settled")

# Every time of the database's clock that something waits for.
STORED = {
    "delivery.destinations": ("lease_until", "blocked_until"),
    "delivery.parked": ("first_at", "last_at", "tried_at"),
    "delivery.intents": ("created_at", "sent_at"),
}


@dataclass(slots=True)
class Jumping:
    """The database's clock, and how far it is off."""

    world: World
    off: timedelta = timedelta()

    async def by(self, jump: timedelta) -> None:
        """Let the clock jump."""
        self.off += jump
        seconds = self.off.total_seconds()
        await self.world.execute(
            "create or replace function ledger.now() returns timestamptz language sql volatile"
            f" as $$ select clock_timestamp() + make_interval(secs => {seconds}) $$"
        )
        for table, columns in STORED.items():
            moved = ", ".join(f"{name} = {name} - cast(:jump as interval)" for name in columns)
            await self.world.execute(f"update {table} set {moved}", jump=jump)


@pytest.fixture
async def world(sessions: SessionMaker, role_url: Callable[[str], str]) -> AsyncIterator[World]:
    made = await make_world(sessions, role_url("writer"))
    made.rows_min = 10_000  # Singles: imports end by themselves, and units are what matters here.
    yield made
    await made.pool.close()


@pytest.fixture
async def clock(world: World) -> Jumping:
    """Return the clock; the months around now have been prepared in their time."""
    made = Jumping(world)
    await made.by(-(MONTHS_AWAY_MAX + 1) * MONTH)
    await world.one(f"select ledger.make_partitions({2 * MONTHS_AWAY_MAX + 3})")
    await made.by(-made.off)
    return made


@pytest.mark.parametrize("seed", range(5))
async def test_jumps_over_months_with_open_holds_charge_nothing_twice_and_nothing_over(
    world: World, clock: Jumping, seed: int
) -> None:
    """Fault 47. Proves Q1 and X2: a unit belongs to the month of its hold, whatever the clock says.

    Writers die with units held, called for and posted; the clock jumps before another goes on.
    """
    draw = random.Random(seed)
    await world.limit(LIMIT)
    await world.begin_run(1)
    sent, open_units = 0, 0
    for page in range(1, STEPS + 1):
        effects: list[Effect] = [upsert(f"c{sent + n}") for n in range(draw.randint(1, 5))]
        sent += len(effects)
        record = world.record(*effects, page=page)
        writer = world.writer(reached=crash_at(draw.choice((*CRASHES, "none", "none"))))
        with suppress(CrashError):
            await world.write(writer, record)
        open_units += await world.held()
        jump = draw.choice([each for each in JUMPS if _is_near(clock.off + each)])
        await clock.by(jump)
        await world.lapse()
        await world.check_ledger()
        successor = world.writer()
        await world.write(successor, record)
        await world.drain(successor)
        await world.lapse()
        await world.check_ledger()

    await _let_everybody_pass(world)

    assert open_units, "no jump met an open hold: the history proves nothing"
    assert len(world.account.contacts) == sent
    assert await world.posted() == sent
    twice = await world.rows(
        "select 1 from ledger.postings group by effect_key having count(*) > 1"
    )
    assert twice == []
    assert await world.held() == 0


def _is_near(off: timedelta) -> bool:
    return abs(off) <= MONTHS_AWAY_MAX * MONTH


async def _let_everybody_pass(world: World) -> None:
    await world.limit(10_000)
    last = world.writer()
    await world.drain(last, turns=50)
    assert await world.parked() == {}


@pytest.mark.parametrize("jump", [HOUR, MONTH])
async def test_a_lease_that_a_jump_ends_early_is_fenced(
    world: World, clock: Jumping, jump: timedelta
) -> None:
    """Fault 47: the owner has a call under way when his lease is over at once; another goes on."""
    await world.begin_run(1)
    late = world.record(upsert("a", VORNAME="Late"))
    newer = world.record(upsert("a", ms=2000, VORNAME="Newer"), page=2)
    successor = world.writer()

    async def leap() -> None:
        world.account.before_write = None
        await clock.by(jump)
        await world.write(successor, late, newer)

    world.account.before_write = leap
    with pytest.raises(LeaseLostError):
        await world.writer().live.handle(world.destination, [late])
    await world.drain(successor)

    assert world.account.contacts["a@example.com"].attributes == {"VORNAME": "Newer"}
    assert await world.posted() == 1
    await world.check_ledger()


async def test_a_lease_that_a_jump_prolongs_is_the_owners_only_until_he_renews(
    world: World, clock: Jumping
) -> None:
    """Fault 47: a clock put back keeps others out for no longer than the owner lives."""
    mine, other = world.writer(), world.writer()
    lease = await mine.leases.acquire(world.destination, world.workspace)
    assert lease is not None
    await clock.by(-HOUR)

    assert await other.leases.acquire(world.destination, world.workspace) is None
    lease.check()
    await mine.leases.renew()

    left = await world.one(
        "select extract(epoch from lease_until - clock_timestamp()) from delivery.destinations"
    )
    assert 0 < left <= 45
