"""What is acknowledged is on the topic; what is not is told in time, and can be repeated."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import MessageSizeTooLargeError, OutOfOrderSequenceNumber

from libs.common import publisher as publisher_module
from libs.common import tracing
from libs.common.errors import UnavailableError
from libs.common.events import Topic, decode
from libs.common.publisher import Publisher, RecordTooLargeError
from libs.common.topics import DEAD_MESSAGE_BYTES_MAX, MESSAGE_BYTES_MAX, TopicNames
from tests.common.plumbing import TOPIC, ChosenClock, fill, numbered, read_all


@pytest.fixture
async def publisher(kafka: str, topics: TopicNames) -> AsyncIterator[Publisher]:
    async with Publisher(kafka, source="test", names=topics, linger_ms=1) as publisher:
        yield publisher


class FaultyProducer(AIOKafkaProducer):
    """A real producer that can be made to keep silent or to refuse."""

    silent = False
    refusal: Exception | None = None

    async def send(self, *arguments: Any, **named: Any) -> asyncio.Future[Any]:
        if self.silent:
            return asyncio.get_running_loop().create_future()
        if self.refusal is not None:
            refused: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
            refused.set_exception(self.refusal)
            return refused
        sent: asyncio.Future[Any] = await super().send(*arguments, **named)  # type: ignore[no-untyped-call]  # aiokafka is untyped here
        return sent


class Faults:
    """Makes producers and remembers them."""

    def __init__(self, bootstrap: str) -> None:
        self.bootstrap = bootstrap
        self.made: list[FaultyProducer] = []

    def connect(self) -> FaultyProducer:
        make: Callable[..., FaultyProducer] = FaultyProducer  # aiokafka's is untyped.
        producer = make(bootstrap_servers=self.bootstrap, acks="all", enable_idempotence=True)
        self.made.append(producer)
        return producer


@pytest.fixture
def faults(kafka: str) -> Faults:
    return Faults(kafka)


@pytest.fixture
async def faulty(kafka: str, topics: TopicNames, faults: Faults) -> AsyncIterator[Publisher]:
    async with Publisher(
        kafka, source="test", names=topics, connect=faults.connect, send_s=3.0
    ) as publisher:
        yield publisher


async def test_a_record_is_an_event_with_cloudevents_headers(
    kafka: str, topics: TopicNames
) -> None:
    event = numbered(7)

    async with Publisher(
        kafka, source="poller", names=topics, clock=ChosenClock(), linger_ms=1
    ) as publisher:
        with tracing.within(tracing.start()) as trace:
            await publisher.publish(TOPIC, "a", event)

    [record] = await read_all(kafka, topics.of(TOPIC), count=1)
    headers = dict(record.headers)
    assert decode(TOPIC, record.value) == event
    assert record.key == b"a"
    assert headers["ce_specversion"] == b"1.0"
    assert headers["ce_id"] == str(event.id).encode()
    assert headers["ce_type"] == b"contactsync.quota.changed.v1.quota_changed"
    assert headers["ce_source"] == b"contactsync/poller"
    assert headers["ce_time"] == b"1970-01-01T00:16:40Z"
    assert headers["content-type"] == b"application/json"
    assert trace.trace_id.encode() in headers["traceparent"]


async def test_pipelined_records_of_a_key_keep_their_order(
    kafka: str, topics: TopicNames, publisher: Publisher
) -> None:
    """Proves the order per key that R4 and the lanes stand on."""
    await fill(publisher, [("a", number) for number in range(500)])

    records = await read_all(kafka, topics.of(TOPIC), count=500)
    used = [decode(TOPIC, record.value) for record in records]
    assert [event.used for event in used] == list(range(500))  # type: ignore[attr-defined]  # QuotaChanged, as sent


async def test_an_event_goes_only_to_its_own_topic(publisher: Publisher) -> None:
    with pytest.raises(AssertionError, match="QuotaChanged does not belong on"):
        await publisher.publish(Topic.CONTACTS_MAPPED, "a", numbered(1))


@pytest.mark.parametrize("size", [DEAD_MESSAGE_BYTES_MAX, MESSAGE_BYTES_MAX])
async def test_a_record_larger_than_a_topic_takes_is_a_bug_told_as_such(
    topics: TopicNames, publisher: Publisher, size: int
) -> None:
    """The first is refused by the producer, the second by the broker."""
    with pytest.raises(RecordTooLargeError, match="split it"):
        await publisher.send(topics.of(TOPIC), b"a", b"x" * size, [])

    await publisher.publish(TOPIC, "a", numbered(1))


async def test_a_record_as_large_as_a_topic_takes_can_be_a_dead_letter(
    topics: TopicNames, publisher: Publisher
) -> None:
    body = b"x" * (MESSAGE_BYTES_MAX - 100)

    await publisher.send(topics.of(TOPIC), b"a", body, [])
    await publisher.send(topics.dead(TOPIC), b"a", body, [("dead_reason", b"y" * 1000)])


async def test_a_topic_that_is_not_there_is_unavailable_in_bounded_time(
    kafka: str, topics: TopicNames
) -> None:
    async with Publisher(kafka, source="test", names=topics, send_s=0.5) as publisher:
        with pytest.raises(UnavailableError, match="not-there"):
            await publisher.send("not-there", b"a", b"{}", [])


async def test_one_missing_topic_does_not_hold_up_the_others(
    kafka: str, topics: TopicNames
) -> None:
    async with Publisher(kafka, source="test", names=topics, linger_ms=1) as publisher:
        missing = publisher.send("not-there", b"a", b"{}", [])

        async with asyncio.timeout(60):
            await publisher.publish(TOPIC, "a", numbered(1))

        missing.cancel()


async def test_a_broker_that_is_not_there_is_unavailable(unused_tcp_port: int) -> None:
    publisher = Publisher(f"127.0.0.1:{unused_tcp_port}", source="test", send_s=5)

    with pytest.raises(UnavailableError, match="KafkaConnectionError"):
        await publisher.start()
    await publisher.stop()


async def test_a_broker_that_never_answers_is_unavailable_in_bounded_time() -> None:
    hung_up = asyncio.Event()

    async def keep_silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()
        hung_up.set()

    server = await asyncio.start_server(keep_silent, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    publisher = Publisher(f"127.0.0.1:{port}", source="test", send_s=0.5)

    async with asyncio.timeout(60):
        with pytest.raises(UnavailableError, match="no answer"):
            await publisher.start()
        await hung_up.wait()
    server.close()


async def test_a_sequence_gap_replaces_the_producer_and_the_repetition_arrives(
    kafka: str, topics: TopicNames, faults: Faults, faulty: Publisher
) -> None:
    """Proves fault 25: the broker itself refuses the gap, and a new producer recovers."""
    await faulty.publish(TOPIC, "a", numbered(1))
    _leave_a_gap(faults.made[0], topics)

    with pytest.raises(UnavailableError, match="OutOfOrderSequenceNumber"):
        await faulty.publish(TOPIC, "a", numbered(2))
    await faulty.publish(TOPIC, "a", numbered(2))

    assert len(faults.made) == 2
    records = await read_all(kafka, topics.of(TOPIC), count=2)
    assert [decode(TOPIC, record.value).used for record in records] == [1, 2]  # type: ignore[attr-defined]  # QuotaChanged, as sent


async def test_without_replacement_a_sequence_gap_stays_for_ever(
    kafka: str, topics: TopicNames, faults: Faults
) -> None:
    """Fault 25. The negative control of the test above (R12): a bare producer never recovers."""
    async with faults.connect() as producer:
        await producer.send_and_wait(topics.of(TOPIC), b"{}", b"a")
        _leave_a_gap(producer, topics)

        for _ in range(3):
            with pytest.raises(OutOfOrderSequenceNumber):
                await producer.send_and_wait(topics.of(TOPIC), b"{}", b"a")


def _leave_a_gap(producer: AIOKafkaProducer, topics: TopicNames) -> None:
    """Spend sequence numbers on nothing, as a batch does that expires without a leader."""
    assert producer._txn_manager is not None
    for partition in range(3):
        producer._txn_manager.increment_sequence_number(
            TopicPartition(topics.of(TOPIC), partition), 5
        )


async def test_a_silent_producer_is_replaced(faults: Faults, faulty: Publisher) -> None:
    faults.made[0].silent = True

    with pytest.raises(UnavailableError, match="no acknowledgement"):
        await faulty.publish(TOPIC, "a", numbered(1))
    await faulty.publish(TOPIC, "a", numbered(1))

    assert len(faults.made) == 2


async def test_what_waits_for_a_replaced_producer_is_told_at_once(
    faults: Faults, faulty: Publisher
) -> None:
    faults.made[0].silent = True
    waiting = faulty.publish(TOPIC, "a", numbered(1))
    await asyncio.sleep(0.05)
    faults.made[0].silent = False
    faults.made[0].refusal = OutOfOrderSequenceNumber()

    with pytest.raises(UnavailableError):
        await faulty.publish(TOPIC, "a", numbered(2))

    async with asyncio.timeout(60):
        with pytest.raises(UnavailableError, match="was replaced"):
            await waiting


async def test_a_producer_that_does_not_flush_leaves_no_connection(
    faults: Faults, faulty: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its sender would go on, and its connections stay open, until the process ends."""
    monkeypatch.setattr(publisher_module, "CLOSE_S", 0.2)
    [producer] = faults.made
    await faulty.publish(TOPIC, "a", numbered(1))
    never = asyncio.Event()
    monkeypatch.setattr(producer._message_accumulator, "flush", never.wait)

    await faulty.stop()

    assert producer.client._conns
    assert not any(connection.connected() for connection in producer.client._conns.values())
    assert producer._sender.sender_task.done()


async def test_a_slow_topic_does_not_replace_a_producer_that_works(
    faults: Faults, faulty: Publisher
) -> None:
    slow = faulty.send("not-there", b"a", b"{}", [])
    await asyncio.sleep(0.1)
    await faulty.publish(TOPIC, "a", numbered(1))

    with pytest.raises(UnavailableError):
        await slow

    assert len(faults.made) == 1


async def test_what_is_no_fault_of_kafka_is_let_through(faults: Faults, faulty: Publisher) -> None:
    faults.made[0].refusal = ZeroDivisionError()

    with pytest.raises(ZeroDivisionError):
        await faulty.publish(TOPIC, "a", numbered(1))


async def test_publishing_many_raises_after_all_have_ended(
    faults: Faults, faulty: Publisher
) -> None:
    faults.made[0].refusal = MessageSizeTooLargeError()

    with pytest.raises(RecordTooLargeError):
        await faulty.publish_all(TOPIC, [("a", numbered(1)), ("a", numbered(2))])
