"""One seed's history: people, faults and all services of the main job, then peace.

The services are production's own, from claim to read model; what they stand on is in memory
(`memory`, `broker`, `provider`, `people`). Everything that is drawn comes from the seed.
"""

import asyncio
import contextlib
import logging
import sys
from collections.abc import Coroutine, Iterator
from random import Random
from typing import Any
from unittest import mock
from uuid import UUID

import msgspec
import structlog

from libs.common import ids, postgres
from libs.common.backoff import Backoff
from libs.common.errors import MisconfiguredError, NeedsReauthError, UnavailableError
from libs.common.events import Event, RunMode, Topic, encode
from libs.connectors import contract
from libs.connectors.contract import OpenGate
from services.activity.settle import Projection
from services.mapper import store as mapper_store
from services.mapper.map_records import RecordMapper
from services.mapper.store import StoredMapping
from services.poller import leavers, plan
from services.poller.attend import Attendant, Bounds
from services.poller.plan import Assignment
from services.writer import store, usual
from services.writer.account import Accounts
from services.writer.drain import Drain
from services.writer.health import Blocks
from services.writer.imports import Imports
from services.writer.lease import Lease, LeasedGate, Leases
from services.writer.live import Live
from services.writer.shares import Budget
from services.writer.values import IntegrationState
from services.writer.write import Writing
from tests.fakes import HOST
from tests.simulation.broker import Broker, Group, Member, Publisher
from tests.simulation.extras import (
    GUARD_CONTACTS,
    Extra,
    Troublemaker,
    extras_of,
)
from tests.simulation.loop import VirtualClock, VirtualLoop
from tests.simulation.memory.database import (
    Connection,
    Database,
    Integration,
    Schedule,
    change,
)
from tests.simulation.memory.swap import stores_in_memory
from tests.simulation.oracle import QUIET_WITHIN_S, SLOT, Oracle
from tests.simulation.people import Source, now_and_then
from tests.simulation.processes import AWAY_S, Process, Weather, keep_alive
from tests.simulation.provider import Account, Destination

PROVIDER = "hubspot"
ACTIONS = {
    "edit": 24,
    "poll": 8,
    "poll and map": 2,
    "mapping": 1,
    "quota": 2,
    "month": 1,
    "pause": 1,
    "rebalance": 3,
}
# From this seed on the world is rougher: everything above and this, with more destinations.
ROUGH_FROM = 500
# And from this one on, contacts are merged at the source as well.
MERGES_FROM = 750
ROUGH_ACTIONS = {**ACTIONS, "cut off": 2, "freeze": 2, "lower": 2}
EVICTED_AFTER_S = (2.0, 10.0)
# Production's times in small, and in the same order: a call's time-out (5 s), how late a call may
# arrive, a lease; a call is never later than a new owner waits.
LATE_CALL_S = 6.0
LEASE_S = 15.0
RENEW_S = 4.0
DRAIN_EVERY_S = 6.0
CLAIM_EVERY_S = 5.0
MEMBERS_EVERY_MS = 150_000
STOOD_STILL_AT_MOST_S = 45.0
QUOTA_AT_LAST = 10_000
# Every so many seeds have automatic imports that share a budget in each slot (AC5).
SHARED_EVERY = 8

PHONE = {"source": "phone", "destination": "SMS", "destination_type": "phone"}
FIELDS = (
    {"source": "email", "destination": "EMAIL", "destination_type": "email"},
    {"source": "firstname", "destination": "FIRSTNAME", "destination_type": "text"},
    {"source": "lastname", "destination": "LASTNAME", "destination_type": "text"},
)


