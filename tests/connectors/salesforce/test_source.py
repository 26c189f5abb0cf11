"""Salesforce as a source: the conformance suite, and what only Salesforce does."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from libs.common.errors import MisconfiguredError, NeedsReauthError, RateLimitedError
from libs.common.events import Change
from libs.connectors.account import StaticToken
from libs.connectors.contract import Cursor, Gate, OpenGate, Page, Sweep
from libs.connectors.salesforce import facts
from libs.connectors.salesforce.source import SalesforceSource
from sandbox.salesforce.tokens import STANDING_TOKEN
from tests.connectors.conformance import FOREVER_MS, SourceConformance, members_of, sweep_all
from tests.connectors.served import RecordingGate, Served

PROPERTIES = ("Email", "FirstName", "LastName", "Phone", "Points__c")
LIST = "Newsletter"
OBJECTS = {"contacts": "Contact", "leads": "Lead"}


def source_of(provider: Served, gate: Gate | None = None, token: str = "") -> SalesforceSource:
    tokens = StaticToken(token or STANDING_TOKEN)
    return SalesforceSource(provider.http, gate or OpenGate(), tokens, provider.url)


def sweep(
    list_id: str | None = None,
    since_ms: int | None = None,
    *,
    object_name: str = "contacts",
    properties: Sequence[str] = PROPERTIES,
) -> Sweep:
    return Sweep(object_name, list_id, properties, since_ms, FOREVER_MS)


async def fill(
    provider: Served, count: int, *, object_name: str = "contacts", seed: int = 1
) -> tuple[str, list[str]]:
    """Put people into the organisation and into the campaign; return its id and theirs."""
    wish = {"count": count, "list": LIST, "invalid_share": 0, "seed": seed}
    told = await provider.post("contacts:fill", {**wish, "object": OBJECTS[object_name]})
    return told["list_id"], told["ids"]


async def pages_of(source: SalesforceSource, wanted: Sweep) -> list[Page]:
    pages: list[Page] = []
    cursor: Cursor | None = None
    while True:
        pages.append(await source.read_page(wanted, cursor))
        cursor = pages[-1].cursor
        if cursor is None:
            return pages


async def later(provider: Served, seconds: int = 2) -> None:
    """Let time pass: times are whole seconds, and edits of one second look alike."""
    await provider.put("clock", {"advance_s": seconds})


async def last_ms(source: SalesforceSource, object_name: str = "contacts") -> int:
    """Return the newest time of all records."""
    changes = await sweep_all(source, sweep(object_name=object_name))
    return max(each.version_ms for each in changes)


def values(change: Change) -> dict[str, Any]:
    return msgspec.json.decode(change.properties, type=dict[str, Any])


class TestContacts(SourceConformance):
    properties = PROPERTIES
    page_max = facts.PAGE_MAX
    several_pages = 2_100

    def source(
        self, provider: Served, gate: Gate | None = None, token: str = ""
    ) -> SalesforceSource:
        return source_of(provider, gate, token)

    async def fill(self, provider: Served, count: int) -> list[str]:
        _, ids = await fill(provider, count, object_name=self.object)
        return ids

    async def change(self, provider: Served, count: int) -> list[str]:
        await later(provider)
        wish = {"count": count, "seed": 2, "object": OBJECTS[self.object]}
        told = await provider.post("contacts:change", wish)
        return [str(each) for each in told["ids"]]


class TestLeads(TestContacts):
    object = "leads"
