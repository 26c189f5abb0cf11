"""What the tests of the Kafka plumbing share: numbered events, consumers, patience."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID, uuid4

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import GroupCoordinatorNotAvailableError, NotCoordinatorForGroupError
from aiokafka.structs import ConsumerRecord

from libs.common.consumer import Batch, Bounds, Consumer
from libs.common.events import QuotaChanged, QuotaKind, Topic
from libs.common.publisher import Publisher
from libs.common.topics import TopicNames

TOPIC = Topic.QUOTA_CHANGED
EVENTUALLY_S = 60.0
LOOK_S = 0.01

QUICK = Bounds(
    commit_every_s=0.05,
    commit_s=2.0,
    revoke_drain_s=3.0,
    hook_s=2.0,
    drain_s=3.0,
    stop_s=30.0,  # Who is cut leaves its connections open, for some later test to fail on.
    retry_first_s=0.01,
    retry_most_s=0.05,
    # A member whose machine is busy must not be taken for dead.
    session_s=30.0,
    heartbeat_s=0.2,
    rebalance_s=8.0,
)

# The shortest that a broker allows, so that a dead member's eviction does not take a minute.
EVICTING = replace(QUICK, session_s=6.0)


class ChosenClock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.seconds = 1_000.0

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.seconds, UTC)

    def monotonic(self) -> float:
        return self.seconds


def numbered(number: int) -> QuotaChanged:
    """Return an event that is known by its number."""
    return QuotaChanged(
        id=uuid4(),
        kind=QuotaKind.THRESHOLD,
        workspace=UUID(int=number),
        period="2026-11-01",
        limit=100,
        revision=1,
        used=number,
    )


def numbers(batch: Batch) -> list[int]:
    events = [record.event for record in batch.records]
    return [event.used for event in events if isinstance(event, QuotaChanged)]


class Recorder:
    """A handler that remembers what it was given, by key, and can be held up by key."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.by_key: defaultdict[str, list[int]] = defaultdict(list)
        self.running: set[str] = set()
        self.closed: dict[str, asyncio.Event] = {}
        self.seen: list[Batch] = []

    async def __call__(self, batch: Batch) -> None:
        assert batch.key not in self.running, "two batches of one lane at once"
        self.running.add(batch.key)
        self.seen.append(batch)
        try:
            if batch.key in self.closed:
                await self.closed[batch.key].wait()
            self.batches.append(numbers(batch))
            self.by_key[batch.key] += numbers(batch)
        finally:
            self.running.discard(batch.key)

    def close(self, key: str) -> None:
        """Hold up the batches of a key until `open`."""
        self.closed[key] = asyncio.Event()

    def open(self, key: str) -> None:
        self.closed.pop(key).set()

    @property
    def all(self) -> list[int]:
        return sorted(number for numbers in self.by_key.values() for number in numbers)


async def eventually(condition: Callable[[], bool], *, within_s: float = EVENTUALLY_S) -> None:
    """Return when a condition holds; fail if it does not within a bound."""
    async with asyncio.timeout(within_s):
        while not condition():  # noqa: ASYNC110  # the condition belongs to no event
            await asyncio.sleep(LOOK_S)


@asynccontextmanager
async def running(consumer: Consumer) -> AsyncIterator[asyncio.Event]:
    """Run a consumer for as long as the block lasts; raises what its `run` raises."""
    stop = asyncio.Event()
    task = asyncio.create_task(consumer.run(stop))
    try:
        yield stop
    finally:
        stop.set()
        async with asyncio.timeout(EVENTUALLY_S):
            await task


@asynccontextmanager
async def crashing(consumer: Consumer) -> AsyncIterator[None]:
    """Run a consumer and end it as kill -9 would: nothing is drained, nothing committed."""
    task = asyncio.create_task(consumer.run(asyncio.Event()))
    try:
        yield
    finally:
        kafka = consumer._started()

        async def refuse(_offsets: object) -> None:
            raise TimeoutError

        kafka.commit = refuse  # type: ignore[method-assign,assignment]  # a fault put in
        for each in list(consumer._tasks):
            each.cancel()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def fill(publisher: Publisher, events: Iterable[tuple[str, int]]) -> None:
    """Publish numbered events by key."""
    await publisher.publish_all(TOPIC, [(key, numbered(number)) for key, number in events])


async def put_bytes(
    bootstrap: str, name: str, key: bytes | None, body: bytes | None, partition: int | None = None
) -> int:
    """Put any bytes on a topic; return the partition."""
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap)
    await producer.start()
    try:
        sent = await producer.send_and_wait(
            name, body, key, partition=partition, headers=[("who", b"test")]
        )
    finally:
        await producer.stop()
    return int(sent.partition)


async def read_all(bootstrap: str, name: str, *, count: int) -> list[ConsumerRecord[bytes, bytes]]:
    """Return the first `count` records of a topic, oldest first in each partition."""
    consumer = AIOKafkaConsumer(name, bootstrap_servers=bootstrap, auto_offset_reset="earliest")
    await consumer.start()
    records: list[ConsumerRecord[bytes, bytes]] = []
    try:
        async with asyncio.timeout(EVENTUALLY_S):
            while len(records) < count:
                for found in (await consumer.getmany(timeout_ms=100)).values():
                    records += found
    finally:
        await consumer.stop()
    return records


async def offsets(bootstrap: str, group: str) -> dict[TopicPartition, int]:
    """Return what a group has committed, once its coordinator is there to say."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        async with asyncio.timeout(EVENTUALLY_S):
            while True:
                # A broker makes the topic of the offsets when the first group asks for it.
                with suppress(GroupCoordinatorNotAvailableError, NotCoordinatorForGroupError):
                    found = await admin.list_consumer_group_offsets(group)
                    break
                await asyncio.sleep(LOOK_S)
    finally:
        await admin.close()
    return {place: at.offset for place, at in found.items() if at.offset >= 0}


async def ends(bootstrap: str, names: TopicNames) -> dict[TopicPartition, int]:
    """Return where each partition of the test's topic ends, empty ones left out."""
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap)
    await consumer.start()
    try:
        await consumer._client._wait_on_metadata(names.of(TOPIC))
        partitions = consumer.partitions_for_topic(names.of(TOPIC)) or set()
        places = [TopicPartition(names.of(TOPIC), number) for number in partitions]
        found = await consumer.end_offsets(places)
    finally:
        await consumer.stop()
    return {place: end for place, end in found.items() if end}
