"""What the writer holds does not grow with what waits for it (ADR 0160)."""

import asyncio
from uuid import uuid4

import msgspec
import pytest

from libs.common import metrics
from libs.common.consumer import Batch, Consumer
from libs.common.events import Effect, Identity, Mapped, Operation, RunMode, Topic
from libs.common.publisher import Publisher
from libs.common.topics import TopicNames
from services.writer import drain
from services.writer.__main__ import weigh
from services.writer.live import BATCHES_WAITING_MAX
from tests.common.plumbing import QUICK, eventually, running
from tests.services.writer.world import World, upsert

CONTACTS = 200  # Of one record: as many as a record takes.
RECORDS = 100
HELD_MAX = 7_000  # A batch under way and more than two behind it; a quarter of all.
FETCH_MAX = 4_000  # What one more read may bring: a mebibyte of such records.
ATTRIBUTES = msgspec.json.encode({"NOTE": "n" * 200})


def record(page: int) -> Mapped:
    """Return a record as full and as large as records are."""
    return Mapped(
        id=uuid4(),
        workspace=uuid4(),
        integration=uuid4(),
        destination=uuid4(),
        run=uuid4(),
        run_no=1,
        mode=RunMode.FULL,
        fencing=1,
        page=page,
        part=0,
        mapping_version=1,
        effects=[
            Effect(
                id=f"{page}-{number}",
                op=Operation.UPSERT,
                version_ms=number,
                identity=Identity(email=f"somebody.{number}@example.com"),
                attributes=msgspec.Raw(ATTRIBUTES),
            )
            for number in range(CONTACTS)
        ],
    )


async def test_of_a_long_backlog_no_more_than_a_few_batches_is_held(
    kafka: str, topics: TopicNames
) -> None:
    """Counted in contacts: their bytes say little of what they are once decoded.

    Enough is held for the lane to show that it has a backlog, or a slow account would stop its
    partition (PROTOCOL.md 7).
    """
    group, is_open, waited, written = f"test-{uuid4().hex}", asyncio.Event(), [], []

    async def handle(batch: Batch) -> None:
        waited.append(batch.waiting)
        await is_open.wait()
        written.append(sum(each.weight for each in batch.records))

    async with Publisher(kafka, source="test", names=topics) as publisher:
        key = str(uuid4())
        await publisher.publish_all(
            Topic.CONTACTS_MAPPED, [(key, record(page)) for page in range(RECORDS)]
        )
        consumer = Consumer(
            kafka,
            group=group,
            topics=[Topic.CONTACTS_MAPPED],
            handler=handle,
            publisher=publisher,
            weigh=weigh,
            bounds=QUICK,
        )
        async with running(consumer):
            await eventually(lambda: metrics.PAUSED.labels(group)._value.get() == 1)
            held = consumer._load.weight
            is_open.set()
            await eventually(lambda: sum(written) == RECORDS * CONTACTS)
            await eventually(lambda: consumer._load.weight == 0)

    assert HELD_MAX <= held < HELD_MAX + FETCH_MAX
    assert max(waited) > BATCHES_WAITING_MAX
    assert max(written) <= QUICK.batch_weight_max


async def test_a_drain_takes_no_more_than_it_can_hold(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Proves Q5: a quota that is raised lets all of them go, some at a time."""
    monkeypatch.setattr(drain, "ROWS_MAX", 30)
    world.rows_min, world.rows_max = 10, 1_000
    await world.begin_run(1)
    await world.limit(0)
    writer = world.writer()
    await world.write(writer, world.record(*[upsert(f"c{number}") for number in range(100)]))
    await world.limit(1_000)

    for _ in range(4):
        await world.drain(writer)
        world.account.land()
        writer.clock.ahead_s += 70.0
        await writer.leases.renew()
    await world.drain(writer)

    assert len(world.account.contacts) == 100
    assert [len(each.writes) for each in world.account.imports] == [30, 30, 30, 10]
    assert await world.parked() == {}
