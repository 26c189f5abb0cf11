"""At least once, in order per key: a consumer against a real broker, with its faults."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic, RecordsToDelete
from aiokafka.errors import CommitFailedError, CorruptRecordException, KafkaError
from aiokafka.protocol.fetch import FetchRequest
from msgspec import structs

from libs.common import consumer as consumer_module
from libs.common import metrics, tracing
from libs.common.consumer import READ_BYTES_MIN, Batch, Bounds, Consumer, Partition
from libs.common.errors import RateLimitedError, UnavailableError
from libs.common.events import QuotaChanged, decode, encode
from libs.common.publisher import Publisher
from libs.common.settings import KafkaSettings
from libs.common.topics import TopicNames
from tests.common.plumbing import (
    EVENTUALLY_S,
    EVICTING,
    LOOK_S,
    QUICK,
    TOPIC,
    ChosenClock,
    Recorder,
    crashing,
    ends,
    eventually,
    fill,
    numbered,
    numbers,
    offsets,
    put_bytes,
    read_all,
    running,
)

DOWN = UnavailableError("database", "down")
BUCKET = "contacts"


class Bench:
    """One test's topics, group, publisher and the consumers it makes."""

    def __init__(self, kafka: str, publisher: Publisher) -> None:
        self.kafka = kafka
        self.publisher = publisher
        self.names = publisher.names
        self.group = f"test-{uuid4().hex}"
        self.topic = publisher.names.of(TOPIC)
        self.dead = publisher.names.dead(TOPIC)

    def consumer(
        self, handler: Any, *, bounds: Bounds = QUICK, make: Any = Consumer, **more: Any
    ) -> Any:
        return make(
            self.kafka,
            group=self.group,
            topics=[TOPIC],
            handler=handler,
            publisher=self.publisher,
            bounds=bounds,
            **more,
        )

    async def fill(self, *events: tuple[str, int]) -> None:
        await fill(self.publisher, events)

    async def committed(self) -> int:
        """Return how many records the group has behind it, in all partitions."""
        return sum((await offsets(self.kafka, self.group)).values())

    async def until_committed(self, count: int) -> None:
        async with asyncio.timeout(EVENTUALLY_S):
            while await self.committed() < count:  # noqa: ASYNC110  # the broker knows, no event
                await asyncio.sleep(0.05)


@pytest.fixture
async def bench(kafka: str, topics: TopicNames) -> AsyncIterator[Bench]:
    async with Publisher(kafka, source="test", names=topics, linger_ms=1) as publisher:
        yield Bench(kafka, publisher)


# Delivery.


async def test_every_record_arrives_in_order_per_key_and_is_committed(bench: Bench) -> None:
    """Proves I1 for the path without faults."""
    await bench.fill(*[(f"k{number % 7}", number) for number in range(300)])
    recorder = Recorder()

    async with running(bench.consumer(recorder)) as _stop:
        await eventually(lambda: len(recorder.all) == 300)

    assert recorder.by_key == {f"k{rest}": list(range(rest, 300, 7)) for rest in range(7)}
    assert await offsets(bench.kafka, bench.group) == await ends(bench.kafka, bench.names)


async def test_what_is_read_says_where_it_stood(bench: Bench) -> None:
    recorder = Recorder()
    with tracing.within(tracing.start()) as trace:
        await bench.fill(("a", 1))

    async with running(bench.consumer(recorder)) as _stop:
        await eventually(lambda: recorder.all == [1])

    [batch] = recorder.seen
    [record] = batch.records
    assert (batch.topic, batch.key, batch.attempt) == (TOPIC, "a", 0)
    assert (record.topic, record.key, record.offset) == (TOPIC, "a", 0)
    assert record.partition == batch.partition
    assert record.trace.trace_id == trace.trace_id
    assert record.published_ms > 0
    assert record.size > 0


async def test_a_handler_runs_in_the_trace_of_its_record(bench: Bench) -> None:
    seen = []

    async def handle(batch: Batch) -> None:
        seen.append(tracing.current().trace_id)

    with tracing.within(tracing.start()) as trace:
        await bench.fill(("a", 1))

    async with running(bench.consumer(handle)) as _stop:
        await eventually(lambda: len(seen) == 1)

    assert seen == [trace.trace_id]


async def test_what_waits_in_a_lane_is_one_batch_within_its_bounds(bench: Bench) -> None:
    recorder = Recorder()
    recorder.close("a")
    bounds = replace(QUICK, batch_records_max=4, batch_weight_max=100)
    await bench.fill(("a", 0))

    async with running(bench.consumer(recorder, bounds=bounds)) as _stop:
        await eventually(lambda: len(recorder.seen) == 1)
        await bench.fill(*[("a", number) for number in range(1, 11)])
        await eventually(lambda: recorder.seen[0].waiting == 3)
        recorder.open("a")
        await eventually(lambda: len(recorder.all) == 11)

    assert recorder.batches == [[0], [1, 2, 3, 4], [5, 6, 7, 8], [9, 10]]


async def test_a_batch_is_bounded_by_what_its_records_weigh(bench: Bench) -> None:
    recorder = Recorder()
    recorder.close("a")
    bounds = replace(QUICK, batch_weight_max=10)
    await bench.fill(("a", 1))
    consumer = bench.consumer(recorder, bounds=bounds, weigh=lambda event: event.used)

    async with running(consumer) as _stop:
        await eventually(lambda: len(recorder.seen) == 1)
        await bench.fill(*[("a", weight) for weight in (6, 4, 11, 2)])
        await eventually(lambda: recorder.seen[0].waiting == 3)
        recorder.open("a")
        await eventually(lambda: len(recorder.all) == 5)

    assert recorder.batches == [[1], [6, 4], [11], [2]]


