"""The shared control interface, on the HubSpot sandbox; and the process that serves it."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from sandbox.hubspot.app import create_app
from sandbox.hubspot.state import State
from sandbox.server import serve

ROOT = Path(__file__).parents[2]
CONTACTS = "/crm/v3/objects/contacts"


@pytest.fixture
async def sandbox() -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(create_app(State()))
    async with httpx.AsyncClient(
        transport=transport,
        base_url="http://sandbox",
        headers={"authorization": "Bearer pat-sandbox"},
    ) as client:
        yield client


async def error_of(answer: httpx.Response) -> str:
    assert answer.status_code == 400
    error: str = answer.json()["error"]
    return error


async def test_a_reset_makes_everything_as_at_the_start(sandbox: httpx.AsyncClient) -> None:
    await sandbox.post("/_sandbox/accounts", json={"name": "second"})
    await sandbox.post("/_sandbox/contacts:fill", json={"count": 3, "list": "All"})
    await sandbox.put("/_sandbox/faults", json=[{"kind": "cut"}])
    await sandbox.put("/_sandbox/settings", json={"token_ttl_s": 5})
    await sandbox.put("/_sandbox/clock", json={"advance_s": 9999})

    answer = await sandbox.post("/_sandbox/reset", json={"seed": 4})

    assert answer.json() == {"seed": 4}
    state = (await sandbox.get("/_sandbox/state")).json()
    assert (state["contacts"], state["lists"]) == ([], [])
    assert len((await sandbox.get("/_sandbox/accounts")).json()["accounts"]) == 1
    assert (await sandbox.get("/_sandbox/faults")).json() == []
    assert (await sandbox.put("/_sandbox/settings", json={})).json()["token_ttl_s"] == 1800
    assert (await sandbox.get("/_sandbox/calls")).json()["total"] == 0


async def test_accounts_are_apart(sandbox: httpx.AsyncClient) -> None:
    second = (await sandbox.post("/_sandbox/accounts", json={"name": "second"})).json()
    there = {"account": second["account"]}
    await sandbox.post("/_sandbox/contacts:fill", json={"count": 2}, params=there)
    await sandbox.put("/_sandbox/faults", json=[{"kind": "status", "status": 503}], params=there)

    mine = await sandbox.get(CONTACTS)
    theirs = await sandbox.get(
        CONTACTS, headers={"authorization": f"Bearer {second['private_app_token']}"}
    )

    assert (mine.status_code, mine.json()["results"]) == (200, [])
    assert theirs.status_code == 503
    state = (await sandbox.get("/_sandbox/state", params=there)).json()
    assert len(state["contacts"]) == 2


async def test_writes_are_told_in_order_and_from_a_number_on(sandbox: httpx.AsyncClient) -> None:
    for name in ("ada", "bob"):
        await sandbox.post(CONTACTS, json={"properties": {"email": f"{name}@example.org"}})
    await sandbox.patch(f"{CONTACTS}/101", json={"properties": {"city": "Leeds"}})

    writes = (await sandbox.get("/_sandbox/writes")).json()["writes"]
    later = (await sandbox.get("/_sandbox/writes", params={"after": 2})).json()["writes"]

    assert [each["seq"] for each in writes] == [1, 2, 3]
    assert [each["created"] for each in writes] == [True, True, False]
    assert later == writes[2:]
    assert later[0]["endpoint"] == f"PATCH {CONTACTS}/{{id}}"
    assert (later[0]["identity"], later[0]["contact_id"]) == ("ada@example.org", "101")
    assert later[0]["attributes"] == {"city": "Leeds"}


async def test_calls_are_counted_by_endpoint_until_they_are_reset(
    sandbox: httpx.AsyncClient,
) -> None:
    for number in (1, 2):
        await sandbox.get(f"{CONTACTS}/{number}")
    await sandbox.get("/nowhere")

    calls = (await sandbox.get("/_sandbox/calls")).json()
    reset = await sandbox.post("/_sandbox/calls:reset")

    assert calls["by_endpoint"] == {"GET (no such path)": 1, f"GET {CONTACTS}/{{id}}": 2}
    assert reset.status_code == 204
    assert (await sandbox.get("/_sandbox/calls")).json()["total"] == 0


async def test_limits_tell_what_they_let_through(sandbox: httpx.AsyncClient) -> None:
    tokens = (await sandbox.post("/_sandbox/tokens")).json()
    await sandbox.get(CONTACTS, headers={"authorization": f"Bearer {tokens['access_token']}"})

    limits = (await sandbox.get("/_sandbox/limits")).json()

    assert limits["enabled"]
    [[_, calls]] = limits["buckets"]["ten_secondly"]["by_second"]
    assert calls == 1


async def test_the_clock_is_moved(sandbox: httpx.AsyncClient) -> None:
    tokens = (await sandbox.post("/_sandbox/tokens")).json()
    bearer = {"authorization": f"Bearer {tokens['access_token']}"}
    before = await sandbox.get(CONTACTS, headers=bearer)

    await sandbox.put("/_sandbox/clock", json={"advance_s": 1801})

    after = await sandbox.get(CONTACTS, headers=bearer)
    assert (before.status_code, after.status_code) == (200, 401)


@pytest.mark.parametrize(
    ("method", "path", "body", "error"),
    [
        ("POST", "reset", {"seed": "x"}, "seed must be a whole number"),
        ("POST", "reset", [], "must be a JSON object"),
        ("POST", "accounts", {"tier": "gold"}, "there is no tier gold; there are: free"),
        ("POST", "accounts", {"time_zone": "Mars/Base"}, "no time zone Mars/Base"),
        ("POST", "accounts", {"colour": "red"}, "not colour"),
        ("GET", "state?account=7", None, "there is no account 7; there are: 1000001"),
        ("GET", "writes?after=x", None, "after must be the seq of a write"),
        ("PUT", "faults", [{"kind": "flood"}], "Invalid enum value 'flood'"),
        ("PUT", "faults", [{"kind": "cut", "match": {"path": "("}}], "regular expression"),
        ("PUT", "faults", {"kind": "cut"}, "Expected `array`"),
        ("PUT", "limits", {"enabled": 1}, "enabled must be true or false"),
        ("PUT", "limits", {"hourly": {}}, "there is no bucket hourly; there are: daily"),
        ("PUT", "limits", {"search": {"limit": 1}}, "search must be"),
        ("PUT", "limits", {"tier": "gold"}, "there is no tier gold"),
        ("PUT", "settings", {"speed": 1}, "unknown field `speed`"),
        ("PUT", "settings", {"index_delay_s": "x"}, "Expected `float`"),
        ("PUT", "clock", {}, "advance_s must be a number"),
    ],
)
async def test_a_call_that_cannot_be_carried_out_says_why(
    sandbox: httpx.AsyncClient, method: str, path: str, body: Any, error: str
) -> None:
    answer = await sandbox.request(method, f"/_sandbox/{path}", json=body)

    assert error in await error_of(answer)


async def test_a_body_that_is_no_json_and_a_path_that_is_not_there_are_told(
    sandbox: httpx.AsyncClient,
) -> None:
    no_json = await sandbox.put("/_sandbox/limits", content=b"{")
    nowhere = await sandbox.get("/_sandbox/nowhere")

    assert "truncated" in await error_of(no_json)
    assert (nowhere.status_code, nowhere.json()) == (
        404,
        {"error": "there is no GET /_sandbox/nowhere"},
    )


async def test_the_process_prints_its_addresses_and_ends_at_once_when_told(
    tmp_path: Path,
) -> None:
    state_file = tmp_path / "sandbox.json"
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "sandbox", "--port", "hubspot=0", "--port", "brevo=0"),
        *("--state-file", str(state_file)),
        cwd=ROOT,
        env={**os.environ, "PYTHONWARNINGS": "error"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    addresses = json.loads(await asyncio.wait_for(process.stdout.readline(), 60))

    async with httpx.AsyncClient() as client:
        answer = await client.get(f"{addresses['hubspot']}/_sandbox/accounts")
        others = await client.get(f"{addresses['brevo']}/_sandbox/calls")
        process.send_signal(signal.SIGTERM)
        _, errors = await asyncio.wait_for(process.communicate(), 60)

    assert answer.json()["accounts"] == [{"account": "1000001", "name": "HubSpot sandbox"}]
    assert others.json()["total"] == 0
    assert json.loads(state_file.read_text()) == addresses
    assert (process.returncode, errors) == (0, b"")


async def test_the_process_says_which_port_is_taken() -> None:
    async with serve(create_app(State())) as url:
        port = url.rpartition(":")[2]
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "sandbox", "--port", f"hubspot={port}"),
            cwd=ROOT,
            stderr=asyncio.subprocess.PIPE,
        )
        _, errors = await asyncio.wait_for(process.communicate(), 60)

    assert process.returncode == 1
    assert errors.startswith(f"sandbox: hubspot cannot listen on 127.0.0.1:{port}: ".encode())
    assert b"Choose another --port, or hubspot=0" in errors


async def test_the_process_refuses_a_provider_it_does_not_know() -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "sandbox", "--port", "nobody=0"),
        cwd=ROOT,
        stderr=asyncio.subprocess.PIPE,
    )

    _, errors = await asyncio.wait_for(process.communicate(), 60)

    assert process.returncode == 2
    assert b"with a provider of: activecampaign, brevo" in errors
