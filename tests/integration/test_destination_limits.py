"""Two writers and ten accounts against a destination's limits (S10).

Everybody of a list is edited at the source, so that each account has as many single writes to take:
people that it knows already are not imported. Judged as `tests.integration.crowd` tells, from an
account's second second with a call to the one in which nine of ten of all calls were made.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path

import pytest

from benchmarks import fleet
from benchmarks.fleet import Tenant
from benchmarks.world import AGED_S, SOURCE_LIST, World
from local import stack
from local.api import Json
from local.stack import Options
from tests.integration.crowd import LOOK_S, Seconds, Used, beat, used_of

pytestmark = pytest.mark.long

ACCOUNTS, WRITERS = 10, 2
CONTACTS = 160
WITHIN_S = 180.0
UNPACED = {"RATE_LIMITS": "false"}
LOWER = {"limit": 5, "window_s": 1}  # Than the tier that a person chose has it.
# While a lower limit is found again and again: a refusal stops everything for a second or two.
LOWER_SHARE = 0.55
REFUSALS_PER_S_MAX = 0.2


@pytest.fixture
async def world(tmp_path: Path, embedded: None) -> AsyncIterator[World]:
    options = Options(
        tmp_path / "stack",
        durable=False,
        counts={"writer": WRITERS},
        environments={"config-api": UNPACED, "poller-hubspot": UNPACED},
    )
    async with stack.running(options, lambda line: None) as running, World.over(running) as world:
        yield world


async def test_writers_use_a_limit_and_never_pass_it_and_find_a_lower_one(world: World) -> None:
    """Proves S10: of each account 70 % of what it allows; one that allows less is found out."""
    ids, tenants = await imported(world)

    usual = await written(world, tenants, ids, seed=3)
    violations = await violations_of(tenants)
    lower = await written(world, tenants, ids, seed=4, contacts=LOWER)
    refusals = await violations_of(tenants)

    assert violations == [0] * ACCOUNTS
    assert [each for each in usual if each.share < 0.70] == []
    assert [each for each in lower if each.share < LOWER_SHARE] == []
    longest_s = CONTACTS / (LOWER_SHARE * 5)
    assert max(refusals) <= REFUSALS_PER_S_MAX * longest_s


async def imported(world: World) -> tuple[Sequence[str], Sequence[Tenant]]:
    """Return the contacts and the accounts that have them all, without limits so far."""
    await world.source.pass_time(-AGED_S)
    ids = await world.source.add(CONTACTS, seed=2, name=SOURCE_LIST)
    await world.source.pass_time(AGED_S)
    tenants = await fleet.settle(world, ACCOUNTS)
    async with world.measured("limits", "first runs", 0, []):
        await fleet.activate(tenants)
    return ids, tenants


async def written(
    world: World,
    tenants: Sequence[Tenant],
    ids: Sequence[str],
    *,
    seed: int,
    **buckets: Mapping[str, int],
) -> list[Used]:
    """Edit everybody, wait until all is written, and return what each account's limit was used."""
    accounts = [tenant.account for tenant in tenants]
    for account in accounts:
        await account.keep_limits(**{name: dict(window) for name, window in buckets.items()})
        await account.forget_calls()
    before = [len(await account.writes()) for account in accounts]
    counted_before = [(await account.limits())["buckets"]["contacts"] for account in accounts]
    found = Seconds()
    beating = asyncio.create_task(beat(found))
    await world.source.edit(ids, seed=seed)
    await world.make_due([tenant.integration for tenant in tenants])
    async with asyncio.timeout(WITHIN_S):
        for account, known in zip(accounts, before, strict=True):
            while len(await account.writes(known)) < CONTACTS:  # noqa: ASYNC110  # it must be asked
                await asyncio.sleep(LOOK_S)
    beating.cancel()
    reports = [await account.limits() for account in accounts]
    return [
        used_of(report, "contacts", set(_backlog(report, earlier["by_second"])) - found.late)
        for report, earlier in zip(reports, counted_before, strict=True)
    ]


def _backlog(report: Json, earlier: Sequence[Sequence[int]]) -> Sequence[int]:
    """Return the seconds from the second one with a call to nine tenths of all calls."""
    last = max((second for second, _ in earlier), default=0)
    by_second = [pair for pair in report["buckets"]["contacts"]["by_second"] if pair[0] > last]
    most, so_far, end = 0.9 * sum(count for _, count in by_second), 0, 0
    for second, count in by_second:
        so_far += count
        if so_far <= most:
            end = second
    return range(by_second[0][0] + 1, end + 1)


async def violations_of(tenants: Sequence[Tenant]) -> list[int]:
    """Return how many calls of each account were over a limit since they were counted anew."""
    return [int((await tenant.account.calls())["violations"]) for tenant in tenants]
