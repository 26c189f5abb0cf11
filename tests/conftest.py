"""What tests may ask for: real servers, and databases and topics of their own.

`CONTACTSYNC_STACK` says where the servers come from (`tests.servers`); one of each lives for the
whole session. Nothing is skipped for want of either: a test that did not run proves nothing. Leave
them out by name instead, with `-m "not integration"`.

Sockets other than loopback are refused, so a test cannot depend on somebody else's server.
"""

import os
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from functools import cache, partial
from uuid import uuid4

import hypothesis
import pytest
import pytest_socket
from aiokafka.admin import AIOKafkaAdminClient

from libs.common import database
from libs.common.database import SessionMaker
from libs.common.events import Topic
from libs.common.topics import TopicNames, create_topics
from tests import servers
from tests.databases import Databases, with_role

# Every other fixture that needs a server asks for one of these.
SERVERS = frozenset({"kafka", "databases", "embedded"})

# Enough for several consumers of one group, few enough that a broker makes them in no time.
TOPIC_PARTITIONS = 3
LOOPBACK = ["127.0.0.1", "::1", "localhost"]


def pytest_configure() -> None:
    """Say at once if the servers that are asked for cannot be had; judge no example by its time.

    A machine that stands still for a moment makes any example slow, and no code is wrong. Examples
    are the same each time, or a change would be judged by one that its author never saw: whoever
    looks for others sets HYPOTHESIS_SEARCH.
    """
    servers.chosen()
    hypothesis.settings.register_profile(
        "unhurried",
        deadline=None,
        derandomize="HYPOTHESIS_SEARCH" not in os.environ,
        suppress_health_check=[hypothesis.HealthCheck.too_slow],
    )
    hypothesis.settings.load_profile("unhurried")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs a server, by what it asks for, so that no one can forget to."""
    for item in items:
        if SERVERS & set(getattr(item, "fixturenames", ())):
            item.add_marker("integration")


def pytest_collection_finish(session: pytest.Session) -> None:
    """Fetch the servers before the first test: tests themselves are refused the network."""
    asked_for = {name for item in session.items for name in getattr(item, "fixturenames", ())}
    if session.config.option.collectonly or not asked_for & SERVERS:
        return
    servers.fetch(servers.Stack.EMBEDDED if "embedded" in asked_for else servers.chosen())


def pytest_runtest_setup() -> None:
    """Refuse sockets to anywhere but this machine."""
    pytest_socket.socket_allow_hosts(LOOPBACK, allow_unix_socket=True)


@pytest.fixture(scope="session", autouse=True)
def shared_certificates() -> Iterator[None]:
    """Let clients share what they read of the public certificates.

    httpx reads all of them for each client, which took up to a third of a test's time; no test
    speaks TLS to a server that they would be for. Contexts made in another way are untouched.
    """
    create = ssl.create_default_context
    shared = cache(lambda cafile: create(cafile=cafile))

    def from_file(*arguments: object, **settings: object) -> ssl.SSLContext:
        if arguments or settings.keys() != {"cafile"}:
            return create(*arguments, **settings)  # type: ignore[arg-type]  # as its caller has them
        return shared(settings["cafile"])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ssl, "create_default_context", from_file)
        yield


@pytest.fixture(scope="session")
def embedded() -> None:
    """Make sure that `local.stack` finds its packages: ask for it to start a stack of your own."""


@pytest.fixture(scope="session")
def kafka() -> Iterator[str]:
    """Return the bootstrap address of a broker that lives as long as the test session."""
    with servers.kafka_bootstrap(servers.chosen()) as bootstrap:
        yield bootstrap


@pytest.fixture(scope="session")
def databases() -> Iterator[Databases]:
    """Return a server with a migrated template; ask for `database_url` instead."""
    with servers.postgres_url(servers.chosen()) as url:
        databases = Databases(url)
        databases.migrate_template()
        yield databases
        databases.drop_template()


@pytest.fixture
def database_url(databases: Databases) -> Iterator[str]:
    """Return the owner's address of a migrated, empty database of this test's own."""
    with databases.clone() as url:
        yield url


@pytest.fixture
def role_url(database_url: str) -> Callable[[str], str]:
    """Return what makes the test database's address for a role: `role_url("writer")`."""
    return partial(with_role, database_url)


@pytest.fixture
async def sessions(database_url: str) -> AsyncIterator[SessionMaker]:
    """Return sessions on the test's database as its owner, who may do anything."""
    engine = database.create_engine(database_url, pool_size_max=5, application_name="tests")
    yield database.session_maker(engine)
    await engine.dispose()


@pytest.fixture
async def topics(kafka: str) -> AsyncIterator[TopicNames]:
    """Make topics of this test's own, and return their names: the broker outlives the test."""
    names = TopicNames(prefix=f"test-{uuid4().hex}.")
    await create_topics(kafka, partitions=TOPIC_PARTITIONS, replication=1, names=names)
    yield names
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    await admin.delete_topics([name(topic) for topic in Topic for name in (names.of, names.dead)])
    await admin.close()
