"""Reads topics at least once, in order per key, many keys side by side.

Promises (RELIABILITY.md 2.3, PROTOCOL.md 2):

* A record's offset is committed only after the handler returned for its batch, or after the record
  was acknowledged as a dead letter. Nothing is skipped; a record may come again.
* A lane is a record key within its partition. Its records come in order, as batches; at most one
  batch of a lane is in flight in this process, and a batch's offsets finish together.
* A handler that raises TransientError gets the same batch again after a back-off; other lanes go
  on. Any other exception ends `run` with that exception, and nothing of its batch is finished.
* When partitions are taken away, what runs may finish within `revoke_drain_s`; what finishes later
  is not counted, and `batch.is_current()` is False for it.
* Everything is bounded: records, bytes and weight in flight (partitions are paused), commits,
  stops.

    async def handle(batch: Batch) -> None: ...

    consumer = Consumer(bootstrap, group="writer", topics=[Topic.CONTACTS_MAPPED], handler=handle,
                        publisher=publisher, weigh=lambda event: len(event.effects))
    process.watch("consumer", live=consumer.is_alive, ready=consumer.is_ready)
    await consumer.run(process.stop)

`handler` is awaited within the trace of its first record. Undecodable records never reach it: they
go to dead letters, and if there are too many the consumer stands still (`libs.common.deadletters`).
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol, Self

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError
from aiokafka.partitioner import DefaultPartitioner

from libs.common import deadletters, logs, metrics, tracing
from libs.common.backoff import SYSTEM_UNIFORM, Backoff, Uniform
from libs.common.clock import Clock, SystemClock
from libs.common.deadletters import Consumed
from libs.common.errors import MalformedEventError, TransientError, UnavailableError
from libs.common.events import Event, Topic, decode
from libs.common.lanes import Lane, Load
from libs.common.publisher import Publisher
from libs.common.settings import KafkaSettings
from libs.common.topics import TopicNames
from libs.common.tracing import Trace
from libs.common.watermark import Tracker

POLL_MS = 200
# How long the broker keeps a question that it has no records for. It answers at once when one
# comes, but a partition that is resumed meanwhile is asked for only after the answer.
FETCH_WAIT_MS = 500
# While nothing comes and nothing is paused there is nothing to be resumed: whatever comes ends the
# wait. No longer: of partitions that a rebalance brings, the first read waits behind it.
IDLE_AFTER_S = 2.0
IDLE_FETCH_WAIT_MS = 1_000
IDLE_POLL_MS = 5_000  # Whatever comes wakes who reads.
IDLE_TURNS = 10  # What there is nothing to commit of is measured so much more seldom.
REJOIN_S = 0.05  # How often to look whether a rebalance has ended.
TURN_BACK_S = 0.5  # After a failed read; a broker that is away must not be asked in a tight loop.
READ_BYTES_MIN = 256 << 10  # Who reads that much at once has no need of a pause.
PARTITION_SHARE = 4  # One partition may hold a quarter of what is in flight, not all of it.
LIVENESS_MARGIN_S = 60.0
CANCEL_S = 2.0  # What is cancelled ends at once; if not, nobody waits for it.
LOOK_BEHIND_S = 30.0  # How often to compare what was read with what the broker has.

log = logs.get(__name__)

Partition = tuple[Topic, int]

PARTITIONER = DefaultPartitioner()  # What producers use, ours too.


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """Limits of one consumer; times in seconds, sizes in bytes.

    `revoke_drain_s + hook_s + commit_s` must stay below `rebalance_s`: the broker gives the
    partitions away by then, finished or not.
    """

    batch_records_max: int = 500
    batch_weight_max: int = 2_000  # In units of `weigh`; a heavier record is a batch by itself.
    collect_s: float = 0.0  # How long a lane's first record waits for company.
    # After a small read. The broker is asked ten times a second under load, not for each record:
    # a record that comes alone is read at once, one of many waits no longer than this.
    read_pause_s: float = 0.1
    in_flight_records_max: int = 10_000
    in_flight_bytes_max: int = 16 << 20  # As they came; decoded they are three times as much.
    # In units of `weigh`: contacts are small, and what is made of each costs more than its bytes.
    # A partition's share is a batch under way and more than two behind it: a backlog.
    in_flight_weight_max: int = 28_000
    commit_every_s: float = 0.5
    commit_s: float = 5.0
    revoke_drain_s: float = 25.0
    hook_s: float = 5.0
    drain_s: float = 25.0  # At SIGTERM.
    stop_s: float = 10.0
    stall_s: float = 300.0  # A batch that shows no sign of life for this long is wedged.
    retry_first_s: float = 0.5
    retry_most_s: float = 30.0
    session_s: float = 45.0
    heartbeat_s: float = 3.0
    rebalance_s: float = 60.0

    def __post_init__(self) -> None:
        """Refuse bounds that contradict one another."""
        assert self.revoke_drain_s + self.hook_s + self.commit_s < self.rebalance_s

    @classmethod
    def of(cls, settings: KafkaSettings) -> Self:
        """Return the usual bounds with a process's own settings; `replace` changes others."""
        usual, rebalance_s = cls(), settings.kafka_rebalance_s
        # A shorter rebalance leaves less time to finish in: five sixths of it, in all.
        return cls(
            session_s=settings.kafka_session_s,
            heartbeat_s=settings.kafka_heartbeat_s,
            rebalance_s=rebalance_s,
            revoke_drain_s=min(usual.revoke_drain_s, rebalance_s / 2),
            hook_s=min(usual.hook_s, rebalance_s / 6),
            commit_s=min(usual.commit_s, rebalance_s / 6),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One decoded record, where it stood, and the trace it belongs to."""

    event: Event
    topic: Topic
    partition: int
    offset: int
    key: str
    epoch: int = 0
    trace: Trace = field(default_factory=tracing.start)
    published_ms: int = 0  # Unix time by the producer's clock.
    size: int = 0
    weight: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """What a handler gets: the next records of one lane, oldest first, at least one."""

    key: str
    topic: Topic
    partition: int
    records: Sequence[Record]
    attempt: int = 0  # How often this batch failed already.
    current: Callable[[], bool] = lambda: True
    count_waiting: Callable[[], int] = lambda: 0
    sign: Callable[[], None] = lambda: None

    def is_current(self) -> bool:
        """Return whether the partition is still ours: if not, another process has the batch."""
        return self.current()

    @property
    def waiting(self) -> int:
        """Return how many batches wait in this lane now, this one not among them."""
        return self.count_waiting()

    def report_progress(self) -> None:
        """Show that a long batch is not wedged; `stall_s` starts anew."""
        self.sign()


class Handler(Protocol):
    """Makes a batch's effects durable, or raises."""

    async def __call__(self, batch: Batch) -> None:
        """Return when all effects of all records are durable; repeating it must be harmless."""


Hook = Callable[[frozenset[Partition]], Awaitable[None]]
Weigh = Callable[[Event], int]


async def _nothing(_partitions: frozenset[Partition]) -> None:
    return


@dataclass(slots=True, eq=False)
class _Lane:
    """A lane and whoever runs it."""

    place: TopicPartition
    key: str
    queue: Lane[Record]
    sign_at: float
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    is_working: bool = False


@dataclass(frozen=True, slots=True)
class _Behind:
    """A partition that has more than was read, and since when its position stands still."""

    position: int
    since: float


class Consumer(ConsumerRebalanceListener):
    """One member of a consumer group; `run` it once."""

    def __init__(
        self,
        bootstrap: str,
        *,
        group: str,
        topics: Sequence[Topic],
        handler: Handler,
        publisher: Publisher,
        weigh: Weigh = lambda _event: 1,
        on_assigned: Hook = _nothing,
        on_revoked: Hook = _nothing,
        names: TopicNames | None = None,
        bounds: Bounds | None = None,
        clock: Clock | None = None,
        uniform: Uniform = SYSTEM_UNIFORM,
    ) -> None:
        self._bootstrap = bootstrap
        self._group = group
        self._topics = list(topics)
        self._handler = handler
        self._publisher = publisher
        self._weigh = weigh
        self._on_assigned = on_assigned
        self._on_revoked = on_revoked
        self._names = names or publisher.names
        self._bounds = bounds or Bounds()
        self._clock = clock or SystemClock()
        self._uniform = uniform

        self._kafka: AIOKafkaConsumer | None = None
        self._epoch = 0
        self._trackers: dict[TopicPartition, Tracker] = {}
        self._lanes: dict[tuple[TopicPartition, bytes], _Lane] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._load = Load()
        self._breaker = deadletters.Breaker()
        self._draining = asyncio.Event()
        self._stopping = asyncio.Event()
        self._failed = asyncio.Event()
        self._error: BaseException | None = None
        self._committing = asyncio.Lock()
        self._must_rewind = False
        self._resting: frozenset[TopicPartition] = frozenset()
        self._polled_at = self._clock.monotonic()
        self._unjoined_since: float | None = self._polled_at
        self._read_at = self._polled_at
        self._stirred = asyncio.Event()
        self._behind: dict[TopicPartition, _Behind] = {}
        self._looked_at = self._polled_at

    # What the process asks.

    def is_alive(self) -> bool:
        """Return False if this consumer is wedged and only a restart can help."""
        now = self._clock.monotonic()
        limit_s = self._bounds.rebalance_s + LIVENESS_MARGIN_S
        is_joining_too_long = (
            self._unjoined_since is not None and now - self._unjoined_since > limit_s
        )
        is_polling = now - self._polled_at <= limit_s
        is_working = self._oldest_sign_s() <= self._bounds.stall_s
        is_reading = all(now - each.since <= self._bounds.stall_s for each in self._behind.values())
        return is_polling and is_working and is_reading and not is_joining_too_long

    def is_ready(self) -> bool:
        """Return whether the group has given this consumer its partitions (maybe none)."""
        return self._unjoined_since is None

    def serves(self, topic: Topic, key: str) -> bool:
        """Return whether a key's records come to this process, as far as it knows.

        False between partitions taken away and partitions given.
        """
        name = self._names.of(topic)
        known = self._kafka and self._kafka.partitions_for_topic(name)
        if not known:
            return False
        partitions = sorted(known)
        place = TopicPartition(name, PARTITIONER(key.encode(), partitions, partitions))
        return place in self._trackers

    def _oldest_sign_s(self) -> float:
        now = self._clock.monotonic()
        return max(
            (now - lane.sign_at for lane in self._lanes.values() if lane.is_working), default=0.0
        )

    # The life of a consumer.

    async def run(self, stop: asyncio.Event) -> None:
        """Consume until `stop` is set, then drain, commit and leave the group.

        Raises whatever a handler raised that was no TransientError, and UnavailableError if no
        broker answers at the start.
        """
        kafka = self._kafka = self._new_consumer()
        kafka.subscribe([self._names.of(topic) for topic in self._topics], listener=self)
        if await self._join(kafka, stop):
            await self._consume(kafka, stop)
        if self._error is not None:
            raise self._error

    async def _join(self, kafka: AIOKafkaConsumer, stop: asyncio.Event) -> bool:
        """Join the group; False if `stop` was set before the group gave us our partitions.

        That may take a minute: the group waits for whoever still drains, or has died.
        """
        joining = asyncio.create_task(kafka.start())
        stopping = asyncio.create_task(stop.wait())
        has_joined = False
        try:
            await asyncio.wait({joining, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if joining.done():
                joining.result()
                has_joined = True
        except KafkaError as error:
            raise UnavailableError(self._bootstrap, type(error).__name__) from error
        finally:
            stopping.cancel()
            if not has_joined:
                self._stopping.set()
                joining.cancel()
                await self._quit(kafka)
        return has_joined

    async def _consume(self, kafka: AIOKafkaConsumer, stop: asyncio.Event) -> None:
        polling = asyncio.create_task(self._poll_until_stopped())
        committing = asyncio.create_task(self._commit_until_stopped())
        waits = [asyncio.create_task(stop.wait()), asyncio.create_task(self._failed.wait())]
        try:
            await asyncio.wait({polling, committing, *waits}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
            await self._leave(kafka, polling, committing)

    async def _leave(
        self,
        kafka: AIOKafkaConsumer,
        polling: asyncio.Task[None],
        committing: asyncio.Task[None],
    ) -> None:
        """Drain, commit, hand over, leave: aiokafka's `stop` calls no listener."""
        self._stopping.set()
        await asyncio.wait({polling}, timeout=2 * POLL_MS / 1000)
        # It sees that we stop, too: a cancellation that meets the end of a commit can get lost.
        committing.cancel()
        await asyncio.wait({committing}, timeout=2 * self._bounds.commit_s)
        await self._drain(self._bounds.drain_s)
        await self._hand_over(frozenset(self._trackers))
        for task in self._tasks:
            task.cancel()
        await self._quit(kafka)
        # Only now may a read be cancelled: it would disable aiokafka's watchdog in one that lives.
        polling.cancel()
        tasks = {polling, committing, *self._tasks}
        ended, left = await asyncio.wait(tasks, timeout=CANCEL_S)
        if left:
            log.error("tasks_left_behind", group=self._group, count=len(left))
        for task in ended:
            error = None if task.cancelled() else task.exception()
            if error is not None:
                self._fail(error)

    async def _quit(self, kafka: AIOKafkaConsumer) -> None:
        """Leave the group within `stop_s`, which aiokafka by itself may not.

        Not `wait_for`: it waits for what it has cancelled, and aiokafka ignores some of that.
        """
        quitting = asyncio.create_task(kafka.stop())
        await asyncio.wait({quitting}, timeout=self._bounds.stop_s)
        if not quitting.done():
            quitting.cancel()
            await asyncio.wait({quitting}, timeout=CANCEL_S)
            log.warning("group_left_late", group=self._group)
        elif isinstance(error := quitting.exception(), KafkaError):
            log.warning("group_left_late", group=self._group, exc_info=error)
        elif error is not None:
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        """Remember the first error; `run` raises it."""
        if self._error is None:
            self._error = error
        self._failed.set()

    def _new_consumer(self) -> AIOKafkaConsumer:
        bounds = self._bounds
        return AIOKafkaConsumer(
            bootstrap_servers=self._bootstrap,
            client_id=f"contactsync-{self._group}",
            group_id=self._group,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            isolation_level="read_committed",
            # One assignor: each further one costs a second JoinGroup per rebalance. It keeps its
            # memory in its class, so each consumer needs a class of its own.
            partition_assignment_strategy=(type("Sticky", (StickyPartitionAssignor,), {}),),
            session_timeout_ms=int(bounds.session_s * 1000),
            heartbeat_interval_ms=int(bounds.heartbeat_s * 1000),
            rebalance_timeout_ms=int(bounds.rebalance_s * 1000),
            max_poll_interval_ms=300_000,
            request_timeout_ms=30_000,
            metadata_max_age_ms=60_000,
            fetch_min_bytes=1,
            fetch_max_wait_ms=FETCH_WAIT_MS,
            # How often its fetcher looks by itself, which it need not: it is woken, too.
            consumer_timeout_ms=IDLE_POLL_MS,
            fetch_max_bytes=1 << 20,
            max_partition_fetch_bytes=2 << 20,
        )

    # Reading.

    async def _poll_until_stopped(self) -> None:
        kafka = self._started()
        while not self._stopping.is_set():
            self._balance()
            try:
                if self._must_rewind and not await self._rewind():
                    await asyncio.sleep(REJOIN_S)
                    continue
                room = max(1, self._bounds.in_flight_records_max - self._load.records)
                is_idle = self._is_idle(kafka)
                _let_wait(kafka, IDLE_FETCH_WAIT_MS if is_idle else FETCH_WAIT_MS)
                timeout_ms = IDLE_POLL_MS if is_idle else POLL_MS
                fetched = await kafka.getmany(timeout_ms=timeout_ms, max_records=room)
            except (KafkaError, TimeoutError) as error:
                # Records of other partitions may be gone with their positions already moved.
                self._must_rewind = True
                metrics.POLL_FAILURES.labels(self._group).inc()
                log.warning("poll_failed", group=self._group, exc_info=error)
                await asyncio.sleep(TURN_BACK_S)
                continue
            self._polled_at = self._clock.monotonic()
            if fetched:
                self._read_at = self._polled_at
                _let_wait(kafka, FETCH_WAIT_MS)  # The fetcher asks on as soon as this awaits.
            for place, records in fetched.items():
                self._admit(place, records)
            if 0 < _size(fetched.values()) < READ_BYTES_MIN:
                await self._rest(kafka)
            await asyncio.sleep(0)  # With data at hand, getmany never yields.

    def _is_idle(self, kafka: AIOKafkaConsumer) -> bool:
        """Return whether all is done, and nothing has come for a while."""
        since_s = self._clock.monotonic() - self._read_at
        return not self._load.records and since_s >= IDLE_AFTER_S and not kafka.paused()

    async def _rest(self, kafka: AIOKafkaConsumer) -> None:
        """Let company come for records that trickle in.

        Nothing is asked for meanwhile: aiokafka would hold the first record that comes, and ask
        for no more until it was taken.
        """
        self._resting = kafka.assignment() - kafka.paused()
        kafka.pause(*self._resting)
        await asyncio.sleep(self._bounds.read_pause_s)
        kafka.resume(*(self._resting & kafka.assignment()))
        self._resting = frozenset()

    async def _rewind(self) -> bool:
        """Go back to what was really dispatched; False if a rebalance is under way.

        Needed whenever records were read and not dispatched: positions are ahead of them, and a
        watermark that started behind them would skip them.
        """
        kafka = self._started()
        own = kafka.assignment()
        if own != self._trackers.keys():
            return False
        for place, tracker in list(self._trackers.items()):
            position = tracker.next_offset
            if position is None:
                position = await self._committed(place)
            if self._trackers.get(place) is not tracker or kafka.assignment() != own:
                return False
            if position is None:
                async with asyncio.timeout(self._bounds.commit_s):
                    await kafka.seek_to_beginning(place)
            else:
                kafka.seek(place, position)
        self._must_rewind = False
        return True

    async def _committed(self, place: TopicPartition) -> int | None:
        async with asyncio.timeout(self._bounds.commit_s):
            committed: int | None = await self._started().committed(place)
        return committed

    def _admit(self, place: TopicPartition, records: Sequence[Consumed]) -> None:
        """Put records into their lanes; what is not admitted is read again later."""
        tracker = self._trackers.get(place)
        if tracker is None or self._draining.is_set():
            self._must_rewind = True
            return
        if tracker.next_offset is None and records:
            self._spawn(self._compare_start(place, records[0].offset))
        for record in records:
            if self._breaker.is_open:
                self._must_rewind = True
                return
            self._dispatch(place, tracker, record)

    def _dispatch(self, place: TopicPartition, tracker: Tracker, record: Consumed) -> None:
        topic = self._names.topic(place.topic)
        try:
            event = decode(topic, record.value)
        except MalformedEventError as error:
            self._reject(topic, place, tracker, record, error.reason)
            return
        self._breaker.record(is_good=True)
        weight = max(1, self._weigh(event))
        if not self._begin(place, tracker, record, weight):
            return
        lane = self._lane(place, record.key or b"")
        lane.queue.put(
            Record(
                event=event,
                topic=topic,
                partition=place.partition,
                offset=record.offset,
                epoch=tracker.epoch,
                key=lane.key,
                trace=tracing.take(record.headers),
                published_ms=record.timestamp,
                size=len(record.value or b""),
                weight=weight,
            )
        )
        lane.arrived.set()

    def _begin(
        self, place: TopicPartition, tracker: Tracker, record: Consumed, weight: int = 1
    ) -> bool:
        expected = tracker.next_offset
        if not tracker.start(record.offset):
            return False
        if expected is not None:
            self._compare(place, expected, record.offset)
        self._load.add(place, len(record.value or b""), weight)
        self._stirred.set()
        metrics.RECORDS_IN.labels(self._group, place.topic).inc()
        return True

    async def _compare_start(self, place: TopicPartition, found: int) -> None:
        """Tell if the broker no longer had what the group was to read first."""
        try:
            expected = await self._committed(place)
        except (KafkaError, TimeoutError) as error:
            log.warning("start_not_compared", group=self._group, exc_info=error)
            return
        if expected is not None:
            self._compare(place, expected, found)

    def _compare(self, place: TopicPartition, expected: int, found: int) -> None:
        # No topic of ours is compacted or written in transactions: a gap means that records were
        # removed (retention, a lost disk) before this group had read them.
        if found > expected:
            metrics.OFFSETS_MISSED.labels(self._group, place.topic).inc(found - expected)
            log.error(
                "offsets_missed",
                group=self._group,
                topic=place.topic,
                partition=place.partition,
                expected=expected,
                found=found,
            )

    def _reject(
        self,
        topic: Topic,
        place: TopicPartition,
        tracker: Tracker,
        record: Consumed,
        reason: str,
    ) -> None:
        """Put an undecodable record to the dead letters, or stand still if there are too many."""
        self._breaker.record(is_good=False)
        if self._breaker.is_open:
            # This one stays where it is: it is the first that a mended reader will try.
            self._must_rewind = True
            metrics.BREAKER_OPEN.labels(self._group).set(1)
            log.critical(
                "dead_letter_breaker_opened",
                group=self._group,
                topic=place.topic,
                partition=place.partition,
                offset=record.offset,
                reason=reason,
            )
            return
        if self._begin(place, tracker, record):
            self._spawn(self._bury(topic, place, tracker, record, reason))

    async def _bury(
        self,
        topic: Topic,
        place: TopicPartition,
        tracker: Tracker,
        record: Consumed,
        reason: str,
    ) -> None:
        backoff = self._backoff()
        try:
            while True:
                try:
                    await deadletters.bury(
                        self._publisher, topic, record, reason=reason, group=self._group
                    )
                except TransientError as error:
                    await self._back_off(backoff, error)
                    if self._draining.is_set():
                        return
                else:
                    break
            self._finish(place, tracker.epoch, record.offset)
            metrics.RECORDS_DEAD.labels(self._group, place.topic).inc()
            log.error(
                "record_buried", topic=place.topic, partition=place.partition, offset=record.offset
            )
        finally:
            self._load.remove(place, len(record.value or b""), 1)

    def _balance(self) -> None:
        """Pause and resume partitions so that no more is in flight than may be."""
        kafka = self._started()
        own, paused = kafka.assignment(), kafka.paused()
        wanted = {place for place in own if self._should_pause(place, is_paused=place in paused)}
        # A rebalance forgets what was paused, so this is said again on every turn.
        if wanted - paused:
            kafka.pause(*(wanted - paused))
        if (paused & own) - wanted:
            kafka.resume(*((paused & own) - wanted))
        metrics.PAUSED.labels(self._group).set(len(wanted))

    def _should_pause(self, place: TopicPartition, *, is_paused: bool) -> bool:
        if self._breaker.is_open or self._draining.is_set():
            return True
        bounds = self._bounds
        # Resume at half, or every finished record would flip the switch.
        scale = 0.5 if is_paused else 1.0
        records_max = bounds.in_flight_records_max * scale
        bytes_max = bounds.in_flight_bytes_max * scale
        weight_max = bounds.in_flight_weight_max * scale
        load = self._load
        if load.records >= records_max or load.bytes >= bytes_max or load.weight >= weight_max:
            return True
        share = min(PARTITION_SHARE, max(1, len(self._trackers)))
        records, size, weight = load.of(place)
        return (
            records >= records_max / share
            or size >= bytes_max / share
            # Whoever is alone gains nothing by more of it: its lane is a backlog at that.
            or weight >= weight_max / PARTITION_SHARE
        )

    # Lanes.

    def _lane(self, place: TopicPartition, key: bytes) -> _Lane:
        lane = self._lanes.get((place, key))
        if lane is None:
            queue: Lane[Record] = Lane(
                records_max=self._bounds.batch_records_max,
                weight_max=self._bounds.batch_weight_max,
                weight=lambda record: record.weight,
            )
            lane = _Lane(place, key.decode(errors="replace"), queue, self._clock.monotonic())
            self._lanes[place, key] = lane
            self._spawn(self._run_lane(lane, key))
        return lane

    def _spawn(self, work: "asyncio._CoroutineLike[None]") -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._fail(error)

    async def _run_lane(self, lane: _Lane, key: bytes) -> None:
        try:
            while len(lane.queue):
                await self._collect(lane)
                records = lane.queue.take()
                if records:
                    await self._run_batch(lane, records)
        finally:
            del self._lanes[lane.place, key]
            self._forget(lane)

    async def _collect(self, lane: _Lane) -> None:
        """Give a short lane's first record some time for company."""
        ends_at = self._clock.monotonic() + self._bounds.collect_s
        while not lane.queue.is_full and not self._draining.is_set():
            left_s = ends_at - self._clock.monotonic()
            if left_s <= 0:
                return
            lane.arrived.clear()
            await _wait_any(left_s, lane.arrived, self._draining)

    async def _run_batch(self, lane: _Lane, records: Sequence[Record]) -> None:
        epoch = records[0].epoch
        backoff = self._backoff()
        try:
            while self._is_current(lane.place, epoch) and not self._failed.is_set():
                try:
                    await self._attempt(lane, records, backoff.failures)
                except TransientError as error:
                    await self._back_off(backoff, error)
                    if self._draining.is_set():
                        return
                else:
                    for record in records:
                        self._finish(lane.place, epoch, record.offset)
                    return
        finally:
            for record in records:
                self._load.remove(lane.place, record.size, record.weight)

    async def _attempt(self, lane: _Lane, records: Sequence[Record], attempt: int) -> None:
        place, epoch = lane.place, records[0].epoch

        def sign() -> None:
            lane.sign_at = self._clock.monotonic()

        batch = Batch(
            key=lane.key,
            topic=records[0].topic,
            partition=place.partition,
            records=records,
            attempt=attempt,
            current=lambda: self._is_current(place, epoch),
            count_waiting=lambda: lane.queue.waiting,
            sign=sign,
        )
        sign()
        lane.is_working = True
        try:
            with tracing.within(records[0].trace), metrics.BATCH_SECONDS.labels(self._group).time():
                await self._handler(batch)
        finally:
            lane.is_working = False

    async def _back_off(self, backoff: Backoff, error: TransientError) -> None:
        delay_s = backoff.next_s(asked_s=error.retry_after_s)
        metrics.BATCHES_RETRIED.labels(self._group).inc()
        log.warning("batch_delayed", group=self._group, delay_s=delay_s, exc_info=error)
        await _wait_any(delay_s, self._draining)

    def _backoff(self) -> Backoff:
        return Backoff(
            first_s=self._bounds.retry_first_s,
            most_s=self._bounds.retry_most_s,
            uniform=self._uniform,
        )

    def _is_current(self, place: TopicPartition, epoch: int) -> bool:
        tracker = self._trackers.get(place)
        return tracker is not None and tracker.epoch == epoch

    def _finish(self, place: TopicPartition, epoch: int, offset: int) -> None:
        tracker = self._trackers.get(place)
        if tracker is not None and tracker.epoch == epoch:
            tracker.finish(offset)
            metrics.RECORDS_FINISHED.labels(self._group, place.topic).inc()

    def _forget(self, lane: _Lane) -> None:
        """Drop what waits in a lane: whoever owns the partition next reads it again."""
        for record in lane.queue.clear():
            self._load.remove(lane.place, record.size, record.weight)

    # Committing.

    async def _commit_until_stopped(self) -> None:
        is_busy = True
        while not self._stopping.is_set():
            if not is_busy:
                await _wait_any(IDLE_TURNS * self._bounds.commit_every_s, self._stirred)
            await asyncio.sleep(self._bounds.commit_every_s)
            self._stirred.clear()
            is_busy = bool(self._load.records) or self._has_moved()
            self._measure()
            await self._commit()
            if self._clock.monotonic() - self._looked_at >= LOOK_BEHIND_S:
                self._looked_at = self._clock.monotonic()
                await self._look_behind()

    def _has_moved(self) -> bool:
        return any(tracker.committable is not None for tracker in self._trackers.values())

    async def _commit(self) -> None:
        """Commit every watermark that moved; a failure only means that records come again."""
        async with self._committing:
            kafka = self._started()
            own = kafka.assignment()
            moved = {
                place: (tracker, watermark)
                for place, tracker in self._trackers.items()
                if place in own and (watermark := tracker.committable) is not None
            }
            if not moved:
                return
            offsets = {place: watermark for place, (_, watermark) in moved.items()}
            try:
                # By itself it would retry for ever. Not `wait_for`: until Python 3.12 it loses a
                # cancellation that comes as the commit ends.
                async with asyncio.timeout(self._bounds.commit_s):
                    await kafka.commit(offsets)
            except (CommitFailedError, IllegalStateError, KafkaError, TimeoutError) as error:
                metrics.COMMIT_FAILURES.labels(self._group).inc()
                log.warning("commit_failed", group=self._group, exc_info=error)
                return
            for tracker, watermark in moved.values():
                tracker.committed = watermark

    async def _look_behind(self) -> None:
        """Notice partitions that have records and give none (aiokafka issues 703 and 1154).

        Paused ones are not read on purpose; an answer that does not come blames nobody.
        """
        kafka = self._started()
        paused = kafka.paused() - self._resting
        places = [place for place in self._trackers if place not in paused]
        found: dict[TopicPartition, _Behind] = {}
        try:
            async with asyncio.timeout(self._bounds.commit_s):
                ends = await kafka.end_offsets(places)
                for place, end in ends.items():
                    position = await kafka.position(place)
                    if end > position:
                        found[place] = self._behind_at(place, position)
        except (KafkaError, TimeoutError) as error:
            log.warning("end_not_known", group=self._group, exc_info=error)
        self._behind = found

    def _behind_at(self, place: TopicPartition, position: int) -> _Behind:
        before = self._behind.get(place)
        if before is not None and before.position == position:
            return before
        return _Behind(position, self._clock.monotonic())

    def _measure(self) -> None:
        group = self._group
        for place, tracker in self._trackers.items():
            metrics.WATERMARK_LAG.labels(group, place.topic, place.partition).set(tracker.lag)
        metrics.OLDEST_IN_FLIGHT.labels(group).set(self._oldest_sign_s())
        metrics.IN_FLIGHT.labels(group).set(self._load.records)
        metrics.IN_FLIGHT_BYTES.labels(group).set(self._load.bytes)
        metrics.ASSIGNED.labels(group).set(len(self._trackers))
        metrics.EPOCH.labels(group).set(self._epoch)

    # Rebalances: awaited by aiokafka before it joins again, heartbeats go on meanwhile.

    async def on_partitions_revoked(self, revoked: frozenset[TopicPartition]) -> None:
        """Finish what runs, commit, and count nothing that ends later."""
        self._unjoined_since = self._clock.monotonic()
        if revoked:
            metrics.REBALANCES.labels(self._group).inc()
            with metrics.REBALANCE_SECONDS.labels(self._group).time():
                await self._drain(self._bounds.revoke_drain_s)
                await self._hand_over(revoked)

    async def on_partitions_assigned(self, assigned: frozenset[TopicPartition]) -> None:
        """Begin an epoch with new trackers; positions are where the group committed."""
        self._epoch += 1
        self._trackers = {place: Tracker(self._epoch) for place in assigned}
        self._unjoined_since = None
        self._read_at = self._clock.monotonic()  # Somebody else may have left a lot.
        self._stirred.set()
        self._behind = {}
        if not self._stopping.is_set():
            self._draining.clear()
        await self._call(self._on_assigned, assigned)
        log.info("partitions_assigned", group=self._group, partitions=len(assigned))

    async def _drain(self, within_s: float) -> None:
        """Start nothing more and wait, bounded, for what runs."""
        self._draining.set()
        for lane in list(self._lanes.values()):
            self._forget(lane)
        if self._tasks:
            await asyncio.wait(set(self._tasks), timeout=within_s)

    async def _hand_over(self, revoked: frozenset[TopicPartition]) -> None:
        try:
            await self._commit()
        finally:
            self._epoch += 1
            self._trackers = {}
            self._stirred.set()
        await self._call(self._on_revoked, revoked)

    async def _call(self, hook: Hook, places: frozenset[TopicPartition]) -> None:
        """Tell a service; what goes wrong there must not be swallowed by aiokafka."""
        partitions = frozenset(
            (self._names.topic(place.topic), place.partition) for place in places
        )
        try:
            async with asyncio.timeout(self._bounds.hook_s):
                await hook(partitions)
        except (TransientError, TimeoutError) as error:
            # What the hook guards has a time limit of its own (a lease lapses).
            log.warning("rebalance_hook_failed", group=self._group, exc_info=error)
        except Exception as error:  # noqa: BLE001  # aiokafka would swallow it; `run` raises it
            self._fail(error)

    def _started(self) -> AIOKafkaConsumer:
        assert self._kafka is not None, "run has not been called"
        return self._kafka


def _let_wait(kafka: AIOKafkaConsumer, wait_ms: int) -> None:
    """Let the broker keep the next questions for so long while it has nothing.

    There is no public way: the consumer takes one wait for its whole life.
    """
    fetcher = kafka._fetcher  # noqa: SLF001  # see above
    assert fetcher is not None, "the consumer was not started"
    fetcher._fetch_max_wait_ms = wait_ms  # noqa: SLF001  # see above


def _size(fetched: Iterable[Sequence[Consumed]]) -> int:
    return sum(len(record.value or b"") for records in fetched for record in records)


async def _wait_any(timeout_s: float, *events: asyncio.Event) -> None:
    """Return when one of the events is set, or the time is over."""
    waits = {asyncio.create_task(event.wait()) for event in events}
    try:
        await asyncio.wait(waits, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
