"""Two accountants as real processes: one works, the other stands by and is there within 10 s."""

import asyncio
import os
import signal
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import httpx
import pytest
from aiokafka import AIOKafkaConsumer
from sqlalchemy import text

from libs.common.database import SessionMaker
from libs.common.events import QuotaChanged, Topic, decode
from libs.common.topics import create_topics
from local import processes
from services.quota.settings import Settings
from tests.conftest import TOPIC_PARTITIONS
from tests.databases import with_role
from tests.faults.proxy import Fault, links

WITHIN_S = 60.0  # Many times what a quiet machine takes.
REPLACED_WITHIN_S = 10.0  # docs/operations.md
LONG_S = 3600.0  # A lease for whose end nobody waits here.
LOOK_S = 0.05
ACTIVE = "contactsync_accountant_active_state 1.0"


@dataclass(slots=True)
class Stage:
    """A database and a broker, and accountants over them."""

    sessions: SessionMaker
    database_url: str
    kafka: str
    failpoints: Path
    log: Path
    client: httpx.AsyncClient
    running: dict[str, tuple[Process, int]] = field(default_factory=dict)

    async def start(
        self, name: str, database_url: str | None = None, **environment: object
    ) -> None:
        """Start an accountant; return when it is ready."""
        port = processes.free_port()
        with (self.log / f"{name}.log").open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "services.quota"),
                env={
                    **os.environ,
                    "ENVIRONMENT": "test",
                    "DATABASE_URL": with_role(database_url or self.database_url, "quota"),
                    "KAFKA_BOOTSTRAP": self.kafka,
                    "HEALTH_PORT": str(port),
                    "FAILPOINTS": str(self.failpoints),
                    "RECONCILE_EVERY_S": "0.5",
                    **{key: str(value) for key, value in environment.items()},
                },
                stdout=log,
                stderr=log,
            )
        self.running[name] = (process, port)
        await self.until(lambda: self.is_ready(name))

    async def is_ready(self, name: str) -> bool:
        try:
            answer = await self.client.get(f"http://127.0.0.1:{self.running[name][1]}/ready")
        except httpx.TransportError:
            return False
        return answer.is_success

    async def is_active(self, name: str) -> bool:
        try:
            answer = await self.client.get(f"http://127.0.0.1:{self.running[name][1]}/metrics")
        except httpx.TransportError:
            return False
        return ACTIVE in answer.text

    async def stands_by(self, name: str) -> bool:
        """Return whether it answers, is ready, and is not the accountant."""
        return await self.is_ready(name) and not await self.is_active(name)

    async def active(self) -> list[str]:
        """Return who says that it is the accountant."""
        return [name for name in self.running if await self.is_active(name)]

    def send(self, name: str, number: signal.Signals) -> None:
        self.running[name][0].send_signal(number)

    async def gone(self, name: str) -> int:
        """Wait for an accountant's end; return its exit code."""
        process, _ = self.running.pop(name)
        return await asyncio.wait_for(process.wait(), WITHIN_S)

    async def decide(self) -> UUID:
        """Let the ledger decide something that must be told: a limit of zero is used up."""
        workspace = uuid4()
        async with self.sessions.begin() as session:
            await session.execute(text("select ledger.set_limit(:w, 0)"), {"w": workspace})
        return workspace

    async def drift(self) -> UUID:
        """Let a workspace's counter say more than was posted."""
        workspace = uuid4()
        async with self.sessions.begin() as session:
            await session.execute(
                text(
                    "insert into ledger.periods"
                    " (workspace_id, period, quota_limit, revision, posted)"
                    " values (:w, ledger.current_period(), 100, 1, 5)"
                ),
                {"w": workspace},
            )
        return workspace

    async def all_told(self) -> bool:
        async with self.sessions.begin() as session:
            return not await session.scalar(text("select count(*) from ledger.outbox"))

    async def until(self, holds: Callable[[], Awaitable[bool]]) -> None:
        """Wait until something holds; raise TimeoutError if it does not in time."""
        async with asyncio.timeout(WITHIN_S):
            while not await holds():  # noqa: ASYNC110  # other processes have no event
                await asyncio.sleep(LOOK_S)

    async def told(self) -> list[QuotaChanged]:
        """Return what the topic holds, in the order of its partitions."""
        consumer = AIOKafkaConsumer(
            Topic.QUOTA_CHANGED.value,
            bootstrap_servers=self.kafka,
            auto_offset_reset="earliest",
            enable_auto_commit=False,
        )
        await consumer.start()
        try:
            found = []
            while batch := await consumer.getmany(timeout_ms=2000):
                found += [record.value for records in batch.values() for record in records]
        finally:
            await consumer.stop()
        events = [decode(Topic.QUOTA_CHANGED, body) for body in found]
        return [event for event in events if isinstance(event, QuotaChanged)]


