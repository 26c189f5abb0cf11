import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs, urlsplit
from uuid import UUID, uuid4

import httpx
import msgspec
import pytest

from libs.common.clock import SystemClock
from libs.common.errors import (
    MisconfiguredError,
    NeedsReauthError,
    RequestRefusedError,
    SyncError,
    TransientError,
    UnavailableError,
    UnknownOutcomeError,
)
from libs.common.tokens import Client, Tokens
from libs.connectors import oauth
from libs.connectors.account import StaticToken
from libs.connectors.contract import Account, OpenGate, TokenSupply
from libs.connectors.http import Answer
from libs.connectors.hubspot.facts import FACTS
from libs.connectors.hubspot.source import HubSpotSource
from libs.connectors.oauth import RefreshingTokens, TokenEndpoint
from libs.connectors.salesforce.facts import FACTS as SALESFORCE
from sandbox.hubspot.app import create_app
from sandbox.hubspot.state import State
from tests.connectors.served import Served, served
from tests.connectors.talking import answering, response, speaking

REDIRECT = "http://127.0.0.1:9/oauth/callback"
OURS = Client("sandbox-client", "sandbox-secret")


@pytest.fixture
async def provider() -> AsyncIterator[Served]:
    """HubSpot's sandbox, empty and without limits."""
    async with served(create_app(State())) as one:
        yield one


def endpoint_of(provider: Served, client: Client = OURS) -> TokenEndpoint:
    assert FACTS.oauth is not None
    placed = oauth.placed(FACTS.oauth, provider.url)
    clock = SystemClock()
    return TokenEndpoint(provider.http, clock, "hubspot", placed, FACTS.hosts, client)


async def agree(provider: Served, authorization: oauth.Authorization) -> str:
    """Agree as a person would; return the code that comes back with the state."""
    page = await provider.control.get(authorization.url)
    assert page.status_code == 200, page.text
    hidden = dict(re.findall(r'name="(\w+)" value="([^"]*)"', page.text))
    form = {**hidden, "decision": "approve"}
    back = await provider.control.post("/oauth/authorize", data=form)
    told = parse_qs(urlsplit(back.headers["location"]).query)
    assert told["state"] == [authorization.state]
    return told["code"][0]


async def granted(provider: Served) -> oauth.Granted:
    endpoint = endpoint_of(provider)
    authorization = oauth.authorize(endpoint.facts, OURS.id, REDIRECT)
    code = await agree(provider, authorization)
    return await endpoint.exchange(code, REDIRECT, authorization.verifier)


@dataclass
class MemoryStore:
    """A token store that behaves as the database's: one row, one right, compare-and-set."""

    tokens: Tokens
    owner: UUID | None = None
    until: float = 0.0
    stored: list[str] = field(default_factory=list)
    waits: list[UUID] = field(default_factory=list)
    reconnect: Tokens | None = None  # Stored by a person just before the next store.
    account_url: str | None = None

    async def load(self, connection: UUID) -> Tokens:
        await asyncio.sleep(0)
        return self.tokens

    async def begin_refresh(self, connection: UUID, owner: UUID, ttl_s: float) -> bool:
        await asyncio.sleep(0)
        now = asyncio.get_running_loop().time()
        if self.owner not in (None, owner) and now < self.until:
            self.waits.append(owner)
            return False
        self.owner, self.until = owner, now + ttl_s
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
        await asyncio.sleep(0)
        if self.reconnect is not None:
            self.tokens, self.reconnect = self.reconnect, None
        if version != self.tokens.version:
            return False
        self.tokens = Tokens(
            access_token, refresh_token or self.tokens.refresh_token, expires_at, version + 1
        )
        self.owner = None
        self.account_url = account_url or self.account_url
        self.stored.append(access_token)
        return True


def ending_in(seconds: float, tokens: oauth.Granted, version: int = 1) -> Tokens:
    assert tokens.refresh_token is not None
    ends = datetime.now(UTC) + timedelta(seconds=seconds)
    return Tokens(tokens.access_token, tokens.refresh_token, ends, version)


def supply(provider: Served, store: MemoryStore) -> RefreshingTokens:
    return RefreshingTokens(endpoint_of(provider), store, UUID(int=1))


async def whose(provider: Served, tokens: TokenSupply) -> Account:
    return await HubSpotSource(provider.http, OpenGate(), tokens, provider.url).check()


