"""How an account gets connected, and how it is asked through a connection.

Promises: no transaction is open while a provider is called; credentials are stored only after they
were seen to work, sealed for their row and field (X4); a connection never moves to another account
(`account_changed`), because links and quota belong to the one it was made for; a login's state is
used once, within `LOGIN_S`.
"""

import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TypeVar
from urllib.parse import urlsplit
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from libs.common import ids
from libs.common.errors import NeedsReauthError, SyncError
from libs.common.ids import Prefix
from libs.connectors.contract import Account, Destination, Facts, Source
from libs.connectors.oauth import Granted
from services.config_api.accounts import AccountRef, find_facts
from services.config_api.errors import (
    AccountChangedError,
    ApiError,
    ConnectionPendingError,
    Flaw,
    LoginFailedError,
    from_provider,
    needs_reauthorisation,
    refuse_field,
    translated,
)
from services.config_api.models import found
from services.config_api.routing import Parts
from services.config_api.store import audit
from services.config_api.store import connections as store
from services.config_api.store.connections import Connection, Credentials, LoginState
from services.config_api.units import Units

LOGIN_S = 600
_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class LoginPage:
    """Where to send the browser, and until when it may come back."""

    authorize_url: str
    expires_at: datetime


async def ask_source(
    parts: Parts, units: Units, connection: Connection, question: Callable[[Source], Awaitable[T]]
) -> T:
    """Ask the source behind a connection something; raise an ApiError that says why not."""
    async with (
        _calling(units, connection, is_write=False),
        parts.accounts.source(connection.account) as source,
    ):
        return await question(source)


async def ask_destination(
    parts: Parts,
    units: Units,
    connection: Connection,
    question: Callable[[Destination], Awaitable[T]],
    *,
    is_write: bool = False,
) -> T:
    """Ask the destination behind a connection something; raise an ApiError that says why not."""
    async with (
        _calling(units, connection, is_write=is_write),
        parts.accounts.destination(connection.account) as destination,
    ):
        return await question(destination)


@asynccontextmanager
async def _calling(units: Units, connection: Connection, *, is_write: bool) -> AsyncIterator[None]:
    refuse_unusable(connection)
    try:
        yield
    except NeedsReauthError as error:
        await units.run(
            lambda session: store.count_check(
                session, connection.connection_id, failed=True, reason="credentials_refused"
            )
        )
        raise needs_reauthorisation(connection.provider, connection.connection_id) from error
    except SyncError as error:
        raise from_provider(
            error,
            connection.provider,
            connection=connection.connection_id,
            is_write=is_write,
        ) from error


def refuse_unusable(connection: Connection) -> None:
    """Refuse to call through a connection that nobody logged in to, or whose login is void."""
    if connection.state == "needs_reauth":
        raise needs_reauthorisation(connection.provider, connection.connection_id)
    if connection.state == "pending":
        shown = ids.show(Prefix.CONNECTION, connection.connection_id)
        raise ConnectionPendingError(
            detail="Nobody has logged in to this connection yet.",
            provider=connection.provider,
            connection_id=shown,
            authorize_url=f"/v1/connections/{shown}:authorize",
        )


async def check_account(
    parts: Parts, facts: Facts, account: AccountRef, credential: str | None
) -> Account:
    """Return whose account a credential opens; raise the connector's error."""
    if facts.is_source:
        async with parts.accounts.source(account, credential=credential) as source:
            return await source.check()
    async with parts.accounts.destination(account, credential=credential) as destination:
        return await destination.check()


async def open_account(parts: Parts, facts: Facts, account: AccountRef) -> Credentials:
    """Return whose account it is that takes no credential: files are uploaded to it."""
    whose = await check_account(parts, facts, account, None)
    return Credentials(
        account_id=whose.id, account_name=whose.name, time_zone=whose.time_zone, tier=whose.tier
    )


async def check_api_key(
    parts: Parts, facts: Facts, account: AccountRef, api_key: str
) -> Credentials:
    """Try an API key at its provider; return it sealed, with whose it is."""
    try:
        with translated(facts.provider):
            whose = await check_account(parts, facts, account, api_key)
    except ApiError as error:
        if error.code == "credential_refused":
            error.flaws = [Flaw("credential_refused", error.detail, pointer="/api_key")]
        raise
    return Credentials(
        account_id=whose.id,
        account_name=whose.name,
        time_zone=whose.time_zone,
        tier=whose.tier,
        sealed_api_key=parts.secrets.seal(
            api_key, workspace=account.workspace, connection=account.connection, field="api_key"
        ),
    )


async def store_credentials(
    session: AsyncSession, connection: Connection, credentials: Credentials, *, actor: str
) -> Connection:
    """Store credentials that were seen to work, in the transaction given."""
    if not await store.connect(session, connection.connection_id, credentials):
        raise AccountChangedError(
            detail="This login belongs to another account than the connection was made for."
        )
    await audit.record(
        session,
        workspace=connection.workspace_id,
        actor=actor,
        action="connection.connected",
        subject=ids.show(Prefix.CONNECTION, connection.connection_id),
        details={"provider": connection.provider, "account_id": credentials.account_id},
    )
    return found(await store.find(session, connection.connection_id), "connection")