async def test_a_short_lane_waits_for_company_as_long_as_it_may(bench: Bench) -> None:
    recorder = Recorder()
    bounds = replace(QUICK, collect_s=2.0, batch_records_max=3)

    consumer = bench.consumer(recorder, bounds=bounds)

    async with running(consumer) as _stop:
        await eventually(lambda: metrics.ASSIGNED.labels(bench.group)._value.get() == 3)
        await bench.fill(("a", 1))
        await eventually(lambda: consumer._load.records == 1 or recorder.all == [1])
        await bench.fill(("a", 2))
        await eventually(lambda: len(recorder.all) == 2)
        loop = asyncio.get_running_loop()
        began = loop.time()
        await bench.fill(("b", 1), ("b", 2), ("b", 3))
        await eventually(lambda: len(recorder.all) == 5)

    assert recorder.batches == [[1, 2], [1, 2, 3]]
    assert loop.time() - began < 30, "a full batch waits for nothing"


async def test_records_that_trickle_in_are_read_together(bench: Bench) -> None:
    recorder = Recorder()
    bounds = replace(QUICK, read_pause_s=4.0)
    loop = asyncio.get_running_loop()

    async with running(bench.consumer(recorder, bounds=bounds)) as _stop:
        await eventually(lambda: metrics.ASSIGNED.labels(bench.group)._value.get() == 3)
        await bench.fill(("a", 1))
        await eventually(lambda: len(recorder.all) == 1)
        began = loop.time()
        for number in (2, 3, 4):
            await bench.fill(("a", number))
        await eventually(lambda: len(recorder.all) == 4)
        waited_s = loop.time() - began

    assert recorder.batches == [[1], [2, 3, 4]]
    assert waited_s < 4.0 + 26.0, "no longer than the pause, and what a busy machine adds"


async def test_who_reads_much_at_once_makes_no_pause(bench: Bench) -> None:
    recorder = Recorder()
    bounds = replace(QUICK, read_pause_s=60.0)
    large = structs.replace(numbered(1), period="x" * READ_BYTES_MIN)
    await bench.publisher.publish(TOPIC, "a", large)

    async with running(bench.consumer(recorder, bounds=bounds)) as _stop:
        await eventually(lambda: len(recorder.all) == 1)
        await bench.fill(("a", 2))
        await eventually(lambda: len(recorder.all) == 2)


class WatchedConsumer(Consumer):
    """A consumer that remembers how long the broker was let keep each of its questions, in ms."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.waits_ms: list[int] = []

    def _new_consumer(self) -> AIOKafkaConsumer:
        kafka = super()._new_consumer()
        send = kafka._client.send

        async def watch(node_id: Any, request: Any, **named: Any) -> Any:
            if isinstance(request, FetchRequest):
                self.waits_ms.append(request._max_wait_ms)
            return await send(node_id, request, **named)  # type: ignore[no-untyped-call]  # theirs is untyped

        kafka._client.send = watch  # type: ignore[method-assign]  # only looked at
        return kafka


@pytest.fixture
def long_waits(monkeypatch: pytest.MonkeyPatch) -> int:
    """Let who has nothing to do be idle at once, and wait for as long as a request may take."""
    monkeypatch.setattr(consumer_module, "IDLE_AFTER_S", 0.0)
    monkeypatch.setattr(consumer_module, "IDLE_FETCH_WAIT_MS", 28_000)
    return 28_000


async def test_who_has_nothing_to_do_asks_seldom_and_is_answered_at_once(
    bench: Bench, long_waits: int
) -> None:
    recorder = Recorder()
    consumer = bench.consumer(recorder, make=WatchedConsumer)

    async with running(consumer) as _stop:
        for number in range(3):
            await eventually(lambda: consumer.waits_ms[-1:] == [long_waits])
            await bench.fill(("a", number))
            await eventually(lambda: len(recorder.all) == number + 1, within_s=20.0)  # noqa: B023  # awaited here


async def test_a_partition_that_is_resumed_waits_for_no_idle_one(
    bench: Bench, long_waits: int
) -> None:
    """The others' question is under way: the broker must not be let keep it for long."""
    recorder = Recorder()
    recorder.close("slow")
    bounds = replace(QUICK, in_flight_bytes_max=24 * len(_body(1)))
    consumer = bench.consumer(recorder, make=WatchedConsumer, bounds=bounds)

    async with running(consumer) as _stop:
        await eventually(lambda: consumer.waits_ms[-1:] == [long_waits])
        for number in range(12):
            await put_bytes(bench.kafka, bench.topic, b"slow", _body(number), 0)
        await eventually(lambda: metrics.PAUSED.labels(bench.group)._value.get() == 1)
        await put_bytes(bench.kafka, bench.topic, b"quick", _body(99), 1)
        await eventually(lambda: recorder.by_key["quick"] == [99])
        asked = len(consumer.waits_ms)
        await eventually(lambda: len(consumer.waits_ms) > asked)  # The idle ones, by themselves.
        recorder.open("slow")
        await eventually(lambda: len(recorder.by_key["slow"]) == 12, within_s=20.0)


