"""Get tokens by OAuth 2.0, and keep them fresh for everyone who uses a connection.

Promises:

* A connection's tokens are refreshed by one process at a time, and stored before they are used:
  a provider that gives a new refresh token with each refresh never leaves us with a lost one.
* Tokens that somebody stored meanwhile (another process, a person who reconnected) win over ours.
* Only an answer that says so takes a connection for revoked. A mistake of our own (client secret,
  redirect address) is another error, and so is a provider in trouble: neither disconnects anyone.

Sources: RFC 6749 (grants, errors), RFC 7636 (PKCE), RFC 9700 (state, S256 only).
"""

import asyncio
import hashlib
import secrets
from base64 import urlsafe_b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Protocol, Self
from urllib.parse import quote, urlencode, urlsplit
from uuid import UUID, uuid4

import msgspec

from libs.common.clock import Clock
from libs.common.errors import (
    ConfigurationError,
    MisconfiguredError,
    NeedsReauthError,
    RateLimitedError,
    RequestRefusedError,
    SyncError,
    UnavailableError,
)
from libs.common.tokens import Client, Tokens
from libs.connectors.contract import OAuthFacts
from libs.connectors.http import Answer, HttpClient, plain_code, refusal

BUCKET = "oauth"  # For metrics; no provider publishes a limit of its token endpoint.
REFRESH_LEASE_S = 30.0  # PROTOCOL 11; longer than any call lasts.
# A token is renewed this long before it ends: longer than a call lasts, so that none meets the end
# on its way, and short beside the half hour that tokens live.
MARGIN_S = 30.0
LIFETIME_DEFAULT_S = 1800.0  # Where an answer names none (RFC 6749 5.1 only recommends it).
LOOK_S = 0.2  # How often one who waits for another's refresh looks whether it is stored.

_REVOKED = frozenset(
    {"invalid_grant", "access_denied", "BAD_REFRESH_TOKEN", "BAD_HUB", "inactive_user"}
)
# The application itself is not accepted (RFC 6749 5.2; HubSpot's and Salesforce's own codes): what
# is wrong with it is a matter of whose it is.
_CLIENT_REFUSED = frozenset(
    {
        *("invalid_client", "invalid_client_id", "unauthorized_client"),
        *("BAD_CLIENT_ID", "BAD_CLIENT_SECRET"),
    }
)
CLIENT_REFUSED = "client_refused"
_PKCE_BYTES = 48  # 64 characters; RFC 7636 4.1 allows 43 to 128.
_TRANSIENT = frozenset({408, 423, 425, 429, 477})


@dataclass(frozen=True, slots=True)
class Authorization:
    """Where a person is sent to agree, and what must be kept until they come back."""

    url: str
    state: str
    verifier: str | None


@dataclass(frozen=True, slots=True)
class Granted:
    """Tokens fresh from the provider, not stored yet. `scopes` is empty where none are told.

    `account_url` is where the account is called, of a provider that tells it with the tokens, and
    only if it is an address of that provider's.
    """

    access_token: str
    refresh_token: str | None
    expires_at: datetime
    scopes: Sequence[str] = ()
    account_url: str | None = None


class TokenStore(Protocol):
    """Where tokens are kept, sealed; implemented over `config.begin_refresh, store_tokens`."""

    async def load(self, connection: UUID) -> Tokens:
        """Return the tokens as stored; raise NeedsReauthError if the connection has none."""

    async def begin_refresh(self, connection: UUID, owner: UUID, ttl_s: float) -> bool:
        """Take the right to refresh for `ttl_s`; False: somebody else has it.

        The owner of a right may take it again. The database's clock ends it.
        """

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
        """Store if `version` is still the stored one, and give up the right; False if not.

        A refresh token or an address of None leaves the stored one. The stored version is then one
        higher.
        """


class _Answered(msgspec.Struct, frozen=True):
    access_token: str
    refresh_token: str | None = None
    expires_in: float | None = None
    scope: str | None = None
    scopes: list[str] | None = None
    instance_url: str | None = None


class _Fault(msgspec.Struct, frozen=True):
    error: str = ""
    status: str = ""


_ANSWERED = msgspec.json.Decoder(_Answered)
_FAULT = msgspec.json.Decoder(_Fault)


def placed(facts: OAuthFacts, base_url: str | None) -> OAuthFacts:
    """Return the facts with their addresses at the sandbox's base URL; as they are for None."""
    if base_url is None:
        return facts

    def moved(url: str) -> str:
        return base_url.rstrip("/") + urlsplit(url).path

    return replace(
        facts,
        authorize_url=moved(facts.authorize_url),
        token_url=moved(facts.token_url),
        revoke_url=moved(facts.revoke_url) if facts.revoke_url else None,
    )


