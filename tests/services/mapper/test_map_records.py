"""The mapper between two real topics, with a real database."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

import msgspec
import pytest
from aiokafka import AIOKafkaConsumer
from sqlalchemy import text

from libs.common import ids
from libs.common.consumer import Batch, Consumer, Record
from libs.common.database import SessionMaker
from libs.common.errors import UnavailableError
from libs.common.events import (
    Change,
    Changed,
    Event,
    Mapped,
    Operation,
    RunMode,
    RunRead,
    Topic,
    decode,
)
from libs.common.postgres import Transactions, create_pool
from libs.common.publisher import Publisher
from libs.common.topics import TopicNames
from services.mapper.__main__ import weigh
from services.mapper.map_records import RecordMapper
from services.mapper.store import Integration, load_integration

EVENTUALLY_S = 60
FIELDS = [
    {"source": "email", "destination": "EMAIL", "destination_type": "email"},
    {"source": "firstname", "destination": "NAME", "destination_type": "text"},
]


@dataclass
class World:
    """An integration, the mapper's view of the database, and what it published."""

    owner: SessionMaker
    as_mapper: Transactions
    integration: UUID = field(default_factory=uuid4)
    workspace: UUID = field(default_factory=uuid4)
    destination: UUID = field(default_factory=uuid4)
    loads: list[set[int]] = field(default_factory=list)
    published: list[tuple[str, Event]] = field(default_factory=list)

    async def set_up(self) -> None:
        await self.execute(
            "insert into config.workspaces (workspace_id, name) values (:workspace, 'Ours')"
        )
        await self.execute(
            """insert into config.connections (connection_id, workspace_id, provider, name)
            values (:destination, :workspace, 'brevo', 'Ours')"""
        )
        await self.execute(
            """insert into config.integrations
            (integration_id, workspace_id, name, state, destination_connection_id, mapping_version)
            values (:integration, :workspace, 'Ours', 'active', :destination, 1)"""
        )
        await self.map(1, FIELDS)

    async def map(self, version: int, fields: object) -> None:
        await self.execute(
            """insert into config.field_mappings
            (integration_id, version, workspace_id, fields, created_by)
            values (:integration, :version, :workspace, cast(:fields as jsonb), 'test')""",
            version=version,
            fields=msgspec.json.encode(fields).decode(),
        )

    async def execute(self, statement: str, **parameters: object) -> None:
        ours = {
            "integration": self.integration,
            "workspace": self.workspace,
            "destination": self.destination,
        }
        async with self.owner.begin() as session:
            await session.execute(text(statement), {**ours, **parameters})

    async def load(self, integration: UUID, versions: set[int]) -> Integration | None:
        self.loads.append(versions)
        return await load_integration(self.as_mapper, integration, versions=versions)

    async def publish(self, topic: Topic, events: Any) -> None:
        assert topic is Topic.CONTACTS_MAPPED
        self.published.extend(events)

    async def handle(self, mapper: RecordMapper, *events: Event) -> None:
        records = [
            Record(event=event, topic=Topic.CONTACTS_CHANGED, partition=0, offset=offset, key="")
            for offset, event in enumerate(events)
        ]
        await mapper.handle(
            Batch(
                key=str(self.integration),
                topic=Topic.CONTACTS_CHANGED,
                partition=0,
                records=records,
            )
        )

    def mapped(self) -> list[Mapped]:
        return [event for _, event in self.published if isinstance(event, Mapped)]

    def changed(self, *changes: Change, page: int = 1, **fields: Any) -> Changed:
        run = ids.run_id(self.integration, 1)
        versions = [(change.id, change.version_ms) for change in changes]
        return Changed(
            **{
                "id": ids.record_id(run, page, 1, versions),
                "workspace": self.workspace,
                "integration": self.integration,
                "run": run,
                "run_no": 1,
                "mode": RunMode.FULL,
                "fencing": 1,
                "page": page,
                "part": 1,
                "mapping_version": 1,
                "properties": ["email", "firstname"],
                "changes": list(changes),
                **fields,
            }
        )

    def run_read(self) -> RunRead:
        return RunRead(
            id=uuid4(),
            workspace=self.workspace,
            integration=self.integration,
            run=ids.run_id(self.integration, 1),
            run_no=1,
            mode=RunMode.FULL,
            fencing=1,
            mapping_version=1,
            pages=1,
            parts=1,
            read=1,
        )


def contact(id_: str, email: str | None = None, op: Operation = Operation.UPSERT) -> Change:
    properties = {"email": email or f"{id_}@example.com", "firstname": "Ada"}
    raw = msgspec.Raw(msgspec.json.encode(properties))
    return Change(id=id_, op=op, version_ms=1, properties=raw)


@pytest.fixture
async def world(sessions: SessionMaker, role_url: Callable[[str], str]) -> AsyncIterator[World]:
    pool = create_pool(role_url("mapper"), size_max=2, application_name="test")
    world = World(sessions, Transactions(pool))
    await world.set_up()
    yield world
    await pool.close()


@pytest.fixture
def mapper(world: World) -> RecordMapper:
    return RecordMapper(world.load, world.publish)


async def test_records_come_out_in_order_under_their_destination(
    world: World, mapper: RecordMapper
) -> None:
    end = world.run_read()

    await world.handle(mapper, world.changed(contact("1")), world.changed(contact("2")), end)

    assert [key for key, _ in world.published] == [str(world.destination)] * 3
    assert [mapped.effects[0].id for mapped in world.mapped()] == ["1", "2"]
    last = world.published[-1][1]
    assert isinstance(last, RunRead)
    assert (last.id, last.destination) == (end.id, world.destination)


