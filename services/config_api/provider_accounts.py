"""The real accounts: connectors of the registry, over HTTP, under the shared rate budget.

Promises: calls take the interactive lane, so a busy sync never makes a person wait, and wait at
most `PATIENCE_S` for their turn; a credential that is being tried for the first time goes without
the shared budget where limits are the account's, because nobody knows yet whose account it opens.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Self

from libs.common.clock import Clock
from libs.common.errors import MisconfiguredError
from libs.common.postgres import Transactions
from libs.common.rates import INTERACTIVE
from libs.common.secrets import KeyRing
from libs.common.tokens import CLIENT_SECRET, Client
from libs.connectors import oauth, registry
from libs.connectors.contract import Account, Destination, Facts, Gate, OpenGate, Source
from libs.connectors.http import HttpClient
from libs.connectors.oauth import Authorization, Granted
from libs.connectors.opening import Opener, StoredConnection, clients_of
from services.config_api.accounts import AccountRef
from services.config_api.settings import Settings

PATIENCE_S = 8.0  # A person who waits longer would rather be told.


@dataclass(frozen=True, slots=True)
class ProviderAccounts:
    """Opens accounts at the providers of the registry (`services.config_api.accounts`)."""

    opener: Opener
    # By provider another number of integrations of one account than its facts say; 0: any (CC1).
    integrations_per_account: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def wired(
        cls,
        settings: Settings,
        *,
        http: HttpClient,
        transactions: Transactions,
        secrets: KeyRing,
        clock: Clock,
    ) -> Self:
        """Return accounts opened as the settings say."""
        return cls(
            Opener(
                http=http,
                transactions=transactions,
                keys=secrets,
                clock=clock,
                patience_s=PATIENCE_S,
                lane=INTERACTIVE,
                clients=clients_of(settings),
                base_urls=settings.provider_base_urls,
                paced=settings.rate_limits,
                as_api=True,
            ),
            integrations_per_account=settings.integrations_per_account,
        )

    @property
    def catalogue(self) -> Sequence[Facts]:
        """Return what is known of each provider, with the limits that the operator lifted."""
        lifted = self.integrations_per_account
        return [
            replace(provider.facts, integrations_per_account=lifted[name] or None)
            if name in lifted
            else provider.facts
            for name, provider in registry.PROVIDERS.items()
        ]

    def source(
        self, account: AccountRef, *, credential: str | None = None
    ) -> AbstractAsyncContextManager[Source]:
        """Open a source account."""
        return self._source(account, credential)

    def destination(
        self, account: AccountRef, *, credential: str | None = None
    ) -> AbstractAsyncContextManager[Destination]:
        """Open a destination account."""
        return self._destination(account, credential)

    @asynccontextmanager
    async def _source(self, account: AccountRef, credential: str | None) -> AsyncIterator[Source]:
        yield await self.opener.source(
            _stored(account), credential=credential, gate=_own_gate(account, credential)
        )

    @asynccontextmanager
    async def _destination(
        self, account: AccountRef, credential: str | None
    ) -> AsyncIterator[Destination]:
        yield await self.opener.destination(
            _stored(account), credential=credential, gate=_own_gate(account, credential)
        )

    def authorize(self, account: AccountRef, redirect_url: str) -> Authorization:
        """Return the address of the provider's login page, as the account's application asks.

        Raises MisconfiguredError(client_not_configured) while the operator has not registered us
        and the workspace has no application of its own.
        """
        endpoint = self.opener.endpoint(account.provider)
        client_id = account.client_id or endpoint.client.id
        if not client_id:
            raise MisconfiguredError(account.provider, "client_not_configured")
        return oauth.authorize(endpoint.facts, client_id, redirect_url)

    async def exchange(
        self, account: AccountRef, code: str, redirect_url: str, verifier: str | None
    ) -> Granted:
        """Return the tokens for the code of a login.

        Raises MisconfiguredError(client_refused) if the workspace's own application is refused.
        """
        endpoint = self.opener.endpoint(account.provider).called_by(self._own_client(account))
        return await endpoint.exchange(code, redirect_url, verifier)

    def _own_client(self, account: AccountRef) -> Client | None:
        if account.client_id is None or account.sealed_client_secret is None:
            return None
        secret = self.opener.keys.unseal(
            account.sealed_client_secret,
            workspace=account.workspace,
            connection=account.connection,
            field=CLIENT_SECRET,
        )
        return Client(account.client_id, secret)


def _own_gate(account: AccountRef, credential: str | None) -> Gate | None:
    """Return a gate without a budget for a credential that is tried; None: the shared budget."""
    is_tried = credential is not None or account.account_id is None
    return OpenGate() if is_tried and not _shares_limits(account.provider) else None


def _shares_limits(provider: str) -> bool:
    """Return whether all limits are our application's: then everybody's calls count, tried or not.

    Constant Contact's 4 a second are used by the pollers of all customers: a login's first call
    that did not wait for its turn would be one too many (CC5).
    """
    facts = registry.PROVIDERS[provider].facts
    return all(limit.scope == "application" for limit in facts.limits[""])


def _stored(account: AccountRef) -> StoredConnection:
    known = None
    if account.account_id is not None:
        known = Account(
            id=account.account_id,
            name=account.account_id,
            time_zone=account.time_zone,
            tier=account.tier,
        )
    return StoredConnection(
        account.workspace,
        account.connection,
        account.provider,
        known,
        account.account_url,
        client_id=account.client_id,
    )
