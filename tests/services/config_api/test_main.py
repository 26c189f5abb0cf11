"""`python -m services.config_api`: it serves, makes the operator's key, and ends when told to."""

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path

import httpx

from local.processes import free_port

ROOT = Path(__file__).parents[3]
STARTS_WITHIN_S = 90.0


async def start(url: str, *arguments: str, **settings: str) -> Process:
    environment = {
        **{name: value for name, value in os.environ.items() if name.startswith(("COV", "PATH"))},
        "DATABASE_URL": url,
        "KEYS": f"one:{b64encode(bytes(32)).decode()}",
        "ENVIRONMENT": "test",
        **settings,
    }
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "services.config_api", *arguments),
        cwd=ROOT,
        env=environment,
        stdout=PIPE,
        stderr=PIPE,
    )


async def run(url: str, *arguments: str) -> tuple[int | None, str, str]:
    process = await start(url, *arguments)
    out, err = await process.communicate()
    return process.returncode, out.decode(), err.decode()


async def answers(url: str) -> httpx.Response:
    deadline = asyncio.get_running_loop().time() + STARTS_WITHIN_S
    async with httpx.AsyncClient() as client:
        while True:
            try:
                return await client.get(url)
            except httpx.TransportError:
                assert asyncio.get_running_loop().time() < deadline, "it did not start"
                await asyncio.sleep(0.1)


async def test_the_operators_key_is_printed_once(role_url: Callable[[str], str]) -> None:
    first = await run(role_url("api"), "bootstrap")
    second = await run(role_url("api"), "bootstrap")
    replaced = await run(role_url("api"), "bootstrap", "--replace")

    assert first[0] == 0, first
    assert json.loads(first[1])["operator"]["api_key"].startswith("csk_")
    assert (second[0], second[1]) == (1, "")
    assert "--replace" in second[2]
    assert replaced[0] == 0


async def test_it_serves_until_it_is_told_to_stop(role_url: Callable[[str], str]) -> None:
    port, health = free_port(), free_port()
    process = await start(role_url("api"), API_PORT=str(port), HEALTH_PORT=str(health))

    served = await answers(f"http://127.0.0.1:{port}/v1/quota")
    ready = await answers(f"http://127.0.0.1:{health}/ready")
    async with asyncio.timeout(STARTS_WITHIN_S):
        later = served
        while later.headers["date"] == served.headers["date"]:
            later = await answers(f"http://127.0.0.1:{port}/v1/quota")
    process.send_signal(signal.SIGTERM)
    out, err = await process.communicate()

    assert served.json()["code"] == "unauthenticated"
    assert "server" not in served.headers
    assert ready.status_code == 200
    assert process.returncode == 0, (out, err)
    assert b"process_ended" in out
    assert err == b""


async def test_a_port_that_is_taken_ends_the_process(role_url: Callable[[str], str]) -> None:
    """Proves X1: a process that cannot serve says so and does not linger."""
    taken = await asyncio.start_server(lambda _reader, _writer: None, "127.0.0.1", 0)
    port = taken.sockets[0].getsockname()[1]
    async with taken:
        process = await start(role_url("api"), API_PORT=str(port), HEALTH_PORT="0")
        out, err = await asyncio.wait_for(process.communicate(), STARTS_WITHIN_S)

    assert process.returncode == 1, (out, err)
    assert b"port_refused" in out
    assert str(port).encode() in out
