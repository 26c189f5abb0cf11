"""Looks everywhere for what must not be there: tokens, and contact data where none belongs.

Everywhere is: every log, every process's metrics, the keys, headers and bodies of every record on
every topic, every row of every table, every mail, and what the API answers. Where a needle is
found is told by its place, never by what it is.
"""

import asyncio
import itertools
import json
import re
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
import httpx

from libs.common.events import Topic
from local.stack import ROOT, Stack
from tests.integration import oracle

# Where contact data belongs (docs/operations.md, "Contact data"): records under way, what was last
# written, and who waits for what. Dead letters are copies of records.
TOPICS_WITH_CONTACTS = {Topic.CONTACTS_CHANGED, Topic.CONTACTS_MAPPED}
TABLES_WITH_CONTACTS = {"delivery.links", "delivery.parked", "delivery.intents"}
# The providers and the mailbox are others' programs.
NOT_OURS = {"sandbox.log", "mailbox.log"}
PAGES_MAX = 40
SHOWN_MAX = 20


@dataclass(slots=True)
class Found:
    """Places that hold what they should not, and how much was looked through."""

    leaks: list[str] = field(default_factory=list)
    looked_at: dict[str, int] = field(default_factory=dict)  # Bytes by kind of place.
    belonging: set[str] = field(default_factory=set)  # Where contact data was, and may be.


@dataclass(slots=True)
class Search:
    """One search; needles by what they are."""

    tokens: Iterable[str]
    contacts: Iterable[str]
    found: Found = field(default_factory=Found)

    def look(
        self, kind: str, place: str, content: bytes, *, may_hold_contacts: bool = False
    ) -> None:
        """Look through one place."""
        looked_at = self.found.looked_at
        looked_at[kind] = looked_at.get(kind, 0) + len(content)
        if any(token.encode() in content for token in self.tokens):
            self.found.leaks.append(f"{place} holds a token")
        if not any(each.encode() in content for each in self.contacts):
            return
        if may_hold_contacts:
            self.found.belonging.add(place)
        else:
            self.found.leaks.append(f"{place} holds contact data")


async def search(
    stack: Stack,
    folder: Path,
    *,
    tokens: Iterable[str],
    contacts: Iterable[str],
    keys: Mapping[str, str],
) -> Found:
    """Search everything that a stack has said and stored; `keys` are the API's, by their owner."""
    wanted = Search([each for each in tokens if each], list(contacts))
    await asyncio.to_thread(_logs, wanted, folder / "logs")
    await _metrics(wanted, stack)
    await _records(wanted, stack)
    await _tables(wanted, stack)
    await _mails(wanted, stack)
    await _answers(wanted, stack, keys)
    wanted.found.leaks[:] = list(dict.fromkeys(wanted.found.leaks))[:SHOWN_MAX]
    return wanted.found


def _logs(wanted: Search, folder: Path) -> None:
    for log in sorted(folder.glob("*.log")):
        if log.name not in NOT_OURS:
            for number, line in enumerate(log.read_bytes().splitlines(), 1):
                wanted.look("logs", f"{log.name}:{number}", line)


async def _metrics(wanted: Search, stack: Stack) -> None:
    async with httpx.AsyncClient(trust_env=False) as client:
        for name, pid in stack.supervisor.pids().items():
            if (port := _health_port(pid)) is not None:
                answer = await client.get(f"http://127.0.0.1:{port}/metrics")
                wanted.look("metrics", f"metrics of {name}", answer.raise_for_status().content)


def _health_port(pid: int) -> str | None:
    """Return where a process tells its metrics, by what it was started with; None if nowhere."""
    environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    given = [each.partition(b"=") for each in environment]
    ports = [value.decode() for name, _, value in given if name == b"HEALTH_PORT"]
    return ports[0] if ports else None


async def _records(wanted: Search, stack: Stack) -> None:
    for topic in Topic:
        for name in (str(topic), f"{topic}.dead"):
            holds = topic in TOPICS_WITH_CONTACTS
            async for key, headers, body in _read(stack.kafka, name):
                wanted.look("records", f"a key of {name}", key)
                wanted.look("records", f"a header of {name}", headers)
                wanted.look("records", f"a body of {name}", body, may_hold_contacts=holds)


