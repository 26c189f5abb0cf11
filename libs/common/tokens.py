"""Where a connection's credentials are: sealed in `config.connections`, behind functions.

Promises: credentials leave the database sealed and are opened only here; fresh tokens are stored
by compare-and-set on their version (`config.store_tokens`), so of two processes that refreshed one
stores; the right to refresh is a lease on the database's clock (`config.begin_refresh`).
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg

from libs.common.errors import NeedsReauthError
from libs.common.postgres import (
    Transaction,
    Transactions,
    enter_workspace,
    fetch_alone,
    transact,
)
from libs.common.secrets import KeyRing, Sealed, SecretsError

ACCESS_TOKEN = "access_token"  # noqa: S105  # the name of a field, not a token
REFRESH_TOKEN = "refresh_token"  # noqa: S105  # as above
API_KEY = "api_key"
CLIENT_SECRET = "client_secret"  # noqa: S105  # as above

_SEALED = """
    select provider, sealed_access_token, sealed_refresh_token, sealed_api_key,
      token_expires_at, token_version, client_id, sealed_client_secret
    from config.connections
    where connection_id = $1 and workspace_id = $2
    """


@dataclass(frozen=True, slots=True)
class Client:
    """An application at a provider: the operator's, or a workspace's own."""

    id: str
    secret: str


@dataclass(frozen=True, slots=True)
class Tokens:
    """What a connection is authorised by. `version` counts up whenever they are stored.

    `expires_at` is when the access token ends, by our clock; None: it does not end. `client` is the
    workspace's own application that they were given to; None: the operator's.
    """

    access_token: str
    refresh_token: str
    expires_at: datetime | None
    version: int
    client: Client | None = None


class StoredTokens:
    """The credentials of one workspace's connections, for whoever may read them.

    Set `as_api` for the API's role, which sees rows only inside a workspace.
    """

    def __init__(
        self, transactions: Transactions, keys: KeyRing, workspace: UUID, *, as_api: bool = False
    ) -> None:
        self._transactions = transactions
        self._keys = keys
        self._workspace = workspace
        self._as_api = as_api

    async def load(self, connection: UUID) -> Tokens:
        """Return the tokens as stored; raise NeedsReauthError if the connection has none."""
        sealed = await self._sealed(connection)
        tokens = self._tokens(connection, sealed)
        if tokens is None:
            raise NeedsReauthError(sealed.provider, "never connected")
        return tokens

    async def credential(
        self, connection: UUID, sealed: Sealed | None = None
    ) -> str | Tokens | None:
        """Return what a connection is authorised by: its API key, or its tokens; None: by nothing.

        `sealed` is what was stored a moment ago, for who has read it with something else. Raises
        NeedsReauthError if the connection is gone, or its credentials cannot be opened.
        """
        found = sealed or await self._sealed(connection)
        if found.api_key is not None:
            return self._open(connection, found, found.api_key, API_KEY)
        return self._tokens(connection, found)

    async def begin_refresh(self, connection: UUID, owner: UUID, ttl_s: float) -> bool:
        """Take the right to refresh for `ttl_s`; False: somebody else has it."""
        begin = "select config.begin_refresh($1, $2, make_interval(secs => $3))"
        [row] = await fetch_alone(self._transactions, begin, connection, owner, ttl_s)
        return bool(row[0])

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

        `account_url` is where the account is called from now on; None: where it was.
        """
        [row] = await fetch_alone(
            self._transactions,
            "select config.store_tokens($1, $2, $3, $4, $5, $6)",
            connection,
            version,
            self._seal(connection, access_token, ACCESS_TOKEN),
            self._seal(connection, refresh_token, REFRESH_TOKEN) if refresh_token else None,
            expires_at,
            account_url,
        )
        return bool(row[0])

    def _tokens(self, connection: UUID, sealed: Sealed) -> Tokens | None:
        if sealed.access_token is None:
            return None
        refresh = sealed.refresh_token
        return Tokens(
            access_token=self._open(connection, sealed, sealed.access_token, ACCESS_TOKEN),
            refresh_token=self._open(connection, sealed, refresh, REFRESH_TOKEN) if refresh else "",
            expires_at=sealed.expires_at,
            version=sealed.version,
            client=self._client(connection, sealed),
        )

    def _client(self, connection: UUID, sealed: Sealed) -> Client | None:
        if sealed.client_id is None or sealed.client_secret is None:
            return None
        secret = self._open(connection, sealed, sealed.client_secret, CLIENT_SECRET)
        return Client(sealed.client_id, secret)

    async def _sealed(self, connection: UUID) -> Sealed:
        async def work(session: Transaction) -> "list[asyncpg.Record[Any]]":
            await enter_workspace(session, self._workspace)
            return list(await session.connection.fetch(_SEALED, connection, self._workspace))

        if self._as_api:
            rows = await transact(self._transactions, work)
        else:
            rows = await fetch_alone(self._transactions, _SEALED, connection, self._workspace)
        if not rows:
            name = f"connection {connection}"
            raise NeedsReauthError(name, "it is no more")
        return sealed_of(rows[0])

    def _seal(self, connection: UUID, plaintext: str, field: str) -> str:
        return self._keys.seal(
            plaintext, workspace=self._workspace, connection=connection, field=field
        )

    def _open(self, connection: UUID, sealed: Sealed, value: str, field: str) -> str:
        try:
            return self._keys.unseal(
                value, workspace=self._workspace, connection=connection, field=field
            )
        except SecretsError as error:
            # An operator's mistake, but the way out is the same: nothing can be sent until then.
            raise NeedsReauthError(sealed.provider, str(error)) from error


def sealed_of(row: "asyncpg.Record[Any]") -> Sealed:
    """Return the credentials in a row that has the columns of `config.connections` for them."""
    return Sealed(
        provider=row["provider"],
        access_token=row["sealed_access_token"],
        refresh_token=row["sealed_refresh_token"],
        api_key=row["sealed_api_key"],
        expires_at=row["token_expires_at"],
        version=row["token_version"],
        client_id=row["client_id"],
        client_secret=row["sealed_client_secret"],
    )
