"""The service over ActiveCampaign's sandbox: what is special about it is the registry's to know."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from libs.common.clock import SystemClock
from libs.common.events import Event, Settled, Topic
from libs.common.health import HealthServer
from libs.common.lifecycle import Process
from libs.common.publisher import Publisher
from libs.common.secrets import KeyRing
from libs.common.settings import Environment, Secret
from libs.common.topics import TopicNames
from sandbox.activecampaign.app import create_app
from sandbox.activecampaign.state import State
from services.writer import store
from services.writer.__main__ import serve
from services.writer.settings import WriterSettings
from tests.connectors.served import Served, served
from tests.services.writer.test_service import KEYS, WITHIN_S, told
from tests.services.writer.world import World, upsert

KEY = "activecampaign-sandbox"
NEW, ROOM = 130, 100


@pytest.fixture
async def account() -> AsyncIterator[Served]:
    async with served(create_app(State())) as one:
        yield one


async def connect(world: World, account: Served) -> None:
    """Make the integration's destination an account at the sandbox, with its first list."""
    sealed = KeyRing.parse(KEYS).seal(
        KEY, workspace=world.workspace, connection=world.destination, field="api_key"
    )
    await world.execute(
        "update config.connections set provider = 'activecampaign', sealed_api_key = :k,"
        " account_url = 'https://default.api-us1.com/api/3' where connection_id = :c",
        k=sealed,
        c=world.destination,
    )
    await world.configure(destination_list_id="1")


@pytest.mark.no_cover  # Thousands of turns; its lines are others' to cover.
async def test_an_account_is_filled_in_silence_until_it_is_full(
    world: World,
    account: Served,
    kafka: str,
    topics: TopicNames,
    role_url: Callable[[str], str],
) -> None:
    """Proves AC3, AC6 through the pipeline: an import, singles, and those that find no room wait.

    Nobody who left is put back (S3), and only what was written is charged (Q6).
    """
    await world.begin_run(1)
    await connect(world, account)
    left = {"contacts": [{"email": "c0@example.com"}], "list": "Master Contact List"}
    await account.post("contacts:upsert", left)
    await account.post("contacts:block", {"emails": ["c0@example.com"]})
    await account.put("settings", {"contact_limit": ROOM})
    settings = WriterSettings(
        kafka_bootstrap=kafka,
        database_url=role_url("writer"),
        keys=Secret(KEYS),
        environment=Environment.TEST,
        provider_base_urls={"activecampaign": account.url},
        drain_every_s=0.5,
    )
    stop = asyncio.Event()
    pool = store.create_pool(role_url("writer"), size_max=6)
    process = Process("writer", stop, HealthServer("127.0.0.1", 0), SystemClock())
    async with Publisher(kafka, source="test", names=topics) as publisher, process.tasks:
        running = process.tasks.create_task(serve(process, settings, publisher, pool, account.http))
        effects = [upsert(f"c{number}", FIRSTNAME=f"Ada {number}") for number in range(NEW)]
        await publisher.publish(
            Topic.CONTACTS_MAPPED, str(world.destination), world.record(*effects)
        )
        await told(kafka, topics, until=lambda events: _settled(events) >= ROOM)
        async with asyncio.timeout(WITHIN_S):
            # The database gives no event for what is parked.
            while "contact_limit" not in (await world.parked()).values():  # noqa: ASYNC110 - see above
                await asyncio.sleep(0.05)
        stop.set()
        await running
    await pool.close()

    state = await account.get("state")
    [unsubscribed] = [each for each in state["contacts"] if each["email"] == "c0@example.com"]
    assert len(state["contacts"]) == ROOM
    assert len(await world.parked()) == NEW - ROOM
    assert unsubscribed["statuses"] == {"1": 2}
    assert unsubscribed["attributes"] == {"FIRSTNAME": "Ada 0"}
    assert state["triggered"] == {}
    assert await world.posted() == ROOM
    await world.check_ledger()


def _settled(events: list[Event]) -> int:
    """Return how many contacts were written, by what was told of them."""
    return sum(
        len(event.created) + len(event.updated) for event in events if isinstance(event, Settled)
    )