async def _read(bootstrap: str, topic: str) -> AsyncIterator[tuple[bytes, bytes, bytes]]:
    async with oracle.reading(bootstrap, None) as consumer:
        places = await oracle.partitions_of(consumer, topic)
        consumer.assign(places)
        await consumer.seek_to_beginning(*places)
        ends = await consumer.end_offsets(places)
        while any([await consumer.position(place) < ends[place] for place in places]):
            for records in (await consumer.getmany(timeout_ms=500)).values():
                for record in records:
                    headers = [name.encode() + b"=" + value for name, value in record.headers]
                    yield record.key or b"", b"\n".join(headers), record.value or b""


async def _tables(wanted: Search, stack: Stack) -> None:
    """Read every table there is, as its owner."""
    async with oracle.database(stack) as connection:
        tables = await connection.fetch(
            """select n.nspname || '.' || c.relname as name, c.oid::regclass::text as quoted
               from pg_class c join pg_namespace n on n.oid = c.relnamespace
               where c.relkind = 'r' and n.nspname not in ('pg_catalog', 'information_schema')"""
        )
        for table in tables:
            await _rows(wanted, connection, table["name"], table["quoted"])


async def _rows(wanted: Search, connection: asyncpg.Connection, name: str, quoted: str) -> None:
    may_hold = name in TABLES_WITH_CONTACTS
    async with connection.transaction():
        async for row in connection.cursor(f"select * from {quoted}", prefetch=1000):
            # Packed columns as they are: as text they would be hexadecimal digits.
            content = b"\0".join(
                each if isinstance(each, bytes) else str(each).encode("utf-8", "replace")
                for each in row.values()
            )
            wanted.look("rows", f"a row of {name}", content, may_hold_contacts=may_hold)


async def _mails(wanted: Search, stack: Stack) -> None:
    async with httpx.AsyncClient(base_url=stack.mailbox, trust_env=False) as mailbox:
        for mail in (await mailbox.get("/api/messages")).json():
            content = json.dumps(mail, ensure_ascii=False).encode()
            wanted.look("mails", f"mail {mail['id']}", content)


async def _answers(wanted: Search, stack: Stack, keys: Mapping[str, str]) -> None:
    """Ask all that can be read by the API's own description, with each key and with none."""
    for owner, key in {**keys, "nobody": "csk_none"}.items():
        async with httpx.AsyncClient(
            base_url=stack.api,
            headers={"authorization": f"Bearer {key}"},
            trust_env=False,
            timeout=30.0,
        ) as client:
            for path in await _readable(client):
                await _pages(wanted, client, owner, path)


async def _pages(wanted: Search, client: httpx.AsyncClient, owner: str, path: str) -> None:
    parameters: dict[str, str | int] = {"page_size": 200} if path.endswith("s") else {}
    for _ in range(PAGES_MAX):
        answer = await client.get(path, params=parameters)
        wanted.look("answers", f"GET {path} ({owner})", answer.content)
        page = answer.json() if "json" in answer.headers.get("content-type", "") else {}
        if not isinstance(page, dict) or not page.get("next_page_token"):
            return
        parameters["page_token"] = page["next_page_token"]


async def _readable(client: httpx.AsyncClient) -> list[str]:
    """Return the paths that can be read, with ids of everything that their lists show."""
    described = json.loads((ROOT / "docs" / "openapi.json").read_text())["paths"]
    templates = [path for path, methods in described.items() if "get" in methods]
    ids: dict[str, list[str]] = {}
    for name in ("workspace", "connection", "integration"):
        ids[f"{name}_id"] = await _shown(client, f"/v1/{name}s")
    ids["run_id"] = [
        run
        for one in ids["integration_id"]
        for run in await _shown(client, f"/v1/integrations/{one}/runs")
    ]
    return [path for template in templates for path in _filled(template, ids)]


async def _shown(client: httpx.AsyncClient, path: str) -> list[str]:
    answer: Any = (await client.get(path)).json()
    return [str(each["id"]) for each in answer.get("items", ())] or ["unknown"]


def _filled(template: str, ids: Mapping[str, list[str]]) -> list[str]:
    names = re.findall(r"{(\w+)}", template)
    values = itertools.product(*(ids.get(name, ["unknown"]) for name in names))
    return [template.format_map(dict(zip(names, each, strict=True))) for each in values]
