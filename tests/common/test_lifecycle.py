"""How a process starts, stops and fails, seen from outside as real processes."""

import asyncio
import gc
import json
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from libs.common import lifecycle, metrics
from libs.common.lifecycle import Process, supervise
from libs.common.settings import Environment, ServiceSettings

ROOT = Path(__file__).parents[2]
EVENTUALLY_S = 60

PROGRAM = """
import asyncio
from libs.common.lifecycle import Process, run
from libs.common.settings import ServiceSettings

async def main(process: Process) -> None:
    {body}

run("test", ServiceSettings(health_port=0), main)
"""

Line = dict[str, Any]


class Started:
    """A process of the test's own, with what it says."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    async def line(self, event: str) -> Line:
        """Return the next line that tells an event."""
        assert self.process.stdout is not None
        async with asyncio.timeout(EVENTUALLY_S):
            while raw := await self.process.stdout.readline():
                line: Line = json.loads(raw)
                if line["event"] == event:
                    return line
        pytest.fail(f"the process ended without {event}")

    def let_end(self) -> None:
        """Tell a process that waits for the end of what it reads."""
        assert self.process.stdin is not None
        self.process.stdin.close()

    async def exit_code(self) -> int:
        async with asyncio.timeout(EVENTUALLY_S):
            return await self.process.wait()


@asynccontextmanager
async def started(body: str) -> AsyncIterator[Started]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", PROGRAM.format(body=body)),
        cwd=ROOT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        yield Started(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def status(port: int, path: str) -> int:
    async with (
        aiohttp.ClientSession() as client,
        client.get(f"http://127.0.0.1:{port}{path}") as answer,
    ):
        return answer.status


async def test_a_signal_turns_readiness_off_and_the_process_ends_well() -> None:
    # It is at its end when it is told, or a busy machine would ask who is gone.
    body = "import sys; await process.stop.wait(); await asyncio.to_thread(sys.stdin.read)"
    async with started(body) as process:
        port = (await process.line("health_served"))["port"]
        assert await status(port, "/ready") == 200

        process.process.send_signal(signal.SIGTERM)
        await process.line("process_stopping")

        assert await status(port, "/ready") == 503
        assert await status(port, "/live") == 200
        process.let_end()
        assert await process.exit_code() == 0


async def test_a_main_that_returns_ends_the_process_well() -> None:
    async with started("return") as process:
        assert (await process.line("process_ended"))["exit_code"] == 0
        assert await process.exit_code() == 0


async def test_a_bug_ends_the_process_with_its_stack_and_without_its_values() -> None:
    """Proves I10: an error's message may hold a contact, so it is not written."""
    async with started("raise ValueError('ada@example.org')") as process:
        line = await process.line("process_failed")

        assert line["error"][-1] == "ValueError"
        assert line["stack"]
        assert "ada" not in json.dumps(line)
        assert await process.exit_code() == 1


async def test_a_bug_beside_main_ends_the_process_too() -> None:
    body = """
    async def beside() -> None:
        raise KeyError
    process.start(beside())
    await process.stop.wait()
"""
    async with started(body.strip()) as process:
        assert (await process.line("process_failed"))["error"][-1] == "KeyError"
        assert await process.exit_code() == 1


async def test_what_ignores_its_cancellation_does_not_keep_the_process() -> None:
    """Proves R8: the end is bounded, though somebody was never to be ended."""
    body = """
    async def stay() -> None:
        while True:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                pass
    main.staying = asyncio.create_task(stay())
    await asyncio.sleep(0)
"""
    async with started(body.strip()) as process:
        assert (await process.line("process_ended"))["exit_code"] == 0
        assert (await process.line("process_left_behind"))["exit_code"] == 1
        assert await process.exit_code() == 1


async def test_a_second_signal_ends_the_process_at_once() -> None:
    async with started("await asyncio.sleep(3600)") as process:
        await process.line("process_started")
        process.process.send_signal(signal.SIGINT)
        await process.line("process_stopping")

        process.process.send_signal(signal.SIGTERM)

        assert (await process.line("process_killed"))["signal"] == "SIGTERM"
        assert await process.exit_code() == 128 + signal.SIGTERM


@pytest.fixture
def settings() -> ServiceSettings:
    return ServiceSettings(environment=Environment.TEST, health_port=0, drain_s=0.0)


@pytest.fixture(autouse=True)
def _signals_as_before() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


async def test_whoever_does_not_end_in_time_is_cancelled(
    settings: ServiceSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lifecycle, "ENDING_S", 0.1)
    cancelled = asyncio.Event()

    async def main(process: Process) -> None:
        process.stop.set()
        try:
            await asyncio.sleep(3600)
        finally:
            cancelled.set()

    assert await supervise("test", settings, main) == 1
    assert cancelled.is_set()


async def test_what_runs_beside_main_is_told_when_main_returns(settings: ServiceSettings) -> None:
    ended: list[str] = []

    async def main(process: Process) -> None:
        async def beside() -> None:
            await process.stop.wait()
            ended.append("beside")

        _ = process.start(beside())
        process.watch("main", live=lambda: True, ready=lambda: True)

    assert await supervise("test", settings, main) == 0
    assert ended == ["beside"]


async def test_a_process_that_ends_waits_for_no_sample_of_its_own(
    settings: ServiceSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics, "LOOP_LAG_EVERY_S", 3600.0)

    async def main(process: Process) -> None:
        await asyncio.sleep(0)

    assert await supervise("test", settings, main) == 0


def test_a_platform_that_is_not_installed_has_no_version(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lifecycle, "DISTRIBUTION", "no-such-distribution")

    assert lifecycle.distribution_version() == "0"


@pytest.fixture
def collecting() -> Iterator[None]:
    before = gc.get_threshold()
    yield
    gc.set_threshold(*before)


@pytest.mark.usefixtures("collecting")
def test_a_batch_of_contacts_does_not_have_the_collector_look_each_time(
    settings: ServiceSettings,
) -> None:
    looked = []

    def look(phase: str, _info: dict[str, int]) -> None:
        looked.append(phase)

    async def main(process: Process) -> None:
        gc.callbacks.append(look)
        kept = [[number] for number in range(4_000)]
        gc.callbacks.remove(look)
        assert len(kept) == 4_000

    with pytest.raises(SystemExit):
        lifecycle.run("test", settings, main)

    assert len(looked) <= 2  # One look, begun and ended, at what there was before.


@pytest.mark.usefixtures("collecting")
def test_run_leaves_with_the_exit_code(
    settings: ServiceSettings, request: pytest.FixtureRequest
) -> None:
    async def main(process: Process) -> None:
        return

    with pytest.raises(SystemExit) as exit_info:
        lifecycle.run("test", settings, main)

    assert exit_info.value.code == 0