async def test_a_person_connects_an_account(provider: Served) -> None:
    """Proves W2."""
    tokens = await granted(provider)

    account = await whose(provider, StaticToken(tokens.access_token))
    assert account.id == "1000001"
    assert tokens.refresh_token
    assert set(tokens.scopes) >= {"crm.objects.contacts.read", "crm.lists.read"}
    left_s = (tokens.expires_at - datetime.now(UTC)).total_seconds()
    assert 1700 < left_s <= 1800


async def test_a_code_works_once_and_with_its_verifier_only(provider: Served) -> None:
    endpoint = endpoint_of(provider)
    authorization = oauth.authorize(endpoint.facts, OURS.id, REDIRECT)
    code = await agree(provider, authorization)

    with pytest.raises(SyncError) as wrong:
        await endpoint.exchange(code, REDIRECT, "x" * 64)

    assert isinstance(wrong.value, NeedsReauthError | RequestRefusedError)


def test_the_address_to_agree_at_carries_state_and_challenge() -> None:
    assert FACTS.oauth is not None

    one = oauth.authorize(FACTS.oauth, "client", "https://us.example.com/back")
    other = oauth.authorize(FACTS.oauth, "client", "https://us.example.com/back")

    query = parse_qs(urlsplit(one.url).query)
    assert one.verifier is not None
    assert query["state"] == [one.state]
    assert query["code_challenge"] == [oauth.challenge(one.verifier)]
    assert query["code_challenge_method"] == ["S256"]
    assert query["scope"] == [" ".join(FACTS.oauth.scopes)]
    assert "+" not in urlsplit(one.url).query
    assert 43 <= len(one.verifier) <= 128
    assert (one.state, one.verifier) != (other.state, other.verifier)


def test_the_challenge_is_that_of_rfc_7636() -> None:
    verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"

    assert oauth.challenge(verifier) == "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"


def test_a_provider_without_pkce_gets_no_challenge() -> None:
    assert FACTS.oauth is not None

    authorization = oauth.authorize(replace(FACTS.oauth, uses_pkce=False), "client", REDIRECT)

    assert authorization.verifier is None
    assert "code_challenge" not in authorization.url


def test_without_a_sandbox_the_addresses_are_the_providers() -> None:
    assert FACTS.oauth is not None
    assert oauth.placed(FACTS.oauth, None) is FACTS.oauth
    assert oauth.placed(replace(FACTS.oauth, revoke_url=None), "http://x").revoke_url is None


async def test_the_secret_goes_to_the_providers_hosts_only(provider: Served) -> None:
    """Proves API7 for the token endpoint."""
    endpoint = endpoint_of(provider)
    stray = replace(endpoint.facts, token_url="https://evil.example.com/oauth/token")

    with pytest.raises(MisconfiguredError, match="address_not_allowed"):
        await replace(endpoint, facts=stray).refresh("token")


async def test_nobody_waits_for_a_refresh_that_was_refused(provider: Served) -> None:
    """A person who tests a dead connection twice hears at once what is the matter."""
    tokens = await granted(provider)
    assert tokens.refresh_token
    await endpoint_of(provider).revoke(tokens.refresh_token)
    store = MemoryStore(ending_in(0, tokens))

    for _ in range(2):
        with pytest.raises(NeedsReauthError):
            await supply(provider, store).token()

    assert store.waits == []


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (400, {"status": "BAD_REFRESH_TOKEN", "message": "no"}, NeedsReauthError),
        (400, {"error": "invalid_grant", "status": "BAD_AUTH_CODE"}, NeedsReauthError),
        (400, {"error": "access_denied", "status": "BAD_HUB"}, NeedsReauthError),
        (400, {"error": "invalid_client", "status": "BAD_CLIENT_SECRET"}, RequestRefusedError),
        (401, {"error": "invalid_client"}, RequestRefusedError),
        (400, {"status": "BAD_REDIRECT_URI"}, RequestRefusedError),
        (400, ["what"], RequestRefusedError),
        (429, {"error": "slow_down"}, UnavailableError),
        (423, {}, UnavailableError),
        (477, {}, UnavailableError),
    ],
)
def test_only_a_revoked_token_disconnects(
    status: int, body: object, error: type[SyncError]
) -> None:
    """A mistake of ours must not disconnect every customer."""
    answer = Answer("host", status, httpx.Headers(), msgspec.json.encode(body), writes=True)

    assert type(oauth.classify(answer)) is error


async def test_a_provider_in_trouble_disconnects_nobody(provider: Served) -> None:
    await provider.fault({"kind": "status", "status": 500})

    with pytest.raises(TransientError):
        await endpoint_of(provider).refresh("token")


