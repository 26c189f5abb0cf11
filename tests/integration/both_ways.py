"""Both flows between a Salesforce organisation and a Brevo account, in one process.

The pollers' runs, the mapper and the writer are production's own, on real PostgreSQL and over HTTP
to both sandboxes; what lies between them is a list instead of a broker, so a test decides what is
read, mapped and written when, who dies on the way, and what is delivered once more.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

import msgspec
from sqlalchemy import text

from libs.common.clock import SystemClock
from libs.common.consumer import Batch, Record
from libs.common.database import SessionMaker
from libs.common.events import Event, Settled, Topic
from libs.common.failpoints import nothing
from libs.common.postgres import Transactions, create_pool
from libs.connectors.account import StaticToken
from libs.connectors.brevo.destination import BrevoDestination
from libs.connectors.brevo.source import BrevoSource
from libs.connectors.contract import Destination, FieldType, OpenGate, Source
from libs.connectors.salesforce.destination import SalesforceDestination
from libs.connectors.salesforce.source import SalesforceSource
from sandbox.brevo.app import create_app as brevo_app
from sandbox.brevo.state import DEFAULT_KEY
from sandbox.brevo.state import State as BrevoState
from sandbox.salesforce.app import create_app as salesforce_app
from sandbox.salesforce.state import State as SalesforceState
from sandbox.salesforce.tokens import STANDING_TOKEN
from services.mapper import store as mapper_store
from services.mapper.map_records import RecordMapper
from services.poller import store as poller_store
from services.poller.poll import Run
from services.poller.run_store import DatabaseRunStore
from services.writer import store
from services.writer.account import Accounts
from services.writer.drain import Drain
from services.writer.health import Blocks
from services.writer.imports import Imports
from services.writer.lease import Lease, LeasedGate, Leases
from services.writer.live import Live
from services.writer.write import Writing
from tests.connectors.served import Served, served
from tests.services.poller.fakes import Journal

FIELDS = (
    ("Email", "email", "EMAIL", "email"),
    ("FirstName", "text", "FIRSTNAME", "text"),
    ("LastName", "text", "LASTNAME", "text"),
    ("Birthdate", "date", "BIRTHDAY", "date"),
    ("MobilePhone", "phone", "SMS", "phone"),
    ("Points__c", "number", "POINTS", "number"),  # Salesforce keeps two places, Brevo all.
)
NAMES = {source: remote for source, _, remote, _ in FIELDS}
Content = dict[str, Any]  # By the names at Salesforce, nothing for what is empty.


class Dead(Leases):
    """Leases of a process that will be killed: nobody lets go of them."""

    async def release(self, lease: Lease) -> None:
        lease.is_lost = True


@dataclass
class Flow:
    """One of the two directions: where it reads, where it writes, and what is on its way."""

    integration: UUID
    source: UUID
    destination: UUID
    provider: str
    journal: Journal = field(default_factory=Journal)  # What is read and not yet written.
    delivered: list[list[Event]] = field(default_factory=list)  # Batches of before, as mapped.
    told: list[Settled] = field(default_factory=list)


@dataclass
class BothWays:
    """The two providers, the two flows between them, and the database around."""

    owner: SessionMaker
    as_poller: Transactions
    as_mapper: Transactions
    sessions: Transactions
    salesforce: Served
    brevo: Served
    workspace: UUID = field(default_factory=uuid4)
    organisation: UUID = field(default_factory=uuid4)
    account: UUID = field(default_factory=uuid4)
    list_id: str = ""
    looks: int = 0  # Calls of this test's own, which are no calls of ours.
    there: Flow = field(init=False)
    back: Flow = field(init=False)

    def __post_init__(self) -> None:
        self.there = Flow(uuid4(), self.organisation, self.account, "salesforce")
        self.back = Flow(uuid4(), self.account, self.organisation, "brevo")

    async def set_up(self) -> None:
        """Put both accounts, the integration and its way back there."""
        destination = self._brevo(OpenGate())
        await destination.make_attribute("BIRTHDAY", FieldType.DATE)
        await destination.make_attribute("POINTS", FieldType.NUMBER)
        self.list_id = (await destination.make_list("Customers")).id
        await self.execute("insert into config.workspaces (workspace_id, name) values (:w, 'Test')")
        for connection, provider in (
            (self.organisation, "salesforce"),
            (self.account, "brevo"),
        ):
            await self.execute(
                "insert into config.connections (connection_id, workspace_id, provider, name,"
                " state, account_id) values (:c, :w, :p, :p, 'connected', '1')",
                c=connection,
                p=provider,
            )
        await self._integrate(self.there, FIELDS, list_id=self.list_id)
        await self.execute(
            "update config.integrations set is_two_way = true where integration_id = :i",
            i=self.there.integration,
        )
        turned = tuple((remote, b, source, a) for source, a, remote, b in FIELDS)
        await self._integrate(self.back, turned, way_back_of=self.there.integration)

    async def _integrate(
        self,
        flow: Flow,
        fields: Iterable[tuple[str, str, str, str]],
        *,
        list_id: str | None = None,
        way_back_of: UUID | None = None,
    ) -> None:
        is_back = way_back_of is not None
        await self.execute(
            "insert into config.integrations (integration_id, workspace_id, name, state,"
            " source_connection_id, source_object, destination_connection_id, destination_list_id,"
            " mapping_version, way_back_of, deletion_policy, email_change_policy) values"
            " (:i, :w, 'Test', 'active', :s, 'contacts', :d, :l, 1, :b, :p, :e)",
            i=flow.integration,
            s=flow.source,
            d=flow.destination,
            l=list_id,
            b=way_back_of,
            p="remove_from_list" if is_back else "keep",
            e="single",
        )
        mapped = [
            {"source": a, "source_type": b, "destination": c, "destination_type": d}
            for a, b, c, d in fields
        ]
        await self.execute(
            "insert into config.field_mappings (integration_id, version, workspace_id, fields,"
            " created_by) values (:i, 1, :w, cast(:f as jsonb), 'test')",
            i=flow.integration,
            f=msgspec.json.encode(mapped).decode(),
        )
        await self.execute(
            "insert into sync.schedules (integration_id, workspace_id, provider, interval_minutes)"
            " values (:i, :w, :p, 30)",
            i=flow.integration,
            p=flow.provider,
        )

    async def execute(self, statement: str, **values: Any) -> None:
        """Run a statement as the owner; `w` is the workspace."""
        async with self.owner.begin() as session:
            await session.execute(text(statement), {"w": self.workspace, **values})

    async def rows(self, statement: str, **values: Any) -> list[Any]:
        """Return a statement's rows as the owner sees them."""
        async with self.owner.begin() as session:
            return list((await session.execute(text(statement), values)).all())

    # What the flows do.

    async def poll(
        self, flow: Flow, *, full: bool = False, reached: Callable[[str], None] = nothing
    ) -> None:
        """Let one run read its source to the end; what it published is on its way."""
        await self.execute(
            "update sync.schedules set next_due_at = clock_timestamp(), resume_at = null,"
            " lease_until = case when lease_owner is not null"
            " then clock_timestamp() - interval '1 s' end,"
            " wanted_mode = case when :full then 'full' else wanted_mode end"
            " where integration_id = :i",
            i=flow.integration,
            full=full,
        )
        [assignment] = await poller_store.claim_due(
            self.as_poller, provider=flow.provider, owner=uuid4(), limit=5
        )
        run = Run(
            assignment,
            self._source(flow),
            DatabaseRunStore(self.as_poller),
            flow.journal.publish,
            SystemClock(),
            reached=reached,
        )
        await run.poll()

    async def write(self, flow: Flow, *, reached: Callable[[str], None] = nothing) -> None:
        """Map what is on its way, and let a writer handle it; it stays there if that one dies."""
        mapped = await self._map(flow)
        if not mapped:
            return
        flow.delivered.append(mapped)
        await self._handle(flow, mapped, reached)
        flow.journal.events.clear()

    async def deliver_again(
        self, flow: Flow, before: int, *, reached: Callable[[str], None] = nothing
    ) -> None:
        """Let a writer handle the batch so many before the last once more."""
        if flow.delivered:
            await self._handle(flow, flow.delivered[-1 - before % len(flow.delivered)], reached)

    async def drain(self, flow: Flow) -> None:
        """Write what waits, as far as it may."""
        await self._lapse()
        _, drain = self._writer(flow, nothing)
        for _ in range(20):
            if not await drain.drain(flow.destination, self.workspace):
                return

    async def settle(
        self, *, rounds: int = 8, after: Callable[[], Awaitable[None]] | None = None
    ) -> None:
        """Let both flows work until they have nothing to do twice; nobody dies.

        Twice, because a run that somebody died over is gone on with first, and reads nothing new.
        """
        quiet = 0
        for _ in range(rounds):
            before = await self.writes()
            for flow in (self.there, self.back):
                await self.poll(flow)
                await self.write(flow)
                await self.drain(flow)
                if after is not None:
                    await after()
            quiet = quiet + 1 if await self.writes() == before else 0
            if quiet == 2:
                return
        message = "the flows do not come to rest"
        raise AssertionError(message)

    async def _map(self, flow: Flow) -> list[Event]:
        found: list[Event] = []

        async def load(integration: UUID, versions: set[int]) -> mapper_store.Integration | None:
            return await mapper_store.load_integration(
                self.as_mapper, integration, versions=versions
            )

        async def publish(topic: Topic, events: Iterable[tuple[str, Event]]) -> None:
            found.extend(event for _, event in events)

        if flow.journal.events:
            key, topic = str(flow.integration), Topic.CONTACTS_CHANGED
            records = [
                Record(event=event, topic=topic, partition=0, offset=offset, key=key)
                for offset, event in enumerate(flow.journal.events)
            ]
            batch = Batch(key=key, topic=topic, partition=0, records=records)
            await RecordMapper(load, publish).handle(batch)
        return found

    async def _handle(
        self, flow: Flow, events: list[Event], reached: Callable[[str], None]
    ) -> None:
        await self._lapse()
        live, _ = self._writer(flow, reached)
        await live.handle(flow.destination, events)

    async def _lapse(self) -> None:
        """Let the leases of those before run out: each batch is another process's."""
        await self.execute(
            "update delivery.destinations set lease_until = clock_timestamp() - interval '1 s'"
        )

    def _writer(self, flow: Flow, reached: Callable[[str], None]) -> tuple[Live, Drain]:
        """Return a writer process of its own; whoever had the lease before is dead."""
        clock = SystemClock()
        leases = Dead(self.sessions, clock, uuid4(), late_call_s=0.0)
        accounts = Accounts(self.sessions, leases)
        imports = Imports(self.sessions, clock, check_first_s=0.01, late_call_s=0.0)
        blocks = Blocks(self.sessions, clock, uniform=lambda low, high: low)

        async def open_destination(connection: store.Connection, lease: Lease) -> Destination:
            gate = LeasedGate(OpenGate(), lease)
            if connection.provider == "brevo":
                return self._brevo(gate)
            return SalesforceDestination(
                self.salesforce.http, gate, StaticToken(STANDING_TOKEN), self.salesforce.url
            )

        async def publish(_topic: Topic, events: Iterable[tuple[str, Event]]) -> None:
            flow.told.extend(event for _, event in events if isinstance(event, Settled))

        writing = Writing(self.sessions, clock, open_destination, imports, blocks, reached=reached)
        live = Live(self.sessions, accounts, writing, publish, reached=reached)
        return live, Drain(self.sessions, clock, accounts, writing, imports, gather_rest_s=0.0)

    def _source(self, flow: Flow) -> Source:
        if flow is self.there:
            tokens = StaticToken(STANDING_TOKEN)
            return SalesforceSource(self.salesforce.http, OpenGate(), tokens, self.salesforce.url)
        tokens = StaticToken(DEFAULT_KEY)
        return BrevoSource(self.brevo.http, OpenGate(), tokens, f"{self.brevo.url}/v3")

    def _brevo(self, gate: Any) -> BrevoDestination:
        tokens = StaticToken(DEFAULT_KEY)
        return BrevoDestination(self.brevo.http, gate, tokens, f"{self.brevo.url}/v3")

    # What people do, and what stands.

    async def pass_time(self, seconds: float) -> None:
        """Let time pass at both providers."""
        for provider in (self.salesforce, self.brevo):
            await provider.put("clock", {"advance_s": seconds})

    async def begin_second(self) -> None:
        """Let time pass at both providers until a second has just begun."""
        told = await self.brevo.put("clock", {"advance_s": 0})
        await self.pass_time(1 - datetime.fromisoformat(told["now"]).microsecond / 1_000_000)

    async def add(self, **properties: Any) -> str:
        """Add somebody at Salesforce; return the record's id."""
        told = await self.salesforce.post(
            "contacts:upsert", {"contacts": [{"properties": properties}]}
        )
        return str(told["ids"][0])

    async def edit(self, record: str, **properties: Any) -> None:
        """Edit a record at Salesforce."""
        await self.salesforce.post(
            "contacts:upsert", {"contacts": [{"id": record, "properties": properties}]}
        )

    async def edit_there(self, contact: int, **attributes: Any) -> None:
        """Edit a contact at Brevo."""
        await self.brevo.post(
            "contacts:upsert", {"contacts": [{"id": contact, "attributes": attributes}]}
        )

    async def merge(self, record: str, **properties: Any) -> str:
        """Let a record be merged into one that is new, and has its address; return that one."""
        address = (await self.records())[record][0]["Email"]
        survivor = await self.add(Email=f"merging.{address}", **properties)
        await self.edit(survivor, Email=address)
        await self.salesforce.post("contacts:merge", {"primary": survivor, "other": record})
        return survivor

    async def delete(self, record: str) -> None:
        """Delete a record at Salesforce."""
        await self.salesforce.post("contacts:delete", {"ids": [record]})

    async def records(self) -> dict[str, tuple[Content, int]]:
        """Return the living records by id: what is mapped of each, and when it was modified (s)."""
        names = ", ".join(NAMES)
        query = f"SELECT Id, SystemModstamp, {names} FROM Contact".replace(" ", "+")
        answer = await self.salesforce.control.get(
            f"/services/data/v67.0/query?q={query}",
            headers={"authorization": f"Bearer {STANDING_TOKEN}"},
        )
        self.looks += 1
        page = answer.json()
        return {
            row["Id"]: (
                {name: row[name] for name in NAMES if row[name]},
                int(datetime.fromisoformat(row["SystemModstamp"]).timestamp()),
            )
            for row in page["records"]
        }

    async def contacts(self) -> dict[int, tuple[Content, int]]:
        """Return Brevo's contacts by id, by Salesforce's names, and when each was modified (s)."""
        found: dict[int, tuple[Content, int]] = {}
        for row in (await self.brevo.get("state"))["contacts"]:
            values = {**row["attributes"], "EMAIL": row.get("email")}
            if values.get("SMS"):
                values["SMS"] = f"+{values['SMS']}"
            content = {name: values[own] for name, own in NAMES.items() if values.get(own)}
            found[row["id"]] = content, int(datetime.fromisoformat(row["modifiedAt"]).timestamp())
        return found

    async def writes(self) -> int:
        """Return how many calls have written so far, at both providers."""
        calls = {**await self.salesforce.calls(), **await self.brevo.calls()}
        return sum(n for name, n in calls.items() if name.partition(" ")[0] != "GET")

    async def reads(self) -> int:
        """Return how many calls have read so far, at both providers."""
        calls = {**await self.salesforce.calls(), **await self.brevo.calls()}
        return sum(n for name, n in calls.items() if name.startswith("GET")) - self.looks

    async def posted(self) -> int:
        """Return how many tasks are charged."""
        [row] = await self.rows("select coalesce(sum(posted), 0) as n from ledger.periods")
        return int(row.n)


@asynccontextmanager
async def both_ways(owner: SessionMaker, role_url: Callable[[str], str]) -> AsyncIterator[BothWays]:
    """Serve both providers, and set up the two flows between them."""
    pools = {
        role: create_pool(role_url(role), size_max=5, application_name=role)
        for role in ("poller", "mapper", "writer")
    }
    async with (
        served(salesforce_app(SalesforceState())) as salesforce,
        served(brevo_app(BrevoState())) as brevo,
    ):
        made = BothWays(
            owner,
            Transactions(pools["poller"]),
            Transactions(pools["mapper"]),
            Transactions(pools["writer"]),
            salesforce,
            brevo,
        )
        await made.set_up()
        yield made
    for pool in pools.values():
        await pool.close()