def authorize(facts: OAuthFacts, client_id: str, redirect_url: str) -> Authorization:
    """Return where to send a person; keep `state` and `verifier` with their session.

    Whoever comes back must bring the same state (RFC 9700 2.1): compare it in constant time.
    """
    state = secrets.token_urlsafe(32)
    verifier = secrets.token_urlsafe(_PKCE_BYTES) if facts.uses_pkce else None
    query = {
        "client_id": client_id,
        "redirect_uri": redirect_url,
        "response_type": "code",
        "scope": " ".join(facts.scopes),
        "state": state,
        **facts.parameters,
    }
    if verifier is not None:
        query |= {"code_challenge": challenge(verifier), "code_challenge_method": "S256"}
    url = f"{facts.authorize_url}?{urlencode(query, quote_via=quote)}"  # %20, as HubSpot wants it.
    return Authorization(url, state, verifier)


def challenge(verifier: str) -> str:
    """Return the S256 challenge of a verifier (RFC 7636 4.2)."""
    digest = hashlib.sha256(verifier.encode()).digest()
    return urlsafe_b64encode(digest).rstrip(b"=").decode()


@dataclass(frozen=True, slots=True)
class TokenEndpoint:
    """A provider's token endpoint, as our application calls it.

    `hosts` are those of the provider's facts: the endpoint must be at one of them. `is_own`: the
    application is the workspace's own, so if it is refused the workspace can mend that:
    MisconfiguredError(client_refused).
    """

    http: HttpClient
    clock: Clock
    provider: str
    facts: OAuthFacts
    hosts: Sequence[str]
    client: Client
    is_own: bool = False

    def called_by(self, client: Client | None) -> Self:
        """Return the endpoint as a workspace's own application calls it; itself for None."""
        return self if client is None else replace(self, client=client, is_own=True)

    async def exchange(self, code: str, redirect_url: str, verifier: str | None) -> Granted:
        """Return the tokens for the code that a person came back with; a code works once.

        Raises NeedsReauthError for a code that is not accepted (send the person again),
        RequestRefusedError for a mistake of ours, TransientError.
        """
        grant = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": redirect_url,
        }
        return await self._grant(grant | ({"code_verifier": verifier} if verifier else {}))

    async def refresh(self, refresh_token: str) -> Granted:
        """Return fresh tokens; raise NeedsReauthError if the person took the right back."""
        return await self._grant({"grant_type": "refresh_token", "refresh_token": refresh_token})

    async def revoke(self, refresh_token: str) -> None:
        """Tell the provider that we will not use a token again; nothing if it cannot be told."""
        if self.facts.revoke_url is None:
            return
        answer = await self._post(self.facts.revoke_url, {"token": refresh_token})
        if answer.status >= 400 and _code(answer) not in _REVOKED:
            raise classify(answer)

    async def _grant(self, grant: Mapping[str, str]) -> Granted:
        answer = await self._post(self.facts.token_url, grant)
        if answer.status >= 400:
            raise self._judge(answer)
        told = answer.decode(_ANSWERED)
        lifetime_s = LIFETIME_DEFAULT_S if told.expires_in is None else told.expires_in
        return Granted(
            access_token=told.access_token,
            refresh_token=told.refresh_token,
            expires_at=self.clock.now() + timedelta(seconds=lifetime_s),
            scopes=tuple(told.scopes or (told.scope or "").split()),
            account_url=self._checked(told.instance_url) if self.facts.tells_account_url else None,
        )

    def _judge(self, answer: Answer) -> SyncError:
        error = classify(answer)
        if self.is_own and isinstance(error, RequestRefusedError) and error.code in _CLIENT_REFUSED:
            return MisconfiguredError(answer.host, CLIENT_REFUSED)
        return error

    def _checked(self, url: str | None) -> str | None:
        """Return an address that an answer told; None if it is none that may be called.

        Not an error here: the tokens beside it may be the only ones that still work.
        """
        try:
            return self.http.site(url or "", self.hosts).origin
        except MisconfiguredError:
            return None

    async def _post(self, url: str, form: Mapping[str, str]) -> Answer:
        """Send a form; the secret goes in the body, never in an address that is logged."""
        parts = urlsplit(url)
        credentials = {"client_id": self.client.id, "client_secret": self.client.secret}
        return await self.http.call(
            self.http.site(f"{parts.scheme}://{parts.netloc}", self.hosts),
            "POST",
            parts.path,
            headers={
                "accept": "application/json",
                "content-type": "application/x-www-form-urlencoded",
            },
            content=urlencode({**form, **credentials}).encode(),
            writes=True,
            provider=self.provider,
            bucket=BUCKET,
        )


