"""A stack with its providers filled and integrations set up, and when its work is done.

Integrations are made through the config API, as a person makes them. What is asked over and over
while a phase runs is asked of the database, not of the API: to watch must not count as our cost.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import asyncpg

from benchmarks.accounts import Account
from benchmarks.measured import Measured, difference, reading
from benchmarks.yardstick import Yardstick
from local import wizard
from local.api import Api
from local.errors import StackError
from local.parties import BREVO, HUBSPOT, SOURCES, DestinationParty, Field, SourceParty
from local.stack import Stack

SOURCE_LIST = "Newsletter"
QUOTA = 10_000_000  # Nobody is to be stopped.
FIELDS = (*wizard.FIELDS, Field("country", "COUNTRY", create="text"))
# Contacts are older than what a window of changes looks back (services/poller/plan.py).
AGED_S = 7200.0
WATCH_S = 0.2
NO_PROGRESS_S = 180.0
REST_FIRST_S = 0.5

_STANDING = """
select (select coalesce(max(run_no), 0) from sync.runs where integration_id = any ($1)) as run_no,
  (select count(*) from sync.schedules where integration_id = any ($1)
     and (lease_owner is not null or is_active and next_due_at <= clock_timestamp())) as due,
  (select count(*) from activity.runs where integration_id = any ($1)
     and state = 'settling') as settling,
  (select count(*) from sync.runs r where integration_id = any ($1) and r.state = 'read'
     and not exists (select from activity.runs a where a.run_id = r.run_id
                     and a.state <> 'settling')) as untold,
  (select count(*) from delivery.parked where reason <> 'email_change') as parked,
  (select count(*) from delivery.intents) as intents,
  (select coalesce(sum(parts_settled), 0) from activity.runs) as parts,
  (select count(*) from ledger.holds where posted + released < amount) as holds