class History:
    """Everything of one seed."""

    def __init__(self, seed: int, loop: asyncio.AbstractEventLoop) -> None:
        self.random = Random(seed)
        self.is_rough = seed >= ROUGH_FROM
        self.merges = seed >= MERGES_FROM
        self.clock = VirtualClock(loop)
        self.weather = Weather(self.random, is_rough=self.is_rough)
        self.log: list[tuple[float, str, object]] = []
        self.database = Database(self.clock)
        self.oracle = Oracle(self.database)
        self.database.watch = self.oracle.watch
        self.accounts: dict[UUID, Account] = {}  # By destination.
        self.oracle.account_of = self.account_of
        self.broker = Broker(self.weather, self.tell)
        self.changed = self.broker.group(Topic.CONTACTS_CHANGED)
        self.mapped = self.broker.group(Topic.CONTACTS_MAPPED)
        self.settled = self.broker.group(Topic.CONTACTS_SETTLED)
        self.workspace = ids.computed("workspace", seed)
        self.source = ids.computed("source", seed)
        self.destinations = [ids.computed("destination", seed)]
        self.sources: dict[UUID, Source] = {}
        self.rows_min = self.random.choice([3, 3, 50])
        # Automatic imports of one account, from now and then a seed, and drawn beside the others'.
        self.shares = Random(seed).choice([1, 2, 4]) if seed % SHARED_EVERY == 2 else 0
        self.alive: dict[str, Process] = {}
        self.shows = False
        self._peace_ms = 0
        self.extras = extras_of(seed)
        self.refusals: dict[UUID, str] = {}  # How accounts refuse our credentials now.
        self._troublemaker = Troublemaker(self, seed)
        self.oracle.shares = self.shares
        self.oracle.is_guarded = Extra.GUARD in self.extras
        self._make()

    def _make(self) -> None:
        tables = self.database.tables
        if self.is_rough and self.random.random() < 0.5:
            self.destinations.append(ids.computed("another destination", self.workspace))
        accounts = [(each, "fake") for each in self.destinations]
        for connection, provider in ((self.source, PROVIDER), *accounts):
            tables.connections[connection] = Connection(
                connection=connection, workspace=self.workspace, provider=provider
            )
        for connection in self.destinations:
            self.accounts[connection] = Account(self.oracle.covers, self.tell)
        tables.limits[self.workspace] = self.random.choice([4, 8, 15, 10_000])
        for number in range(2):
            destination = self.destinations[number % len(self.destinations)]
            integration = ids.computed("integration", self.workspace, number)
            self._integrate(integration, "ab"[number], destination)

    @property
    def reachable(self) -> list[UUID]:
        """Return the connections: the source's, and those of the destinations."""
        return [self.source, *self.destinations]

    def admit(self, connection: UUID) -> None:
        """Raise what an account answers that does not take our credentials now."""
        refusal = self.refusals.get(connection)
        if refusal is None:
            return
        self.oracle.refused(connection)
        if refusal == "revoked":
            raise NeedsReauthError(HOST, "unauthorized")
        raise MisconfiguredError(HOST, "scope_missing")

    def account_of(self, integration: UUID) -> Account:
        """Return where an integration's contacts go."""
        return self.accounts[self.database.tables.integrations[integration].destination]

    def _integrate(self, integration: UUID, prefix: str, destination: UUID) -> None:
        random, tables = self.random, self.database.tables
        source = Source(
            prefix,
            random,
            self.database.now_ms,
            merges=self.merges,
            # One of the two: the other's people are known by their addresses, as ever.
            by_phone=Extra.PHONES in self.extras and prefix == "b",
            has_poison=Extra.CALLS in self.extras,
        )
        self.sources[integration] = source
        for _ in range(random.randint(1, 5)):
            by_phone = f"{source.prefix}{len(source.account.contacts):07}"
            by_email = f"{prefix}-{len(source.account.contacts)}@example.com"
            source.add(by_phone if source.key == "phone" else by_email)
        tables.integrations[integration] = Integration(
            integration=integration,
            workspace=self.workspace,
            source=self.source,
            destination=destination,
            source_list_id=source.list_id,
            list_id=f"list-{prefix}",
            deletion_policy=random.choice(["keep", "remove_from_list", "remove_from_list"]),
            email_change_policy=random.choice(["single", "single", "all", "none"]),
            kind="automatic" if self.shares else "mapped",
        )
        tables.schedules[integration] = Schedule(
            workspace=self.workspace,
            provider=PROVIDER,
            next_due_at=self.database.now(),
            interval_minutes=1,
        )
        self._map(integration, fields=random.choice([2, 3]))

    # What people may do to an integration, as the API does it

    def _map(self, integration: UUID, *, fields: int) -> None:
        tables = self.database.tables
        version = 1 + sum(1 for of, _ in tables.mappings if of == integration)
        own = PHONE if self.sources[integration].key == "phone" else FIELDS[0]
        chosen = msgspec.json.encode([own, *FIELDS[1:fields]]).decode()
        tables.mappings[integration, version] = StoredMapping(chosen, None)
        row = tables.integrations[integration]
        tables.integrations[integration] = change(row, mapping_version=version)

    def change_mapping(self, integration: UUID) -> None:
        """Add a field, which schedules a full run, or remove one, which does not."""
        tables = self.database.tables
        row = tables.integrations[integration]
        before = tables.mappings[integration, row.mapping_version]
        adds = len(msgspec.json.decode(before.fields)) == 2
        self._map(integration, fields=3 if adds else 2)
        if row.state is not IntegrationState.ACTIVE:
            return
        if adds:
            for run, found in list(tables.runs.items()):
                if found.integration == integration and found.state == "reading":
                    tables.runs[run] = change(found, state="cancelled")
        self.schedule(integration, full=adds)

    def schedule(self, integration: UUID, *, full: bool = False) -> None:
        """Do what `sync.schedule` does."""
        tables = self.database.tables
        row = tables.schedules[integration]
        tables.schedules[integration] = change(
            row,
            is_active=True,
            failures=0,
            wanted_mode=RunMode.FULL if full else row.wanted_mode,
            wanted_mapping_version=tables.integrations[integration].mapping_version,
        )
        self.request_run(integration)

    def request_run(self, integration: UUID) -> None:
        """Do what `sync.make_due` does."""
        tables, now = self.database.tables, self.database.now()
        row = tables.schedules[integration]
        due = now if row.lease_owner is not None else min(row.next_due_at, now)
        resume_at = min(row.resume_at, now) if row.resume_at is not None else None
        tables.schedules[integration] = change(row, next_due_at=due, resume_at=resume_at)

    def pause_or_resume(self, integration: UUID) -> None:
        tables = self.database.tables
        row = tables.integrations[integration]
        if row.state is IntegrationState.ACTIVE:
            self._set_state(integration, IntegrationState.PAUSED)
            schedule = tables.schedules[integration]
            tables.schedules[integration] = change(schedule, is_active=False)
        else:
            self.resume(integration)

    def resume(self, integration: UUID) -> None:
        tables = self.database.tables
        self._set_state(integration, IntegrationState.ACTIVE)
        wanted = tables.schedules[integration].wanted_mapping_version
        added = any(
            len(msgspec.json.decode(mapping.fields)) == 3
            for (of, version), mapping in tables.mappings.items()
            if of == integration and version > wanted
        )
        self.schedule(integration, full=added)

    def _set_state(self, integration: UUID, state: IntegrationState) -> None:
        rows = self.database.tables.integrations
        rows[integration] = change(rows[integration], state=state, error_reason=None)

    def raise_quota(self, by: int) -> None:
        tables = self.database.tables
        limit = tables.limits[self.workspace] + by
        tables.limits[self.workspace] = limit
        period = tables.periods.get((self.workspace, self.database.months))
        if period is not None:
            key = (self.workspace, self.database.months)
            tables.periods[key] = change(period, limit=limit)

    def lower_quota(self, by: int) -> None:
        """Take units away, below what is used as well: nothing is granted then."""
        limit = self.database.tables.limits[self.workspace]
        self.raise_quota(-min(by, limit))

    # The services

    def poller(self, process: Process) -> list[Coroutine[Any, Any, None]]:
        self.alive[process.name] = process

        async def open_source(assignment: Assignment) -> contract.Source:
            await process.step("open")
            self.admit(self.source)
            return self.sources[assignment.integration].seen_by(process, self._admit_source)

        publisher = Publisher(self.broker, process)

        def publish(topic: Topic, key: str, event: Event) -> asyncio.Task[None]:
            self.oracle.see_told(event)
            return publisher.publish(topic, key, event)

        attendant = Attendant(
            PROVIDER,
            owner=process.owner,
            sessions=self.database.transactions(process),
            open_source=open_source,
            publish=publish,
            clock=self.clock,
            bounds=Bounds(claim_every_s=CLAIM_EVERY_S, lease_s=LEASE_S, ending_s=2.0),
            uniform=self.random.uniform,
        )
        return [attendant.run(asyncio.Event())]

    def _admit_source(self) -> None:
        self.admit(self.source)

    def mapper(self, process: Process) -> list[Coroutine[Any, Any, None]]:
        async def load(integration: UUID, versions: set[int]) -> mapper_store.Integration | None:
            await process.step("load")
            tables = self.database.tables
            row = tables.integrations[integration]
            return mapper_store.Integration(
                is_archived=row.state is IntegrationState.ARCHIVED,
                destination=row.destination,
                default_country=None,
                mappings={version: tables.mappings[integration, version] for version in versions},
            )

        handler = RecordMapper(load, Publisher(self.broker, process).publish_all).handle
        return [Member(self.changed, process, handler, self.weather).run()]

    def writer(self, process: Process) -> list[Coroutine[Any, Any, None]]:
        self.alive[process.name] = process
        if self.is_rough:
            process.missed = lambda: self._evict_later(process)
        sessions = self.database.transactions(process)
        leases = Leases(
            sessions,
            self.clock,
            process.owner,
            ttl_s=LEASE_S,
            renew_s=RENEW_S,
            late_call_s=LATE_CALL_S,
        )

        async def open_destination(
            connection: store.Connection, lease: Lease
        ) -> contract.Destination:
            gate = LeasedGate(OpenGate(), lease)
            account = self.accounts[connection.connection]
            return Destination(
                account,
                gate,
                process,
                self.weather,
                rows_min=self.rows_min,
                admits=lambda: self.admit(connection.connection),
            )

        accounts = Accounts(sessions, leases, serves=lambda each: member.serves(str(each)))
        imports = Imports(sessions, self.clock, poll_s=20.0, late_call_s=LATE_CALL_S)
        blocks = Blocks(sessions, self.clock, uniform=self.random.uniform)
        budget = Budget(self.shares, SLOT)
        writing = Writing(sessions, self.clock, open_destination, imports, blocks, budget=budget)
        drain = Drain(sessions, self.clock, accounts, writing, imports, every_s=DRAIN_EVERY_S)
        publisher = Publisher(self.broker, process)
        live = Live(sessions, accounts, writing, publisher.publish_all, wake=drain.wake)
        member = Member(
            self.mapped, process, live, self.weather, lambda: live.on_revoked(frozenset())
        )
        stop = asyncio.Event()
        return [
            leases.run(stop),
            drain.run(stop),
            self._relay(publisher),
            member.run(),
        ]

    def _evict_later(self, process: Process) -> None:
        after_s = self.random.uniform(*EVICTED_AFTER_S)
        asyncio.get_running_loop().call_later(after_s, self.mapped.evict, process)

    async def _relay(self, publisher: Publisher) -> None:
        """Do what the outbox's relay does: publish, then delete."""
        while True:
            await asyncio.sleep(self.random.uniform(1.0, 4.0))
            for number, (topic, key, event) in sorted(self.database.tables.outbox.items()):
                try:
                    if topic is Topic.CONTACTS_SETTLED:
                        await publisher.publish(topic, key, event)
                except UnavailableError:
                    break
                self.database.tables.outbox.pop(number, None)

    def activity(self, process: Process) -> list[Coroutine[Any, Any, None]]:
        handler = Projection(self.database.transactions(process))
        return [Member(self.settled, process, handler, self.weather).run()]

    # The whole

    async def run(self) -> None:
        """Let it be rough for a while, then wait until everything is quiet, and judge."""
        builds = [
            ("poller-1", self.poller, None),
            ("poller-2", self.poller, None),
            ("mapper-1", self.mapper, self.changed),
            ("writer-1", self.writer, self.mapped),
            ("writer-2", self.writer, self.mapped),
            ("activity-1", self.activity, self.settled),
        ]
        services = [
            asyncio.create_task(
                keep_alive(
                    name, self._owners(name), build, self.weather, self.tell, _leaving(group)
                )
            )
            for name, build, group in builds
        ]
        trouble = asyncio.create_task(self._trouble())
        try:
            done, _ = await asyncio.wait([*services, trouble], return_when=asyncio.FIRST_COMPLETED)
            if self.oracle.broken is None:
                for task in done:
                    task.result()
        finally:
            await _end_all_others()
        self.oracle.judge(self)

    def _owners(self, name: str) -> Iterator[UUID]:
        number = 0
        while True:
            number += 1
            yield ids.computed(self.workspace, name, number)

    def tell(self, what: str, about: object = "") -> None:
        """Keep what happens, and print it if this history is shown."""
        self.log.append((self.clock.monotonic(), what, about))
        if self.shows:
            shown = encode(about).decode() if isinstance(about, Event) else about
            print(f"{self.clock.monotonic():8.2f} {what} {shown}")  # noqa: T201  # it was asked for

    async def _trouble(self) -> None:
        extra = asyncio.create_task(self._troublemaker.run()) if self.extras else None
        for _ in range(self.random.randint(10, 45)):
            await now_and_then(self.random, 5.0)
            if self.oracle.broken is not None:
                return
            self._act()
        if extra is not None:
            extra.cancel()
        await self._make_peace()

    def _act(self) -> None:
        random = self.random
        integration = random.choice(sorted(self.sources))
        actions = ROUGH_ACTIONS if self.is_rough else ACTIONS
        action = random.choices(list(actions), list(actions.values()))[0]
        what = action
        match action:
            case "edit":
                acts = [self.sources[integration].act() for _ in range(random.choice([1, 1, 3]))]
                what = "; ".join(acts)
            case "poll":
                self.request_run(integration)
            case "poll and map":
                self.request_run(integration)
                later_s = random.uniform(0.5, 8.0)
                asyncio.get_running_loop().call_later(later_s, self.change_mapping, integration)
            case "mapping":
                self.change_mapping(integration)
            case "quota":
                self.raise_quota(random.randint(1, 6))
            case "month":
                self.database.months += 1
            case "pause":
                self.pause_or_resume(integration)
            case "rebalance":
                self.mapped.rebalance()
            case _:
                self._disturb(action)
        self.tell(what)

    def _disturb(self, action: str) -> None:
        """Do what only happens in a rough world."""
        random = self.random
        number, seconds = random.randint(1, 2), random.uniform(*AWAY_S)
        match action:
            case "lower":
                self.lower_quota(random.randint(1, 6))
            case "cut off":
                self.alive[f"writer-{number}"].cut_off(seconds)
            case "freeze":
                self.alive[f"poller-{number}"].freeze(seconds)

    async def _make_peace(self) -> None:
        self.weather.clear()
        await self._troublemaker.make_peace()
        self.raise_quota(QUOTA_AT_LAST)
        for integration in self.sources:
            self.resume(integration)
        self.tell("peace")
        await asyncio.sleep(STOOD_STILL_AT_MOST_S)
        if any(account.overdue for account in self.accounts.values()):
            # What came too late is mended with the next version, at the latest by a full run.
            for integration in self.sources:
                self.schedule(integration, full=True)
        began = {integration: self._runs_read(integration) for integration in self.sources}
        self._peace_ms = self.database.now_ms()
        looks = 0  # Twice, so that drains have seen what the last records have freed.
        while looks < 2:
            await asyncio.sleep(3 * DRAIN_EVERY_S)
            self._troublemaker.agree()
            looks = looks + 1 if self._is_quiet(began) else 0
            if self.oracle.broken is not None:
                return
            if self.clock.monotonic() > QUIET_WITHIN_S:
                self.tell("never quiet")
                return

    def _runs_read(self, integration: UUID) -> int:
        return sum(
            run.state == "read"
            for run in self.database.tables.runs.values()
            if run.integration == integration
        )

    def _has_read_members(self, integration: UUID) -> bool:
        """Return whether who left since has been missed: without a list only once a day."""
        roll = self.database.tables.positions[integration, "members"].roll
        is_listed = self.sources[integration].list_id is not None
        return is_listed or (roll is not None and (roll.read_at_ms or 0) > self._peace_ms)

    def _is_quiet(self, began: dict[UUID, int]) -> bool:
        tables = self.database.tables
        return (
            self.broker.lag == 0
            and not tables.intents
            and not tables.outbox
            and not tables.withheld
            and all(self._runs_read(each) >= began[each] + 3 for each in self.sources)
            and all(map(self._has_read_members, self.sources))
            and all(row.reason == "duplicate_identity" for row in tables.parked.values())
        )


