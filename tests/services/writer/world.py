"""A workspace with an integration on real PostgreSQL, and writers over a fake destination.

Writers log in with the writer's own role, so a missing grant fails a test. A writer that "dies" is
simply left behind: the next one is another owner, and the lease of the first is let lapse.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import msgspec
import pytest
from sqlalchemy import text

from libs.common import ids
from libs.common.clock import SystemClock
from libs.common.database import SessionMaker
from libs.common.events import (
    Effect,
    Event,
    Identity,
    Mapped,
    Operation,
    RunMode,
    RunRead,
    Settled,
    Topic,
    decode,
)
from libs.common.failpoints import nothing
from libs.common.postgres import Pool, Transactions
from libs.connectors.contract import Destination, OpenGate
from services.writer import store
from services.writer.account import Accounts
from services.writer.drain import Drain
from services.writer.health import Blocks
from services.writer.imports import Imports
from services.writer.lease import Lease, LeasedGate, Leases
from services.writer.live import Live
from services.writer.shares import Budget
from services.writer.values import digest
from services.writer.write import Writing
from tests.fakes import CrashError, FakeAccount, FakeDestination

LIST = "7"
# Of automatic imports' shares (`services.writer.shares`): the next one begins in 2079.
LONG_SLOT = timedelta(days=20_000)


def upsert(
    source_id: str,
    email: str | None = None,
    *,
    ms: int = 1000,
    merged_from: Iterable[str] = (),
    sms: str | None = None,
    **attributes: Any,
) -> Effect:
    """Return an effect as the mapper makes it."""
    identity = Identity(email=email or (None if sms else f"{source_id}@example.com"), sms=sms)
    encoded = msgspec.json.encode(attributes or {"VORNAME": f"Name of {source_id}"})
    head = f"{identity.email or ''}\x1f{identity.sms or ''}\x1f".encode()
    return Effect(
        id=source_id,
        op=Operation.UPSERT,
        version_ms=ms,
        identity=identity,
        attributes=msgspec.Raw(encoded),
        hash=digest(head + encoded),
        merged_from=tuple(merged_from),
    )


def leave(source_id: str, *, ms: int = 1000, op: Operation = Operation.LEAVE) -> Effect:
    """Return a leave or deletion."""
    return Effect(id=source_id, op=op, version_ms=ms)


class Clock(SystemClock):
    """The machine's clock, which a test may put forward."""

    def __init__(self) -> None:
        self.ahead_s = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.ahead_s


class Mortal(Leases):
    """Leases of a process that will be killed: nobody lets go of them."""

    async def release(self, lease: Lease) -> None:
        lease.is_lost = True


def crash_at(step: str) -> Callable[[str], None]:
    """Return what ends the process the first time that a turn reaches a step."""
    done: list[str] = []

    def reached(at: str) -> None:
        if at == step and not done:
            done.append(at)
            raise CrashError

    return reached


@dataclass
class Writer:
    """One writer process, as far as it matters here."""

    live: Live
    drain: Drain
    accounts: Accounts
    leases: Leases
    imports: Imports
    clock: Clock
    told: list[Event]