"""

_MAKE_DUE = """
update sync.schedules set next_due_at = clock_timestamp() where integration_id = any ($1)
"""


@dataclass(slots=True)
class World:
    """What a scenario acts on."""

    stack: Stack
    source: Account
    destination: Account
    operator: Api
    database: "asyncpg.Connection[Any]"
    reads: str = HUBSPOT.provider
    writes: str = BREVO.provider
    workspace: str = ""
    api: Api | None = None
    yardstick: Yardstick = field(default_factory=Yardstick)
    integrations: list[str] = field(default_factory=list)
    accounts: list[Account] = field(default_factory=list)  # Destinations', beside the default one.
    exits: AsyncExitStack = field(default_factory=AsyncExitStack)  # What closes with the world.

    @classmethod
    @asynccontextmanager
    async def over(
        cls, stack: Stack, reads: str = HUBSPOT.provider, writes: str = BREVO.provider
    ) -> AsyncIterator["World"]:
        """Connect to a running stack for as long as the block lasts.

        `reads` is its source, `writes` its destination. Of a source of files there is no account:
        `source` is not used.
        """
        async with AsyncExitStack() as exits:
            has_account = reads in stack.providers
            source, destination = [
                await exits.enter_async_context(Account.connect(stack.providers[name]))
                for name in (reads if has_account else writes, writes)
            ]
            operator = await exits.enter_async_context(Api.connect(stack.api, stack.operator_key))
            database = await asyncpg.connect(stack.database)
            exits.push_async_callback(database.close)
            yardstick = Yardstick()
            with yardstick.held():  # While nothing is to be done: the best that will be seen.
                await asyncio.sleep(REST_FIRST_S)
            await source.lift_limits()
            await destination.lift_limits()
            world = cls(
                stack,
                source,
                destination,
                operator,
                database,
                reads,
                writes,
                yardstick=yardstick,
                exits=exits,
            )
            made = await wizard.create_workspace(operator, quota_limit=QUOTA)
            world.workspace = made.id
            world.api = await exits.enter_async_context(Api.connect(stack.api, made.api_key))
            yield world

    @property
    def reads_files(self) -> bool:
        """Return whether the source is a file: there is no account to be asked or filled."""
        return SOURCES[self.reads].is_file

    async def fill(self, contacts: int) -> None:
        """Fill the source with valid contacts that were last edited two hours ago."""
        await self.source.pass_time(-AGED_S)
        await self.source.fill(contacts, seed=1, name=SOURCE_LIST, invalid_share=0.0)
        await self.source.pass_time(AGED_S)

    async def integrate(
        self,
        name: str,
        *,
        pair: tuple[SourceParty, DestinationParty] = (HUBSPOT, BREVO),
        fields: Sequence[Field] | None = FIELDS,
        upload: wizard.Upload | None = None,
    ) -> str:
        """Set up a draft integration; return its id as the API shows it. More: `wizard.set_up`."""
        assert self.api is not None
        made = await wizard.set_up(
            self.api,
            source_list=SOURCE_LIST,
            destination_list=name,
            pair=pair,
            fields=fields,
            upload=upload,
        )
        self.integrations.append(made)
        return made

    async def activate(self) -> None:
        """Activate every integration that was set up."""
        assert self.api is not None
        for integration in self.integrations:
            await wizard.activate(self.api, integration)

    async def make_due(self, integrations: Sequence[str]) -> None:
        """Let the time of these integrations' next runs come, as their intervals do."""
        ids = [_uuid(each) for each in integrations]
        await self.database.execute(_MAKE_DUE, ids)

    async def ask_for_runs(self, mode: str) -> None:
        """Ask for another run of each integration."""
        assert self.api is not None
        for integration in self.integrations:
            await self.api.post(f"/v1/integrations/{integration}/runs", {"mode": mode})

    @asynccontextmanager
    async def measured(
        self, scenario: str, phase: str, contacts: int, found: list[Measured]
    ) -> AsyncIterator[dict[str, float]]:
        """Measure what the block starts, to the end of its work; notes may be added meanwhile."""
        notes: dict[str, float] = {}
        meter = self.stack.supervisor.meter
        calls = await self._calls()
        before = await self._standing()
        self.stack.supervisor.enter(phase)
        earlier = reading(meter.usage)
        started_at_s = time.monotonic()
        with self.yardstick.held():
            yield notes
            seconds = await self._done(int(before["run_no"])) - started_at_s
        self.stack.supervisor.enter("between")
        found.append(
            Measured(
                scenario=scenario,
                phase=phase,
                contacts=contacts,
                seconds=seconds,
                cpu_s=difference(earlier, reading(meter.usage), phase),
                rss_mb={name: each.rss_bytes_max / 1e6 for name, each in meter.usage.items()},
                calls={name: n - calls[name] for name, n in (await self._calls()).items()},
                notes=notes | {"pace": self.yardstick.pace},
            )
        )

    async def rested(
        self, scenario: str, seconds: float, found: list[Measured], *, phase: str = "rest"
    ) -> None:
        """Measure what everything costs by itself in so much time."""
        supervisor = self.stack.supervisor
        calls = await self._calls()
        supervisor.enter(phase)
        await asyncio.sleep(seconds)
        supervisor.enter("between")
        usage = supervisor.meter.usage
        found.append(
            Measured(
                scenario=scenario,
                phase=phase,
                contacts=0,
                seconds=seconds,
                cpu_s={name: each.cpu_s[phase] for name, each in usage.items()},
                rss_mb={name: each.rss_bytes_max / 1e6 for name, each in usage.items()},
                calls={name: n - calls[name] for name, n in (await self._calls()).items()},
            )
        )

    async def _calls(self) -> dict[str, int]:
        at = {self.writes: [self.destination, *self.accounts]}
        if not self.reads_files:
            at = {self.reads: [self.source], **at}
        return {
            name: sum([int((await each.calls())["total"]) for each in providers])
            for name, providers in at.items()
        }

    async def _standing(self) -> "asyncpg.Record[Any]":
        ids = [_uuid(each) for each in self.integrations]
        found = await self.database.fetchrow(_STANDING, ids)
        assert found is not None
        return found

    async def _done(self, run_no: int) -> float:
        """Wait until newer runs ended and nothing waits; return when that was.

        Raises `StackError` if nothing moves for too long.
        """
        last, moved_at_s = await self._standing(), time.monotonic()
        while True:
            now = await self._standing()
            if now != last:
                last, moved_at_s = now, time.monotonic()
            waiting = sum(now[name] for name in ("due", "settling", "untold", "parked", "intents"))
            if now["run_no"] > run_no and not waiting and not now["holds"]:
                return time.monotonic()
            if time.monotonic() - moved_at_s > NO_PROGRESS_S:
                what = f"nothing has moved for {NO_PROGRESS_S:g} s: {dict(now)}"
                raise StackError(what, "see the logs in the benchmark's folder")
            await asyncio.sleep(WATCH_S)


def _uuid(shown: str) -> str:
    return shown.rpartition("_")[2]
