"""The stack, from its servers on; the services' own part is proven by tests/integration."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncpg
import httpx
import psutil
import pytest
from aiokafka.admin import AIOKafkaAdminClient

from libs.common.events import Topic
from local import stack
from local.processes import wait_until
from local.stack import SERVICES, Options, Stack

ROOT = Path(__file__).parents[2]
GONE_S = 90.0  # A server that hangs is given half a minute before it is killed.

# Servers only, in a process of its own that can be interrupted or killed.
SERVERS = """
import asyncio, json, signal, sys
from pathlib import Path
from local import stack

async def main(folder):
    task = asyncio.current_task()
    asyncio.get_running_loop().add_signal_handler(signal.SIGINT, task.cancel)
    async with stack.running(stack.Options(folder, services=()), lambda line: None) as running:
        print(json.dumps(running.supervisor.pids()), flush=True)
        await asyncio.Event().wait()

asyncio.run(main(Path(sys.argv[1])))
"""


@pytest.fixture
async def servers(tmp_path: Path, embedded: None) -> AsyncIterator[Stack]:
    options = Options(tmp_path, durable=False, services=())
    async with stack.running(options, lambda line: None) as running:
        yield running


async def test_servers_are_ready_migrated_and_have_their_topics(servers: Stack) -> None:
    connection = await asyncpg.connect(stack.as_role(servers.database, "writer"))
    migrated = await connection.fetchval("select to_regclass('delivery.links') is not null")
    await connection.close()
    admin = AIOKafkaAdminClient(bootstrap_servers=servers.kafka)
    await admin.start()
    topics = await admin.list_topics()
    await admin.close()
    async with httpx.AsyncClient() as client:
        mails = (await client.get(f"{servers.mailbox}/api/messages")).json()
        calls = (await client.get(f"{servers.providers['brevo']}/_sandbox/calls")).json()

    assert migrated
    assert {topic.value for topic in Topic} <= set(topics)
    assert mails == []
    assert calls["total"] == 0


async def test_a_killed_server_comes_back_where_it_was_with_its_data(servers: Stack) -> None:
    connection = await asyncpg.connect(servers.database)
    await connection.execute("create table public.kept ()")

    killed = servers.supervisor.kill("postgres")
    await servers.supervisor.wait_ready("postgres", other_than=killed)
    again = await asyncpg.connect(servers.database)

    assert await again.fetchval("select to_regclass('public.kept')")
    await again.close()
    connection.terminate()


@contextmanager
def servers_process(folder: Path) -> Iterator[tuple[subprocess.Popen[str], list[psutil.Process]]]:
    """Run servers in another process; give it and everything it started, to the last child."""
    process = subprocess.Popen(
        [sys.executable, "-c", SERVERS, str(folder)], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert process.stdout
    try:
        pids = json.loads(process.stdout.readline())
        parents = [psutil.Process(pid) for pid in pids.values()]
        yield process, parents + [each for one in parents for each in one.children(recursive=True)]
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        stack._clear(folder)  # A killed one leaves its data to the next.


def is_gone(process: psutil.Process) -> bool:
    try:
        return not process.is_running() or bool(process.status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:  # Just between the two questions.
        return True


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_an_end_leaves_nothing_running(
    number: signal.Signals, tmp_path: Path, embedded: None
) -> None:
    with servers_process(tmp_path) as (process, started):
        assert len(started) > 4  # PostgreSQL has children.

        os.kill(process.pid, number)
        process.wait(GONE_S)

        assert wait_until(lambda: all(map(is_gone, started)), GONE_S)


async def test_nothing_tells_of_a_stack_that_was_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who waits for the state file must not find the one before, which leads nowhere."""
    state = tmp_path / "state.json"
    state.write_text("{}")
    there = []

    async def everything(_starting: object) -> None:
        there.append(state.exists())

    monkeypatch.setattr(stack._Starting, "everything", everything)
    async with stack.running(Options(tmp_path / "up", state=state), lambda line: None):
        pass

    assert there == [False]


def test_one_process_has_its_services_name_and_several_are_numbered() -> None:
    assert list(stack.names("writer", 1)) == ["writer"]
    assert list(stack.names("writer", 3)) == ["writer-1", "writer-2", "writer-3"]


def test_every_service_logs_in_as_itself() -> None:
    assert {service.role for service in SERVICES} == {
        *("api", "poller", "mapper", "writer", "quota", "activity", "notifier")
    }
    assert stack.as_role("postgresql://postgres@127.0.0.1:5/x", "api") == (
        "postgresql://contactsync_api@127.0.0.1:5/x"
    )
