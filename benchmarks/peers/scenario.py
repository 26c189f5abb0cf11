"""contactsync and its peers on the same pages: one full import each, one after the other.

Each writes to a Brevo account of its own, which is empty. contactsync does more than the peers: it
holds a quota, proves what arrived, keeps links and tells of every contact; and it has started
before. The peers' start is part of their figures: they start for every sync.
"""

import asyncio
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import httpx

from benchmarks import fleet
from benchmarks.accounts import Account
from benchmarks.bench import Bench
from benchmarks.measured import Measured
from benchmarks.peers import environment
from benchmarks.peers.job import BATCH_TUNED, Settings
from benchmarks.peers.job import FIELDS as JOB_FIELDS
from benchmarks.peers.processes import run_pipe
from benchmarks.peers.table import OURS, SCENARIO
from benchmarks.world import FIELDS, World
from local.errors import StackError
from local.stack import ROOT

SOURCE_TOKEN = "pat-sandbox"  # noqa: S105  # of the sandbox's first portal
ARRIVED_WITHIN_S = 120.0
LOOK_S = 0.2


async def peers(bench: Bench) -> None:
    """Let contactsync import everything, then singer-sdk and dlt, as they come and tuned."""
    interpreter = await asyncio.to_thread(environment.python)
    world, contacts = bench.world, bench.contacts
    await world.fill(contacts)
    await world.integrate("Newsletter from HubSpot")
    await bench.phase(SCENARIO, OURS, contacts, world.activate)
    for name in ("singer-sdk", "dlt"):
        for how in ("default", "tuned"):
            bench.found.append(await _measure(bench, interpreter, name, how))


async def _measure(bench: Bench, interpreter: Path, name: str, how: str) -> Measured:
    world, phase = bench.world, f"{name} {how}"
    called = phase.replace(" ", "-")
    folder = world.stack.supervisor.folder / "peers" / called
    folder.mkdir(parents=True, exist_ok=True)
    account, settings = await _account(world, called)
    settings = replace(settings, tuned=how == "tuned")
    commands = _commands(interpreter, name, settings, folder)
    before = await _calls(world.source, account)
    used = await asyncio.to_thread(run_pipe, commands, folder)
    calls = await _calls(world.source, account)
    found = Measured(
        scenario=SCENARIO,
        phase=phase,
        contacts=bench.contacts,
        seconds=used.seconds,
        cpu_s=used.cpu_s,
        rss_mb=used.rss_mb,
        calls={provider: count - before[provider] for provider, count in calls.items()},
    )
    await _arrived(settings, bench.contacts)
    return found


async def _calls(source: Account, destination: Account) -> dict[str, int]:
    return {
        "hubspot": (await source.calls())["total"],
        "brevo": (await destination.calls())["total"],
    }


async def _account(world: World, name: str) -> tuple[Account, Settings]:
    """Open an account with the attributes that are mapped, and a list; return how to reach it."""
    account, credentials = await fleet.open_account(world, name)
    url, key = world.stack.providers["brevo"], credentials["api_key"]
    async with _brevo(url, key) as client:
        for field in FIELDS:
            if field.create:
                path = f"/v3/contacts/attributes/normal/{field.destination}"
                await client.post(path, json={"type": field.create})
        made = await client.post("/v3/contacts/lists", json={"name": name, "folderId": 1})
    return account, Settings(
        source_url=world.stack.providers["hubspot"],
        source_token=SOURCE_TOKEN,
        destination_url=url,
        destination_key=key,
        list_id=made.raise_for_status().json()["id"],
    )


def _commands(
    interpreter: Path, name: str, settings: Settings, folder: Path
) -> Mapping[str, Sequence[str]]:
    """Return the peer's processes, the first one's output the next one's input."""

    def module(part: str) -> list[str]:
        return [str(interpreter), "-m", f"benchmarks.peers.{part}"]

    file = folder / "settings.json"
    file.write_text(json.dumps(asdict(settings)))
    if name == "dlt":
        return {"dlt": [*module("dlt_pipeline"), str(file), str(folder / "pipelines")]}
    tuned = {"batch_size_rows": BATCH_TUNED, "validate_records": False} if settings.tuned else {}
    target = folder / "target.json"
    target.write_text(json.dumps({**asdict(settings), **tuned}))
    return {
        "tap": [*module("singer_tap"), "--config", str(file)],
        "target": [*module("singer_target"), "--config", str(target)],
    }


async def _arrived(settings: Settings, contacts: int) -> None:
    """Wait until every contact is on the list; raise `StackError` if some, or fields, stay away."""
    until_s = time.monotonic() + ARRIVED_WITHIN_S
    path = f"/v3/contacts/lists/{settings.list_id}"
    async with _brevo(settings.destination_url, settings.destination_key) as client:
        while True:
            found = (await client.get(path)).raise_for_status().json()["uniqueSubscribers"]
            if found == contacts:
                return _check_fields((await client.get(f"{path}/contacts")).json()["contacts"])
            if time.monotonic() > until_s:
                what = f"{found} of {contacts} contacts have arrived"
                raise StackError(what, f"see the peers' logs in {ROOT / '.local' / 'bench'}")
            await asyncio.sleep(LOOK_S)


def _check_fields(contacts: Sequence[Mapping[str, Any]]) -> None:
    """Raise `StackError` if there is a mapped field that none of some contacts has."""
    there = {name for contact in contacts for name in contact["attributes"]}
    missing = set(JOB_FIELDS.values()) - {"EMAIL"} - there
    if missing:
        what = f"no contact has {', '.join(sorted(missing))}"
        raise StackError(what, "see how the peer maps fields (benchmarks/peers)")


def _brevo(url: str, key: str) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=url, headers={"api-key": key}, trust_env=False)
