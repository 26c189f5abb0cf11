"""config.connections and config.oauth_states: accounts at providers, and logins under way."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from services.config_api.accounts import AccountRef


@dataclass(frozen=True, slots=True)
class Connection:
    """An account at a provider, without its credentials."""

    connection_id: UUID
    workspace_id: UUID
    provider: str
    name: str
    state: str
    reason: str | None
    account_id: str | None
    account_name: str | None
    time_zone: str
    tier: str | None
    created_at: datetime
    updated_at: datetime
    account_url: str | None = None
    client_id: str | None = None
    sealed_client_secret: str | None = None

    @property
    def account(self) -> AccountRef:
        """Return what opening the account takes."""
        return AccountRef(
            self.workspace_id,
            self.connection_id,
            self.provider,
            self.account_id,
            self.tier,
            self.time_zone,
            self.account_url,
            self.client_id,
            self.sealed_client_secret,
        )


@dataclass(frozen=True, slots=True)
class Credentials:
    """Sealed credentials and whose they are, as one login or one key gave them."""

    account_id: str
    account_name: str
    time_zone: str
    tier: str | None
    sealed_api_key: str | None = None
    sealed_access_token: str | None = None
    sealed_refresh_token: str | None = None
    token_expires_at: datetime | None = None
    account_url: str | None = None  # Where the login says that the account is called.


@dataclass(frozen=True, slots=True)
class LoginState:
    """A login that came back; it can not come back a second time."""

    workspace_id: UUID
    connection_id: UUID
    sealed_code_verifier: str | None
    redirect_uri: str
    return_url: str | None
    is_expired: bool


_SELECT = (
    "select connection_id, workspace_id, provider, name, state, reason, account_id, account_name,"
    " time_zone, tier, created_at, updated_at, account_url, client_id, sealed_client_secret"
    " from config.connections"
)


async def add(
    session: AsyncSession,
    *,
    connection: UUID,
    workspace: UUID,
    provider: str,
    name: str,
    tier: str | None = None,
    account_url: str | None = None,
    client_id: str | None = None,
    sealed_client_secret: str | None = None,
) -> None:
    """Store a connection that nobody has logged in to yet; storing it again changes nothing."""
    await session.execute(
        text(
            "insert into config.connections"
            " (connection_id, workspace_id, provider, name, tier, account_url, client_id,"
            " sealed_client_secret) values (:connection, :workspace, :provider, :name, :tier,"
            " :account_url, :client_id, :client_secret)"
            " on conflict do nothing"
        ),
        {
            "connection": connection,
            "workspace": workspace,
            "provider": provider,
            "name": name,
            "tier": tier,
            "account_url": account_url,
            "client_id": client_id,
            "client_secret": sealed_client_secret,
        },
    )


async def find(session: AsyncSession, connection: UUID) -> Connection | None:
    """Return a connection that is not removed; None if this workspace has none."""
    found = await session.execute(
        text(f"{_SELECT} where connection_id = :connection and state <> 'removed'"),
        {"connection": connection},
    )
    row = found.one_or_none()
    return Connection(*row) if row else None


async def find_page(
    session: AsyncSession, *, after: UUID | None, provider: str | None, size: int
) -> list[Connection]:
    """Return the workspace's connections that are not removed, oldest first."""
    found = await session.execute(
        text(
            f"{_SELECT} where state <> 'removed'"
            " and (cast(:after as uuid) is null or connection_id > :after)"
            " and (cast(:provider as text) is null or provider = :provider)"
            " order by connection_id limit :size"
        ),
        {"after": after, "provider": provider, "size": size},
    )
    return [Connection(*row) for row in found]


async def rename(session: AsyncSession, connection: UUID, name: str) -> None:
    """Give a connection another name."""
    await session.execute(
        text(
            "update config.connections set name = :name, updated_at = clock_timestamp()"
            " where connection_id = :connection"
        ),
        {"connection": connection, "name": name},
    )


async def set_tier(session: AsyncSession, connection: UUID, tier: str | None) -> None:
    """Say which subscription the account has; the next call goes by its limits."""
    await session.execute(
        text(
            "update config.connections set tier = :tier, updated_at = clock_timestamp()"
            " where connection_id = :connection"
        ),
        {"connection": connection, "tier": tier},
    )


async def set_client(
    session: AsyncSession, connection: UUID, client_id: str | None, sealed_secret: str | None
) -> None:
    """Say by which application an account is called; None: by the operator's.

    What was granted to another application is of no use to this one: somebody has to log in again.
    """
    await session.execute(
        text(
            "update config.connections set client_id = :client_id,"
            " sealed_client_secret = :client_secret, updated_at = clock_timestamp()"
            " where connection_id = :connection and client_id is not distinct from :client_id"
        ),
        {"connection": connection, "client_id": client_id, "client_secret": sealed_secret},
    )
    await session.execute(
        text(
            "update config.connections set client_id = :client_id,"
            " sealed_client_secret = :client_secret, updated_at = clock_timestamp(),"
            " state = case state when 'connected' then 'needs_reauth' else state end,"
            " reason = case state when 'connected' then 'client_changed' else reason end,"
            " sealed_access_token = null, sealed_refresh_token = null, token_expires_at = null,"
            " token_version = token_version + 1, refresh_owner = null, refresh_until = null"
            " where connection_id = :connection and client_id is distinct from :client_id"
        ),
        {"connection": connection, "client_id": client_id, "client_secret": sealed_secret},
    )