@pytest.fixture
async def stage(
    sessions: SessionMaker, database_url: str, kafka: str, tmp_path: Path
) -> AsyncIterator[Stage]:
    await create_topics(kafka, partitions=TOPIC_PARTITIONS, replication=1)
    failpoints = tmp_path / "failpoints"
    failpoints.mkdir()
    async with httpx.AsyncClient(timeout=30, trust_env=False) as client:
        made = Stage(sessions, database_url, kafka, failpoints, tmp_path, client)
        try:
            yield made
        finally:
            for process, _ in made.running.values():
                process.kill()
                await process.wait()


def test_a_lease_and_the_looks_at_it_take_less_than_10_s() -> None:
    """Whoever stands by asks once more after a question that nobody answered in time."""
    looks_s = 3 * Settings.accountant_ask_every_s
    assert Settings.accountant_lease_s + looks_s < REPLACED_WITHIN_S


async def test_the_accountant_is_replaced_within_10_s_and_nothing_is_decided_twice(
    stage: Stage,
) -> None:
    """Proves Q2 and X2. Faults 14, 27, 33: killed with rows claimed, stopped, cut off, ended."""
    drifted = await stage.drift()
    async with links() as between:
        port = await between.before("postgres", urlsplit(stage.database_url).port or 0)
        linked = urlsplit(stage.database_url)._replace(netloc=f"postgres@127.0.0.1:{port}").geturl()
        await stage.start("first")
        await stage.until(lambda: stage.is_active("first"))
        await stage.start("second")
        decided = [await stage.decide()]
        await stage.until(stage.all_told)
        assert await stage.active() == ["first"]

        # Killed with a decision claimed and not told.
        (stage.failpoints / "quota.outbox_claimed").write_text("kill")
        decided.append(await stage.decide())
        assert await stage.gone("first") == -signal.SIGKILL
        await stage.until(stage.all_told)
        assert await stage.active() == ["second"]

        # Stopped: its connections stand, and it knows nothing of it afterwards.
        await stage.start("third", linked)
        stage.send("second", signal.SIGSTOP)
        decided.append(await stage.decide())
        await stage.until(stage.all_told)
        assert await stage.is_active("third")
        stage.send("second", signal.SIGCONT)
        await stage.until(lambda: stage.stands_by("second"))

        # Cut off from its database, as by a network that delivers nothing.
        between["postgres"].suffer(Fault(is_black_hole=True))
        decided.append(await stage.decide())
        await stage.until(stage.all_told)
        assert await stage.active() == ["second"]
        between.heal()
        await stage.until(lambda: stage.stands_by("third"))

        # Ended in order: the other does not wait for the lease, which would last for an hour.
        await stage.start("fourth", ACCOUNTANT_LEASE_S=LONG_S)
        for name in ("third", "second"):
            stage.send(name, signal.SIGTERM)
            assert await stage.gone(name) == 0
        await stage.until(lambda: stage.is_active("fourth"))
        await stage.start("fifth")
        stage.send("fourth", signal.SIGTERM)
        assert await stage.gone("fourth") == 0
        await stage.until(lambda: stage.is_active("fifth"))
        decided.append(await stage.decide())
        await stage.until(stage.all_told)

    told = {event.id: event for event in await stage.told()}.values()
    thresholds = [event.workspace for event in told if event.threshold is not None]
    assert sorted(each for each in thresholds if each in decided) == sorted(decided)
    assert [event.drift for event in told if event.workspace == drifted] == [5]