async def test_a_wrong_secret_is_our_mistake(provider: Served) -> None:
    tokens = await granted(provider)
    assert tokens.refresh_token

    with pytest.raises(RequestRefusedError):
        await endpoint_of(provider, Client(OURS.id, "wrong")).refresh(tokens.refresh_token)


async def test_a_wrong_secret_of_an_own_application_is_its_workspaces_to_mend(
    provider: Served,
) -> None:
    """It is told of as such, and the right to refresh is given back at once."""
    tokens = replace(ending_in(0, await granted(provider)), client=Client(OURS.id, "wrong"))
    store = MemoryStore(tokens)

    with pytest.raises(MisconfiguredError, match="client_refused"):
        await supply(provider, store).token()
    store.tokens = replace(tokens, client=OURS)
    fresh = await supply(provider, store).token()

    assert fresh == store.tokens.access_token
    assert store.waits == []


async def test_a_revoked_token_needs_a_person(provider: Served) -> None:
    tokens = await granted(provider)
    assert tokens.refresh_token
    endpoint = endpoint_of(provider)

    await endpoint.revoke(tokens.refresh_token)

    store = MemoryStore(ending_in(0, tokens))
    with pytest.raises(NeedsReauthError):
        await supply(provider, store).token()
    await replace(endpoint, facts=replace(endpoint.facts, revoke_url=None)).revoke("any")


async def test_a_revocation_that_fails_is_told(provider: Served) -> None:
    body = {"error": "invalid_client"}
    await provider.fault({"kind": "status", "status": 400, "body": body})

    with pytest.raises(RequestRefusedError):
        await endpoint_of(provider).revoke("token")


async def test_a_token_that_lasts_is_used_as_it_is(provider: Served) -> None:
    store = MemoryStore(ending_in(1000, await granted(provider)))
    tokens = supply(provider, store)

    assert await tokens.token() == await tokens.token() == store.tokens.access_token
    assert store.stored == []


async def test_a_token_without_an_end_is_never_refreshed(provider: Served) -> None:
    store = MemoryStore(replace(ending_in(0, await granted(provider)), expires_at=None))

    assert await supply(provider, store).token() == store.tokens.access_token
    assert store.stored == []


async def test_a_token_is_renewed_before_it_ends_and_stored_before_it_is_used(
    provider: Served,
) -> None:
    store = MemoryStore(ending_in(20, await granted(provider)))

    token = await supply(provider, store).token()

    assert store.stored == [token]
    assert store.tokens.version == 2
    await whose(provider, StaticToken(token))


async def test_a_token_that_the_provider_refuses_is_not_given_out_again(
    provider: Served,
) -> None:
    store = MemoryStore(ending_in(1000, await granted(provider)))
    tokens = supply(provider, store)
    await provider.put("clock", {"advance_s": 4000})

    account = await whose(provider, tokens)

    assert account.id == "1000001"
    assert len(store.stored) == 1


async def test_tokens_that_were_read_already_are_given_out_until_they_are_refused(
    provider: Served,
) -> None:
    """Who refreshed since has stored others: a look finds these."""
    newer = ending_in(1000, await granted(provider), version=2)
    older = Tokens("superseded", "r", datetime.now(UTC) + timedelta(seconds=1000), 1)
    store = MemoryStore(newer)
    tokens = RefreshingTokens(endpoint_of(provider), store, UUID(int=1), older)

    given = await tokens.token()
    account = await whose(provider, tokens)

    assert given == "superseded"
    assert account.id == "1000001"
    assert await tokens.token() == newer.access_token
    assert store.stored == []


async def test_many_processes_refresh_once(provider: Served) -> None:
    """Fault 45. Two refreshes at once could revoke each other where refresh tokens rotate."""
    store = MemoryStore(ending_in(0, await granted(provider)))
    await provider.post("calls:reset", {})
    await provider.fault({"kind": "latency", "seconds": 0.3})

    given = await asyncio.gather(*(supply(provider, store).token() for _ in range(8)))

    assert set(given) == {store.tokens.access_token}
    assert len(store.stored) == 1
    assert sum((await provider.calls()).values()) == 1
    assert store.waits


async def test_one_process_asks_once_for_all_its_calls(provider: Served) -> None:
    store = MemoryStore(ending_in(0, await granted(provider)))
    tokens = supply(provider, store)
    await provider.post("calls:reset", {})

    given = await asyncio.gather(*(tokens.token() for _ in range(8)))

    assert len(set(given)) == 1
    assert sum((await provider.calls()).values()) == 1


