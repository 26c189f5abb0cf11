"""Twenty accounts served by one writer, one of them slow or dead: the others do not notice."""

import asyncio
import base64
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import pytest
from aiokafka import AIOKafkaConsumer

from libs.common import ids
from libs.common.clock import SystemClock
from libs.common.database import SessionMaker
from libs.common.events import Event, Mapped, RunMode, Settled, Topic, decode
from libs.common.health import HealthServer
from libs.common.lifecycle import Process
from libs.common.publisher import Publisher
from libs.common.secrets import KeyRing
from libs.common.settings import Environment, Secret
from libs.common.topics import TopicNames
from sandbox.brevo.app import create_app
from sandbox.brevo.state import State
from services.writer import store
from services.writer.__main__ import serve
from services.writer.settings import WriterSettings
from tests.connectors.served import Served, served
from tests.integration import oracle
from tests.services.writer.world import World, make_world, upsert

KEYS = "test:" + base64.b64encode(b"k" * 32).decode()
ACCOUNTS = 20
CONTACTS = 5
ROUNDS = 3
WITHIN_S = 120.0
# Of each call of the account in trouble: many times what a round of the others takes.
TROUBLE_S = 10.0


@dataclass(frozen=True, slots=True)
class Target:
    """One account at the destination, and the integration that goes there."""

    integration: UUID
    connection: UUID
    account: str


@dataclass(slots=True)
class Told:
    """Of which integrations contacts were settled, by page."""

    pages: set[tuple[UUID, int]]

    def hear(self, event: Event) -> None:
        if isinstance(event, Settled) and (event.created or event.updated):
            self.pages.add((event.integration, event.page))


@pytest.fixture
async def world(sessions: SessionMaker, role_url: Callable[[str], str]) -> AsyncIterator[World]:
    made = await make_world(sessions, role_url("writer"))
    yield made
    await made.pool.close()


@pytest.fixture
async def brevo() -> AsyncIterator[Served]:
    async with served(create_app(State())) as one:
        yield one


async def target(world: World, brevo: Served, number: int) -> Target:
    """Make an account with a list, a connection to it and an active integration."""
    made = await brevo.post("accounts", {"name": f"account-{number}"})
    key = {"api-key": made["api_key"]}
    await brevo.control.put(
        "/_sandbox/limits", json={"enabled": False}, params={"account": made["account"]}
    )
    folder = await brevo.control.post("/v3/contacts/folders", json={"name": "Test"}, headers=key)
    listed = await brevo.control.post(
        "/v3/contacts/lists", json={"name": "L", "folderId": folder.json()["id"]}, headers=key
    )
    integration, connection = uuid4(), uuid4()
    await world.execute(
        "insert into config.connections (connection_id, workspace_id, provider, name, state,"
        " account_id, sealed_api_key) values (:c, :w, 'brevo', 'x', 'connected', :a, :k)",
        c=connection,
        w=world.workspace,
        a=str(made["account"]),
        k=KeyRing.parse(KEYS).seal(
            made["api_key"], workspace=world.workspace, connection=connection, field="api_key"
        ),
    )
    await world.execute(
        "insert into config.integrations (integration_id, workspace_id, name, state,"
        " source_connection_id, destination_connection_id, destination_list_id, mapping_version)"
        " values (:i, :w, 'x', 'active', :s, :d, :l, 1)",
        i=integration,
        w=world.workspace,
        s=world.source,
        d=connection,
        l=str(listed.json()["id"]),
    )
    await world.execute(
        "insert into sync.runs (run_id, integration_id, workspace_id, run_no, mode,"
        " mapping_version, fencing) values (:r, :i, :w, 1, 'changes', 1, 1)",
        r=ids.run_id(integration, 1),
        i=integration,
        w=world.workspace,
    )
    return Target(integration, connection, str(made["account"]))


async def plan_faults(brevo: Served, one: Target, *faults: Mapping[str, Any]) -> None:
    """Let an account's calls go wrong from now on; without faults end that."""
    answer = await brevo.control.put(
        "/_sandbox/faults", json=list(faults), params={"account": one.account}
    )
    assert answer.is_success, answer.text


def page(world: World, one: Target, number: int) -> tuple[str, Event]:
    """Return a part with a new version of each of an account's contacts."""
    effects = [
        upsert(f"c{each}", ms=number * 1000, FIRSTNAME=f"Version {number}")
        for each in range(CONTACTS)
    ]
    run = ids.run_id(one.integration, 1)
    mapped = Mapped(
        id=ids.record_id(run, number, 0, [(each.id, each.version_ms) for each in effects]),
        workspace=world.workspace,
        integration=one.integration,
        destination=one.connection,
        run=run,
        run_no=1,
        mode=RunMode.CHANGES,
        fencing=1,
        page=number,
        part=0,
        mapping_version=1,
        effects=effects,
    )
    return str(one.connection), mapped


