"""Ten accounts of one provider, each with integrations that always have something to read.

The stack is the real one, with as many pollers as wanted, and the sandbox keeps its limits: what
was let through in each second, and what was refused, is its own record. Only seconds count in which
an account had a run under way from their beginning to their end, and in which the machine let us
run: a beat of this process tells, which everybody else's work delays like the pollers'.
"""

import asyncio
import math
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any
from uuid import UUID, uuid4

import asyncpg

from benchmarks.accounts import Account
from benchmarks.idle import COPIES
from local import stack, wizard
from local.api import Api, Json
from local.parties import BREVO, SourceParty
from local.providers import Provider
from local.stack import Options, Stack

FIRST_RUNS_S = 120.0
QUOTA = 10_000_000  # Nobody is to be stopped.
AGED_S = 7200.0  # Contacts are older than what a window of changes looks back.
LOOK_S, BEAT_S = 0.2, 0.05
WARM_S = 3.0  # Until everybody has begun: what a rest had left for a burst is used up then, too.
ANYBODY = "anybody"
LATE_S = 0.15  # A beat so late: whoever has a slot of a small limit may have lost it meanwhile.

# What comes after a run, by `$1`: everything once more (`full`), or what changed (`changes`).
_GO_ON = """
update sync.schedules set next_due_at = clock_timestamp(), wanted_mode = $1,
  wanted_run_no = case when $1 = 'full' then run_no + 1 else wanted_run_no end
where integration_id = any ($2) and lease_owner is null and resume_at is null
  and next_due_at > clock_timestamp()
"""
_BEGINNING = """
select count(*) from sync.schedules s where lease_owner is not null
  or not exists (select from sync.runs r
                 where r.integration_id = s.integration_id and r.state = 'read')
"""
_WAITING = """
select count(*) from sync.schedules
where resume_at > clock_timestamp() + interval '1 minute' and lease_owner is null
"""
# What is stored as if a day had gone by since. A day's own count stays behind with it.
_A_DAY_LATER = """
with days as (delete from limits.days), shares as (delete from limits.day_shares),
  blocks as (update limits.blocks set blocked_until = blocked_until - interval '1 day',
               slowed_at = slowed_at - interval '1 day')
update sync.schedules set resume_at = resume_at - interval '1 day'
"""
# Calls of the day that ends at the next midnight in UTC. What is left of it is divided anew.
_USED_BEFORE = """
with shares as (delete from limits.day_shares where scope = $1)
insert into limits.days (scope, resets_at, used)
values ($1, date_trunc('day', now() at time zone 'UTC' + interval '1 day') at time zone 'UTC', $2)
on conflict (scope, resets_at) do update set used = excluded.used
"""
_UNDER_WAY = """
select integration_id from sync.schedules
where integration_id = any ($1) and lease_owner is not null
"""


@dataclass(frozen=True, slots=True)
class Seat:
    """One account, its customer's view of the API, and the integrations that read it."""

    account: Account
    api: Api
    integrations: list[str]


@dataclass(frozen=True, slots=True)
class Used:
    """What was used of one window of a bucket, in each of the seconds that count."""

    bucket: str
    limit_per_s: float
    by_second: Sequence[int]

    @property
    def calls(self) -> int:
        """Return how many calls were made in all of them."""
        return sum(self.by_second)

    @property
    def seconds(self) -> int:
        """Return how many count."""
        return len(self.by_second)

    @property
    def share(self) -> float:
        """Return the share of the limit that was used."""
        return self.calls / (self.limit_per_s * self.seconds) if self.seconds else 0.0

    @property
    def usual_share(self) -> float:
        """Return the share that was used in a usual second, where that has some calls.

        What is lost while a process stands still is lost for good: of few seconds that is much.
        """
        return median(self.by_second or [0]) / self.limit_per_s


@dataclass(slots=True)
class Seconds:
    """Which whole seconds of the clock count, for each account."""

    busy: dict[str, set[int]] = field(default_factory=lambda: defaultdict(set))
    idle: dict[str, set[int]] = field(default_factory=lambda: defaultdict(set))
    late: set[int] = field(default_factory=set)

    def note(self, account: str, *, is_busy: bool) -> None:
        """Hear how an account stands now."""
        (self.busy if is_busy else self.idle)[account].add(int(time.time()))

    def counted(self, account: str) -> set[int]:
        """Return the seconds of an account that count, without the first and the last of all."""
        seconds = self.busy[account] - self.idle[account] - self.late
        return {each for each in seconds if min(seconds) < each < max(seconds)}


