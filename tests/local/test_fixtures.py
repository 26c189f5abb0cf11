"""The fixtures in tests/conftest.py: what every other test takes for granted."""

import socket
from collections.abc import Callable

import asyncpg
import pytest
import pytest_socket
from aiokafka.admin import AIOKafkaAdminClient
from sqlalchemy import text

from libs.common.database import SessionMaker
from libs.common.events import Topic
from libs.common.topics import TopicNames
from tests.databases import Databases

ROLES = ("api", "poller", "mapper", "writer", "quota", "activity", "notifier")


async def test_every_role_logs_in(role_url: Callable[[str], str]) -> None:
    for role in ROLES:
        connection = await asyncpg.connect(role_url(role))
        assert await connection.fetchval("select current_user") == f"contactsync_{role}"
        await connection.close()


async def test_a_session_sees_the_migrated_schemas(
    sessions: SessionMaker,
) -> None:
    async with sessions.begin() as session:
        found = await session.scalars(text("select nspname from pg_namespace"))

    assert {"config", "sync", "delivery", "ledger", "limits", "notices", "activity"} <= set(found)


async def test_a_test_sees_nothing_of_another(databases: Databases) -> None:
    with databases.clone() as one, databases.clone() as other:
        first, second = await asyncpg.connect(one), await asyncpg.connect(other)
        await first.execute("create table public.mine ()")

        assert await second.fetchval("select to_regclass('public.mine')") is None

        await first.close()
        await second.close()


async def test_a_test_has_topics_of_its_own(kafka: str, topics: TopicNames) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    found = await admin.list_topics()
    await admin.close()

    assert {topics.of(topic) for topic in Topic} <= set(found)
    assert topics.prefix.startswith("test-")


def test_the_network_beyond_this_machine_is_refused() -> None:
    # 192.0.2.1 is of the block that RFC 5737 keeps for documentation: nobody is there.
    with (
        pytest.warns(UserWarning, match="tried to use socket"),
        pytest.raises(pytest_socket.SocketConnectBlockedError),
    ):
        socket.create_connection(("192.0.2.1", 80), timeout=0.1)


def test_what_asks_for_a_server_is_marked(request: pytest.FixtureRequest, kafka: str) -> None:
    assert request.node.get_closest_marker("integration")
    host, _, port = kafka.partition(":")
    socket.create_connection((host, int(port)), timeout=5).close()
