"""A workspace whose lists go to accounts of their own: what the tests of whole stacks begin with.

Made through the wizard as a person makes it. Each list's contacts go to another Brevo account, so
that several writers own a destination each while they share one quota.
"""

import random
import re
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx

from local import verify, wizard
from local.api import Api, Json
from local.providers import ANSWER_WITHIN_S, Provider
from local.stack import Stack
from local.verify import Before

INVALID_SHARE = 0.01
EXISTING, BLOCKED = 6, 3  # Who is at each destination already, and who of them unsubscribed (S3).
STRANGER = {"email": "stranger@example.com", "attributes": {"FIRSTNAME": "Not ours"}}
UNSETTLED = frozenset({"reading", "settling"})

# A killed process costs the others these times instead of minutes. Kafka's broker takes no session
# below 6 s; a lease must survive that its owner waits for one of two cores.
QUICK = {
    "KAFKA_SESSION_S": "6",
    "KAFKA_HEARTBEAT_S": "1.5",
    "KAFKA_REBALANCE_S": "12",
    "OUTBOX_CLAIM_S": "10",
}
QUICK_BY_SERVICE = {
    "poller-hubspot": {"LEASE_S": "8"},
    "writer": {
        "LEASE_S": "8",
        "LEASE_RENEW_S": "1.5",
        "LATE_CALL_S": "3",
        "DRAIN_EVERY_S": "1",
    },
    "notifier": {"CLAIM_S": "10"},
}


class Sandbox(Provider):
    """One account of a provider's sandbox, with what only tests do to it."""

    async def edit(self, count: int, *, seed: int) -> list[str]:
        """Edit plain fields of so many valid contacts; return their ids."""
        return await self._changed({"count": count, "seed": seed})

    async def move(self, source_id: str) -> None:
        """Give a contact another address."""
        await self._changed({"ids": [source_id], "kind": "email"})

    async def invite(self, emails: Iterable[str], *, name: str) -> None:
        """Put new contacts on a list, who have nothing but an address and a name."""
        contacts = [{"properties": {"email": each, "firstname": "New"}} for each in emails]
        await self.put(contacts, name=name)

    async def put(self, contacts: Sequence[Json], *, name: str) -> None:
        """Put contacts on a list, exactly so."""
        await self._call("POST", "contacts:upsert", {"contacts": list(contacts), "list": name})

    async def open_account(self, name: str, *, tier: str = "general") -> Json:
        """Make another account; return its id and its credentials."""
        return await self._call("POST", "accounts", {"name": name, "tier": tier})

    async def writes(self, *, after: int = 0) -> list[Json]:
        """Return the writes to contacts after one, in order: `seq`, `at`, `identity`."""
        answer = await self._client.get("/_sandbox/writes", params={"after": after})
        answer.raise_for_status()
        return list(answer.json()["writes"])

    async def plan_faults(self, faults: Sequence[Json]) -> None:
        """Let calls go wrong from now on; an empty plan ends that."""
        answer = await self._client.put("/_sandbox/faults", json=list(faults))
        answer.raise_for_status()

    async def written(self) -> set[str]:
        """Return the addresses of everybody whom anybody but a test has written."""
        answer = await self._client.get("/_sandbox/writes")
        answer.raise_for_status()
        return {str(each["identity"]) for each in answer.json()["writes"]}

    async def _changed(self, wish: Json) -> list[str]:
        return list((await self._call("POST", "contacts:change", wish))["ids"])


@asynccontextmanager
async def sandbox(url: str, account: str | None = None) -> AsyncIterator[Sandbox]:
    """Open an account's control interface; None is the default account."""
    parameters = {} if account is None else {"account": account}
    async with httpx.AsyncClient(
        base_url=url, params=parameters, timeout=ANSWER_WITHIN_S, trust_env=False
    ) as client:
        yield Sandbox(client)


@dataclass(frozen=True, slots=True)
class Way:
    """One integration: from a list to an account of its own."""

    integration: str
    source_list: str
    destination_list: str
    destination: Sandbox
    before: Before

    @property
    def path(self) -> str:
        """Return where the API has it."""
        return f"/v1/integrations/{self.integration}"