async def test_who_had_nothing_to_commit_commits_what_comes(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumer_module, "IDLE_TURNS", 1_000_000)
    rests = 0
    wait_any = consumer_module._wait_any

    async def count_rests(timeout_s: float, *events: asyncio.Event) -> None:
        nonlocal rests
        rests += timeout_s > 3600
        await wait_any(timeout_s, *events)

    monkeypatch.setattr(consumer_module, "_wait_any", count_rests)
    recorder = Recorder()

    async with running(bench.consumer(recorder)) as _stop:
        for number in range(3):
            await eventually(lambda: rests > number)  # noqa: B023  # awaited here
            await bench.fill(("a", number))
            await bench.until_committed(number + 1)


async def test_a_slow_lane_holds_up_no_other(bench: Bench) -> None:
    """Proves I12: one key in trouble stops neither its partition nor the rest."""
    recorder = Recorder()
    recorder.close("slow")
    await bench.fill(("slow", 0), *[(f"k{number}", number) for number in range(1, 30)])

    async with running(bench.consumer(recorder)) as _stop:
        await eventually(lambda: recorder.all == list(range(1, 30)))
        assert recorder.running == {"slow"}
        recorder.open("slow")


# The watermark.


async def test_the_watermark_waits_for_the_slowest_lane(bench: Bench) -> None:
    """Proves I7: what finished out of order is committed only after what came before it."""
    recorder = Recorder()
    recorder.close("slow")
    partition = await put_bytes(bench.kafka, bench.topic, b"slow", _body(0), 0)
    for number in range(1, 6):
        await put_bytes(bench.kafka, bench.topic, b"k%d" % number, _body(number), partition)

    async with running(bench.consumer(recorder)) as _stop:
        await eventually(lambda: recorder.all == [1, 2, 3, 4, 5])
        await asyncio.sleep(3 * QUICK.commit_every_s)
        assert await bench.committed() == 0
        recorder.open("slow")
        await bench.until_committed(6)


def _body(number: int) -> bytes:
    return encode(numbered(number))


async def test_a_commit_that_fails_is_tried_again(bench: Bench) -> None:
    recorder = Recorder()
    consumer = bench.consumer(recorder)
    failures: list[Any] = []

    async with running(consumer) as _stop:
        await eventually(consumer.is_ready)
        kafka = consumer._started()
        commit = kafka.commit

        async def fail_twice(at: Any) -> None:
            if len(failures) < 2:
                failures.append(at)
                raise CommitFailedError
            await commit(at)

        kafka.commit = fail_twice
        await bench.fill(("a", 1))
        await bench.until_committed(1)

    assert len(failures) == 2
    assert metrics.COMMIT_FAILURES.labels(bench.group)._value.get() == 2


# Handlers that fail.


async def test_a_transient_failure_repeats_the_batch_and_nothing_else(bench: Bench) -> None:
    attempts: list[tuple[str, list[int], int]] = []

    async def handle(batch: Batch) -> None:
        attempts.append((batch.key, numbers(batch), batch.attempt))
        if batch.key == "a" and batch.attempt < 3:
            raise DOWN

    await bench.fill(("a", 1), ("b", 2))

    async with running(bench.consumer(handle)) as _stop:
        await bench.until_committed(2)

    assert [attempt for attempt in attempts if attempt[0] == "a"] == [
        ("a", [1], attempt) for attempt in range(4)
    ]
    assert [attempt for attempt in attempts if attempt[0] == "b"] == [("b", [2], 0)]


async def test_a_batch_waits_at_least_as_long_as_was_asked(bench: Bench) -> None:
    loop = asyncio.get_running_loop()
    at: list[float] = []

    async def handle(batch: Batch) -> None:
        at.append(loop.time())
        if batch.attempt == 0:
            raise RateLimitedError(BUCKET, 0.5)

    await bench.fill(("a", 1))

    async with running(bench.consumer(handle)) as _stop:
        await bench.until_committed(1)

    assert at[1] - at[0] >= 0.5


async def test_a_bug_ends_the_consumer_and_its_batch_comes_again(bench: Bench) -> None:
    """Proves I1: what a handler did not finish is not committed, whatever it raised."""

    async def handle(batch: Batch) -> None:
        raise ZeroDivisionError

    await bench.fill(("a", 1))
    with pytest.raises(ZeroDivisionError):
        await bench.consumer(handle).run(asyncio.Event())
    assert await bench.committed() == 0

    recorder = Recorder()
    async with running(bench.consumer(recorder)) as _stop:
        await eventually(lambda: recorder.all == [1])


# Records that can not be decoded.


async def test_a_poison_record_is_buried_untouched_and_its_neighbours_arrive(
    bench: Bench,
) -> None:
    """Proves fault 29: dead letter with its reason, neighbours untouched, nothing skipped."""
    recorder = Recorder()
    partition = await put_bytes(bench.kafka, bench.topic, b"a", _body(1), 0)
    await put_bytes(bench.kafka, bench.topic, b"a", b'{"type":"strange"}', partition)
    await put_bytes(bench.kafka, bench.topic, None, b"\xff", partition)
    await put_bytes(bench.kafka, bench.topic, b"tombstone", None, partition)
    await put_bytes(bench.kafka, bench.topic, b"a", _body(2), partition)

    async with running(bench.consumer(recorder)) as _stop:
        await bench.until_committed(5)

    assert recorder.by_key["a"] == [1, 2]
    dead = sorted(
        await read_all(bench.kafka, bench.dead, count=3),
        key=lambda record: int(dict(record.headers)["dead_from_offset"]),
    )
    assert [record.value for record in dead] == [b'{"type":"strange"}', b"\xff", None]
    headers = dict(dead[0].headers)
    assert headers["who"] == b"test"
    assert headers["dead_reason"] == b"ValidationError"
    assert headers["dead_from_topic"] == bench.topic.encode()
    assert headers["dead_from_partition"] == b"0"
    assert headers["dead_from_offset"] == b"1"
    assert headers["dead_from_group"] == bench.group.encode()