async def connect(session: AsyncSession, connection: UUID, credentials: Credentials) -> bool:
    """Store credentials that were seen to work; False if they are another account's.

    A provider that does not tell the account's tier leaves it as people have set it.
    """
    found = await session.execute(
        text(
            "update config.connections set state = 'connected', reason = null,"
            " account_id = :account_id, account_name = :account_name, time_zone = :time_zone,"
            " tier = coalesce(:tier, tier), account_url = coalesce(:account_url, account_url),"
            " sealed_api_key = :api_key,"
            " sealed_access_token = :access_token,"
            " sealed_refresh_token = :refresh_token, token_expires_at = :expires_at,"
            " token_version = token_version + 1, refresh_owner = null, refresh_until = null,"
            " failed_checks = 0, updated_at = clock_timestamp()"
            " where connection_id = :connection and state <> 'removed'"
            " and (account_id is null or account_id = :account_id) returning connection_id"
        ),
        {
            "connection": connection,
            "account_id": credentials.account_id,
            "account_name": credentials.account_name,
            "time_zone": credentials.time_zone,
            "tier": credentials.tier,
            "account_url": credentials.account_url,
            "api_key": credentials.sealed_api_key,
            "access_token": credentials.sealed_access_token,
            "refresh_token": credentials.sealed_refresh_token,
            "expires_at": credentials.token_expires_at,
        },
    )
    return found.one_or_none() is not None


async def count_check(
    session: AsyncSession, connection: UUID, *, failed: bool, reason: str | None
) -> str | None:
    """Count a check of the credentials; return the connection's state after it."""
    state: str | None = await session.scalar(
        text("select config.count_check(:connection, :failed, :reason)"),
        {"connection": connection, "failed": failed, "reason": reason},
    )
    return state


async def find_uses(session: AsyncSession, connection: UUID) -> list[UUID]:
    """Return the integrations that use a connection and are not archived."""
    found = await session.execute(
        text(
            "select integration_id from config.integrations where state <> 'archived'"
            " and way_back_of is null"
            " and :connection in (source_connection_id, destination_connection_id)"
            " order by integration_id"
        ),
        {"connection": connection},
    )
    return list(found.scalars())


async def lock(session: AsyncSession, connection: UUID) -> None:
    """Let nobody else start to use or remove a connection until this transaction ends."""
    await session.execute(
        text("select from config.connections where connection_id = :connection for update"),
        {"connection": connection},
    )


async def remove(session: AsyncSession, connection: UUID) -> None:
    """Forget a connection's credentials; archived integrations keep its name."""
    await session.execute(
        text(
            "update config.connections set state = 'removed', sealed_access_token = null,"
            " sealed_refresh_token = null, sealed_api_key = null, token_expires_at = null,"
            " client_id = null, sealed_client_secret = null,"
            " updated_at = clock_timestamp() where connection_id = :connection"
        ),
        {"connection": connection},
    )


async def add_login(
    session: AsyncSession,
    *,
    state_sha256: bytes,
    workspace: UUID,
    connection: UUID,
    sealed_code_verifier: str | None,
    redirect_uri: str,
    return_url: str | None,
    expires_at: datetime,
) -> None:
    """Remember that a browser was sent to log in; earlier logins of the connection are void."""
    await session.execute(
        text("delete from config.oauth_states where connection_id = :connection"),
        {"connection": connection},
    )
    await session.execute(
        text(
            "insert into config.oauth_states (state_sha256, workspace_id, connection_id,"
            " sealed_code_verifier, redirect_uri, return_url, expires_at) values (:state,"
            " :workspace, :connection, :verifier, :redirect, :return, :expires)"
        ),
        {
            "state": state_sha256,
            "workspace": workspace,
            "connection": connection,
            "verifier": sealed_code_verifier,
            "redirect": redirect_uri,
            "return": return_url,
            "expires": expires_at,
        },
    )


async def take_login(session: AsyncSession, state_sha256: bytes) -> LoginState | None:
    """Return a login and forget it; None if there is none, or it came back before."""
    found = await session.execute(
        text("select * from config.take_oauth_state(:state)"), {"state": state_sha256}
    )
    row = found.one_or_none()
    return LoginState(*row) if row else None


@dataclass(frozen=True, slots=True)
class Sealed:
    """A connection's credentials as they are stored: sealed, or None."""

    workspace: UUID
    connection: UUID
    access_token: str | None
    refresh_token: str | None
    api_key: str | None
    client_secret: str | None


async def sealed(session: AsyncSession) -> list[Sealed]:
    """Return every connection's sealed credentials; for the operator's role."""
    rows = await session.execute(
        text(
            "select workspace_id, connection_id, sealed_access_token, sealed_refresh_token,"
            " sealed_api_key, sealed_client_secret from config.connections order by connection_id"
        )
    )
    return [Sealed(*row) for row in rows]


async def replace_sealed(session: AsyncSession, old: Sealed, new: Sealed) -> bool:
    """Store credentials sealed again; False if they were changed since they were read."""
    changed = await session.scalar(
        text(
            "update config.connections set sealed_access_token = :access,"
            " sealed_refresh_token = :refresh, sealed_api_key = :key,"
            " sealed_client_secret = :client"
            " where connection_id = :connection"
            " and sealed_access_token is not distinct from cast(:old_access as text)"
            " and sealed_refresh_token is not distinct from cast(:old_refresh as text)"
            " and sealed_api_key is not distinct from cast(:old_key as text)"
            " and sealed_client_secret is not distinct from cast(:old_client as text)"
            " returning true"
        ),
        {
            "connection": old.connection,
            "access": new.access_token,
            "refresh": new.refresh_token,
            "key": new.api_key,
            "client": new.client_secret,
            "old_access": old.access_token,
            "old_refresh": old.refresh_token,
            "old_key": old.api_key,
            "old_client": old.client_secret,
        },
    )
    return bool(changed)