async def test_a_mapping_version_is_loaded_once(world: World, mapper: RecordMapper) -> None:
    await world.handle(mapper, world.changed(contact("1")))
    await world.handle(mapper, world.changed(contact("2")))

    assert world.loads == [{1}, set()]


async def test_a_page_is_mapped_by_the_version_it_was_read_under(
    world: World, mapper: RecordMapper
) -> None:
    """Proves PROTOCOL 12: a removed field while pages are on their way."""
    await world.map(2, FIELDS[:1])

    await world.handle(
        mapper,
        world.changed(contact("1")),
        world.changed(contact("1"), mapping_version=2, properties=["email"]),
    )

    assert [bytes(mapped.effects[0].attributes) for mapped in world.mapped()] == [
        b'{"NAME":"Ada"}',
        b"{}",
    ]


async def test_a_page_says_itself_whether_its_phones_stay(
    world: World, mapper: RecordMapper
) -> None:
    """Proves SF6: of two providers' pages under one mapping, each goes by its own rule."""
    phone = {"source": "phone", "destination": "SMS", "destination_type": "phone"}
    await world.map(2, [FIELDS[0], phone])
    asked_for: dict[str, Any] = {"mapping_version": 2, "properties": ["email", "phone"]}

    await world.handle(
        mapper,
        world.changed(contact("1"), **asked_for),
        world.changed(contact("1"), phones_stay=True, **asked_for),
        world.changed(contact("1"), **asked_for),
    )

    assert [bytes(mapped.effects[0].attributes) for mapped in world.mapped()] == [
        b'{"SMS":null}',
        b"{}",
        b'{"SMS":null}',
    ]


async def test_an_archived_integrations_contacts_are_rejected(
    world: World, mapper: RecordMapper
) -> None:
    await world.execute(
        "update config.integrations set state = 'archived' where integration_id = :integration"
    )

    await world.handle(
        mapper, world.changed(contact("1"), contact("2", op=Operation.LEAVE)), world.run_read()
    )

    [mapped] = world.mapped()
    assert mapped.rejected == [("1", 1, "integration_archived"), ("2", 1, "integration_archived")]
    assert mapped.destination == world.destination


async def test_an_integration_that_is_gone_is_told_of_under_its_own_id(
    world: World, mapper: RecordMapper
) -> None:
    gone = uuid4()

    await world.handle(mapper, world.changed(contact("1"), integration=gone))

    [mapped] = world.mapped()
    assert (mapped.destination, mapped.rejected) == (gone, [("1", 1, "integration_archived")])


async def test_leaves_need_no_mapping_and_upserts_without_one_are_rejected(
    world: World, mapper: RecordMapper
) -> None:
    """Proves PROTOCOL 12: a leave mapped by an old version."""
    await world.handle(
        mapper,
        world.changed(contact("1"), contact("2", op=Operation.LEAVE), mapping_version=99),
    )

    [mapped] = world.mapped()
    assert [effect.id for effect in mapped.effects] == ["2"]
    assert mapped.rejected == [("1", 1, "malformed")]


async def test_mapping_a_record_again_gives_the_same_record(
    world: World, mapper: RecordMapper
) -> None:
    """Proves X2."""
    changed = world.changed(contact("1"), contact("2", "broken"))

    await world.handle(mapper, changed)
    await world.handle(RecordMapper(world.load, world.publish), changed)

    [once, again] = world.mapped()
    assert msgspec.json.encode(once) == msgspec.json.encode(again)


async def test_a_record_that_was_not_acknowledged_is_not_finished(world: World) -> None:
    """Proves X2."""

    async def publish(topic: Topic, events: Any) -> None:
        raise UnavailableError(host="broker", reason="no acknowledgement")

    with pytest.raises(UnavailableError):
        await world.handle(RecordMapper(world.load, publish), world.changed(contact("1")))


def test_a_record_weighs_its_contacts(world: World) -> None:
    assert weigh(world.changed(contact("1"), contact("2"))) == 2
    assert weigh(world.run_read()) == 1


async def test_what_was_changed_is_mapped_from_topic_to_topic(
    world: World, kafka: str, topics: TopicNames
) -> None:
    stop = asyncio.Event()
    async with Publisher(kafka, source="test", names=topics) as publisher:
        mapper = RecordMapper(world.load, publisher.publish_all)
        consumer = Consumer(
            kafka,
            group="mapper",
            topics=[Topic.CONTACTS_CHANGED],
            handler=mapper.handle,
            publisher=publisher,
            names=topics,
        )
        running = asyncio.create_task(consumer.run(stop))
        key = str(world.integration)
        sent = [world.changed(contact(str(number)), page=number) for number in range(1, 21)]
        await publisher.publish_all(
            Topic.CONTACTS_CHANGED, [*((key, event) for event in sent), (key, world.run_read())]
        )
        async with _reading(kafka, topics.of(Topic.CONTACTS_MAPPED)) as read:
            events = await read(21)
        stop.set()
        await running

    assert [event.page for event in events[:20] if isinstance(event, Mapped)] == list(range(1, 21))
    assert isinstance(events[20], RunRead)


@asynccontextmanager
async def _reading(kafka: str, topic: str) -> AsyncIterator[Callable[[int], Any]]:
    consumer = AIOKafkaConsumer(topic, bootstrap_servers=kafka, auto_offset_reset="earliest")
    await consumer.start()

    async def read(count: int) -> Sequence[Event]:
        async with asyncio.timeout(EVENTUALLY_S):
            return [
                decode(Topic.CONTACTS_MAPPED, (await consumer.getone()).value) for _ in range(count)
            ]

    try:
        yield read
    finally:
        await consumer.stop()