async def test_too_many_poison_records_stop_everything_and_skip_nothing(bench: Bench) -> None:
    """Proves fault 30: the breaker opens, liveness is unaffected, the rest stays on the topic."""
    recorder = Recorder()
    for _ in range(6):
        await put_bytes(bench.kafka, bench.topic, b"bad", b"rubbish", 0)
    await put_bytes(bench.kafka, bench.topic, b"good", _body(1), 0)
    consumer = bench.consumer(recorder)

    async with running(consumer) as _stop:
        await eventually(lambda: metrics.BREAKER_OPEN.labels(bench.group)._value.get() == 1)
        await bench.until_committed(4)
        await put_bytes(bench.kafka, bench.topic, b"good", _body(2), 1)
        await asyncio.sleep(0.5)
        assert recorder.all == []
        assert consumer.is_alive()
        assert metrics.PAUSED.labels(bench.group)._value.get() == 3

    assert await bench.committed() == 4
    assert len(await read_all(bench.kafka, bench.dead, count=4)) == 4


async def test_without_a_place_for_dead_letters_the_watermark_waits(bench: Bench) -> None:
    """Proves fault 31: an undecodable record is never dropped, whatever is down."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bench.kafka)
    await admin.start()
    await admin.delete_topics([bench.dead])
    # A busy broker still takes records for a while, and loses them with the topic.
    async with asyncio.timeout(EVENTUALLY_S):
        while bench.dead in await admin.list_topics():  # noqa: ASYNC110  # the broker tells nobody
            await asyncio.sleep(LOOK_S)
    recorder = Recorder()
    await put_bytes(bench.kafka, bench.topic, b"bad", b"rubbish", 0)
    await put_bytes(bench.kafka, bench.topic, b"good", _body(1), 0)
    quick = Publisher(bench.kafka, source="test", names=bench.names, linger_ms=1, send_s=0.3)

    async with quick:
        consumer = bench.consumer(recorder)
        patient, consumer._publisher = consumer._publisher, quick
        async with running(consumer) as _stop:
            await eventually(lambda: recorder.all == [1])
            await eventually(lambda: metrics.BATCHES_RETRIED.labels(bench.group)._value.get() >= 2)
            assert await bench.committed() == 0
            await admin.create_topics([NewTopic(bench.dead, 3, 1)])
            # A busy broker may need longer than `quick` waits for it.
            consumer._publisher = patient
            await bench.until_committed(2)
    await admin.close()

    assert [record.value for record in await read_all(bench.kafka, bench.dead, count=1)]


# Back-pressure.


async def test_no_more_is_read_than_may_be_in_flight(bench: Bench) -> None:
    recorder = Recorder()
    keys = [f"k{number}" for number in range(60)]
    for key in keys:
        recorder.close(key)
    await bench.fill(*[(key, number) for number, key in enumerate(keys)])
    consumer = bench.consumer(recorder, bounds=replace(QUICK, in_flight_records_max=10))

    async with running(consumer) as _stop:
        await eventually(lambda: metrics.PAUSED.labels(bench.group)._value.get() == 3)
        await asyncio.sleep(0.3)
        assert len(recorder.seen) <= 10
        assert consumer._load.records <= 10
        for key in keys:
            recorder.open(key)
        await eventually(lambda: recorder.all == list(range(60)))
        await eventually(lambda: metrics.PAUSED.labels(bench.group)._value.get() == 0)
        assert consumer._load.records == consumer._load.bytes == 0


async def test_one_partition_can_not_take_all_the_room(bench: Bench) -> None:
    """Proves I12: a slow lane that fills up pauses its own partition only."""
    recorder = Recorder()
    recorder.close("slow")
    for number in range(12):
        await put_bytes(bench.kafka, bench.topic, b"slow", _body(number), 0)
    # A third of this is less than the twelve records, and the whole is more.
    bounds = replace(QUICK, in_flight_bytes_max=24 * len(_body(1)))
    consumer = bench.consumer(recorder, bounds=bounds)

    async with running(consumer) as _stop:
        await eventually(lambda: metrics.PAUSED.labels(bench.group)._value.get() == 1)
        await put_bytes(bench.kafka, bench.topic, b"quick", _body(99), 1)
        await eventually(lambda: recorder.by_key["quick"] == [99])
        recorder.open("slow")
        await eventually(lambda: len(recorder.by_key["slow"]) == 12)


async def test_partitions_together_hold_no_more_than_a_weight(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Proves I12: each of them has room left, and all of them together have none."""
    monkeypatch.setattr(consumer_module, "PARTITION_SHARE", 1)
    recorder = Recorder()
    for partition in range(3):
        recorder.close(f"k{partition}")
        for number in range(12):
            await put_bytes(
                bench.kafka, bench.topic, f"k{partition}".encode(), _body(number), partition
            )
    bounds = replace(QUICK, in_flight_weight_max=200)
    consumer = bench.consumer(recorder, bounds=bounds, weigh=lambda _event: 10)

    async with running(consumer) as _stop:
        await eventually(lambda: metrics.PAUSED.labels(bench.group)._value.get() == 3)
        assert all(consumer._load.of(place)[2] < 200 for place in consumer._trackers)
        for partition in range(3):
            recorder.open(f"k{partition}")
        await eventually(lambda: len(recorder.all) == 36)
        await eventually(lambda: consumer._load.weight == 0)


