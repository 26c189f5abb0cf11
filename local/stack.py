"""The whole of contactsync on one machine: servers, sandbox, mailbox and every service.

Everything is started from nothing, and the servers' data are thrown away in the end; logs stay,
each in `logs/<process>.log`. Every service is a process of its own with its own role in the
database, as in production. Tests start it too:

    async with stack.running(Options(folder, counts={"writer": 3}), print) as running:
        killed = running.supervisor.kill("writer-2")
        await running.supervisor.wait_ready("writer-2", other_than=killed)
"""

import asyncio
import json
import os
import secrets
import shutil
import subprocess
import sys
from base64 import b64encode
from collections.abc import AsyncIterator, Coroutine, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

import asyncpg
import httpx

import migrations
from libs.common.topics import create_topics
from libs.connectors import registry
from local import folders, kafka, parties, postgres, processes
from local.errors import StackError
from local.processes import Program
from local.supervisor import Report, Supervisor, supervise

ROOT = Path(__file__).parent.parent
PARTITIONS = 6  # As many as a small broker makes in no time (PROTOCOL.md 2: embedded).
READY_TIMEOUT_S = 2.0
BOOTSTRAP_S = 60.0

MAIL_FROM = "contactsync@example.com"


@dataclass(frozen=True, slots=True)
class Service:
    """One of our processes: its module is `services.<package>`, its role `contactsync_<role>`."""

    name: str
    package: str
    role: str
    arguments: Sequence[str] = ()


USUAL = ("hubspot", "brevo")  # The main job.


def _goes_back(name: str, providers: Sequence[str]) -> bool:
    """Return whether what is edited at a destination may have to be read: for a way back."""
    facts = {
        each: registry.PROVIDERS[each].facts for each in providers if each in registry.PROVIDERS
    }
    is_read = name in facts and facts[name].tells_edits
    return is_read and any(each.takes_edits for each in facts.values())


def services_for(providers: Sequence[str]) -> tuple[Service, ...]:
    """Return every service; of pollers, one for each of these providers that is a source."""
    return (
        Service("config-api", "config_api", "api"),
        *(
            Service(f"poller-{name}", "poller", "poller", ("--provider", name))
            for name in providers
            if name in parties.SOURCES or _goes_back(name, providers)
        ),
        Service("mapper", "mapper", "mapper"),
        Service("writer", "writer", "writer"),
        Service("quota", "quota", "quota"),
        Service("activity", "activity", "activity"),
        Service("notifier", "notifier", "notifier"),
    )


SERVICES = services_for(USUAL)


class Link(Protocol):
    """Puts something between the services and a server; the stack itself talks to it directly."""

    async def __call__(self, name: str, port: int, /) -> int:
        """Return the port by which services reach the server of a name, which has this one."""


async def direct(_name: str, port: int, /) -> int:
    """Put nothing between."""
    return port


@dataclass(frozen=True, slots=True)
class Options:
    """How a stack differs from the usual one."""

    folder: Path
    seed: int = 1
    durable: bool = True  # False: commits do not wait for the disk (`local.postgres`).
    partitions: int = PARTITIONS
    brokers: int = 1  # More than one are called kafka-1, kafka-2, …, and are one cluster.
    link: Link = direct
    # Whose sandboxes are started; `services` goes with it.
    providers: Sequence[str] = USUAL
    services: Sequence[Service] = SERVICES
    # How many processes of a service, by name; more than one are called writer-1, writer-2, ….
    counts: Mapping[str, int] = field(default_factory=dict)
    # Settings beside the usual ones, for every service, and by name for one.
    environment: Mapping[str, str] = field(default_factory=dict)
    environments: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    # What tells others of a stack that is ready: one that was killed has left it lying.
    state: Path | None = None


@dataclass(frozen=True, slots=True)
class Stack:
    """What runs, and where to find it."""

    supervisor: Supervisor
    api: str  # URL.
    mailbox: str  # URL.
    kafka: str  # host:port, of every broker.
    database: str  # URL, as the owner.
    providers: Mapping[str, str]  # URL by provider.
    operator_key: str  # Of the config API.


@asynccontextmanager
async def running(options: Options, report: Report) -> AsyncIterator[Stack]:
    """Run a stack for as long as the block lasts; everything is ready when the block begins.

    Raises `StackError` if a stack runs in the folder already, or if a part of this one does not
    start.
    """
    folder = folders.writable(options.folder)
    async with supervise(folder, report) as supervisor, _asking() as client:
        if options.state is not None:
            await asyncio.to_thread(options.state.unlink, missing_ok=True)
        database_folder = await asyncio.to_thread(_clear, folder)
        if database_folder.parent != folder:
            report(f"PostgreSQL's data is in {database_folder}: its user cannot reach {folder}")
        await asyncio.to_thread(_begin_logs, folder / "logs")
        starting = _Starting(options, folder, supervisor, client, report)
        try:
            yield await starting.everything()
        finally:
            await supervisor.stop_all()
            await asyncio.to_thread(_clear, folder)


