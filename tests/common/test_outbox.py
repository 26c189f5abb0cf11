"""What was committed with an event is published, in order per key, and never lost."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from uuid import uuid4

import asyncpg
import pytest
from sqlalchemy import text

from libs.common import events, metrics
from libs.common.backoff import Backoff
from libs.common.database import SessionMaker
from libs.common.errors import UnavailableError
from libs.common.events import QuotaChanged, decode
from libs.common.outbox import ROWS_MAX, OutboxRelay
from libs.common.postgres import Transactions, create_pool
from libs.common.publisher import Header, Publisher
from libs.common.topics import TopicNames
from tests.common.plumbing import EVENTUALLY_S, LOOK_S, TOPIC, eventually, numbered, read_all
from tests.fakes import CrashError
from tests.services.writer.world import crash_at

TABLE = "ledger.outbox"


@pytest.fixture
async def publisher(kafka: str, topics: TopicNames) -> AsyncIterator[Publisher]:
    async with Publisher(kafka, source="quota", names=topics, linger_ms=1) as publisher:
        yield publisher


@pytest.fixture
async def quota(role_url: Callable[[str], str]) -> AsyncIterator[Transactions]:
    """Return sessions of the role that owns the relay in production."""
    pool = create_pool(role_url("quota"), size_max=4, application_name="test")
    yield Transactions(pool)
    await pool.close()


class UnsteadyPublisher(Publisher):
    """A publisher that loses the acknowledgement of chosen sends."""

    lost: int = 0
    sent: int = 0

    def send(
        self, name: str, key: bytes | None, body: bytes | None, headers: Sequence[Header]
    ) -> asyncio.Task[None]:
        self.sent += 1
        sending = super().send(name, key, body, headers)
        if not self.lost:
            return sending
        self.lost -= 1

        async def lose() -> None:
            await sending
            raise UnavailableError(name, "acknowledgement lost")

        return asyncio.create_task(lose())


async def put(sessions: SessionMaker, *rows: tuple[str, bytes], topic: str = TOPIC.value) -> None:
    async with sessions.begin() as session:
        for key, body in rows:
            await session.execute(
                text(f"insert into {TABLE} (topic, key, body) values (:topic, :key, :body)"),
                {"topic": topic, "key": key, "body": body},
            )


def body(number: int) -> bytes:
    return events.encode(numbered(number))


async def left(sessions: SessionMaker) -> int:
    async with sessions.begin() as session:
        return int(await session.scalar(text(f"select count(*) from {TABLE}")) or 0)


async def published(kafka: str, topics: TopicNames, count: int) -> dict[str, list[int]]:
    """Return the numbers published, by key, in their order on the topic."""
    by_key: dict[str, list[int]] = {}
    for record in await read_all(kafka, topics.of(TOPIC), count=count):
        event = decode(TOPIC, record.value)
        assert isinstance(event, QuotaChanged)
        by_key.setdefault((record.key or b"").decode(), []).append(event.used)
    return by_key


async def test_rows_are_published_in_order_and_deleted(
    kafka: str,
    topics: TopicNames,
    publisher: Publisher,
    sessions: SessionMaker,
    quota: Transactions,
) -> None:
    await put(sessions, *[(f"k{number % 3}", body(number)) for number in range(30)])
    relay = OutboxRelay(quota, TABLE, publisher)

    assert await relay.publish_waiting() == 30

    assert await left(sessions) == 0
    assert await published(kafka, topics, 30) == {
        f"k{rest}": list(range(rest, 30, 3)) for rest in range(3)
    }


async def test_a_lost_acknowledgement_publishes_again_and_loses_no_order(
    kafka: str, topics: TopicNames, sessions: SessionMaker, quota: Transactions
) -> None:
    """Proves fault 14: a row behind one that failed is published again after it."""
    await put(sessions, ("a", body(1)), ("a", body(2)), ("b", body(3)))
    async with UnsteadyPublisher(kafka, source="quota", names=topics, linger_ms=1) as publisher:
        publisher.lost = 1
        relay = OutboxRelay(quota, TABLE, publisher)

        with pytest.raises(UnavailableError, match="acknowledgement lost"):
            await relay.publish_waiting()
        assert await left(sessions) == 2
        assert await relay.publish_waiting() == 2

    assert await left(sessions) == 0
    assert await published(kafka, topics, 5) == {"a": [1, 2, 1, 2], "b": [3]}


async def test_the_claim_of_a_relay_that_died_lapses(
    kafka: str,
    topics: TopicNames,
    publisher: Publisher,
    sessions: SessionMaker,
    quota: Transactions,
) -> None:
    await put(sessions, ("a", body(1)))
    async with quota.begin() as session:
        assert len(await OutboxRelay(quota, TABLE, publisher, claim_s=60)._claim(session)) == 1
    relay = OutboxRelay(quota, TABLE, publisher)

    assert await relay.publish_waiting() == 0
    async with sessions.begin() as session:
        await session.execute(text(f"update {TABLE} set claimed_until = clock_timestamp()"))
    assert await relay.publish_waiting() == 1

    assert await published(kafka, topics, 1) == {"a": [1]}


@pytest.mark.parametrize(
    ("step", "copies"),
    [
        pytest.param("outbox_claimed", 1, id="unsent"),
        pytest.param("outbox_published", 2, id="sent"),
    ],
)
async def test_a_relay_that_dies_loses_nothing(
    kafka: str,
    topics: TopicNames,
    publisher: Publisher,
    sessions: SessionMaker,
    quota: Transactions,
    step: str,
    copies: int,
) -> None:
    """Fault 14: killed with a row claimed, or acknowledged and not deleted: two copies at most."""
    await put(sessions, ("a", body(1)))
    dying = OutboxRelay(quota, TABLE, publisher, claim_s=0.2, reached=crash_at(step))
    with pytest.raises(CrashError):
        await dying.publish_waiting()
    assert await left(sessions) == 1

    relay = OutboxRelay(quota, TABLE, publisher)
    async with asyncio.timeout(EVENTUALLY_S):
        while not await relay.publish_waiting():  # noqa: ASYNC110  # a claim lapses in silence
            await asyncio.sleep(LOOK_S)

    assert await published(kafka, topics, copies) == {"a": [1] * copies}
    assert await left(sessions) == 0


async def test_a_key_waits_for_its_earlier_rows_in_another_relay(
    kafka: str,
    topics: TopicNames,
    publisher: Publisher,
    sessions: SessionMaker,
    quota: Transactions,
) -> None:
    await put(sessions, ("a", body(1)))
    async with quota.begin() as session:
        claimed = await OutboxRelay(quota, TABLE, publisher)._claim(session)
    await put(sessions, ("a", body(2)), ("b", body(3)))
    relay = OutboxRelay(quota, TABLE, publisher)

    assert await relay.publish_waiting() == 1

    assert await published(kafka, topics, 1) == {"b": [3]}
    await OutboxRelay(quota, TABLE, publisher)._settle([], claimed)
    assert await relay.publish_waiting() == 2


async def test_two_relays_side_by_side_keep_the_order_of_every_key(
    kafka: str,
    topics: TopicNames,
    publisher: Publisher,
    sessions: SessionMaker,
    quota: Transactions,
) -> None:
    count = 2 * ROWS_MAX + 50
    await put(sessions, *[(f"k{number % 5}", body(number)) for number in range(count)])
    stop = asyncio.Event()
    before = metrics.OUTBOX_PUBLISHED.labels(TABLE)._value.get()

    relays = [
        asyncio.create_task(OutboxRelay(quota, TABLE, publisher, poll_s=0.01).run(stop))
        for _ in range(2)
    ]
    await eventually(lambda: metrics.OUTBOX_PUBLISHED.labels(TABLE)._value.get() - before >= count)
    stop.set()
    await asyncio.gather(*relays)

    assert await published(kafka, topics, count) == {
        f"k{rest}": list(range(rest, count, 5)) for rest in range(5)
    }
    assert await left(sessions) == 0


async def test_a_row_that_is_no_event_is_buried_and_holds_up_nothing(
    kafka: str,
    topics: TopicNames,
    publisher: Publisher,
    sessions: SessionMaker,
    quota: Transactions,
) -> None:
    await put(sessions, ("a", b"rubbish"), ("a", body(2)))

    assert await OutboxRelay(quota, TABLE, publisher).publish_waiting() == 2

    assert await published(kafka, topics, 1) == {"a": [2]}
    [dead] = await read_all(kafka, topics.dead(TOPIC), count=1)
    assert dead.value == b"rubbish"
    assert dict(dead.headers)["dead_reason"] == b"DecodeError"


async def test_a_relay_waits_for_a_broker_that_is_away(
    kafka: str, topics: TopicNames, sessions: SessionMaker, quota: Transactions
) -> None:
    await put(sessions, ("a", body(1)))
    stop = asyncio.Event()
    async with UnsteadyPublisher(kafka, source="quota", names=topics, linger_ms=1) as publisher:
        publisher.lost = 2
        relay = OutboxRelay(quota, TABLE, publisher, poll_s=60)
        running = asyncio.create_task(relay.run(stop))
        await eventually(lambda: publisher.sent == 3)
        await put(sessions, ("a", body(2)))
        await asyncio.sleep(0.1)

        relay.wake()

        await eventually(lambda: publisher.sent == 4)
        stop.set()
        await asyncio.wait_for(running, 60)
    assert await published(kafka, topics, 4) == {"a": [1, 1, 1, 2]}


async def test_a_relay_that_is_told_to_stop_does_not_wait_for_the_broker(
    topics: TopicNames, sessions: SessionMaker, quota: Transactions, kafka: str
) -> None:
    await put(sessions, ("a", body(1)))
    stop = asyncio.Event()
    async with UnsteadyPublisher(kafka, source="quota", names=topics, linger_ms=1) as publisher:
        publisher.lost = 1_000
        relay = OutboxRelay(quota, TABLE, publisher)
        relay._backoff = Backoff(first_s=600, most_s=600, uniform=lambda _, high: high)
        running = asyncio.create_task(relay.run(stop))
        await eventually(lambda: relay._backoff.failures == 1)

        stop.set()

        await asyncio.wait_for(running, 60)


async def test_the_age_of_the_oldest_row_is_measured(
    kafka: str, topics: TopicNames, sessions: SessionMaker, quota: Transactions
) -> None:
    await put(sessions, ("a", body(1)))
    async with sessions.begin() as session:
        await session.execute(
            text(f"update {TABLE} set created_at = clock_timestamp() - interval '1 hour'")
        )
    async with UnsteadyPublisher(kafka, source="quota", names=topics, linger_ms=1) as publisher:
        publisher.lost = 1
        with pytest.raises(UnavailableError):
            await OutboxRelay(quota, TABLE, publisher).publish_waiting()

    assert 3590 < metrics.OUTBOX_OLDEST.labels(TABLE)._value.get() < 3700


async def test_a_table_that_is_not_there_is_a_bug(
    publisher: Publisher, quota: Transactions
) -> None:
    with pytest.raises(asyncpg.UndefinedTableError):
        await OutboxRelay(quota, f"ledger.t{uuid4().hex}", publisher).run(asyncio.Event())


def test_a_table_name_is_not_sql(publisher: Publisher, quota: Transactions) -> None:
    with pytest.raises(AssertionError, match="a qualified table name"):
        OutboxRelay(quota, "ledger.outbox; drop table x", publisher)
