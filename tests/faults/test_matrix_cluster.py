"""Three brokers, and the leader killed: the client's part, on real brokers, without services."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import pytest
from aiokafka.admin import AIOKafkaAdminClient

from libs.common.consumer import Consumer
from libs.common.publisher import Publisher
from local import stack
from local.stack import Options, Stack
from tests.common.plumbing import QUICK, TOPIC, Recorder, eventually, numbered, running

KEYS, BEFORE, AFTER = 4, 40, 80
WITHIN_S = 90.0


@pytest.fixture
async def cluster(tmp_path: Path, embedded: None) -> AsyncIterator[Stack]:
    options = Options(tmp_path, durable=False, services=(), brokers=3)
    async with stack.running(options, lambda line: None) as made:
        yield made


async def leader_of(bootstrap: str, partition: int) -> int:
    """Return which broker leads a partition, by its number."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        [found] = await admin.describe_topics([TOPIC.value])
    finally:
        await admin.close()
    return next(
        int(each["leader"]) for each in found["partitions"] if each["partition"] == partition
    )


async def insist(publisher: Publisher, number: int) -> None:
    """Publish an event until it is acknowledged, as whoever keeps its cause does."""
    while True:
        try:
            await publisher.publish(TOPIC, f"key-{number % KEYS}", numbered(number))
        except Exception:  # noqa: BLE001  # whatever it is: the cause is kept, so it is tried again
            await asyncio.sleep(0.1)
        else:
            return


@pytest.mark.long
async def test_the_leader_is_killed_and_nothing_that_was_acknowledged_is_lost(
    cluster: Stack,
) -> None:
    """Fault 22: three brokers, kill -9 the leader; another one leads, and both ends go on."""
    handler = Recorder()
    async with Publisher(cluster.kafka, source="test", send_s=10.0) as publisher:
        consumer = Consumer(
            cluster.kafka,
            group=f"group-{uuid4().hex}",
            topics=[TOPIC],
            handler=handler,
            publisher=publisher,
            bounds=QUICK,
        )
        async with running(consumer):
            for number in range(BEFORE):
                await insist(publisher, number)
            await eventually(lambda: set(handler.all) >= set(range(BEFORE)), within_s=WITHIN_S)
            led_by = [await leader_of(cluster.kafka, partition) for partition in range(6)]

            killed = cluster.supervisor.kill(f"kafka-{led_by[0]}")
            async with asyncio.timeout(WITHIN_S):
                for number in range(BEFORE, AFTER):
                    await insist(publisher, number)
            await eventually(lambda: set(handler.all) >= set(range(AFTER)), within_s=WITHIN_S)
            await cluster.supervisor.wait_ready(f"kafka-{led_by[0]}", other_than=killed)

    assert len(set(led_by)) > 1, "one broker led everything: its death was no election"
    for key in range(KEYS):
        seen = list(dict.fromkeys(handler.by_key[f"key-{key}"]))
        assert seen == sorted(seen), "a key's records came out of order"