@dataclass(frozen=True, slots=True)
class Crowd:
    """A running stack with its accounts seated."""

    stack: Stack
    database: "asyncpg.Connection[Any]"
    seats: Sequence[Seat]

    async def keep_limits(self, **buckets: Json) -> None:
        """Let the sandbox hold everybody to its limits from now on, some replaced by these."""
        for seat in self.seats:
            await seat.account.keep_limits(**buckets)

    async def read(self, modes: Sequence[str], *, counted: int, within_s: float) -> Seconds:
        """Keep integrations busy until so many seconds count of every account; return which do.

        `modes` are by the integrations' places at their account, in turn; "": it rests. Raises
        TimeoutError where the machine does not let us run for so many.
        """
        found = Seconds()
        warm_until = time.monotonic() + WARM_S
        while time.monotonic() < warm_until:
            await self._look(Seconds(), modes)
            await asyncio.sleep(LOOK_S)
        beating = asyncio.create_task(beat(found))
        try:
            async with asyncio.timeout(within_s):
                while any(len(found.counted(each)) < counted for each in self.names):
                    await self._look(found, modes)
                    await asyncio.sleep(LOOK_S)
        finally:
            beating.cancel()
        return found

    @property
    def names(self) -> Sequence[str]:
        """Return what the accounts are called in `Seconds`, and all of them together."""
        return [*map(str, range(len(self.seats))), ANYBODY]

    async def _look(self, found: Seconds, modes: Sequence[str]) -> None:
        by_mode: dict[str, list[str]] = defaultdict(list, {"": []})
        for seat in self.seats:
            for place, each in enumerate(seat.integrations):
                by_mode[modes[place % len(modes)]].append(each)
        del by_mode[""]
        for mode, ids in by_mode.items():
            await self.database.execute(_GO_ON, mode, ids)
        everyone = [each for seat in self.seats for each in seat.integrations]
        rows = await self.database.fetch(_UNDER_WAY, everyone)
        under_way = {str(row["integration_id"]) for row in rows}
        for number, seat in enumerate(self.seats):
            is_busy = any(each in under_way for each in seat.integrations)
            found.note(str(number), is_busy=is_busy)
            found.note(ANYBODY, is_busy=bool(under_way))

    async def use_up(self, scope: str, calls: int) -> None:
        """Have so many calls of this day been made by us before."""
        await self.database.execute(_USED_BEFORE, scope, calls)

    async def let_a_day_pass(self) -> None:
        """Let what is stored look as a day later."""
        await self.database.execute(_A_DAY_LATER)

    async def read_until_all_wait(self, modes: Sequence[str], *, within_s: float) -> None:
        """Keep integrations busy until each of them waits for longer than a minute."""
        everyone = sum(len(seat.integrations) for seat in self.seats)
        async with asyncio.timeout(within_s):
            while await self.database.fetchval(_WAITING) < everyone:
                await self._look(Seconds(), modes)
                await asyncio.sleep(LOOK_S)

    async def calls_of(self, bucket: str) -> Sequence[int]:
        """Return how many calls of a bucket were let through, at each account."""
        reports = [await seat.account.limits() for seat in self.seats]
        return [sum(n for _, n in each["buckets"][bucket]["by_second"]) for each in reports]

    async def forget(self) -> None:
        """Let the sandbox count violations from zero."""
        for seat in self.seats:
            await seat.account.forget_calls()

    async def violations(self) -> Mapping[str, int]:
        """Return how many calls were over a limit, by bucket, at all accounts together."""
        counted: dict[str, int] = defaultdict(int)
        for seat in self.seats:
            for bucket, count in (await seat.account.calls())["violations_by_bucket"].items():
                counted[bucket] += count
        return dict(counted)

    async def used(self, bucket: str, found: Seconds, *, shared: bool = False) -> list[Used]:
        """Return what each account used of a bucket; `shared`: they have one limit together."""
        if shared:
            return [used_of(await self.seats[0].account.limits(), bucket, found.counted(ANYBODY))]
        return [
            used_of(await seat.account.limits(), bucket, found.counted(str(number)))
            for number, seat in enumerate(self.seats)
        ]


def used_of(report: Json, bucket: str, seconds: Iterable[int]) -> Used:
    """Return what was used of a bucket in these seconds, by an account's own record."""
    of = report["buckets"][bucket]
    limit_per_s = min(each["limit"] / each["window_s"] for each in of["windows"])
    by_second = dict(map(tuple, of["by_second"]))
    return Used(bucket, limit_per_s, [by_second.get(each, 0) for each in sorted(seconds)])