# Reads that fail.


class LosingConsumer(Consumer):
    """A consumer whose next `losing` reads that return records fail instead.

    So does aiokafka's when a neighbour partition holds a corrupt batch: what was drained from the
    others is thrown away, with their positions already behind it.
    """

    losing = 0
    failed = 0  # Of all reads and ways back; a busy broker may add some.

    def _new_consumer(self) -> AIOKafkaConsumer:
        kafka = super()._new_consumer()
        getmany = kafka.getmany

        async def lose(**arguments: Any) -> Any:
            try:
                found = await getmany(**arguments)
                if found and self.losing:
                    self.losing -= 1
                    raise CorruptRecordException
            except KafkaError:
                self.failed += 1
                raise
            return found

        kafka.getmany = lose  # type: ignore[method-assign,assignment]  # a fault put in
        return kafka

    async def _rewind(self) -> bool:
        try:
            return await super()._rewind()
        except (KafkaError, TimeoutError):
            self.failed += 1
            raise


async def test_records_lost_by_a_failing_read_are_read_again(bench: Bench) -> None:
    """Proves fault 29 of neighbours: before the first dispatch, and after it."""
    recorder = Recorder()
    await bench.fill(*[(f"k{number}", number) for number in range(30)])
    consumer = bench.consumer(recorder, make=LosingConsumer)
    consumer.losing = 2

    async with running(consumer) as _stop:
        await eventually(lambda: recorder.all == list(range(30)))
        consumer.losing = 1
        await bench.fill(*[(f"k{number}", number) for number in range(30, 60)])
        await eventually(lambda: recorder.all == list(range(60)))

    assert consumer.failed >= 3
    assert metrics.POLL_FAILURES.labels(bench.group)._value.get() == consumer.failed


