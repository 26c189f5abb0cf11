"""Salesforce's sessions while records are read: their end, rotating refresh tokens, their loss."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from libs.common.clock import SystemClock
from libs.common.errors import MisconfiguredError, NeedsReauthError
from libs.common.tokens import Client, Tokens
from libs.connectors import oauth
from libs.connectors.contract import OpenGate, Sweep
from libs.connectors.oauth import RefreshingTokens, TokenEndpoint
from libs.connectors.salesforce.facts import FACTS
from libs.connectors.salesforce.source import SalesforceSource
from tests.connectors.conformance import FOREVER_MS
from tests.connectors.served import Served

OURS = Client("sandbox-client", "sandbox-secret")
EVERYONE = Sweep("contacts", None, ("Email",), None, FOREVER_MS)


@dataclass
class Kept:
    """One connection's tokens, as the database keeps them."""

    tokens: Tokens
    account_url: str | None = None

    async def load(self, connection: UUID) -> Tokens:
        return self.tokens

    async def begin_refresh(self, connection: UUID, owner: UUID, ttl_s: float) -> bool:
        return True

    async def store_tokens(
        self,
        connection: UUID,
        version: int,
        *,
        access_token: str,
        refresh_token: str | None,
        expires_at: datetime,
        account_url: str | None = None,
    ) -> bool:
        if version != self.tokens.version:
            return False
        kept = refresh_token or self.tokens.refresh_token
        self.tokens = Tokens(access_token, kept, expires_at, version + 1)
        self.account_url = account_url
        return True


async def connected(provider: Served) -> Kept:
    told: Mapping[str, Any] = await provider.post("tokens", {})
    ends = datetime.now(UTC) + timedelta(hours=1)
    return Kept(Tokens(told["access_token"], told["refresh_token"], ends, 1))


def source_of(provider: Served, kept: Kept) -> SalesforceSource:
    assert FACTS.oauth is not None
    facts = oauth.placed(FACTS.oauth, provider.url)
    clock = SystemClock()
    endpoint = TokenEndpoint(provider.http, clock, "salesforce", facts, FACTS.hosts, OURS)
    tokens = RefreshingTokens(endpoint, kept, UUID(int=1))
    return SalesforceSource(provider.http, OpenGate(), tokens, provider.url)


@pytest.fixture
async def paged(provider: Served) -> Served:
    """Return an organisation whose contacts fill three pages."""
    await provider.put("settings", {"page_rows_max": 200})
    await provider.post("contacts:fill", {"count": 450, "invalid_share": 0})
    return provider


async def test_a_session_that_ends_between_pages_is_renewed_once(paged: Served) -> None:
    """Proves S1. Fault 45: nobody tells when a session ends; the refresh token is a new one."""
    kept = await connected(paged)
    before = kept.tokens
    source = source_of(paged, kept)
    first = await source.read_page(EVERYONE, None)
    await paged.post("sessions:end", {})

    second = await source.read_page(EVERYONE, first.cursor)
    third = await source.read_page(EVERYONE, second.cursor)

    assert [len(page.changes) for page in (first, second, third)] == [200, 200, 50]
    assert kept.tokens.version == 2
    assert kept.tokens.refresh_token != before.refresh_token
    assert kept.account_url == paged.url


async def test_a_grant_that_is_taken_back_between_pages_needs_a_person(paged: Served) -> None:
    """Proves W2. Fault 45: a refresh is tried, and its refusal is believed."""
    kept = await connected(paged)
    source = source_of(paged, kept)
    first = await source.read_page(EVERYONE, None)
    await paged.post("app:uninstall", {})

    with pytest.raises(NeedsReauthError):
        await source.read_page(EVERYONE, first.cursor)

    assert kept.tokens.version == 1


async def test_a_session_without_the_api_is_not_renewed_for_ever(provider: Served) -> None:
    """A new one would be refused like it: no loop, and nobody is disconnected."""
    told = await provider.post("tokens", {"scopes": ["refresh_token", "id"]})
    ends = datetime.now(UTC) + timedelta(hours=1)
    kept = Kept(Tokens(told["access_token"], told["refresh_token"], ends, 1))

    with pytest.raises(MisconfiguredError, match="scope_missing"):
        await source_of(provider, kept).check()

    assert kept.tokens.version == 1
