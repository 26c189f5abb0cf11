"""An automatic import from HubSpot to ActiveCampaign through all services, without a broker.

Every service is its own production code on one database, under its own role, and the sandboxes are
called over HTTP; what one publishes is handed to the next. So a sync takes a second, and a test may
look between two of them.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from uuid import UUID, uuid4

import httpx
import pytest
from sqlalchemy import text

from libs.common.clock import SystemClock
from libs.common.consumer import Batch, Record
from libs.common.database import SessionMaker
from libs.common.events import Event, Mapped, RunRead, Topic, decode
from libs.common.postgres import Transactions, create_pool
from libs.connectors.opening import Opener
from services.activity.settle import Projection
from services.mapper import store as mapper_store
from services.mapper.map_records import RecordMapper
from services.poller import store as poller_store
from services.poller.attend import Attendant
from services.poller.sources import Sources
from services.writer.account import Accounts
from services.writer.destinations import Destinations
from services.writer.drain import Drain
from services.writer.health import Blocks
from services.writer.imports import Imports
from services.writer.lease import Leases
from services.writer.live import Live
from services.writer.shares import Budget
from services.writer.write import Writing
from tests.services.config_api.routes.test_automatic_imports import (
    Importer,
    activate,
    make_importer,
)
from tests.services.config_api.served import Json, Served, config_api
from tests.services.writer.world import LONG_SLOT

PEOPLE = 5  # As many as `make_importer` fills the list with.
KEY = {"api-token": "activecampaign-sandbox"}


@dataclass
class Pipeline:
    """The services, and what they say to one another."""

    served: Served
    owner: SessionMaker
    poller: Transactions
    mapper: Transactions
    writer: Transactions
    activity: Transactions
    budget: Budget = field(default_factory=Budget)
    clock: SystemClock = field(default_factory=SystemClock)

    def __post_init__(self) -> None:
        self.attendant = Attendant(
            "hubspot",
            owner=uuid4(),
            sessions=self.poller,
            open_source=Sources(self._opener(self.poller)),
            publish=self._publish_changed,
            clock=self.clock,
        )
        self.changed: list[Event] = []
        self.told: list[Event] = []
        self._start_writer()

    def _opener(self, transactions: Transactions) -> Opener:
        opener: Opener = self.served.parts.accounts.opener  # type: ignore[attr-defined]  # the real one
        return Opener(
            http=opener.http,
            transactions=transactions,
            keys=opener.keys,
            clock=self.clock,
            patience_s=10.0,
            clients=opener.clients,
            base_urls=opener.base_urls,
            paced=False,
        )

    def _start_writer(self) -> None:
        leases = Leases(self.writer, self.clock, uuid4(), late_call_s=0.0)
        accounts = Accounts(self.writer, leases)
        imports = Imports(self.writer, self.clock, check_first_s=0.05, late_call_s=0.0)
        blocks = Blocks(self.writer, self.clock)
        destinations = Destinations(self._opener(self.writer))
        writing = Writing(
            self.writer, self.clock, destinations, imports, blocks, budget=self.budget
        )
        self.live = Live(self.writer, accounts, writing, self._publish_settled)
        self.drains = Drain(self.writer, self.clock, accounts, writing, imports, gather_rest_s=0.0)

    def _publish_changed(self, topic: Topic, key: str, event: Event) -> asyncio.Task[None]:
        async def publish() -> None:
            self.changed.append(event)

        assert topic is Topic.CONTACTS_CHANGED
        return asyncio.create_task(publish())

    async def _publish_settled(self, topic: Topic, events: Iterable[tuple[str, Event]], /) -> None:
        assert topic is Topic.CONTACTS_SETTLED
        self.told += [event for _, event in events]

    async def execute(self, statement: str) -> None:
        async with self.owner.begin() as session:
            await session.execute(text(statement))

    async def drain(self) -> None:
        """Let the writer see to everything that waits."""
        async with self.owner.begin() as session:
            found = await session.execute(
                text(
                    "select distinct destination_connection_id, workspace_id"
                    " from config.integrations where destination_connection_id is not null"
                )
            )
        for connection, workspace in found:
            while await self.drains.drain(connection, workspace):
                pass
        await self._settle()

    async def sync(self) -> None:
        """Let one sync of everything that is active pass through all services."""
        await self.execute("update sync.schedules set next_due_at = now(), resume_at = null")
        claimed = await poller_store.claim_due(
            self.poller, provider="hubspot", owner=uuid4(), limit=10
        )
        for assignment in claimed:
            await self.attendant.attend(assignment)
        changed, self.changed = self.changed, []
        for event in changed:
            await self._map(event)
        await self.drain()

    async def _map(self, event: Event) -> None:
        mapped: list[tuple[str, Event]] = []

        async def publish(topic: Topic, events: Iterable[tuple[str, Event]]) -> None:
            mapped.extend(events)

        async def load(integration: UUID, versions: set[int]) -> mapper_store.Integration | None:
            return await mapper_store.load_integration(self.mapper, integration, versions=versions)

        mapper = RecordMapper(load, publish)
        await mapper.handle(_batch(Topic.CONTACTS_CHANGED, [event]))
        for key, each in mapped:
            assert isinstance(each, Mapped | RunRead)
            await self.live.handle(UUID(key), [each])

    async def _settle(self) -> None:
        """Let activity hear of everything, from records and from the outbox."""
        async with self.owner.begin() as session:
            found = await session.execute(
                text(
                    "delete from delivery.outbox where topic = 'contacts.settled.v1' returning body"
                )
            )
            later = [decode(Topic.CONTACTS_SETTLED, bytes(row.body)) for row in found]
        told, self.told = [*self.told, *later], []
        if told:
            await Projection(self.activity)(_batch(Topic.CONTACTS_SETTLED, told))

    async def at_destination(self) -> list[Json]:
        state = await self.served.control("activecampaign", "GET", "state")
        return list(state["contacts"])


def _batch(topic: Topic, events: Sequence[Event]) -> Batch:
    records = [
        Record(event=event, topic=topic, partition=0, offset=number, key="")
        for number, event in enumerate(events)
    ]
    return Batch(key="", topic=topic, partition=0, records=records)


@asynccontextmanager
async def running(
    role_url: Callable[[str], str], sessions: SessionMaker, budget: Budget
) -> AsyncIterator[Pipeline]:
    async with AsyncExitStack() as stack:
        served = await stack.enter_async_context(config_api(role_url("api"), sessions))
        pools = {}
        for role in ("poller", "mapper", "writer", "activity"):
            pools[role] = create_pool(role_url(role), size_max=4, application_name=role)
            stack.push_async_callback(pools[role].close)
        yield Pipeline(
            served,
            sessions,
            Transactions(pools["poller"]),
            Transactions(pools["mapper"]),
            Transactions(pools["writer"]),
            Transactions(pools["activity"]),
            budget,
        )


@pytest.fixture
def budget() -> Budget:
    """Return the product's own; a test may ask for less."""
    return Budget()