async def test_without_going_back_a_failing_read_loses_records(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fault 29. The negative control of the test above (R12)."""

    async def stay(consumer: Consumer) -> bool:
        consumer._must_rewind = False
        return True

    monkeypatch.setattr(Consumer, "_rewind", stay)
    recorder = Recorder()
    await bench.fill(*[(f"k{number}", number) for number in range(30)])
    consumer = bench.consumer(recorder, make=LosingConsumer)
    consumer.losing = 1

    async with running(consumer) as _stop:
        await eventually(lambda: consumer.losing == 0)
        await bench.fill(*[(f"k{number}", 100 + number) for number in range(30)])
        await eventually(lambda: {*range(100, 130)} <= {*recorder.all})

    assert {*range(30)} - {*recorder.all}


async def test_records_that_the_broker_no_longer_has_are_counted(bench: Bench) -> None:
    """Proves fault 32: never a silent jump; what is left is read from the earliest."""
    recorder = Recorder()
    await put_bytes(bench.kafka, bench.topic, b"a", _body(0), 0)
    async with running(bench.consumer(recorder)) as _stop:
        await bench.until_committed(1)
    for number in range(1, 6):
        await put_bytes(bench.kafka, bench.topic, b"a", _body(number), 0)
    admin = AIOKafkaAdminClient(bootstrap_servers=bench.kafka)
    await admin.start()
    place = TopicPartition(bench.topic, 0)
    await admin.delete_records({place: RecordsToDelete(before_offset=4)})
    await admin.close()

    async with running(bench.consumer(recorder)) as _stop:
        await eventually(lambda: recorder.by_key["a"] == [0, 4, 5])
        await eventually(
            lambda: metrics.OFFSETS_MISSED.labels(bench.group, bench.topic)._value.get() == 3
        )


# Rebalances.


async def test_two_consumers_share_the_work_and_lose_nothing(bench: Bench) -> None:
    """Proves fault 26: consumers come and go, each key stays in order, nothing is lost."""
    first, second = Recorder(), Recorder()
    stop = asyncio.Event()

    async def keep_filling() -> int:
        number = 0
        while not stop.is_set():
            await bench.fill(*[(f"k{key}", number) for key in range(12)])
            number += 1
            await asyncio.sleep(0.02)
        return number

    filling = asyncio.create_task(keep_filling())
    async with running(bench.consumer(first)) as _first:
        await eventually(lambda: len(first.by_key) == 12)
        for _ in range(2):
            second.seen.clear()
            async with running(bench.consumer(second)) as _second:
                await eventually(lambda: len(second.seen) >= 10)
            first.seen.clear()
            await eventually(lambda: len({batch.key for batch in first.seen}) == 12)
        stop.set()
        count = await filling
        await bench.until_committed(12 * count)

    for key in (f"k{number}" for number in range(12)):
        seen = first.by_key[key] + second.by_key[key]
        assert set(seen) == set(range(count))
        assert _rises(first.by_key[key])
        assert _rises(second.by_key[key])


def _rises(seen: list[int]) -> bool:
    """Return whether first deliveries come in order; repetitions are allowed."""
    firsts = list(dict.fromkeys(seen))
    return firsts == sorted(firsts)


async def test_a_batch_that_ends_within_the_drain_is_not_repeated(bench: Bench) -> None:
    first, second = Recorder(), Recorder()
    first.close("a")
    # However late the batch is let go on: it is to end within the drain.
    bounds = replace(QUICK, revoke_drain_s=30.0, rebalance_s=45.0)
    await bench.fill(("a", 1))

    async with running(bench.consumer(first, bounds=bounds)) as _first:
        await eventually(lambda: first.running == {"a"})
        async with running(bench.consumer(second, bounds=bounds)) as _second:
            await eventually(lambda: metrics.REBALANCES.labels(bench.group)._value.get() == 1)
            assert first.seen[0].is_current()
            first.open("a")
            await bench.until_committed(1)
            await bench.fill(*[(f"k{number}", number) for number in range(2, 20)])
            await eventually(lambda: len(first.all) + len(second.all) == 19)

    assert sorted(first.all + second.all) == list(range(1, 20))


async def test_a_batch_that_outlives_the_drain_knows_it_and_is_not_counted(
    bench: Bench,
) -> None:
    """Proves fault 27: the evicted handler is told, and its late end moves no watermark."""
    first, second = Recorder(), Recorder()
    first.close("a")
    bounds = replace(QUICK, revoke_drain_s=0.2)
    await bench.fill(("a", 1))

    async with running(bench.consumer(first, bounds=bounds)) as _first:
        await eventually(lambda: first.running == {"a"})
        late = first.seen[0]
        late.report_progress()
        async with running(bench.consumer(second, bounds=bounds)) as _second:
            await eventually(lambda: not late.is_current())
            assert await bench.committed() == 0
            first.open("a")
            await eventually(lambda: len(first.all) + len(second.all) == 2)
            await bench.until_committed(1)


async def test_hooks_are_told_which_partitions_come_and_go(bench: Bench) -> None:
    told: list[tuple[str, frozenset[Partition]]] = []

    async def assigned(partitions: frozenset[Partition]) -> None:
        told.append(("assigned", partitions))

    async def revoked(partitions: frozenset[Partition]) -> None:
        told.append(("revoked", partitions))

    consumer = bench.consumer(Recorder(), on_assigned=assigned, on_revoked=revoked)
    async with running(consumer) as _stop:
        await eventually(lambda: len(told) == 1)

    everything = frozenset((TOPIC, number) for number in range(3))
    assert told == [("assigned", everything), ("revoked", everything)]


async def test_each_key_is_served_by_the_one_consumer_that_gets_its_records(bench: Bench) -> None:
    recorders = [Recorder(), Recorder()]
    first, second = (bench.consumer(recorder) for recorder in recorders)
    keys = [f"key-{number}" for number in range(20)]

    assert not first.serves(TOPIC, keys[0])
    async with running(first) as _first, running(second) as _second:
        await eventually(lambda: first.is_ready() and second.is_ready())
        await eventually(
            lambda: all(first.serves(TOPIC, key) != second.serves(TOPIC, key) for key in keys)
        )
        serving = {key: int(second.serves(TOPIC, key)) for key in keys}
        await bench.fill(*((key, number) for number, key in enumerate(keys)))
        await eventually(lambda: len([*recorders[0].all, *recorders[1].all]) == len(keys))

    for which, recorder in enumerate(recorders):
        assert {record.key for batch in recorder.seen for record in batch.records} == {
            key for key in keys if serving[key] == which
        }


async def test_a_hook_that_fails_for_now_stops_nothing(bench: Bench) -> None:
    async def assigned(_partitions: frozenset[Partition]) -> None:
        raise DOWN

    recorder = Recorder()
    await bench.fill(("a", 1))

    async with running(bench.consumer(recorder, on_assigned=assigned)) as _stop:
        await eventually(lambda: recorder.all == [1])


async def test_a_hook_with_a_bug_ends_the_consumer(bench: Bench) -> None:
    async def assigned(_partitions: frozenset[Partition]) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await bench.consumer(Recorder(), on_assigned=assigned).run(asyncio.Event())


# Stopping.


async def test_what_runs_at_the_end_is_finished_and_committed(bench: Bench) -> None:
    recorder = Recorder()
    recorder.close("a")
    await bench.fill(("a", 1))

    # However late the batch is let go on: it is not to be cut.
    async with running(bench.consumer(recorder, bounds=replace(QUICK, drain_s=45.0))) as stop:
        await eventually(lambda: recorder.running == {"a"})
        await bench.fill(("a", 2))
        await eventually(lambda: recorder.seen[0].waiting == 1)
        stop.set()
        await asyncio.sleep(0.5)
        recorder.open("a")

    assert recorder.all == [1]
    assert await bench.committed() == 1


async def test_what_does_not_end_in_time_is_cut_and_comes_again(bench: Bench) -> None:
    recorder = Recorder()
    recorder.close("a")
    await bench.fill(("a", 1))

    async with running(bench.consumer(recorder, bounds=replace(QUICK, drain_s=0.2))) as _stop:
        await eventually(lambda: recorder.running == {"a"})

    assert recorder.all == []
    assert await bench.committed() == 0


async def test_a_batch_that_waits_to_be_repeated_does_not_delay_the_end(bench: Bench) -> None:
    async def handle(batch: Batch) -> None:
        raise RateLimitedError(BUCKET, 3600)

    await bench.fill(("a", 1))
    loop = asyncio.get_running_loop()
    consumer = bench.consumer(handle, bounds=replace(QUICK, drain_s=30.0))
    async with running(consumer) as stop:
        await eventually(lambda: metrics.BATCHES_RETRIED.labels(bench.group)._value.get() == 1)
        assert consumer.is_alive()
        stop.set()
        began = loop.time()

    assert loop.time() - began < 30.0
    assert await bench.committed() == 0


async def test_who_is_told_to_stop_while_it_joins_does_not_wait_for_the_group(
    bench: Bench,
) -> None:
    """Proves R8: a member that drains holds up everyone's join, but nobody's end."""
    recorder = Recorder()
    recorder.close("a")
    slow = replace(QUICK, revoke_drain_s=60.0, rebalance_s=80.0)
    await bench.fill(("a", 1))
    first, stop = bench.consumer(recorder, bounds=slow), asyncio.Event()

    async with running(first) as _first:
        await eventually(lambda: recorder.running == {"a"})
        second = bench.consumer(Recorder(), bounds=replace(slow, stop_s=0.5))
        joining = asyncio.create_task(second.run(stop))
        await eventually(first._draining.is_set)
        stop.set()
        ended, _ = await asyncio.wait({joining}, timeout=40)
        recorder.open("a")
    await joining
    await second._started()._client.close()  # What was cut has left its connections open.

    assert ended


async def test_a_handler_that_ignores_its_cancellation_does_not_hold_up_the_end(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Proves R8."""
    monkeypatch.setattr(consumer_module, "CANCEL_S", 0.2)
    running_, released = asyncio.Event(), asyncio.Event()

    async def handle(batch: Batch) -> None:
        running_.set()
        while not released.is_set():
            with suppress(asyncio.CancelledError):
                await released.wait()

    await bench.fill(("a", 1))
    stop = asyncio.Event()
    task = asyncio.create_task(bench.consumer(handle, bounds=replace(QUICK, drain_s=0.2)).run(stop))
    await running_.wait()
    stop.set()

    ended, _ = await asyncio.wait({task}, timeout=60)
    released.set()
    await task

    assert ended
    assert await bench.committed() == 0


async def test_a_broker_client_that_ignores_its_cancellation_does_not_hold_up_the_end(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Proves R8."""
    monkeypatch.setattr(consumer_module, "CANCEL_S", 0.2)
    released = asyncio.Event()
    consumer, stop = bench.consumer(Recorder(), bounds=replace(QUICK, stop_s=0.2)), asyncio.Event()
    task = asyncio.create_task(consumer.run(stop))
    await eventually(consumer.is_ready)
    kafka = consumer._started()
    really_stop = kafka.stop

    async def stop_late() -> None:
        while not released.is_set():
            with suppress(asyncio.CancelledError):
                await released.wait()

    kafka.stop = stop_late
    stop.set()
    ended, _ = await asyncio.wait({task}, timeout=60)
    released.set()
    await task
    await really_stop()

    assert ended


async def test_without_a_broker_the_start_says_so(bench: Bench, unused_tcp_port: int) -> None:
    bench.kafka = f"127.0.0.1:{unused_tcp_port}"

    with pytest.raises(UnavailableError, match="KafkaConnectionError"):
        await bench.consumer(Recorder()).run(asyncio.Event())


# Liveness.


def test_a_consumer_that_never_joins_is_not_alive_for_ever(bench: Bench) -> None:
    """Proves fault 28 (aiokafka issues 625, 703, 1154)."""
    clock = ChosenClock()
    consumer = bench.consumer(Recorder(), clock=clock)

    assert consumer.is_alive()
    assert not consumer.is_ready()
    clock.seconds += QUICK.rebalance_s + 61
    assert not consumer.is_alive()


async def test_a_batch_without_a_sign_of_life_is_wedged(bench: Bench) -> None:
    """Fault 28."""
    clock = ChosenClock()
    recorder = Recorder()
    recorder.close("a")
    await bench.fill(("a", 1))
    bounds = replace(QUICK, stall_s=10.0)
    consumer = bench.consumer(recorder, clock=clock, bounds=bounds)

    async with running(consumer) as _stop:
        await eventually(lambda: recorder.running == {"a"})
        clock.seconds += 11
        await asyncio.sleep(0.5)
        assert not consumer.is_alive()
        recorder.seen[0].report_progress()
        assert consumer.is_alive()
        assert consumer.is_ready()
        recorder.open("a")


async def test_a_consumer_that_reads_no_more_is_not_alive(bench: Bench) -> None:
    clock = ChosenClock()
    consumer = bench.consumer(Recorder(), clock=clock)

    async with running(consumer) as _stop:
        await eventually(consumer.is_ready)
        consumer._balance = consumer._stopping.set
        await asyncio.sleep(0.5)
        clock.seconds += QUICK.rebalance_s + 61
        assert not consumer.is_alive()


async def test_a_partition_that_has_records_and_gives_none_is_noticed(bench: Bench) -> None:
    """Proves fault 28 (aiokafka issues 703, 1154): lag without progress ends the process."""
    clock = ChosenClock()
    recorder = Recorder()
    consumer = bench.consumer(recorder, clock=clock)

    async with running(consumer) as _stop:
        await eventually(consumer.is_ready)
        kafka = consumer._started()
        getmany = kafka.getmany

        async def starve(**arguments: Any) -> Any:
            await asyncio.sleep(0.01)
            return {}

        kafka.getmany = starve
        await asyncio.sleep(0.3)
        await bench.fill(("a", 1))
        clock.seconds += 31
        await eventually(lambda: len(consumer._behind) == 1)
        assert consumer.is_alive()
        clock.seconds += QUICK.stall_s + 1
        await eventually(lambda: not consumer.is_alive())
        kafka.getmany = getmany
        await eventually(lambda: recorder.all == [1])
        clock.seconds += 31
        await eventually(consumer.is_alive)


async def test_who_does_not_answer_about_the_end_blames_nobody(bench: Bench) -> None:
    consumer = bench.consumer(Recorder(), bounds=replace(QUICK, commit_s=0.1))

    async with running(consumer) as _stop:
        await eventually(consumer.is_ready)

        async def keep_silent(_places: Any) -> Any:
            await asyncio.sleep(3600)

        consumer._started().end_offsets = keep_silent
        await consumer._look_behind()

        assert consumer.is_alive()


# Reads between the end of one assignment and the next.


async def test_what_is_read_during_a_rebalance_is_read_again(bench: Bench) -> None:
    """A position that moved past undispatched records must not become a watermark (I7)."""
    recorder = Recorder()
    await bench.fill(*[(f"k{number}", number) for number in range(30)])
    consumer = bench.consumer(recorder, make=EarlyConsumer)

    async with running(consumer) as _stop:
        await eventually(lambda: recorder.all == list(range(30)))

    assert consumer.dropped


class EarlyConsumer(Consumer):
    """A consumer that learns of its first assignment only after records of it were returned."""

    dropped = False

    def _admit(self, place: TopicPartition, records: Any) -> None:
        if not self.dropped and records:
            self.dropped = True
            trackers, self._trackers = self._trackers, {}
            super()._admit(place, records)
            self._trackers = trackers
            return
        super()._admit(place, records)


async def test_nothing_is_rewound_while_a_rebalance_is_under_way(bench: Bench) -> None:
    consumer = bench.consumer(Recorder())

    async with running(consumer) as _stop:
        await eventually(consumer.is_ready)
        trackers, consumer._trackers = consumer._trackers, {}
        consumer._must_rewind = True
        await asyncio.sleep(0.3)
        assert consumer._must_rewind
        consumer._trackers = trackers
        await eventually(lambda: not consumer._must_rewind)


@pytest.mark.parametrize("rebalance_s", [1.0, 6.0, 60.0, 300.0])
def test_bounds_fit_any_rebalance_that_is_set(rebalance_s: float) -> None:
    settings = KafkaSettings(kafka_bootstrap="localhost:9092", kafka_rebalance_s=rebalance_s)

    bounds = Bounds.of(settings)

    assert bounds.rebalance_s == rebalance_s
    assert bounds.revoke_drain_s <= Bounds().revoke_drain_s


def test_bounds_that_outlast_a_rebalance_are_refused() -> None:
    with pytest.raises(AssertionError):
        Bounds(revoke_drain_s=60.0)


# Crashes, and the control.


class NaiveConsumer:
    """What tutorials show: automatic commits, a task per record. Kept as a control."""

    def __init__(self, bench: Bench, handler: Any) -> None:
        self.bench = bench
        self.handler = handler
        self.tasks: set[asyncio.Task[None]] = set()

    async def run(self, stop: asyncio.Event) -> None:
        kafka = AIOKafkaConsumer(
            self.bench.topic,
            bootstrap_servers=self.bench.kafka,
            group_id=self.bench.group,
            auto_offset_reset="earliest",
            auto_commit_interval_ms=100,
        )
        await kafka.start()
        try:
            while not stop.is_set():
                for records in (await kafka.getmany(timeout_ms=100)).values():
                    for record in records:
                        task = asyncio.create_task(self.handler([record.value]))
                        self.tasks.add(task)
                        task.add_done_callback(self.tasks.discard)
        finally:
            for task in self.tasks:
                task.cancel()
            await kafka.stop()


@dataclass
class Work:
    """What handlers have done; some of it is not done before they may."""

    done: set[int] = field(default_factory=set)
    may_end: asyncio.Event = field(default_factory=asyncio.Event)

    async def do(self, bodies: Iterable[bytes]) -> None:
        """Take up to a second for each, and for every tenth as long as it must."""
        for body in bodies:
            event = decode(TOPIC, body)
            assert isinstance(event, QuotaChanged)
            await asyncio.sleep(0.1 * (event.used % 10))
            if event.used % 10 == 9:
                await self.may_end.wait()
            self.done.add(event.used)


@asynccontextmanager
async def ours(bench: Bench, work: Work) -> AsyncIterator[None]:
    async def handle(batch: Batch) -> None:
        await work.do([encode(record.event) for record in batch.records])

    async with crashing(bench.consumer(handle, bounds=EVICTING)):
        yield


@asynccontextmanager
async def theirs(bench: Bench, work: Work) -> AsyncIterator[None]:
    stop = asyncio.Event()
    consumer = NaiveConsumer(bench, work.do)
    running = asyncio.create_task(consumer.run(stop))
    try:
        yield
    finally:
        stop.set()
        await running


@pytest.mark.parametrize(("kind", "loses"), [(ours, False), (theirs, True)])
async def test_a_crash_loses_nothing_that_the_naive_consumer_loses(
    bench: Bench, kind: Any, *, loses: bool
) -> None:
    """Negative control, I1, I7 and R12: the same crash, and the same check, of both consumers."""
    work = Work()
    await bench.fill(*[(f"k{number}", number) for number in range(100)])

    async with kind(bench, work):
        await eventually(lambda: len(work.done) >= 25)
        await asyncio.sleep(0.2)
    before = set(work.done)
    work.may_end.set()
    await bench.fill(("last", 100))
    async with kind(bench, work):
        await eventually(lambda: 100 in work.done)
        if not loses:
            await bench.until_committed(101)
        await asyncio.sleep(1)

    assert len(before) < 100
    assert bool({*range(101)} - work.done) is loses
