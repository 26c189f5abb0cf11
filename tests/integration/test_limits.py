"""Four pollers and all integrations of ten accounts against each provider's limits (S10).

Judged by the sandbox: no call over a limit, and how much of it was used in the seconds in which
there was a backlog (PROTOCOL 10; `tests.integration.crowd` tells which count). The small form has
Constant Contact, whose 4 calls a second are our application's: all accounts together.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from local.parties import CONSTANT_CONTACT, GOOGLE_CONTACTS, HUBSPOT, SALESFORCE, SourceParty
from tests.integration import crowd
from tests.integration.crowd import LOOK_S, Crowd, Used

POLLERS = 4
ACCOUNTS = 10
SMALL_LIMIT_PER_S = 10.0
COUNTED, WITHIN_S = 20, 180.0
DAY_S = 86_400
WAITS_WITHIN_S, GOES_ON_WITHIN_S = 120.0, 60.0


@dataclass(frozen=True, slots=True)
class Load:
    """What keeps one bucket of a provider's limits busy; `modes` as `Crowd.read` takes them."""

    bucket: str
    modes: Sequence[str]


@dataclass(frozen=True, slots=True)
class Case:
    """A provider, the lists of each account and how many integrations read each of them."""

    party: SourceParty
    contacts: Sequence[int]
    copies: int
    loads: Sequence[Load]
    is_shared: bool = False  # One limit for all accounts.


CASES = (
    # A poll of changes is a call and a search; a whole list is read without a search.
    Case(
        HUBSPOT,
        (4_000, 20),
        3,
        (Load("search", ("changes",)), Load("ten_secondly", ("full", ""))),
    ),
    # A poll of changes is a read of contacts and one of its group, a whole one has two of these.
    Case(
        GOOGLE_CONTACTS,
        (200,),
        3,
        (Load("critical_reads", ("changes",)), Load("reads", ("full",))),
    ),
    # One integration an account (CC1).
    Case(CONSTANT_CONTACT, (700,), 0, (Load("per_second", ("full",)),), is_shared=True),
)


def wanted(used: Used) -> float:
    """Return the share of a limit that has to be used while there is a backlog."""
    return 0.70 if used.limit_per_s <= SMALL_LIMIT_PER_S else 0.85


@pytest.fixture
def seated(
    tmp_path: Path, embedded: None
) -> "Callable[[Case, int], AbstractAsyncContextManager[Crowd]]":
    """Return what seats a case's accounts before four pollers."""

    @asynccontextmanager
    async def seat(case: Case, accounts: int) -> AsyncIterator[Crowd]:
        async with crowd.seated(
            tmp_path / "stack",
            case.party,
            accounts=accounts,
            contacts=case.contacts,
            copies=case.copies,
            pollers=POLLERS,
        ) as seats:
            yield seats

    return seat


Seated = Callable[[Case, int], AbstractAsyncContextManager[Crowd]]


async def test_pollers_use_a_limit_that_all_accounts_share_and_never_pass_it(
    seated: Seated,
) -> None:
    """Proves S10 and CC5."""
    case = CASES[-1]
    async with seated(case, 2) as crowd:
        await crowd.keep_limits()

        used, violations = await measure(crowd, case, counted=9)

    assert violations == {}
    assert [each for each in used if each.usual_share < wanted(each)] == []


@pytest.mark.long
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.party.provider)
async def test_ten_accounts_use_their_limits_and_never_pass_them(
    case: Case, seated: Seated
) -> None:
    """Proves S10, HS1 and CC5: each bucket by itself, with a backlog at every account."""
    async with seated(case, ACCOUNTS) as crowd:
        await crowd.keep_limits()

        used, violations = await measure(crowd, case, counted=COUNTED)

    assert violations == {}
    assert [each for each in used if each.share < wanted(each)] == []


@dataclass(frozen=True, slots=True)
class Day:
    """A day's allowance that is nearly used up, so that the rest of it is soon.

    `counted_by_us`: how many calls a day we hold ourselves to, where the provider does not tell how
    many were made; and whose they are.
    """

    case: Case
    left: int
    counted_by_us: tuple[str, int] | None = None


DAYS = (
    # A tenth of it is kept for people.
    Day(CASES[-1], 120, ("constant_contact:application", 10_000)),
    # It tells with each answer; a tenth of it is left to others, and whoever is on his way then.
    Day(Case(SALESFORCE, (50,), 2, (Load("daily", ("full",)),)), 250),
)


@pytest.mark.long
@pytest.mark.parametrize("day", DAYS, ids=lambda day: day.case.party.provider)
async def test_a_day_that_is_over_is_waited_for_and_gone_on_from(day: Day, seated: Seated) -> None:
    """Proves S10 and CC5: nothing is asked for in vain, people are told, and it goes on."""
    case, (load,) = day.case, day.case.loads
    async with seated(case, 3) as crowd:
        if day.counted_by_us is not None:
            scope, calls = day.counted_by_us
            await crowd.use_up(scope, calls - day.left)
        await crowd.forget()
        await crowd.keep_limits(daily={"limit": day.left, "window_s": DAY_S})

        await crowd.read_until_all_wait(load.modes, within_s=WAITS_WITHIN_S)
        used = await crowd.calls_of("daily")
        shown = [(await seat.api.items("/v1/integrations"))[0] for seat in crowd.seats]
        violations = await crowd.violations()
        await crowd.keep_limits(daily={"limit": day.left, "window_s": DAY_S})
        await crowd.let_a_day_pass()
        await goes_on(crowd, used)

        assert violations == {}
        assert [each for each in used if not 0.85 * day.left <= each <= day.left] == []
        told = {(each["status"], each["status_reason"]) for each in shown}
        assert told == {("degraded", "source_rate_limited")}
        assert await crowd.violations() == {}


async def goes_on(crowd: Crowd, used: Sequence[int]) -> None:
    """Wait until every account is called once more: nobody asks for it."""
    async with asyncio.timeout(GOES_ON_WITHIN_S):
        while not _all_more(await crowd.calls_of("daily"), used):  # noqa: ASYNC110  # it must be asked
            await asyncio.sleep(LOOK_S)


def _all_more(now: Sequence[int], before: Sequence[int]) -> bool:
    return all(after > earlier for after, earlier in zip(now, before, strict=True))


async def measure(
    crowd: Crowd, case: Case, *, counted: int
) -> tuple[Sequence[Used], Mapping[str, int]]:
    """Return what each account used of each bucket, and the calls over a limit meanwhile."""
    await crowd.forget()
    used: list[Used] = []
    for load in case.loads:
        found = await crowd.read(load.modes, counted=counted, within_s=WITHIN_S)
        used += await crowd.used(load.bucket, found, shared=case.is_shared)
    return used, await crowd.violations()
