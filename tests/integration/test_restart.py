"""SIGTERM to every service in the middle of its work, as a roll-out or a drained node sends it."""

import asyncio
import os
import signal
import time
from pathlib import Path

import pytest

from local import stack
from local.stack import SERVICES, Options, Stack
from tests.integration import oracle
from tests.integration.scene import QUICK, QUICK_BY_SERVICE, Deaths, Scene, set_up

CONTACTS, WAYS = 900, 2
COUNTS = {"mapper": 2, "writer": 2}
NAMES = [name for each in SERVICES for name in stack.names(each.name, COUNTS.get(each.name, 1))]

END_WITHIN_S = 25.0  # `ServiceSettings.drain_s`.
LOAD_WITHIN_S, QUIET_WITHIN_S = 60.0, 120.0
SLOW = [{"kind": "latency", "seconds": 0.2}]


@pytest.mark.timeout(900)
async def test_services_told_to_end_under_load_end_in_order_and_lose_nothing(
    tmp_path: Path, embedded: None
) -> None:
    """Proves X2 for SIGTERM: each process ends by itself, with 0, and another finishes."""
    deaths = Deaths()
    options = Options(
        tmp_path,
        durable=False,
        counts=COUNTS,
        environment=QUICK,
        environments=QUICK_BY_SERVICE,
    )
    async with stack.running(options, deaths.hear) as running:
        made = set_up(running, ways=WAYS, contacts=CONTACTS, quota=100_000, seed=1)
        async with made as scene:
            for way in scene.ways:
                await way.destination.plan_faults(SLOW)
            await scene.activate()
            await _under_load(scene)

            took_s = await _terminate(running, deaths)
            for name in NAMES:
                await running.supervisor.wait_ready(name)
            left = await oracle.wait_until_quiet(scene, within_s=QUIET_WITHIN_S)
            problems = await oracle.problems(scene)

    assert set(took_s) == set(NAMES)
    assert max(took_s.values()) < END_WITHIN_S, took_s
    assert [line for line in deaths.lines if "died (" in line and "exit status 0" not in line] == []
    assert not left, f"this never ended: {left}"
    assert not problems


async def _under_load(scene: Scene) -> None:
    """Return once units are held: calls are under way."""
    async with oracle.database(scene.stack) as connection, asyncio.timeout(LOAD_WITHIN_S):
        held = "select sum(held) from ledger.periods"
        while not await connection.fetchval(held):  # noqa: ASYNC110  # a counter tells nobody
            await asyncio.sleep(0.02)


async def _terminate(running: Stack, deaths: Deaths) -> dict[str, float]:
    """Send SIGTERM to every service at once; return how long each took to end."""
    pids = running.supervisor.pids()
    started = time.monotonic()
    for name in NAMES:
        os.kill(pids[name], signal.SIGTERM)
    took_s: dict[str, float] = {}
    while len(took_s) < len(NAMES) and time.monotonic() - started < 2 * END_WITHIN_S:
        for name in deaths.counts:
            took_s.setdefault(name, time.monotonic() - started)
        await asyncio.sleep(0.05)
    return took_s
