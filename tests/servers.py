"""Where the tests' PostgreSQL and Kafka come from: three ways to the same two real servers.

`embedded` takes them out of Python packages, `containers` out of images by testcontainers,
`external` from `KAFKA_BOOTSTRAP` and `DATABASE_URL`: a server that lets the owner make databases
and lets every role log in without a password from here, or with the one in `ROLE_PASSWORD`.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path

import psutil
import pytest

from local import kafka, packages, postgres, processes

POSTGRES_IMAGE = "postgres:18"
KAFKA_IMAGE = "apache/kafka:4.3.0"
CONTAINER_START_S = 60
MEMORY = Path("/dev/shm")
# A server of tests holds some 200 MB, and its log may grow to 1 GB; each lane has one of its own.
MEMORY_FREE_MIN = 4 * 1024**3


# Inside a container testcontainers would go through the bridge; ports are on loopback too. It reads
# these when it is imported.
LOOPBACK_ONLY = {
    "TESTCONTAINERS_HOST_OVERRIDE": "127.0.0.1",
    "TESTCONTAINERS_CONNECTION_MODE": "docker_host",
}


class Stack(StrEnum):
    EMBEDDED = "embedded"
    CONTAINERS = "containers"
    EXTERNAL = "external"


def chosen() -> Stack:
    """Return what CONTACTSYNC_STACK says; raises `pytest.UsageError` if that cannot be had."""
    name = os.environ.get("CONTACTSYNC_STACK", Stack.EMBEDDED)
    if name not in list(Stack):
        message = f"CONTACTSYNC_STACK is {name!r} and must be one of: {', '.join(Stack)}"
        raise pytest.UsageError(message)
    missing = [each for each in ("KAFKA_BOOTSTRAP", "DATABASE_URL") if each not in os.environ]
    if name == Stack.EXTERNAL and missing:
        message = f"CONTACTSYNC_STACK=external needs {' and '.join(missing)} in the environment"
        raise pytest.UsageError(message)
    if name == Stack.CONTAINERS:
        os.environ.update(LOOPBACK_ONLY)
    return Stack(name)


def fetch(stack: Stack) -> None:
    """Fetch what the servers are made of, before tests are refused the network."""
    if stack is Stack.EMBEDDED:
        packages.jars(kafka.ARTIFACT)
        packages.jars(postgres.artifact())


@contextmanager
def kafka_bootstrap(stack: Stack) -> Iterator[str]:
    """Keep a broker for as long as the block lasts; its `host:port`."""
    match stack:
        case Stack.EMBEDDED:
            with _folder() as folder, kafka.running(folder) as broker:
                yield broker.bootstrap
        case Stack.CONTAINERS:
            with _kafka_container() as bootstrap:
                yield bootstrap
        case Stack.EXTERNAL:
            yield os.environ["KAFKA_BOOTSTRAP"]


@contextmanager
def postgres_url(stack: Stack) -> Iterator[str]:
    """Keep a server for as long as the block lasts; its owner's address."""
    match stack:
        case Stack.EMBEDDED:
            with _folder(_memory()) as folder, postgres.running(folder, durable=False) as server:
                yield server.url
        case Stack.CONTAINERS:
            with _postgres_container() as url:
                yield url
        case Stack.EXTERNAL:
            yield os.environ["DATABASE_URL"]


def _memory() -> Path | None:
    """Return where files are in memory; None: nowhere, or there is too little of it.

    Each test's database is a copy of five hundred files, which takes a fifth of the time there.
    """
    if not MEMORY.is_dir():
        return None
    free = min(shutil.disk_usage(MEMORY).free, psutil.virtual_memory().available)
    return MEMORY if free >= MEMORY_FREE_MIN else None


@contextmanager
def _folder(parent: Path | None = None) -> Iterator[Path]:
    """Make a folder that PostgreSQL's user can reach: pytest's own are closed to others."""
    folder = Path(tempfile.mkdtemp(prefix="contactsync-tests-", dir=parent))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


@contextmanager
def _postgres_container() -> Iterator[str]:
    from testcontainers.community.postgres import (  # noqa: PLC0415  # needs Docker's client
        PostgresContainer,
    )

    container = PostgresContainer(POSTGRES_IMAGE, driver=None)
    container.with_env("POSTGRES_HOST_AUTH_METHOD", "trust")
    container.with_command("-c fsync=off -c max_connections=250")
    with container:
        yield container.get_connection_url(host="127.0.0.1")


@contextmanager
def _kafka_container() -> Iterator[str]:
    from testcontainers.core.container import DockerContainer  # noqa: PLC0415  # as above
    from testcontainers.core.wait_strategies import (  # noqa: PLC0415  # as above
        LogMessageWaitStrategy,
    )

    # A broker tells its clients where it is, so the port outside must be known before it starts.
    # One setting of the image's replaces all its defaults: hence the whole list.
    port = processes.free_port()
    container = DockerContainer(KAFKA_IMAGE).with_bind_ports(9092, port)
    for name, value in {
        "NODE_ID": "1",
        "PROCESS_ROLES": "broker,controller",
        "LISTENERS": "PLAINTEXT://:9092,CONTROLLER://:9093",
        "ADVERTISED_LISTENERS": f"PLAINTEXT://127.0.0.1:{port}",
        "CONTROLLER_LISTENER_NAMES": "CONTROLLER",
        "CONTROLLER_QUORUM_VOTERS": "1@localhost:9093",
        "LISTENER_SECURITY_PROTOCOL_MAP": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "OFFSETS_TOPIC_REPLICATION_FACTOR": "1",
        "OFFSETS_TOPIC_NUM_PARTITIONS": "4",
        "TRANSACTION_STATE_LOG_REPLICATION_FACTOR": "1",
        "TRANSACTION_STATE_LOG_MIN_ISR": "1",
        "GROUP_INITIAL_REBALANCE_DELAY_MS": "0",
        "GROUP_MIN_SESSION_TIMEOUT_MS": "1000",
        "AUTO_CREATE_TOPICS_ENABLE": "false",
    }.items():
        container.with_env(f"KAFKA_{name}", value)
    started = LogMessageWaitStrategy("Kafka Server started")
    container.waiting_for(started.with_startup_timeout(CONTAINER_START_S))
    with container:
        yield f"127.0.0.1:{port}"
