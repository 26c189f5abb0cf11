"""Two writers and ten accounts against a destination's limits (S10).

Everybody of a list is edited at the source, so that each account has as many single writes to take:
people that it knows already are not imported. At ActiveCampaign each of them is looked at singly,
and each account has two customers with a key of their own: its limit is the account's. Judged as
`tests.integration.crowd` tells, from an account's second second with a call to the one in which
nine of ten of all calls were made.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from benchmarks import fleet
from benchmarks.fleet import Tenant
from benchmarks.world import AGED_S, SOURCE_LIST, World
from local import stack
from local.api import Json
from local.parties import ACTIVECAMPAIGN, BREVO, HUBSPOT, DestinationParty
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
# Of an account where both keys' writers rest at once: behind a turn's import, the rest of a batch
# waits for a drain to look at it, and some ten seconds of the backlog are without a call.
RESTING_SHARE = 0.55


@asynccontextmanager
async def writing(folder: Path, destination: DestinationParty) -> AsyncIterator[World]:
    """Run everything from HubSpot to a destination, with the writers alone held to limits."""
    options = Options(
        folder / "stack",
        durable=False,
        providers=(HUBSPOT.provider, destination.provider),
        counts={"writer": WRITERS},
        environments={"config-api": UNPACED, "poller-hubspot": UNPACED},
    )
    async with (
        stack.running(options, lambda line: None) as running,
        World.over(running, writes=destination.provider) as world,
    ):
        yield world


@pytest.fixture
async def world(tmp_path: Path, embedded: None) -> AsyncIterator[World]:
    async with writing(tmp_path, BREVO) as world:
        yield world


@pytest.fixture
async def activecampaign(tmp_path: Path, embedded: None) -> AsyncIterator[World]:
    async with writing(tmp_path, ACTIVECAMPAIGN) as world:
        yield world


async def test_all_keys_of_an_account_share_its_limit_and_use_it(activecampaign: World) -> None:
    """Proves S10: of ActiveCampaign's 5 a second 70 % at each account, by two keys together."""
    world = activecampaign
    ids, tenants = await imported(world, keys=2)
    for tenant in tenants:
        await tenant.account.keep_limits()
        await tenant.account.forget_calls()
    before = [await _calls_by_second(tenant, "api") for tenant in tenants]
    found = Seconds()

    beating = asyncio.create_task(beat(found))
    async with world.measured("limits", "edits", 0, []):
        await world.source.edit(ids, seed=3)
        await world.make_due(world.integrations)
    beating.cancel()

    used = [
        used_of(report, "api", set(_backlog(report, "api", earlier)) - found.late)
        for report, earlier in zip(
            [await tenant.account.limits() for tenant in tenants], before, strict=True
        )
    ]
    assert await violations_of(tenants) == [0] * ACCOUNTS
    allowed = sum(each.limit_per_s * each.seconds for each in used)
    together = sum(each.calls for each in used) / allowed
    assert together >= 0.70
    assert [each for each in used if each.calls < CONTACTS or each.share < RESTING_SHARE] == []


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


async def imported(world: World, *, keys: int = 1) -> tuple[Sequence[str], Sequence[Tenant]]:
    """Return the contacts and the accounts that have them all, without limits so far.

    Of each account one customer is returned; the others, with a key of their own, write beside it.
    """
    await world.source.pass_time(-AGED_S)
    ids = await world.source.add(CONTACTS, seed=2, name=SOURCE_LIST)
    await world.source.pass_time(AGED_S)
    tenants = await fleet.settle(world, ACCOUNTS)
    others = [each for each in tenants for _ in range(keys - 1)]
    beside = await asyncio.gather(*(fleet.settle_beside(world, each) for each in others))
    async with world.measured("limits", "first runs", 0, []):
        await fleet.activate([*tenants, *beside])
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
    counted_before = [await _calls_by_second(tenant, "contacts") for tenant in tenants]
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
        used_of(report, "contacts", set(_backlog(report, "contacts", earlier)) - found.late)
        for report, earlier in zip(reports, counted_before, strict=True)
    ]


async def _calls_by_second(tenant: Tenant, bucket: str) -> Sequence[Sequence[int]]:
    """Return how many calls an account let through in each second so far."""
    pairs: Sequence[Sequence[int]] = (await tenant.account.limits())["buckets"][bucket]["by_second"]
    return pairs


def _backlog(report: Json, bucket: str, earlier: Sequence[Sequence[int]]) -> Sequence[int]:
    """Return the seconds from the second one with a call to nine tenths of all calls."""
    last = max((second for second, _ in earlier), default=0)
    by_second = [pair for pair in report["buckets"][bucket]["by_second"] if pair[0] > last]
    most, so_far, end = 0.9 * sum(count for _, count in by_second), 0, 0
    for second, count in by_second:
        so_far += count
        if so_far <= most:
            end = second
    return range(by_second[0][0] + 1, end + 1)


async def violations_of(tenants: Sequence[Tenant]) -> list[int]:
    """Return how many calls of each account were over a limit since they were counted anew."""
    return [int((await tenant.account.calls())["violations"]) for tenant in tenants]