async def beat(found: Seconds) -> None:
    """Note each second in which the machine was late to let us run."""
    while True:
        due = time.monotonic() + BEAT_S
        began = int(time.time())
        await asyncio.sleep(BEAT_S)
        if time.monotonic() > due + LATE_S:
            found.late.update(range(began, int(time.time()) + 1))


@asynccontextmanager
async def seated(
    folder: Path,
    party: SourceParty,
    *,
    accounts: int,
    contacts: Sequence[int],
    copies: int = 0,
    pollers: int = 4,
    report: Callable[[str], None] = lambda line: None,
) -> AsyncIterator[Crowd]:
    """Run a stack whose accounts have an integration for each number of contacts, all active.

    Each of them has so many `copies` of its rows, at the same account. A poller takes no more than
    its part of them. The sandbox keeps no limits yet. Nobody but the pollers is there to do
    anything with what is read: it waits on its topic.
    """
    providers = (party.provider, BREVO.provider)
    in_flight = math.ceil(accounts * len(contacts) * (1 + copies) / pollers)
    poller = f"poller-{party.provider}"
    services = [
        each for each in stack.services_for(providers) if each.name in ("config-api", poller)
    ]
    options = Options(
        folder,
        durable=False,
        providers=providers,
        services=services,
        counts={poller: pollers},
        environments={
            "config-api": {"RATE_LIMITS": "false"},  # What is set up here is set up at once.
            poller: {"INTEGRATIONS_IN_FLIGHT_MAX": str(in_flight), "CLAIM_EVERY_S": "0.1"},
        },
    )
    async with stack.running(options, report) as running, AsyncExitStack() as exits:
        database = await asyncpg.connect(running.database)
        exits.push_async_callback(database.close)
        operator = await exits.enter_async_context(Api.connect(running.api, running.operator_key))
        brevo = await exits.enter_async_context(Provider.connect(running.providers["brevo"]))
        await brevo.lift_limits()
        url = running.providers[party.provider]
        opened = await _fill(url, accounts, contacts)
        taking = (
            _seat(exits, running, operator, party, number, name, len(contacts))
            for number, name in enumerate(opened)
        )
        seats = await asyncio.gather(*taking)
        await _first_runs_over(database)
        yield Crowd(running, database, [await _crowded(database, each, copies) for each in seats])


async def _first_runs_over(database: "asyncpg.Connection[Any]") -> None:
    async with asyncio.timeout(FIRST_RUNS_S):
        while await database.fetchval(_BEGINNING):  # noqa: ASYNC110  # it must be asked
            await asyncio.sleep(LOOK_S)


async def _crowded(database: "asyncpg.Connection[Any]", seat: Seat, copies: int) -> Seat:
    """Return a seat with so many copies of each integration behind it."""
    made = [str(uuid4()) for _ in range(copies) for _ in seat.integrations]
    await database.execute(COPIES, made, seat.integrations * copies)
    return Seat(seat.account, seat.api, [*seat.integrations, *made])


async def _fill(url: str, accounts: int, contacts: Sequence[int]) -> list[str]:
    """Open so many accounts with a list for each number of contacts; return the accounts' ids."""
    async with Account.connect(url) as main:
        opened = [
            (await main.open_account(f"account-{number}"))["account"] for number in range(accounts)
        ]
        await main.pass_time(-AGED_S)
        for name in opened:
            async with Account.of(url, name) as account:
                await account.lift_limits()
                for place, count in enumerate(contacts):
                    await account.fill(
                        count, seed=place + 1, name=f"List {place}", invalid_share=0.0
                    )
        await main.pass_time(AGED_S)
    return opened


async def _seat(
    exits: AsyncExitStack,
    running: Stack,
    operator: Api,
    party: SourceParty,
    number: int,
    name: str,
    lists: int,
) -> Seat:
    account = await exits.enter_async_context(Account.of(running.providers[party.provider], name))
    made = await wizard.create_workspace(operator, quota_limit=QUOTA)
    api = await exits.enter_async_context(Api.connect(running.api, made.api_key))
    integrations = [
        await wizard.set_up(
            api,
            source_list=f"List {place}",
            destination_list=f"List {place} of account {number}",
            pair=(party, BREVO),
            source_account=name,
        )
        for place in range(lists)
    ]
    for each in integrations:
        await wizard.activate(api, each)
    return Seat(account, api, [str(UUID(each.rpartition("_")[2])) for each in integrations])