async def test_a_token_that_still_lasts_is_used_while_another_refreshes(
    provider: Served,
) -> None:
    store = MemoryStore(ending_in(20, await granted(provider)))
    assert await store.begin_refresh(UUID(int=1), uuid4(), 30.0)

    assert await supply(provider, store).token() == store.tokens.access_token
    assert store.stored == []


async def test_a_refresh_that_never_ends_is_not_waited_for_without_end(
    provider: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = MemoryStore(ending_in(0, await granted(provider)))
    assert await store.begin_refresh(UUID(int=1), uuid4(), 30.0)
    monkeypatch.setattr(oauth, "REFRESH_LEASE_S", 0.3)

    with pytest.raises(UnavailableError):
        await supply(provider, store).token()


async def test_the_one_whose_right_lapsed_takes_what_another_stored(provider: Served) -> None:
    fresh = ending_in(1000, replace(await granted(provider), access_token="theirs"), version=9)
    store = MemoryStore(ending_in(0, await granted(provider)), reconnect=fresh)

    assert await supply(provider, store).token() == "theirs"
    assert store.stored == []


async def test_tokens_stored_just_before_our_right_are_taken(provider: Served) -> None:
    class LateStore(MemoryStore):
        async def begin_refresh(self, connection: UUID, owner: UUID, ttl_s: float) -> bool:
            self.tokens = replace(self.tokens, access_token="theirs", version=2,
                                  expires_at=datetime.now(UTC) + timedelta(hours=1))  # fmt: skip
            return await super().begin_refresh(connection, owner, ttl_s)

    store = LateStore(ending_in(0, await granted(provider)))

    assert await supply(provider, store).token() == "theirs"
    assert store.stored == []
    assert await store.begin_refresh(UUID(int=1), UUID(int=2), 30.0), "an unused right is kept"


async def test_a_refresh_whose_answer_is_lost_stores_nothing(provider: Served) -> None:
    store = MemoryStore(ending_in(0, await granted(provider)))
    await provider.fault({"kind": "cut_after", "times": 1})
    tokens = supply(provider, store)

    with pytest.raises(UnknownOutcomeError):
        await tokens.token()

    assert store.stored == []
    assert await tokens.token() == store.tokens.access_token


def telling(url: str | None) -> bytes:
    told = {"access_token": "fresh", "refresh_token": "next"}
    return response(200, msgspec.json.encode(told | ({"instance_url": url} if url else {})))


@pytest.mark.parametrize(
    ("told", "kept"),
    [
        ("https://acme.my.salesforce.com", "https://acme.my.salesforce.com"),
        (
            "https://acme--uat.sandbox.my.salesforce.com/",
            "https://acme--uat.sandbox.my.salesforce.com",
        ),
        ("https://acme.my.salesforce.com.example.com", None),
        ("https://169.254.169.254", None),
        ("http://acme.my.salesforce.com", None),
        (None, None),
    ],
)
@pytest.mark.parametrize("tells", [True, False])
async def test_an_address_that_comes_with_tokens_is_the_providers_or_none(
    told: str | None, kept: str | None, *, tells: bool
) -> None:
    """Proves API7; whatever is told, the tokens beside it are not lost: they may be the last."""
    assert SALESFORCE.oauth is not None
    _, talk = answering(telling(told))
    async with speaking(talk) as (http, site, _):
        facts = replace(oauth.placed(SALESFORCE.oauth, site.origin), tells_account_url=tells)
        clock = SystemClock()
        endpoint = TokenEndpoint(http, clock, "salesforce", facts, SALESFORCE.hosts, OURS)

        tokens = await endpoint.refresh("last")

    assert tokens.refresh_token == "next"
    assert tokens.account_url == (kept if tells else None)


async def test_an_account_that_moved_is_stored_with_the_tokens_that_told_so() -> None:
    assert SALESFORCE.oauth is not None
    _, talk = answering(telling("https://moved.my.salesforce.com"))
    store = MemoryStore(Tokens("old", "last", datetime.now(UTC), 1))
    async with speaking(talk) as (http, site, _):
        facts = oauth.placed(SALESFORCE.oauth, site.origin)
        clock = SystemClock()
        endpoint = TokenEndpoint(http, clock, "salesforce", facts, SALESFORCE.hosts, OURS)

        assert await RefreshingTokens(endpoint, store, UUID(int=1)).token() == "fresh"

    assert store.account_url == "https://moved.my.salesforce.com"
