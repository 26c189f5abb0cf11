"""Which topics there are at the broker, and how each is laid out (PROTOCOL.md 2).

Promises: topics are made by the migration command and never on the fly; when it returns, the broker
knows them all; making them twice changes nothing; a partition count is never raised (keys would
move to other partitions, out of order), so an existing topic that differs stops the command with
what differs and how to mend it.
"""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import for_code

from libs.common.events import Topic

PARTITIONS = 48  # At least four times the most replicas of a consumer (RELIABILITY.md 2.4).
REPLICATION = 3
DAY_MS = 86_400_000
RETENTION_MS = 7 * DAY_MS
DEAD_RETENTION_MS = 14 * DAY_MS
MESSAGE_BYTES_MAX = 1 << 20
# A dead letter is its record and a few headers, and must fit however large the record was.
DEAD_HEADERS_BYTES_MAX = 64 * 1024
DEAD_MESSAGE_BYTES_MAX = MESSAGE_BYTES_MAX + DEAD_HEADERS_BYTES_MAX
ADMIN_TIMEOUT_MS = 30_000
KNOWN_LOOK_S = 0.02
TOPIC_ALREADY_EXISTS = 36  # https://kafka.apache.org/protocol#protocol_error_codes


class TopicLayoutError(Exception):
    """A topic exists and is not as it must be; a person has to decide."""

    def __init__(self, name: str, found: str, wanted: str) -> None:
        self.name = name
        super().__init__(
            f"topic {name} has {found} and should have {wanted}: start the migration with the "
            "value the topic has, or drain the topic, delete it and start the migration again"
        )


class TopicCreationError(Exception):
    """The broker refused to make a topic."""

    def __init__(self, name: str, code: int, reason: str) -> None:
        self.name = name
        self.code = code
        super().__init__(f"topic {name} was not made: {for_code(code).__name__}: {reason}")


@dataclass(frozen=True, slots=True)
class TopicNames:
    """What topics are called at this broker: tests and shared brokers put something around."""

    prefix: str = ""
    suffix: str = ""

    def of(self, topic: Topic) -> str:
        """Return a topic's name at the broker."""
        return f"{self.prefix}{topic.value}{self.suffix}"

    def dead(self, topic: Topic) -> str:
        """Return the name of a topic's dead letters at the broker."""
        return f"{self.of(topic)}.dead"

    def topic(self, name: str) -> Topic:
        """Return which topic a name at the broker means; raise ValueError if none."""
        return Topic(name.removeprefix(self.prefix).removesuffix(self.suffix))


async def create_topics(
    bootstrap: str,
    *,
    partitions: int = PARTITIONS,
    replication: int = REPLICATION,
    names: TopicNames | None = None,
) -> list[str]:
    """Make every topic that is missing and check the rest; return the names of those made.

    Raises TopicLayoutError if an existing topic has another partition count, and
    TopicCreationError if the broker refuses one.
    """
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap, request_timeout_ms=ADMIN_TIMEOUT_MS)
    await admin.start()
    try:
        wanted = list(_layouts(names or TopicNames(), partitions, replication))
        made = await _make(admin, wanted)
        await _check(admin, [topic.name for topic in wanted], partitions)
        return made
    finally:
        await admin.close()


def _layouts(names: TopicNames, partitions: int, replication: int) -> Iterable[NewTopic]:
    for topic in Topic:
        for name, retention_ms, bytes_max in (
            (names.of(topic), RETENTION_MS, MESSAGE_BYTES_MAX),
            (names.dead(topic), DEAD_RETENTION_MS, DEAD_MESSAGE_BYTES_MAX),
        ):
            yield NewTopic(
                name=name,
                num_partitions=partitions,
                replication_factor=replication,
                topic_configs={
                    "cleanup.policy": "delete",
                    "retention.ms": str(retention_ms),
                    "max.message.bytes": str(bytes_max),
                    # Losing one of three replicas neither stops writes nor loses any.
                    "min.insync.replicas": str(max(1, replication - 1)),
                    "unclean.leader.election.enable": "false",
                },
            )


async def _make(admin: AIOKafkaAdminClient, wanted: list[NewTopic]) -> list[str]:
    answer: Any = await admin.create_topics(wanted, timeout_ms=ADMIN_TIMEOUT_MS)
    made = []
    for name, code, *reason in answer.topic_errors:
        if code == 0:
            made.append(str(name))
        elif code != TOPIC_ALREADY_EXISTS:
            raise TopicCreationError(name, code, str(reason[0]) if reason else "")
    return made


async def _check(admin: AIOKafkaAdminClient, names: list[str], partitions: int) -> None:
    for name, found in (await _described(admin, names)).items():
        if found != partitions:
            raise TopicLayoutError(name, f"{found} partitions", f"{partitions} partitions")


async def _described(admin: AIOKafkaAdminClient, names: list[str]) -> dict[str, int]:
    """Return the partition count of each topic, once the broker knows them all.

    A topic just made is not at once in the broker's metadata. Raises TimeoutError if that takes
    longer than an answer may.
    """
    async with asyncio.timeout(ADMIN_TIMEOUT_MS / 1000):
        while True:
            described = await admin.describe_topics(names)
            found = {topic["topic"]: len(topic["partitions"]) for topic in described}
            if all(found.get(name) for name in names):
                return found
            await asyncio.sleep(KNOWN_LOOK_S)