@asynccontextmanager
async def hearing(kafka: str, topics: TopicNames) -> AsyncIterator[Told]:
    """Hear what is told of contacts, as soon as it is."""
    told = Told(set())
    consumer = AIOKafkaConsumer(
        topics.of(Topic.CONTACTS_SETTLED), bootstrap_servers=kafka, auto_offset_reset="earliest"
    )
    await consumer.start()

    async def listen() -> None:
        while True:
            for records in (await consumer.getmany(timeout_ms=100)).values():
                for record in records:
                    told.hear(decode(Topic.CONTACTS_SETTLED, record.value))

    listening = asyncio.create_task(listen())
    try:
        yield told
    finally:
        listening.cancel()
        await asyncio.wait({listening})
        await consumer.stop()


@asynccontextmanager
async def writing(
    kafka: str, topics: TopicNames, brevo: Served, database: str
) -> AsyncIterator[Publisher]:
    """Run one writer; hand out what publishes to it."""
    settings = WriterSettings(
        kafka_bootstrap=kafka,
        database_url=database,
        keys=Secret(KEYS),
        environment=Environment.TEST,
        provider_base_urls={"brevo": brevo.url},
        drain_every_s=0.5,
        rate_limits=False,
    )
    stop = asyncio.Event()
    pool = store.create_pool(database, size_max=8)
    process = Process("writer", stop, HealthServer("127.0.0.1", 0), SystemClock())
    async with Publisher(kafka, source="test", names=topics) as publisher, process.tasks:
        running = process.tasks.create_task(serve(process, settings, publisher, pool, brevo.http))
        try:
            yield publisher
        finally:
            stop.set()
            await running
    await pool.close()


async def fresh(
    told: Told, publisher: Publisher, world: World, targets: Sequence[Target], number: int
) -> None:
    """Publish a page for each account; return once each is settled."""
    await publisher.publish_all(
        Topic.CONTACTS_MAPPED, [page(world, each, number) for each in targets]
    )
    async with asyncio.timeout(WITHIN_S):
        while not all((each.integration, number) in told.pages for each in targets):  # noqa: ASYNC110  # heard by another task
            await asyncio.sleep(0.02)


async def names(brevo: Served, one: Target) -> set[str]:
    """Return what an account's contacts are called."""
    state = (await brevo.control.get("/_sandbox/state", params={"account": one.account})).json()
    return {each["attributes"]["FIRSTNAME"] for each in state["contacts"]}


@pytest.mark.parametrize(
    "trouble",
    [
        pytest.param({"kind": "latency", "seconds": TROUBLE_S}, id="slow"),
        pytest.param({"kind": "cut", "seconds": TROUBLE_S}, id="dead"),
    ],
)
async def test_a_slow_or_dead_account_among_twenty_is_nobody_elses_trouble(
    world: World,
    brevo: Served,
    kafka: str,
    topics: TopicNames,
    role_url: Callable[[str], str],
    trouble: Mapping[str, Any],
) -> None:
    """Faults 41 and 63: the others wait for no call of his, and later nothing is left behind."""
    targets = [await target(world, brevo, number) for number in range(ACCOUNTS)]
    bad, others = targets[0], targets[1:]
    async with (
        writing(kafka, topics, brevo, role_url("writer")) as publisher,
        hearing(kafka, topics) as told,
    ):
        await fresh(told, publisher, world, targets, 1)  # Leases taken, destinations opened.
        await plan_faults(brevo, bad, trouble)
        first, *rounds = range(2, 2 + ROUNDS)
        await publisher.publish(Topic.CONTACTS_MAPPED, *page(world, bad, first))
        await fresh(told, publisher, world, others, first)
        # None of his calls is over yet: whoever had waited for one would not be settled.
        stands, waits = await names(brevo, bad), await world.parked()
        overtaken = [(bad.integration, first) not in told.pages]
        for number in rounds:
            await publisher.publish(Topic.CONTACTS_MAPPED, *page(world, bad, number))
            await fresh(told, publisher, world, others, number)
            overtaken.append((bad.integration, number) not in told.pages)
        await plan_faults(brevo, bad)
        await world.unblock_in_time()
        async with asyncio.timeout(WITHIN_S):
            while await world.parked() or await lag(kafka, topics):  # a counter tells nobody
                await world.unblock_in_time()
                await asyncio.sleep(0.1)

    assert (stands, waits) == ({"Version 1"}, {})
    assert all(overtaken), "somebody waited for a page of his"
    assert await names(brevo, bad) == {f"Version {1 + ROUNDS}"}
    assert await world.held() == 0
    await world.check_ledger()


async def lag(kafka: str, topics: TopicNames) -> int:
    """Return how many records the writer has not finished."""
    return await oracle.lag(kafka, topics.of(Topic.CONTACTS_MAPPED), "writer")
