"""Puts events on topics, and says when each is safely there.

Promises: an awaited `publish` returned means that every in-sync replica has the record (acks=all);
records of one key that are published one after the other stand in that order; every send is
bounded by `send_s`; UnavailableError means "not known to be there": publish it again, a second
copy is harmless (PROTOCOL.md 1). Sends are pipelined: start many, then await them.

    await publisher.publish(Topic.CONTACTS_MAPPED, key, event)            # acknowledged
    await publisher.publish_all(Topic.CONTACTS_MAPPED, [(key, event), …])  # all of them are

A producer whose sequence numbers no longer fit (aiokafka issue 1017: it never recovers by itself)
is replaced, and so is one that acknowledged nothing for `send_s`; what was under way raises
UnavailableError. Headers are those of CloudEvents 1.0 in Kafka's binary mode
(https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/kafka-protocol-binding.md)
and W3C `traceparent`.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from types import TracebackType
from typing import Any, Self

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, MessageSizeTooLargeError

from libs.common import logs, metrics, tracing
from libs.common.clock import Clock, SystemClock
from libs.common.errors import UnavailableError
from libs.common.events import Event, Topic, encode
from libs.common.topics import DEAD_MESSAGE_BYTES_MAX, MESSAGE_BYTES_MAX, TopicNames

SEND_S = 30.0
CLOSE_S = 5.0
LINGER_MS = 50  # A page's parts then travel together (PROTOCOL.md 2).
REQUEST_MS = 30_000
METADATA_MAX_AGE_MS = 60_000

Header = tuple[str, bytes]
Connect = Callable[[], AIOKafkaProducer]

log = logs.get(__name__)


class RecordTooLargeError(Exception):
    """A record that the broker can never take; whoever made it had to split it. A bug."""

    def __init__(self, topic: str, size: int) -> None:
        self.topic = topic
        self.size = size
        super().__init__(f"{topic}: a record of {size} bytes can not be published: split it")


class _Connection:
    """One producer, and a promise that is broken when it is given up."""

    def __init__(self, kafka: AIOKafkaProducer) -> None:
        self.kafka = kafka
        # A future, not an event: to wait for it beside an answer takes no task for each record.
        self.given_up: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def give_up(self) -> None:
        """Break the promise; once more changes nothing."""
        if not self.given_up.done():
            self.given_up.set_result(None)


class Publisher:
    """One producer for a process; `source` is the CloudEvents source: which service it is."""

    def __init__(
        self,
        bootstrap: str,
        *,
        source: str,
        names: TopicNames | None = None,
        clock: Clock | None = None,
        linger_ms: int = LINGER_MS,
        send_s: float = SEND_S,
        connect: Connect | None = None,
    ) -> None:
        self.names = names or TopicNames()
        self._bootstrap = bootstrap
        self._source = f"contactsync/{source}"
        self._clock = clock or SystemClock()
        self._linger_ms = linger_ms
        self._send_s = send_s
        self._connect = connect or self._new_producer
        self._connection: _Connection | None = None
        self._connecting = asyncio.Lock()
        self._turns: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._closing: set[asyncio.Task[None]] = set()
        self._acknowledged_at = float("-inf")

    async def __aenter__(self) -> Self:
        """Connect; raise UnavailableError if no broker answers."""
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        stack: TracebackType | None,
    ) -> None:
        """Close within a bound."""
        await self.stop()

    async def start(self) -> None:
        """Connect; raise UnavailableError if no broker answers."""
        try:
            async with asyncio.timeout(self._send_s):
                await self._connected()
        except TimeoutError as error:
            raise UnavailableError(self._bootstrap, "no answer") from error

    async def stop(self) -> None:
        """Send what is under way, within a bound, and close."""
        if self._connection is not None:
            connection, self._connection = self._connection, None
            await self._close(connection)
        if self._closing:
            await asyncio.wait(self._closing, timeout=CLOSE_S)

    def publish(self, topic: Topic, key: str, event: Event) -> asyncio.Task[None]:
        """Put an event on a topic; what is returned is done when it is acknowledged.

        It raises UnavailableError if that is not known within `send_s`, RecordTooLargeError if
        the event is larger than a record may be. Start several before awaiting the first.
        """
        assert topic in event.topics, f"{type(event).__name__} does not belong on {topic}"
        return self.send(
            self.names.of(topic), key.encode(), encode(event), self._headers(topic, event)
        )

    async def publish_all(self, topic: Topic, events: Iterable[tuple[str, Event]]) -> None:
        """Put events with their keys on a topic, in this order; return when all are there.

        Raises the first error, after the others have ended too: some may be there.
        """
        sends = [self.publish(topic, key, event) for key, event in events]
        for ended in await asyncio.gather(*sends, return_exceptions=True):
            if isinstance(ended, BaseException):
                raise ended

    def send(
        self, name: str, key: bytes | None, body: bytes | None, headers: Sequence[Header]
    ) -> asyncio.Task[None]:
        """Put bytes on a topic by its name at the broker; otherwise as `publish`."""
        return asyncio.create_task(self._send(name, key, body, headers))

    def _headers(self, topic: Topic, event: Event) -> list[Header]:
        tag = event.__struct_config__.tag
        at = self._clock.now().isoformat().replace("+00:00", "Z")
        return [
            ("ce_specversion", b"1.0"),
            ("ce_id", str(event.id).encode()),
            ("ce_type", f"contactsync.{topic.value}.{tag}".encode()),
            ("ce_source", self._source.encode()),
            ("ce_time", at.encode()),
            ("content-type", b"application/json"),
            tracing.put(),
        ]

    async def _send(
        self, name: str, key: bytes | None, body: bytes | None, headers: Sequence[Header]
    ) -> None:
        began = self._clock.monotonic()
        outcome = "failed"
        try:
            async with asyncio.timeout(self._send_s):
                await self._acknowledged(name, key, body, headers)
            outcome = "acknowledged"
            self._acknowledged_at = self._clock.monotonic()
            metrics.SEND_SECONDS.labels(name).observe(self._acknowledged_at - began)
        except TimeoutError as error:
            outcome = "timed_out"
            if self._acknowledged_at < began and self._connection is not None:
                self._give_up(self._connection, "silent")
            raise UnavailableError(self._bootstrap, f"{name}: no acknowledgement") from error
        finally:
            metrics.SENDS.labels(name, outcome).inc()

    async def _acknowledged(
        self, name: str, key: bytes | None, body: bytes | None, headers: Sequence[Header]
    ) -> None:
        # One at a time gets into the producer's buffer: the lock is fair, so order is kept.
        async with self._turns[name]:
            connection = await self._connected()
            try:
                sent = await connection.kafka.send(name, body, key, headers=list(headers))
            except MessageSizeTooLargeError as error:
                raise RecordTooLargeError(name, len(body or b"")) from error
            except KafkaError as error:
                # Not in the buffer, so no sequence number was spent: the producer is as good
                # as before.
                raise UnavailableError(self._bootstrap, type(error).__name__) from error
        await self._settled(connection, sent, name, len(body or b""))

    async def _settled(
        self, connection: _Connection, sent: asyncio.Future[Any], name: str, size: int
    ) -> None:
        await asyncio.wait({sent, connection.given_up}, return_when=asyncio.FIRST_COMPLETED)
        if not sent.done():
            raise UnavailableError(self._bootstrap, "the producer was replaced")
        error = sent.exception()
        if error is None:
            return
        if isinstance(error, KafkaError):
            # A batch that failed for good leaves a gap in the sequence: every later one of its
            # partition would be refused as well (RELIABILITY.md 2.1).
            self._give_up(connection, type(error).__name__)
        if isinstance(error, MessageSizeTooLargeError):
            raise RecordTooLargeError(name, size) from error
        if isinstance(error, KafkaError):
            raise UnavailableError(self._bootstrap, type(error).__name__) from error
        raise error

    async def _connected(self) -> _Connection:
        async with self._connecting:
            if self._connection is None:
                kafka = self._connect()
                try:
                    await kafka.start()
                except KafkaError as error:
                    await kafka.stop()
                    raise UnavailableError(self._bootstrap, type(error).__name__) from error
                except BaseException:
                    await kafka.stop()
                    raise
                self._connection = _Connection(kafka)
            return self._connection

    def _give_up(self, connection: _Connection, reason: str) -> None:
        """Let the next send make a new producer, and fail what waits for this one."""
        connection.give_up()
        if self._connection is not connection:
            return
        self._connection = None
        metrics.PRODUCERS_REPLACED.labels(reason).inc()
        log.warning("producer_replaced", reason=reason)
        task = asyncio.create_task(self._close(connection))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def _close(self, connection: _Connection) -> None:
        try:
            await asyncio.wait_for(connection.kafka.stop(), CLOSE_S)
        except (TimeoutError, KafkaError):
            log.warning("producer_close_failed")
            await _cut(connection.kafka)
        finally:
            connection.give_up()

    def _new_producer(self) -> AIOKafkaProducer:
        return AIOKafkaProducer(
            bootstrap_servers=self._bootstrap,
            client_id=self._source,
            acks="all",
            enable_idempotence=True,
            linger_ms=self._linger_ms,
            max_batch_size=MESSAGE_BYTES_MAX,
            max_request_size=DEAD_MESSAGE_BYTES_MAX,
            request_timeout_ms=REQUEST_MS,
            metadata_max_age_ms=METADATA_MAX_AGE_MS,
        )


async def _cut(kafka: AIOKafkaProducer) -> None:
    """End a producer that could not flush in time, and close its connections.

    aiokafka's `stop` does this last, so one that is cut leaves a sender that goes on trying, and
    its connections, for as long as the process lives. There is no public way to the sender.
    """
    ending = asyncio.create_task(kafka._sender.close())  # noqa: SLF001  # see above
    await asyncio.sleep(0)  # It is told to end before its requests fail, or it repeats them.
    await kafka.client.close()
    await asyncio.wait({ending}, timeout=CLOSE_S)