@dataclass(slots=True)
class Scene:
    """A workspace at work, and what a test did to its source."""

    stack: Stack
    operator: Api
    api: Api
    workspace: str
    source: Sandbox
    ways: list[Way] = field(default_factory=list)
    edits: Counter[str] = field(default_factory=Counter)  # By source id.

    async def edit(self, count: int, draw: random.Random) -> None:
        """Edit so many contacts of any list."""
        self.edits.update(await self.source.edit(count, seed=draw.randrange(2**31)))

    async def move(self, source_id: str) -> None:
        """Change the address of a contact."""
        await self.source.move(source_id)
        self.edits[source_id] += 1

    async def allow(self, limit: int) -> None:
        """Set the workspace's quota, as the operator does."""
        await self.operator.put(f"/v1/workspaces/{self.workspace}/quota", {"limit": limit})

    async def activate(self) -> None:
        """Start every integration."""
        for way in self.ways:
            await wizard.activate(self.api, way.integration)

    async def ask_for_runs(self) -> None:
        """Ask for a run of every integration now."""
        for way in self.ways:
            await self.api.post(f"{way.path}/runs")

    async def runs(self) -> dict[str, list[Json]]:
        """Return every run, newest first, by integration."""
        return {way.integration: await self.api.items(f"{way.path}/runs") for way in self.ways}

    async def contacts(self, way: Way, status: str) -> list[Json]:
        """Return an integration's contacts in a state."""
        return await self.api.items(f"{way.path}/contacts", status=status)

    async def quota(self) -> Json:
        """Return what the API tells of the quota."""
        return await self.api.get("/v1/quota")

    async def wanted(self, way: Way) -> verify.Wanted:
        """Return what the rules demand of an integration's list as it is now."""
        return verify.wanted_of(await self.source.state(), way.source_list)


@asynccontextmanager
async def set_up(
    stack: Stack, *, ways: int, contacts: int, quota: int, seed: int, tier: str = "general"
) -> AsyncIterator[Scene]:
    """Fill so many lists with so many contacts in all; make a workspace and its integrations.

    `tier` is the destinations' subscription: their limits.
    """
    async with AsyncExitStack() as exits:
        source = await exits.enter_async_context(sandbox(stack.providers["hubspot"]))
        brevo = await exits.enter_async_context(sandbox(stack.providers["brevo"]))
        operator = await exits.enter_async_context(Api.connect(stack.api, stack.operator_key))
        workspace = await wizard.create_workspace(operator, quota_limit=quota)
        api = await exits.enter_async_context(Api.connect(stack.api, workspace.api_key))
        scene = Scene(stack, operator, api, workspace.id, source)
        for number in range(ways):
            made = await brevo.open_account(f"account-{number}", tier=tier)
            destination = await exits.enter_async_context(
                sandbox(stack.providers["brevo"], made["account"])
            )
            share = contacts // ways + (number < contacts % ways)
            scene.ways.append(
                await _set_up_way(scene, destination, made["api_key"], number, share, seed, tier)
            )
        yield scene


async def _set_up_way(
    scene: Scene,
    destination: Sandbox,
    api_key: str,
    number: int,
    contacts: int,
    seed: int,
    tier: str,
) -> Way:
    source_list, destination_list = f"List {number}", f"From list {number}"
    await scene.source.fill(
        contacts, seed=seed * 10 + number, name=source_list, invalid_share=INVALID_SHARE
    )
    wanted = verify.wanted_of(await scene.source.state(), source_list)
    before = await _populate(destination, [each["EMAIL"] for each in wanted.contacts.values()])
    integration = await wizard.set_up(
        scene.api,
        source_list=source_list,
        destination_list=destination_list,
        credentials={"api_key": api_key, "tier": tier},
    )
    return Way(integration, source_list, destination_list, destination, before)


async def _populate(destination: Sandbox, emails: Iterable[str]) -> Before:
    """Put some of a list's people, and a stranger, at the destination already."""
    there = list(emails)[:EXISTING]
    old: list[dict[str, Any]] = [
        {"email": email, "attributes": {"FIRSTNAME": "From before"}} for email in there
    ]
    await destination.upsert([*old, STRANGER])
    await destination.block(there[:BLOCKED])
    return verify.before_of(await destination.state())


class Deaths:
    """Listens to what a stack reports, and counts how often each process died."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def hear(self, line: str) -> None:
        """Take a line of the stack's report."""
        self.lines.append(line)

    @property
    def others(self) -> list[str]:
        """Return the deaths that nobody caused: neither killed nor told to end."""
        return [
            line
            for line in self.lines
            if "died (exit status" in line and "exit status 0" not in line
        ]

    @property
    def counts(self) -> Counter[str]:
        """Return how often each process died, for whatever reason."""
        found = (re.match(r"(\S+) died \(", line) for line in self.lines)
        return Counter(match[1] for match in found if match)
