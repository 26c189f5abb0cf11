"""The service as it is wired: Kafka in, Brevo's sandbox over HTTP, Kafka out."""

import asyncio
import base64
from collections.abc import AsyncIterator, Callable

import pytest
from aiokafka import AIOKafkaConsumer

from libs.common.clock import SystemClock
from libs.common.events import Event, RunRead, Settled, Topic, decode
from libs.common.health import HealthServer
from libs.common.lifecycle import Process
from libs.common.publisher import Publisher
from libs.common.secrets import KeyRing
from libs.common.settings import Environment, Secret
from libs.common.topics import TopicNames
from sandbox.brevo.app import create_app
from sandbox.brevo.state import State
from services.writer import store
from services.writer.__main__ import serve, weigh
from services.writer.settings import WriterSettings
from tests.connectors.served import Served, served
from tests.services.writer.world import World, upsert

KEYS = "test:" + base64.b64encode(b"k" * 32).decode()
WITHIN_S = 60.0


@pytest.fixture
async def brevo() -> AsyncIterator[Served]:
    async with served(create_app(State())) as one:
        yield one


async def connect(world: World, brevo: Served) -> None:
    """Make the integration's destination an account at Brevo's sandbox, with a list."""
    folder = await brevo.control.post(
        "/v3/contacts/folders", json={"name": "Test"}, headers={"api-key": "xkeysib-sandbox"}
    )
    made = await brevo.control.post(
        "/v3/contacts/lists",
        json={"name": "Customers", "folderId": folder.json()["id"]},
        headers={"api-key": "xkeysib-sandbox"},
    )
    sealed = KeyRing.parse(KEYS).seal(
        "xkeysib-sandbox", workspace=world.workspace, connection=world.destination, field="api_key"
    )
    await world.execute(
        "update config.connections set provider = 'brevo', sealed_api_key = :k"
        " where connection_id = :c",
        k=sealed,
        c=world.destination,
    )
    await world.configure(destination_list_id=str(made.json()["id"]))


async def told(
    kafka: str, topics: TopicNames, *, until: Callable[[list[Event]], bool]
) -> list[Event]:
    """Return what arrives on the settled topic until it is enough."""
    consumer = AIOKafkaConsumer(
        topics.of(Topic.CONTACTS_SETTLED), bootstrap_servers=kafka, auto_offset_reset="earliest"
    )
    await consumer.start()
    events: list[Event] = []
    try:
        async with asyncio.timeout(WITHIN_S):
            while not until(events):
                for records in (await consumer.getmany(timeout_ms=200)).values():
                    events += [decode(Topic.CONTACTS_SETTLED, each.value) for each in records]
    finally:
        await consumer.stop()
    return events


async def test_what_was_mapped_is_written_to_brevo_and_told(
    world: World,
    brevo: Served,
    kafka: str,
    topics: TopicNames,
    role_url: Callable[[str], str],
) -> None:
    """150 first links go by an import, three edits singly; a refused key parks and comes back."""
    await world.begin_run(1)
    await connect(world, brevo)
    settings = WriterSettings(
        kafka_bootstrap=kafka,
        database_url=role_url("writer"),
        keys=Secret(KEYS),
        environment=Environment.TEST,
        provider_base_urls={"brevo": brevo.url},
        drain_every_s=0.5,
    )
    stop = asyncio.Event()
    pool = store.create_pool(role_url("writer"), size_max=6)
    process = Process("writer", stop, HealthServer("127.0.0.1", 0), SystemClock())
    async with Publisher(kafka, source="test", names=topics) as publisher, process.tasks:
        running = process.tasks.create_task(serve(process, settings, publisher, pool, brevo.http))
        effects = [upsert(f"c{number}", FIRSTNAME=f"Ada {number}") for number in range(150)]
        edits = [upsert(f"c{number}", ms=2000, FIRSTNAME="Eve") for number in range(3)]
        await publisher.publish(
            Topic.CONTACTS_MAPPED, str(world.destination), world.record(*effects)
        )
        first = await told(kafka, topics, until=lambda events: len(_written(events)) >= 150)
        await publisher.publish_all(
            Topic.CONTACTS_MAPPED,
            [
                (str(world.destination), world.record(*edits, page=2)),
                (str(world.destination), world.run_read()),
            ],
        )
        second = await told(
            kafka, topics, until=lambda events: any(isinstance(e, RunRead) for e in events)
        )
        stop.set()
        await running
    await pool.close()

    state = await brevo.get("state")
    names = {each["attributes"].get("FIRSTNAME") for each in state["contacts"]}
    assert len(_written(first)) == 150
    assert {each for event in second if isinstance(event, Settled) for each in event.updated} == {
        "c0",
        "c1",
        "c2",
    }
    assert len(state["contacts"]) == 150
    assert await world.posted() == 153
    assert await world.parked() == {}
    assert "Eve" in names
    assert await world.one("select lease_owner from delivery.destinations") is None
    await world.check_ledger()


def _written(events: list[Event]) -> set[str]:
    return {
        source_id
        for event in events
        if isinstance(event, Settled)
        for source_id in (*event.created, *event.updated)
    }


def test_a_record_weighs_as_much_as_it_has_contacts() -> None:
    world = World(None, None, None)  # type: ignore[arg-type]  # only its ids are used

    assert weigh(world.record(upsert("a"), filtered=[("b", 1)], rejected=[("c", 1, "x")])) == 3
    assert weigh(world.record()) == 1
    assert weigh(world.run_read()) == 1