@asynccontextmanager
async def _asking() -> AsyncIterator[httpx.AsyncClient]:
    # Whatever proxy the environment names is for others than this machine.
    async with httpx.AsyncClient(timeout=READY_TIMEOUT_S, trust_env=False) as client:
        yield client


def _clear(folder: Path) -> Path:
    """Throw away the servers' data; return where PostgreSQL's was, or will be."""
    database = folders.reachable(folder / "postgres", by=folders.unprivileged_user())
    for path in (folder / "kafka", folder / "postgres", database):
        shutil.rmtree(path, ignore_errors=True)
    return database


def _begin_logs(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folders.writable(folder)


@dataclass(frozen=True, slots=True)
class _Starting:
    """The steps from nothing to a stack that runs."""

    options: Options
    folder: Path
    supervisor: Supervisor
    client: httpx.AsyncClient
    report: Report

    async def everything(self) -> Stack:
        self.report("starting Apache Kafka, PostgreSQL, the sandbox and the mailbox")
        brokers, postgres_server, providers, (smtp, mailbox) = await _side_by_side(
            self._kafka(), self._postgres(), self._sandbox(), self._mailbox()
        )
        bootstrap = ",".join(broker.bootstrap for broker in brokers)
        self.report("migrating the database and making topics")
        await _side_by_side(
            asyncio.to_thread(migrations.upgrade, postgres_server.url),
            create_topics(
                bootstrap,
                partitions=self.options.partitions,
                replication=min(kafka.REPLICAS_MAX, len(brokers)),
            ),
        )
        api_port = processes.free_port()
        environment = {
            **os.environ,
            "ENVIRONMENT": "development",
            "KAFKA_BOOTSTRAP": ",".join(broker.services_bootstrap for broker in brokers),
            "KEYS": f"local:{b64encode(secrets.token_bytes(32)).decode()}",
            "PROVIDER_BASE_URLS": json.dumps(
                {name: await self._linked(name, url) for name, url in providers.items()}
            ),
            "PUBLIC_URL": f"http://127.0.0.1:{api_port}",
            "API_HOST": "127.0.0.1",
            "API_PORT": str(api_port),
            "SMTP_HOST": "127.0.0.1",
            "SMTP_PORT": str(await self.options.link("smtp", smtp)),
            "MAIL_FROM": MAIL_FROM,
            **parties.clients(self.options.providers),
            **self.options.environment,
        }
        database = await self._linked("postgres", postgres_server.url)
        operator_key = await self._services(environment, database)
        return Stack(
            supervisor=self.supervisor,
            api=f"http://127.0.0.1:{api_port}",
            mailbox=mailbox,
            kafka=bootstrap,
            database=postgres_server.url,
            providers=providers,
            operator_key=operator_key,
        )

    async def _linked(self, name: str, url: str) -> str:
        """Return a server's address for the services."""
        parts = urlsplit(url)
        assert parts.port is not None
        host, _, _ = parts.netloc.rpartition(":")
        port = await self.options.link(name, parts.port)
        return parts._replace(netloc=f"{host}:{port}").geturl()

    async def _kafka(self) -> list[kafka.Kafka]:
        own = list(names("kafka", self.options.brokers))
        nodes = []
        for number, name in enumerate(own, 1):
            port = processes.free_port()
            address = await self.options.link(name, port)
            nodes.append(kafka.Node.numbered(number, services_port=port, services_address=address))
        return list(
            await _side_by_side(
                *(self._broker(name, node, nodes) for name, node in zip(own, nodes, strict=True))
            )
        )

    async def _broker(self, name: str, node: kafka.Node, nodes: list[kafka.Node]) -> kafka.Kafka:
        folder = self.folder / "kafka" / str(node.number)
        server = await asyncio.to_thread(kafka.prepare, folder, node, cluster=nodes, name=name)
        await self.supervisor.start(
            server.program, partial(_accepts, server.program.port), is_server=True
        )
        return server

    async def _postgres(self) -> postgres.Postgres:
        server = await asyncio.to_thread(
            postgres.prepare, self.folder / "postgres", durable=self.options.durable
        )
        await self.supervisor.start(server.program, partial(_answers, server.url), is_server=True)
        return server

    async def _sandbox(self) -> dict[str, str]:
        imitated = parties.have_sandboxes(self.options.providers)
        ports = {provider: processes.free_port() for provider in imitated}
        words = (word for each in ports.items() for word in ("--port", "{}={}".format(*each)))
        command = [*_python("sandbox"), *words, "--seed", str(self.options.seed)]
        urls = {provider: f"http://127.0.0.1:{port}" for provider, port in ports.items()}
        is_ready = partial(self._all_ok, [f"{url}/_sandbox/calls" for url in urls.values()])
        await self.supervisor.start(self._program("sandbox", command), is_ready, is_server=True)
        return urls

    async def _mailbox(self) -> tuple[int, str]:
        smtp, http = processes.free_port(), processes.free_port()
        command = [*_python("sandbox.mailbox"), f"--smtp-port={smtp}", f"--http-port={http}"]
        url = f"http://127.0.0.1:{http}"
        is_ready = partial(self._all_ok, [f"{url}/api/messages"])
        await self.supervisor.start(self._program("mailbox", command), is_ready, is_server=True)
        return smtp, url

    async def _services(self, environment: Mapping[str, str], database: str) -> str:
        """Make the operator's key and start every service; return the key."""
        if not self.options.services:
            return ""
        self.report("starting the services")
        as_api = {**environment, "DATABASE_URL": as_role(database, "api")}
        operator_key, *_ = await _side_by_side(
            asyncio.to_thread(_bootstrap, as_api),
            *(
                self._service(service, name, environment, database)
                for service in self.options.services
                for name in names(service.name, self.options.counts.get(service.name, 1))
            ),
        )
        return str(operator_key)

    async def _service(
        self, service: Service, name: str, environment: Mapping[str, str], database: str
    ) -> None:
        port = processes.free_port()
        own = {
            "DATABASE_URL": as_role(database, service.role),
            "HEALTH_PORT": str(port),
            **self.options.environments.get(service.name, {}),
        }
        module = f"services.{service.package}"
        command = [*_python("local.service"), module, *service.arguments]
        program = self._program(name, command, {**environment, **own})
        ready = partial(self._all_ok, [f"http://127.0.0.1:{port}/ready"])
        await self.supervisor.start(program, ready)

    def _program(
        self, name: str, command: Sequence[str], environment: Mapping[str, str] | None = None
    ) -> Program:
        log = self.folder / "logs" / f"{name}.log"
        return Program(name, command, log, environment=environment, directory=ROOT)

    async def _all_ok(self, urls: Sequence[str]) -> bool:
        try:
            answers = [await self.client.get(url) for url in urls]
        except httpx.TransportError:
            return False
        return all(answer.is_success for answer in answers)


def names(name: str, count: int) -> Iterator[str]:
    """Yield the names of so many processes of a service, or of a server."""
    if count == 1:
        yield name
    else:
        yield from (f"{name}-{number}" for number in range(1, count + 1))


def as_role(database: str, role: str) -> str:
    """Return the database's address for one of the services' roles."""
    parts = urlsplit(database)
    login = f"contactsync_{role}@{parts.hostname}:{parts.port}"
    return parts._replace(netloc=login).geturl()


def _python(module: str) -> list[str]:
    return [sys.executable, "-m", module]


def _bootstrap(environment: Mapping[str, str]) -> str:
    """Make the operator's first key; return it."""
    made = subprocess.run(
        [*_python("services.config_api"), "bootstrap"],
        env=dict(environment),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=BOOTSTRAP_S,
        check=False,
    )
    for line in reversed(made.stdout.splitlines()):
        if made.returncode == 0 and line.startswith('{"operator"'):
            return str(json.loads(line)["operator"]["api_key"])
    what = f"the operator's key could not be made (exit status {made.returncode}): {made.stderr}"
    raise StackError(what, "mend what it says, and start again")


async def _side_by_side(*parts: Coroutine[Any, Any, Any]) -> list[Any]:
    """Run parts side by side; if one fails the others are given up, and its error is raised."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(part) for part in parts]
    except ExceptionGroup as failed:
        raise failed.exceptions[0] from None
    return [task.result() for task in tasks]


async def _accepts(port: int) -> bool:
    try:
        _, connection = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    connection.close()
    return True


async def _answers(url: str) -> bool:
    try:
        connection = await asyncpg.connect(url, timeout=READY_TIMEOUT_S)
    except (OSError, TimeoutError, asyncpg.PostgresError):
        return False
    await connection.close()
    return True
