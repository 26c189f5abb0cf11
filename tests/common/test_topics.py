"""Topics are made once, as they must be, and a difference is said clearly."""

from typing import Any
from uuid import uuid4

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from libs.common.events import Topic
from libs.common.topics import (
    TopicCreationError,
    TopicLayoutError,
    TopicNames,
    create_topics,
)


def test_a_name_at_the_broker_leads_back_to_its_topic() -> None:
    names = TopicNames(prefix="test.", suffix=".x")

    for topic in Topic:
        assert names.topic(names.of(topic)) is topic
        assert names.dead(topic) == f"{names.of(topic)}.dead"


def test_a_strange_name_is_refused() -> None:
    with pytest.raises(ValueError, match="strange"):
        TopicNames().topic("strange.v1")


async def test_making_topics_twice_changes_nothing(kafka: str, topics: TopicNames) -> None:
    assert await create_topics(kafka, partitions=3, replication=1, names=topics) == []


async def test_every_topic_and_its_dead_letters_are_made_as_agreed(
    kafka: str, topics: TopicNames
) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    wanted = [name(topic) for topic in Topic for name in (topics.of, topics.dead)]
    described = await admin.describe_topics(wanted)
    answers: list[Any] = await admin.describe_configs(
        [ConfigResource(ConfigResourceType.TOPIC, topics.of(Topic.CONTACTS_CHANGED))]
    )
    await admin.close()

    assert {topic["topic"] for topic in described} == set(wanted)
    assert all(len(topic["partitions"]) == 3 for topic in described)
    settings = {entry[0]: entry[1] for entry in answers[0].resources[0][4]}
    assert settings["retention.ms"] == str(7 * 24 * 3600 * 1000)
    assert settings["max.message.bytes"] == str(1 << 20)
    assert settings["min.insync.replicas"] == "1"
    assert settings["unclean.leader.election.enable"] == "false"


async def test_another_partition_count_is_told_with_what_to_do(
    kafka: str, topics: TopicNames
) -> None:
    with pytest.raises(TopicLayoutError, match="has 3 partitions and should have 6 partitions"):
        await create_topics(kafka, partitions=6, replication=1, names=topics)


async def test_more_replicas_than_brokers_is_told(kafka: str) -> None:
    names = TopicNames(prefix=f"test-{uuid4().hex}.")

    with pytest.raises(TopicCreationError, match=r"InvalidReplicationFactorError"):
        await create_topics(kafka, partitions=1, replication=7, names=names)