def classify(answer: Answer) -> SyncError:
    """Return what a refusal of the token endpoint means: revoked, our mistake, or try later."""
    code = _code(answer)
    if answer.status in _TRANSIENT:
        error = refusal(answer, BUCKET, code)
        wait_s = error.retry_after_s if isinstance(error, RateLimitedError) else None
        return UnavailableError(answer.host, f"HTTP {answer.status}", wait_s)
    if code in _REVOKED:
        return NeedsReauthError(answer.host, code)
    return RequestRefusedError(answer.host, answer.status, code or "unknown")


def _code(answer: Answer) -> str:
    """Return the code of RFC 6749 5.2 or the provider's older one, whichever says "revoked"."""
    try:
        fault = _FAULT.decode(answer.body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return ""
    return fault.error if fault.error in _REVOKED else plain_code(fault.status or fault.error)


class RefreshingTokens:
    """The token supply of one connection: always valid, refreshed by one process at a time.

    Any number of processes may have one of these for the same connection; the store decides who
    refreshes. `margin_s` is how long before its end a token is renewed.
    """

    def __init__(
        self,
        endpoint: TokenEndpoint,
        store: TokenStore,
        connection: UUID,
        tokens: Tokens | None = None,
        *,
        margin_s: float = MARGIN_S,
    ) -> None:
        """`tokens` are those that were stored a moment ago, for who has read them."""
        self._endpoint = endpoint
        self._store = store
        self._connection = connection
        self._margin = timedelta(seconds=margin_s)
        self._owner = uuid4()
        self._tokens = tokens
        self._refused: str | None = None
        self._lock = asyncio.Lock()

    async def token(self) -> str:
        """Return a token that is valid now; raise NeedsReauthError if there is none.

        Raises UnavailableError if another process holds the refresh and does not end it.
        """
        if self._tokens is not None and self._is_fresh(self._tokens):
            return self._tokens.access_token
        async with self._lock:
            if self._tokens is None or not self._is_fresh(self._tokens):
                self._tokens = await self._fresh()
            return self._tokens.access_token

    async def refused(self, token: str) -> None:
        """Hear that the provider refused a token: it is not given out again."""
        self._refused = token

    def _is_fresh(self, tokens: Tokens) -> bool:
        if tokens.access_token == self._refused:
            return False
        left = self._left(tokens)
        return left is None or left > self._margin

    def _is_usable(self, tokens: Tokens) -> bool:
        left = self._left(tokens)
        return tokens.access_token != self._refused and (left is None or left > timedelta(0))

    def _left(self, tokens: Tokens) -> timedelta | None:
        return None if tokens.expires_at is None else tokens.expires_at - self._endpoint.clock.now()

    async def _fresh(self) -> Tokens:
        """Return fresh tokens, by whoever refreshes them."""
        deadline = self._endpoint.clock.monotonic() + REFRESH_LEASE_S
        while True:
            tokens = await self._store.load(self._connection)
            if self._is_fresh(tokens):
                return tokens
            if await self._store.begin_refresh(self._connection, self._owner, REFRESH_LEASE_S):
                return await self._refresh()
            if self._is_usable(tokens):
                return tokens  # Another process is at it; this one lasts until it is done.
            if self._endpoint.clock.monotonic() >= deadline:
                raise UnavailableError(self._host, "another process refreshes the token")
            await asyncio.sleep(LOOK_S)

    async def _refresh(self) -> Tokens:
        """Refresh what is stored now, store it, and return it; the right to it is ours."""
        tokens = await self._store.load(self._connection)
        if self._is_fresh(tokens):
            # Stored between our look and the right to refresh: who finds them ended soon, as when
            # they are refused, need not wait until our right lapses.
            await self._store.begin_refresh(self._connection, self._owner, 0.0)
            return tokens
        try:
            endpoint = self._endpoint.called_by(tokens.client)
            granted = await endpoint.refresh(tokens.refresh_token)
        except (ConfigurationError, UnavailableError):
            # Answered, so nothing is on its way: nobody needs to wait until our right lapses.
            await self._store.begin_refresh(self._connection, self._owner, 0.0)
            raise
        stored = await self._store.store_tokens(
            self._connection,
            tokens.version,
            access_token=granted.access_token,
            refresh_token=granted.refresh_token,
            expires_at=granted.expires_at,
            account_url=granted.account_url,
        )
        if not stored:
            return await self._store.load(self._connection)
        return Tokens(
            access_token=granted.access_token,
            refresh_token=granted.refresh_token or tokens.refresh_token,
            expires_at=granted.expires_at,
            version=tokens.version + 1,
            client=tokens.client,
        )

    @property
    def _host(self) -> str:
        return urlsplit(self._endpoint.facts.token_url).hostname or ""
