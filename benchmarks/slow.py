"""Whether one slow or dead account keeps others waiting: how fresh nineteen of twenty are.

Every account has Brevo's limits, and the writer keeps them; the twentieth takes 5 calls a second,
or answers nothing but 503, when many of its contacts are edited; first it does neither. In each
round a few contacts are edited that all the others have. How fresh one is: from its edit at the
source to its write at the destination, by the sandbox's clock. A round begins with all integrations
due: how long an interval is counts for nothing here.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from statistics import quantiles

from benchmarks import fleet
from benchmarks.accounts import Account
from benchmarks.bench import Bench
from benchmarks.fleet import Tenant
from benchmarks.lag import lag
from benchmarks.world import AGED_S, World

FAST = 19
ROUNDS = 10
EDITS = 10  # Of each round: what a fast account writes within two seconds.
BUSY_LIST = "Everyone"
BUSY_CONTACTS = 100  # As long as the rounds last, and longer.
SLOW = {"limit": 5, "window_s": 1}
ROUND_WITHIN_S = 60.0
SETTLED_WITHIN_S = 60.0
LOOK_S = 0.1


@dataclass(slots=True)
class Rounds:
    """Edits that go to the fast accounts, and how long each took to get there."""

    world: World
    fast: Sequence[Tenant]
    ids: Sequence[str]
    count: int = 0
    fresh_s: list[float] = field(default_factory=list)

    async def go(self) -> None:
        """Do the rounds of one phase; raise TimeoutError if one does not get there."""
        self.fresh_s.clear()
        for _ in range(ROUNDS):
            await self._round()

    async def _round(self) -> None:
        self.count += 1
        accounts = [tenant.account for tenant in self.fast]
        before = [len(await each.writes()) for each in accounts]
        edited_at = datetime.now(UTC)
        await self.world.source.edit(self.ids, seed=self.count)
        await self.world.make_due([tenant.integration for tenant in self.fast])
        async with asyncio.timeout(ROUND_WITHIN_S):
            written = await asyncio.gather(
                *(_written(*each, len(self.ids)) for each in zip(accounts, before, strict=True))
            )
        self.fresh_s += [
            (moment - edited_at).total_seconds() for moments in written for moment in moments
        ]


async def slow(bench: Bench) -> None:
    """Measure rounds beside an account like theirs, beside a slow one, and beside a dead one."""
    world = bench.world
    await world.source.pass_time(-AGED_S)
    await world.fill(bench.contacts)
    newsletter = await world.source.add(EDITS, seed=2, name="Newsletter")
    busy = await world.source.add(BUSY_CONTACTS, seed=3, name=BUSY_LIST)
    await world.source.pass_time(AGED_S)
    troubled, *fast = await fleet.settle(world, 1 + FAST, source_lists=[BUSY_LIST])
    everyone = [troubled, *fast]
    await bench.phase("slow", "first runs", 0, lambda: fleet.activate(everyone))
    for tenant in everyone:
        await tenant.account.keep_limits()
    rounds = Rounds(world, fast, newsletter)
    await _phase(bench, "without trouble", rounds, troubled, _beside(rounds, troubled, busy))
    await troubled.account.keep_limits(contacts=SLOW)
    await _phase(bench, "beside a slow one", rounds, troubled, _beside(rounds, troubled, busy))
    await troubled.account.keep_limits(contacts={"limit": 10, "window_s": 1})
    await troubled.account.die()
    beside = _beside(rounds, troubled, busy, then=troubled.account.recover)
    await _phase(bench, "beside a dead one", rounds, troubled, beside)


def _beside(
    rounds: Rounds,
    troubled: Tenant,
    busy: Sequence[str],
    *,
    then: Callable[[], Awaitable[None]] | None = None,
) -> Callable[[], Awaitable[None]]:
    async def begin() -> None:
        await rounds.world.source.edit(busy, seed=rounds.count + 1)
        await rounds.world.make_due([troubled.integration])
        await rounds.go()
        if then is not None:
            await then()

    return begin


async def _phase(
    bench: Bench,
    name: str,
    rounds: Rounds,
    troubled: Tenant,
    begin: Callable[[], Awaitable[None]],
) -> None:
    """Do rounds, wait until everything is done, and note how fresh the fast ones were."""
    began_at_s = time.monotonic()
    rounds_s = 0.0

    async def timed() -> None:
        nonlocal rounds_s
        await begin()
        rounds_s = time.monotonic() - began_at_s

    over_fast, over_troubled = await _violations(rounds.fast), await _violations([troubled])
    written = FAST * len(rounds.ids) * ROUNDS + BUSY_CONTACTS
    found = await bench.phase("slow", name, written, timed)
    bench.note(
        fresh_s_p50=percentile(rounds.fresh_s, 50),
        fresh_s_p95=percentile(rounds.fresh_s, 95),
        fresh_s_max=max(rounds.fresh_s),
        all_done_s_after_rounds=found.seconds - rounds_s,
        calls_over_the_limit_of_fast=await _violations(rounds.fast) - over_fast,
        calls_over_the_limit_of_troubled=await _violations([troubled]) - over_troubled,
        lag_at_the_end=await _settled_lag(bench.world),
    )


def percentile(values: Sequence[float], percent: int) -> float:
    """Return the value that so many per cent (1 to 99) are not above; interpolated."""
    return quantiles(values, n=100, method="inclusive")[percent - 1]


async def _written(account: Account, after: int, count: int) -> list[datetime]:
    """Wait until so many more writes are there; return when each was."""
    while len(writes := await account.writes(after)) < count:  # noqa: ASYNC110  # it must be asked
        await asyncio.sleep(LOOK_S)
    return [datetime.fromisoformat(each["at"]) for each in writes]


async def _violations(tenants: Sequence[Tenant]) -> int:
    return sum([(await tenant.account.calls())["violations"] for tenant in tenants])


async def _settled_lag(world: World) -> int:
    """Return how many records wait: offsets are committed some time after the work is done."""
    until_s = time.monotonic() + SETTLED_WITHIN_S
    while True:
        behind = await lag(world.stack.kafka)
        if not behind or time.monotonic() > until_s:
            return behind
        await asyncio.sleep(LOOK_S)
