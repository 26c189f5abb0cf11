"""The worked example of docs/connectors.md works: a folder, a sandbox and one line are enough.

Its code is taken out of the page. The suites that every connector passes run against it, and the
services' own code syncs contacts through it.
"""

import base64
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any
from uuid import UUID, uuid4

import pytest

from libs.common.clock import SystemClock
from libs.common.consumer import Batch, Record
from libs.common.database import SessionMaker, transactions_of
from libs.common.events import Event, RunRead, Settled, Topic
from libs.common.postgres import Transactions, create_pool
from libs.common.secrets import KeyRing
from libs.connectors import registry
from libs.connectors.opening import Opener
from services.mapper.map_records import RecordMapper
from services.mapper.store import Integration, load_integration
from services.poller.sources import Sources
from services.poller.store import claim_due
from services.writer.account import Accounts
from services.writer.destinations import Destinations
from services.writer.health import Blocks
from services.writer.imports import Imports
from services.writer.lease import Leases
from services.writer.live import Live
from services.writer.shares import Budget
from services.writer.write import Writing
from tests.connectors import worked_example
from tests.connectors.served import Served
from tests.services.poller.world import World

EXAMPLE = worked_example.load()
# The page's own tests are this module's: pytest finds what is here under its name.
provider = EXAMPLE.tests.provider
TestSource = EXAMPLE.tests.TestSource
TestDestination = EXAMPLE.tests.TestDestination

KEYS = KeyRing.parse("k:" + base64.b64encode(b"k" * 32).decode())
FIELDS = (
    {"source": "mail", "destination": "mail", "destination_type": "email"},
    {"source": "name", "destination": "name", "destination_type": "text"},
)
LIST, PEOPLE = "Newsletter", 12


