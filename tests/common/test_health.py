"""What /live, /ready and /metrics answer."""

from collections.abc import AsyncIterator

import aiohttp
import pytest

from libs.common.health import HealthServer


@pytest.fixture
async def health() -> AsyncIterator[HealthServer]:
    server = HealthServer("127.0.0.1", 0)
    await server.start()
    yield server
    await server.stop()


async def ask(health: HealthServer, path: str) -> tuple[int, str]:
    async with (
        aiohttp.ClientSession() as client,
        client.get(f"http://127.0.0.1:{health.port}{path}") as answer,
    ):
        return answer.status, await answer.text()


async def test_the_chosen_port_is_told(health: HealthServer) -> None:
    assert health.port > 0


async def test_without_checks_a_process_is_live_and_ready(health: HealthServer) -> None:
    assert (await ask(health, "/live"))[0] == 200
    assert (await ask(health, "/ready"))[0] == 200


async def test_a_failing_check_is_named(health: HealthServer) -> None:
    health.add_live("loop", lambda: True)
    health.add_live("consumer", lambda: False)

    status, body = await ask(health, "/live")

    assert status == 503
    assert "consumer" in body
    assert "loop" not in body


async def test_not_ready_is_still_live(health: HealthServer) -> None:
    health.add_ready("joined", lambda: False)

    assert (await ask(health, "/ready"))[0] == 503
    assert (await ask(health, "/live"))[0] == 200


async def test_metrics_are_served(health: HealthServer) -> None:
    status, body = await ask(health, "/metrics")

    assert status == 200
    assert "contactsync_loop_lag_seconds" in body


async def test_nothing_else_is_served(health: HealthServer) -> None:
    assert (await ask(health, "/"))[0] == 404


async def test_a_taken_port_stops_the_start(health: HealthServer) -> None:
    other = HealthServer("127.0.0.1", health.port)

    with pytest.raises(OSError, match="address already in use"):
        await other.start()
    await other.stop()
    await other.stop()