@dataclass
class World:
    """Ids and the state around the writer."""

    owner: SessionMaker
    sessions: Transactions
    pool: Pool
    account: FakeAccount = field(default_factory=FakeAccount)
    workspace: UUID = field(default_factory=uuid4)
    source: UUID = field(default_factory=uuid4)
    destination: UUID = field(default_factory=uuid4)
    integration: UUID = field(default_factory=uuid4)
    rows_min: int = 50
    rows_max: int = 1000
    open_error: Exception | None = None
    budget: Budget = field(default_factory=Budget)

    async def execute(self, statement: str, **values: Any) -> None:
        """Run a statement as the owner."""
        async with self.owner.begin() as session:
            await session.execute(text(statement), values)

    async def rows(self, statement: str, **values: Any) -> list[Any]:
        """Return a statement's rows as the owner sees them."""
        async with self.owner.begin() as session:
            return list((await session.execute(text(statement), values)).all())

    async def one(self, statement: str, **values: Any) -> Any:
        """Return a statement's only value."""
        async with self.owner.begin() as session:
            return await session.scalar(text(statement), values)

    async def make(self) -> None:
        """Put the workspace, its connections and an active integration there."""
        await self.execute(
            "insert into config.workspaces (workspace_id, name) values (:w, 'Test')",
            w=self.workspace,
        )
        for connection, provider in ((self.source, "hubspot"), (self.destination, "fake")):
            await self.execute(
                "insert into config.connections (connection_id, workspace_id, provider, name,"
                " state, account_id) values (:c, :w, :p, :p, 'connected', 'account-1')",
                c=connection,
                w=self.workspace,
                p=provider,
            )
        await self.add_integration(self.integration)

    async def add_integration(self, integration: UUID) -> None:
        """Put another active integration of the workspace there."""
        await self.execute(
            "insert into config.integrations (integration_id, workspace_id, name, state,"
            " source_connection_id, destination_connection_id, destination_list_id,"
            " mapping_version) values (:i, :w, 'Test', 'active', :s, :d, :l, 1)",
            i=integration,
            w=self.workspace,
            s=self.source,
            d=self.destination,
            l=LIST,
        )

    async def configure(self, **columns: str | int) -> None:
        """Change the integration."""
        settings = ", ".join(f"{name} = :{name}" for name in columns)
        await self.execute(
            f"update config.integrations set {settings} where integration_id = :i",
            i=self.integration,
            **columns,
        )

    async def limit(self, units: int) -> None:
        """Set the workspace's quota."""
        await self.one("select ledger.set_limit(:w, :n)", w=self.workspace, n=units)

    async def begin_run(
        self, run_no: int, *, fencing: int = 1, mode: str = "changes", mapping_version: int = 1
    ) -> None:
        """Put a run there, as the poller does when it claims."""
        await self.execute(
            "insert into sync.runs (run_id, integration_id, workspace_id, run_no, mode,"
            " mapping_version, fencing) values (:r, :i, :w, :n, :m, :v, :f)",
            r=ids.run_id(self.integration, run_no),
            i=self.integration,
            w=self.workspace,
            n=run_no,
            m=mode,
            v=mapping_version,
            f=fencing,
        )

    def record(
        self,
        *effects: Effect,
        run_no: int = 1,
        page: int = 1,
        fencing: int = 1,
        mapping_version: int = 1,
        rejected: Iterable[tuple[str, int, str]] = (),
        filtered: Iterable[tuple[str, int]] = (),
        integration: UUID | None = None,
    ) -> Mapped:
        """Return a mapped part."""
        integration = integration or self.integration
        run = ids.run_id(integration, run_no)
        versions = [(effect.id, effect.version_ms) for effect in effects]
        versions += [(source_id, ms) for source_id, ms, _ in rejected]
        versions += list(filtered)
        return Mapped(
            id=ids.record_id(run, page, 0, versions),
            workspace=self.workspace,
            integration=integration,
            destination=self.destination,
            run=run,
            run_no=run_no,
            mode=RunMode.CHANGES,
            fencing=fencing,
            page=page,
            part=0,
            mapping_version=mapping_version,
            effects=list(effects),
            rejected=list(rejected),
            filtered=list(filtered),
        )

    def run_read(self, run_no: int = 1, *, fencing: int = 1) -> RunRead:
        """Return the end of a run."""
        run = ids.run_id(self.integration, run_no)
        return RunRead(
            id=ids.computed("run_read", run, fencing),
            workspace=self.workspace,
            integration=self.integration,
            destination=self.destination,
            run=run,
            run_no=run_no,
            mode=RunMode.CHANGES,
            fencing=fencing,
            mapping_version=1,
            pages=1,
            parts=1,
            read=1,
        )

    def writer(
        self,
        *,
        reached: Callable[[str], None] = nothing,
        late_s: float = 0.0,
        gather_rest_s: float = 0.0,
        drain_every_s: float = 5.0,
    ) -> Writer:
        """Return a writer process of its own."""
        clock = Clock()
        leases = Mortal(self.sessions, clock, uuid4(), late_call_s=late_s)
        accounts = Accounts(self.sessions, leases)
        imports = Imports(self.sessions, clock, check_first_s=0.01, late_call_s=0.0)
        blocks = Blocks(self.sessions, clock, uniform=lambda low, high: high)
        told: list[Event] = []

        async def open_destination(connection: store.Connection, lease: Lease) -> Destination:
            if self.open_error is not None:
                raise self.open_error
            made = FakeDestination(self.account, LeasedGate(OpenGate(), lease))
            made.facts = replace(
                made.facts, import_rows_min=self.rows_min, import_rows_max=self.rows_max
            )
            return made

        async def publish(topic: Topic, events: Iterable[tuple[str, Event]], /) -> None:
            assert topic is Topic.CONTACTS_SETTLED
            told.extend(event for _, event in events)

        writing = Writing(
            self.sessions,
            clock,
            open_destination,
            imports,
            blocks,
            budget=self.budget,
            reached=reached,
        )
        live = Live(self.sessions, accounts, writing, publish)
        drain = Drain(
            self.sessions,
            clock,
            accounts,
            writing,
            imports,
            every_s=drain_every_s,
            gather_rest_s=gather_rest_s,
        )
        return Writer(live, drain, accounts, leases, imports, clock, told)

    async def write(self, writer: Writer, *events: Event) -> list[Settled]:
        """Let a writer handle a batch; return what it told of the records."""
        before = len(writer.told)
        await writer.live.handle(self.destination, list(events))
        return [event for event in writer.told[before:] if isinstance(event, Settled)]

    async def drain(self, writer: Writer, *, turns: int = 20) -> None:
        """Let a writer drain until nothing moves."""
        for _ in range(turns):
            if not await writer.drain.drain(self.destination, self.workspace):
                return

    async def killed(self, writer: Writer, *events: Event) -> "Writer":
        """Let a writer die while it handles a batch; return the next owner of the destination."""
        with pytest.raises(CrashError):
            await writer.live.handle(self.destination, list(events))
        await self.lapse()
        return self.writer()

    async def lapse(self) -> None:
        """Let the destination's lease run out."""
        await self.execute(
            "update delivery.destinations set lease_until = clock_timestamp() - interval '1 s'"
        )

    async def unblock_in_time(self) -> None:
        """Let a block's time be over."""
        await self.execute(
            "update delivery.destinations set blocked_until = clock_timestamp() - interval '1 s'"
        )

    async def later(self) -> list[Settled]:
        """Return what was told through the outbox."""
        found = await self.rows(
            "select body from delivery.outbox where topic = 'contacts.settled.v1' order by id"
        )
        events = [decode(Topic.CONTACTS_SETTLED, bytes(row.body)) for row in found]
        return [event for event in events if isinstance(event, Settled)]

    async def parked(self) -> dict[str, str]:
        """Return what waits: contact → reason."""
        found = await self.rows("select source_id, reason from delivery.parked")
        return {row.source_id: row.reason for row in found}

    async def links(self) -> dict[str, Any]:
        """Return the links by contact."""
        return {row.source_id: row for row in await self.rows("select * from delivery.links")}

    async def posted(self) -> int:
        """Return how many tasks are charged."""
        return int(await self.one("select coalesce(sum(posted), 0) from ledger.periods") or 0)

    async def held(self) -> int:
        """Return how many units are held."""
        return int(await self.one("select coalesce(sum(held), 0) from ledger.periods") or 0)

    async def check_ledger(self) -> None:
        """Assert what is true of units, postings and intents while nobody lowers the limit."""
        for row in await self.rows("select * from ledger.periods"):
            assert row.posted + row.held <= row.quota_limit
        await self.check_ledger_but_for_limits()

    async def check_ledger_but_for_limits(self) -> None:
        """Assert what must always be true of units, postings and intents."""
        postings = await self.one("select count(*) from ledger.postings")
        assert postings == await self.posted()
        open_units = await self.one(
            "select coalesce(sum(amount - posted - released), 0) from ledger.holds"
        )
        assert open_units == await self.held()
        intents = await self.rows("select units from delivery.intents")
        units = [msgspec.json.decode(bytes(row.units)) for row in intents]
        named = sum(len(each["rows"] if isinstance(each, dict) else each) for each in units)
        assert named == open_units
        # What the accountant would say of it (services/quota/reconcile.py): never a false alarm.
        looks = await self.rows(
            "select p.period, l.* from ledger.periods p"
            " cross join ledger.look(p.workspace_id, p.period) l where l.odd > 0"
        )
        assert looks == []


async def make_world(owner: SessionMaker, writer_url: str) -> World:
    """Return a world in an empty database."""
    pool = store.create_pool(writer_url, size_max=5)
    world = World(owner, Transactions(pool), pool)
    await world.make()
    return world