@pytest.fixture
async def pipeline(
    role_url: Callable[[str], str], sessions: SessionMaker, budget: Budget
) -> AsyncIterator[Pipeline]:
    async with running(role_url, sessions, budget) as made:
        yield made


@pytest.fixture
async def api(pipeline: Pipeline) -> AsyncIterator[httpx.AsyncClient]:
    workspace = await pipeline.served.make_workspace()
    async with pipeline.served.caller(workspace["api_key"]["secret"]) as client:
        yield client


async def fields(pipeline: Pipeline) -> dict[str, str]:
    """Return the custom fields of the ActiveCampaign account: their tags by title."""
    async with httpx.AsyncClient(base_url=pipeline.served.providers["activecampaign"]) as client:
        found = await client.get("/api/3/fields", params={"limit": 100}, headers=KEY)
    return {each["title"]: each["perstag"] for each in found.json()["fields"]}


async def started(pipeline: Pipeline, api: httpx.AsyncClient) -> Importer:
    """Activate an automatic import and let its fields be made."""
    importer = await make_importer(pipeline.served, api)
    await activate(api, importer)
    await pipeline.drain()
    return importer


async def contacts(api: httpx.AsyncClient, importer: Importer, **asked: str) -> list[Json]:
    answer = await api.get(f"{importer.path}/contacts", params=asked)
    assert answer.status_code == 200, answer.text
    return list(answer.json()["items"])


async def test_fields_come_by_themselves_and_contacts_with_them(
    pipeline: Pipeline, api: httpx.AsyncClient
) -> None:
    """Proves AC1, AC2 and AC3: from the login to contacts whose fields are named after HubSpot."""
    importer = await started(pipeline, api)
    made = await fields(pipeline)

    await pipeline.sync()

    shown = (await api.get(importer.path)).json()
    mapped = (await api.get(f"{importer.path}/mapping")).json()
    there = await pipeline.at_destination()
    by_source = {each["source"]: each["destination"] for each in mapped["fields"]}
    assert made["HubSpot – City"] == "HUBSPOT_CITY"  # noqa: RUF001  # as it is made
    assert by_source["city"] == "HUBSPOT_CITY"
    assert by_source["email"] == "EMAIL"
    assert by_source["firstname"] == "FIRSTNAME"
    assert "First Name" not in "".join(made)
    assert (shown["status"], shown["mapping_version"], shown["fields_asked"]) == ("active", 1, None)
    assert mapped["created_by"] == "automatic_import"
    written = [each for each in there if "HUBSPOT_CITY" in each["attributes"]]
    assert len(written) == shown["last_run"]["counts"]["created"] > 0
    assert (await pipeline.served.control("activecampaign", "GET", "state"))["triggered"] == {}