@pytest.mark.parametrize("command", [("check",), ("format", "--check")])
def test_the_page_keeps_the_rules_of_the_house(command: tuple[str, ...]) -> None:
    settings = ["--config", str(worked_example.ROOT / "pyproject.toml"), "--no-cache"]
    files = sorted(set(worked_example.code()) - {worked_example.REGISTRY})

    done = subprocess.run(
        [sys.executable, "-m", "ruff", *command, *settings, *files],
        cwd=EXAMPLE.folder,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr


def test_the_line_of_the_registry_is_one_of_its_kind() -> None:
    [(name, made)] = EXAMPLE.entry.items()

    assert name == made.facts.provider == "acme"
    assert made.facts.is_source is (made.source is not None)
    assert made.facts.is_destination is (made.destination is not None)
    assert "acme" not in registry.PROVIDERS


@dataclass
class Platform:
    """The services' own code between two accounts; lists stand where topics are."""

    world: World
    opener: Opener
    as_mapper: Transactions
    writer: Transactions
    destination: UUID = field(default_factory=uuid4)
    integration: UUID = field(default_factory=uuid4)

    async def connect(self, provider: Served) -> str:
        """Connect both accounts and integrate the source's list; return the destination's."""
        filled = await provider.post("contacts:fill", {"count": PEOPLE, "list": LIST})
        other = await provider.post("accounts", {"name": "other"})
        credential = {"authorization": f"Bearer {other['api_key']}"}
        answer = await provider.control.post("/v1/lists", json={"name": LIST}, headers=credential)
        list_id = str(answer.json()["id"])
        await self.world.set_up()
        await self.world.execute(
            "insert into config.connections (connection_id, workspace_id, provider, name, state,"
            " account_id) values (:to, :workspace, 'acme', 'To', 'connected', '2')",
            to=self.destination,
        )
        for connection, key in (
            (self.world.connection, EXAMPLE.tests.KEY),
            (self.destination, other["api_key"]),
        ):
            sealed = KEYS.seal(
                key, workspace=self.world.workspace, connection=connection, field="api_key"
            )
            await self.world.execute(
                "update config.connections set provider = 'acme', sealed_api_key = :sealed"
                " where connection_id = :which",
                sealed=sealed,
                which=connection,
            )
        self.integration = await self.world.integrate(list_id=filled["list_id"], fields=FIELDS)
        await self.world.execute(
            "update config.integrations set destination_connection_id = :to,"
            " destination_list_id = :list where integration_id = :integration",
            to=self.destination,
            list=list_id,
            integration=self.integration,
        )
        await self.world.execute("update sync.schedules set provider = 'acme'")
        return list_id

    async def sync(self) -> list[Settled]:
        """Let each service do its part once, in turn; return how the contacts ended."""
        await self.world.make_due(self.integration)
        [assignment] = await claim_due(
            self.world.as_poller, provider="acme", owner=uuid4(), limit=1
        )
        self.world.journal.events.clear()
        await self.world.run(assignment, await Sources(self.opener)(assignment)).poll()
        return await self._write(await self._map(self.world.journal.events))

    async def _map(self, changed: Iterable[Event]) -> list[Event]:
        mapped: list[Event] = []

        async def load(integration: UUID, versions: set[int]) -> Integration | None:
            return await load_integration(self.as_mapper, integration, versions=versions)

        async def publish(topic: Topic, events: Iterable[tuple[str, Event]]) -> None:
            mapped.extend(event for _, event in events)

        topic, key = Topic.CONTACTS_CHANGED, str(self.integration)
        records = [
            Record(event=event, topic=topic, partition=0, offset=offset, key=key)
            for offset, event in enumerate(changed)
        ]
        await RecordMapper(load, publish).handle(
            Batch(key=key, topic=topic, partition=0, records=records)
        )
        return mapped

    async def _write(self, events: list[Event]) -> list[Settled]:
        clock = SystemClock()
        settled: list[Event] = []

        async def publish(topic: Topic, published: Iterable[tuple[str, Event]], /) -> None:
            settled.extend(event for _, event in published)

        accounts = Accounts(self.writer, Leases(self.writer, clock, uuid4(), late_call_s=0.0))
        writing = Writing(
            self.writer,
            clock,
            Destinations(self.opener),
            Imports(self.writer, clock),
            Blocks(self.writer, clock),
            budget=Budget(),
        )
        await Live(self.writer, accounts, writing, publish).handle(self.destination, events)
        await accounts.release()
        assert any(isinstance(event, RunRead) for event in settled)
        return [event for event in settled if isinstance(event, Settled)]


@pytest.fixture
async def platform(
    provider: Served,
    sessions: SessionMaker,
    role_url: Callable[[str], str],
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[Platform]:
    """Return a platform whose registry has one line more."""
    registered = MappingProxyType({**registry.PROVIDERS, **EXAMPLE.entry})
    monkeypatch.setattr(registry, "PROVIDERS", registered)
    pools = {
        role: create_pool(role_url(role), size_max=5, application_name=role)
        for role in ("poller", "mapper", "writer")
    }
    opener = Opener(
        http=provider.http,
        transactions=transactions_of(sessions),
        keys=KEYS,
        clock=SystemClock(),
        patience_s=5.0,
        base_urls={"acme": provider.url},
    )
    yield Platform(
        World(sessions, Transactions(pools["poller"])),
        opener,
        Transactions(pools["mapper"]),
        Transactions(pools["writer"]),
    )
    for pool in pools.values():
        await pool.close()


async def state_of(provider: Served, account: str = "") -> dict[str, dict[str, Any]]:
    told = await provider.get(f"state?account={account}")
    return {each["fields"]["mail"]: each for each in told["contacts"]}


async def writes_of(provider: Served) -> int:
    told = await provider.get("calls?account=acme-other")
    return int(told["by_endpoint"].get("PUT /v1/contacts/{mail}", 0))


async def test_the_services_sync_contacts_through_it(platform: Platform, provider: Served) -> None:
    """Proves S1, S3 and Q6 for a provider that no service has ever heard of."""
    list_id = await platform.connect(provider)
    there = await state_of(provider)
    [left, *_] = there
    await provider.post("contacts:block?account=acme-other", {"emails": [left]})

    first = await platform.sync()
    written = await state_of(provider, "acme-other")
    nothing = await platform.sync()
    [edited] = (await provider.post("contacts:change", {"count": 1}))["ids"]
    second = await platform.sync()

    assert sum(len(each.created) for each in first) == PEOPLE
    assert {mail: each["fields"]["name"] for mail, each in written.items()} == {
        mail: each["fields"]["name"] for mail, each in there.items()
    }
    assert all(each["lists"] == [list_id] for each in written.values())
    assert [mail for mail, each in written.items() if each["blocked"]] == [left]
    assert all(not each.created and not each.updated for each in nothing)
    assert [id_ for each in second for id_ in each.updated] == [edited]
    assert await writes_of(provider) == PEOPLE + 1