def _leaving(group: Group | None) -> Any:
    return group.leave if group is not None else lambda process: None


async def _end_all_others() -> None:
    while others := asyncio.all_tasks() - {asyncio.current_task()}:
        for task in others:
            task.cancel()
        await asyncio.wait(others)


@contextlib.contextmanager
def _untraced() -> Iterator[None]:
    """Measure no coverage meanwhile: it doubles the time, and other tests cover the same lines."""
    trace = sys.gettrace()
    sys.settrace(None)
    try:
        yield
    finally:
        sys.settrace(trace)


@contextlib.contextmanager
def _production_made_repeatable(random: Random) -> Iterator[None]:
    """Take the stores and what is drawn from this history; look back for nothing."""
    backoff = lambda **bounds: Backoff(**bounds, uniform=random.uniform)  # noqa: E731  # one line
    with (
        stores_in_memory(),
        mock.patch.object(plan, "OVERLAP_MS", 0),
        mock.patch.object(plan, "MEMBERS_EVERY_MS", MEMBERS_EVERY_MS),
        mock.patch.object(postgres, "Backoff", backoff),
    ):
        yield


def play(seed: int, *, show: bool = False) -> History:
    """Live through a seed's history; raise what the oracle or a service has found wrong.

    `show` prints what happens as it happens.
    """
    loop = VirtualLoop()
    loop.set_exception_handler(lambda _loop, _context: None)  # The dead leave things undone.
    history = History(seed, loop)
    history.shows = show
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    try:
        usual_from = 2 if seed % 2 else usual.USUAL_FROM
        guard = GUARD_CONTACTS if Extra.GUARD in history.extras else leavers.GUARD_CONTACTS
        with (
            _untraced(),
            mock.patch.object(leavers, "GUARD_CONTACTS", guard),
            _production_made_repeatable(history.random),
            mock.patch.object(usual, "USUAL_FROM", usual_from),  # Batches are small here.
        ):
            loop.run_until_complete(history.run())
    finally:
        loop.close()
    return history