async def test_a_field_that_hubspot_gets_later_follows(
    pipeline: Pipeline, api: httpx.AsyncClient
) -> None:
    """Proves AC1: whenever a new source field appears; and its values with it."""
    importer = await started(pipeline, api)
    await pipeline.sync()
    async with httpx.AsyncClient(base_url=pipeline.served.providers["hubspot"]) as client:
        wanted = {
            "name": "shoe_size",
            "label": "Shoe size",
            "type": "string",
            "fieldType": "text",
            "groupName": "contactinformation",
        }
        done = await client.post(
            "/crm/v3/properties/contacts",
            json=wanted,
            headers={"authorization": "Bearer pat-sandbox"},
        )
        assert done.status_code == 201, done.text
    state = await pipeline.served.control("hubspot", "GET", "state")
    [someone, *_] = [each for each in state["contacts"] if each["properties"].get("email")]
    edit = {"contacts": [{"id": someone["id"], "properties": {"shoe_size": "38"}}]}
    await pipeline.served.control("hubspot", "POST", "contacts:upsert", edit)

    await pipeline.sync()  # It is found by this one, and made.
    found = (await api.get(importer.path)).json()
    await pipeline.sync()

    there = await pipeline.at_destination()
    sizes = [each["attributes"].get("HUBSPOT_SHOE_SIZE") for each in there]
    assert found["mapping_version"] == 2
    assert "38" in sizes
    assert (await api.get(importer.path)).json()["last_run"]["mode"] == "full"


@pytest.mark.parametrize("budget", [Budget(2, LONG_SLOT)])
async def test_a_sync_brings_its_share_and_says_why_the_rest_waits(
    pipeline: Pipeline, api: httpx.AsyncClient
) -> None:
    """Proves AC5 and AC9: the run adds up, whoever waits knows for what, and follows."""
    importer = await started(pipeline, api)
    await pipeline.sync()
    run = (await api.get(importer.path)).json()["last_run"]
    waiting = await contacts(api, importer, status="parked")
    [asked] = await contacts(api, importer, source_id=waiting[0]["source_id"])
    slots = 0
    while await contacts(api, importer, status="parked"):
        slots += 1
        for table in ("sync_shares", "sync_budgets"):
            await pipeline.execute(f"update limits.{table} set slot = slot - interval '30 minutes'")
        await pipeline.drain()

    people = len(await contacts(api, importer, status="written"))
    assert run["counts"]["created"] == 2
    assert run["parked_by_reason"] == {"sync_budget": people - 2}
    assert asked["reason"] == "sync_budget"
    assert "30 minutes" in asked["words"]
    assert slots == -(-(people - 2) // 2)
    assert len(await pipeline.at_destination()) == people


async def test_adding_stops_at_the_plans_end_and_goes_on_with_room(
    pipeline: Pipeline, api: httpx.AsyncClient
) -> None:
    """Proves AC6 and AC9 through the services: it stops, says so, and goes on by itself."""
    importer = await started(pipeline, api)
    await pipeline.served.control("activecampaign", "PUT", "settings", {"contact_limit": 2})
    await pipeline.sync()
    full = (await api.get(importer.path)).json()
    at_the_limit = len(await pipeline.at_destination())
    [waiting, *_] = await contacts(api, importer, reason="contact_limit")
    await pipeline.served.control("activecampaign", "PUT", "settings", {"contact_limit": None})

    await pipeline.drain()
    too_early = len(await pipeline.at_destination())
    await pipeline.execute(
        "update delivery.parked set last_at = last_at - interval '2 hours', tried_at = null"
    )
    await pipeline.execute("update delivery.destinations set blocked_until = clock_timestamp()")
    await pipeline.drain()

    after = (await api.get(importer.path)).json()
    written = await contacts(api, importer, status="written")
    assert (full["status"], full["status_reason"]) == ("degraded", "contact_limit")
    assert "as many contacts as its plan allows" in full["status_words"]
    assert waiting["remedy"].startswith("Make room")
    assert (at_the_limit, too_early) == (2, 2)
    assert (after["status"], after["status_reason"]) == ("active", None)
    assert len(written) == len(await pipeline.at_destination()) > 2
    assert await contacts(api, importer, status="parked") == []