async def start_login(
    parts: Parts, session: AsyncSession, connection: Connection, return_url: str | None
) -> LoginPage:
    """Prepare a visit to the provider's login page (authorisation code grant, RFC 6749, 4.1)."""
    facts = find_facts(parts.accounts, connection.provider)
    if facts is None or facts.oauth is None:
        how = "without" if facts is not None and facts.reads_files else "by an API key, not by"
        raise refuse_field(
            at="", code="no_login", detail=f"{connection.provider} is connected {how} a login."
        )
    if return_url is not None:
        _refuse_foreign(parts, return_url)
    redirect_uri = parts.addresses.callback_url
    with translated(connection.provider):
        login = parts.accounts.authorize(connection.account, redirect_uri)
    verifier = login.verifier
    expires_at = parts.clock.now() + timedelta(seconds=LOGIN_S)
    await store.add_login(
        session,
        state_sha256=_digest(login.state),
        workspace=connection.workspace_id,
        connection=connection.connection_id,
        sealed_code_verifier=verifier
        and seal(parts, connection.account, verifier, "code_verifier"),
        redirect_uri=redirect_uri,
        return_url=return_url,
        expires_at=expires_at,
    )
    return LoginPage(login.url, expires_at)


def _refuse_foreign(parts: Parts, return_url: str) -> None:
    """Refuse to send browsers just anywhere: an open redirect would lend phishers our name."""
    try:
        url = urlsplit(return_url)
        origin = f"{url.scheme}://{url.netloc}"
        is_loopback = url.scheme == "http" and url.hostname in _LOOPBACK and url.username is None
    except ValueError:
        origin, is_loopback = "", False
    if origin in parts.addresses.return_origins:
        return
    if not (is_loopback and parts.addresses.allows_loopback):
        raise refuse_field(
            at="/return_url",
            code="origin_not_allowed",
            detail="The address must begin with one of the origins in RETURN_ORIGINS.",
        )


async def take_login(parts: Parts, state: str) -> LoginState:
    """Return the login that a browser comes back from; raise LoginFailedError if there is none."""
    nobody = Units(parts.sessions, UUID(int=0))
    login = await nobody.run(lambda session: store.take_login(session, _digest(state)))
    if login is None:
        raise LoginFailedError(detail="This login is not known, or it was finished before.")
    return login


async def finish_login(parts: Parts, login: LoginState, code: str) -> Connection:
    """Turn the code of a login into a connected account."""
    units = Units(parts.sessions, login.workspace_id)
    connection = found(
        await units.run(lambda session: store.find(session, login.connection_id)), "connection"
    )
    if login.is_expired:
        raise LoginFailedError(detail="The login took too long.")
    credentials = await _redeem(parts, connection, login, code)
    return await units.run(
        lambda session: store_credentials(session, connection, credentials, actor="oauth")
    )


async def _redeem(
    parts: Parts, connection: Connection, login: LoginState, code: str
) -> Credentials:
    facts = find_facts(parts.accounts, connection.provider)
    assert facts is not None
    account = connection.account
    verifier = login.sealed_code_verifier and parts.secrets.unseal(
        login.sealed_code_verifier,
        workspace=account.workspace,
        connection=account.connection,
        field="code_verifier",
    )
    try:
        tokens = await parts.accounts.exchange(account, code, login.redirect_uri, verifier)
        called = replace(account, account_url=tokens.account_url or account.account_url)
        whose = await check_account(parts, facts, called, tokens.access_token)
    except NeedsReauthError as error:
        raise LoginFailedError(detail=f"{facts.label} did not accept the login.") from error
    except SyncError as error:
        raise from_provider(error, facts.provider, connection=None, is_write=False) from error
    return _sealed(parts, account, tokens, whose)


def _sealed(parts: Parts, account: AccountRef, tokens: Granted, whose: Account) -> Credentials:
    refresh = tokens.refresh_token
    return Credentials(
        account_id=whose.id,
        account_name=whose.name,
        time_zone=whose.time_zone,
        tier=whose.tier,
        sealed_access_token=seal(parts, account, tokens.access_token, "access_token"),
        sealed_refresh_token=refresh and seal(parts, account, refresh, "refresh_token"),
        token_expires_at=tokens.expires_at,
        account_url=tokens.account_url,
    )


def seal(parts: Parts, account: AccountRef, plaintext: str, field: str) -> str:
    """Return a credential sealed for its row and field."""
    return parts.secrets.seal(
        plaintext, workspace=account.workspace, connection=account.connection, field=field
    )


def _digest(state: str) -> bytes:
    return hashlib.sha256(state.encode()).digest()
