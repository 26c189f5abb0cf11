"""The real accounts: connectors of the registry, over HTTP, under the shared rate budget.

Promises: calls take the interactive lane, so a busy sync never makes a person wait, and wait at
most `PATIENCE_S` for their turn; a credential that is being tried for the first time goes without
the shared budget, because nobody knows yet whose account it opens.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass

from libs.common.clock import Clock
from libs.common.database import SessionMaker
from libs.common.errors import MisconfiguredError
from libs.common.rates import INTERACTIVE, RateGate
from libs.common.secrets import KeyRing
from libs.common.tokens import StoredTokens
from libs.connectors import oauth, registry
from libs.connectors.account import StaticToken
from libs.connectors.contract import (
    Account,
    Destination,
    Facts,
    Gate,
    OAuthFacts,
    OpenGate,
    Source,
    TokenSupply,
)
from libs.connectors.http import HttpClient
from libs.connectors.oauth import Authorization, Client, Granted, RefreshingTokens, TokenEndpoint
from services.config_api.accounts import AccountRef

PATIENCE_S = 8.0  # A person who waits longer would rather be told.


@dataclass(frozen=True, slots=True)
class ProviderAccounts:
    """Opens accounts at the providers of the registry (`services.config_api.accounts`)."""

    http: HttpClient
    sessions: SessionMaker
    secrets: KeyRing
    clock: Clock
    base_urls: Mapping[str, str]
    clients: Mapping[str, Client]

    @property
    def catalogue(self) -> Sequence[Facts]:
        """Return what is known of each provider."""
        return [provider.facts for provider in registry.PROVIDERS.values()]

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
        make = registry.source(account.provider)
        yield make(
            self.http,
            self._gate(account, credential),
            await self._tokens(account, credential),
            registry.base_url(account.provider, self.base_urls),
            _known(account),
        )

    @asynccontextmanager
    async def _destination(
        self, account: AccountRef, credential: str | None
    ) -> AsyncIterator[Destination]:
        make = registry.destination(account.provider)
        yield make(
            self.http,
            self._gate(account, credential),
            await self._tokens(account, credential),
            registry.base_url(account.provider, self.base_urls),
            _known(account),
        )

    def _gate(self, account: AccountRef, credential: str | None) -> Gate:
        if credential is not None or account.account_id is None:
            return OpenGate()
        limits = registry.PROVIDERS[account.provider].facts.limits
        return RateGate(
            self.sessions,
            limits.get(account.tier or "", limits[""]),
            {
                "account": f"{account.provider}:{account.account_id}",
                "application": f"{account.provider}:application",
            },
            self.clock,
            patience_s=PATIENCE_S,
            time_zone=account.time_zone,
            lane=INTERACTIVE,
        )

    async def _tokens(self, account: AccountRef, credential: str | None) -> TokenSupply:
        if credential is not None:
            return StaticToken(credential)
        stored = StoredTokens(self.sessions, self.secrets, account.workspace, as_api=True)
        api_key = await stored.load_api_key(account.connection)
        if api_key is not None:
            return StaticToken(api_key)
        return RefreshingTokens(self._endpoint(account.provider), stored, account.connection)

    def authorize(self, provider: str, redirect_url: str) -> Authorization:
        """Return the address of the provider's login page.

        Raises MisconfiguredError(client_not_configured) while the operator has not registered us.
        """
        client = self.clients[provider]
        if not client.id:
            raise MisconfiguredError(provider, "client_not_configured")
        return oauth.authorize(self._oauth(provider), client.id, redirect_url)

    async def exchange(
        self, provider: str, code: str, redirect_url: str, verifier: str | None
    ) -> Granted:
        """Return the tokens for the code of a login."""
        return await self._endpoint(provider).exchange(code, redirect_url, verifier)

    def _endpoint(self, provider: str) -> TokenEndpoint:
        return TokenEndpoint(
            http=self.http,
            clock=self.clock,
            provider=provider,
            facts=self._oauth(provider),
            hosts=registry.PROVIDERS[provider].facts.hosts,
            client=self.clients[provider],
        )

    def _oauth(self, provider: str) -> OAuthFacts:
        facts = registry.PROVIDERS[provider].facts.oauth
        assert facts is not None
        return oauth.placed(facts, self.base_urls.get(provider))


def _known(account: AccountRef) -> Account | None:
    if account.account_id is None:
        return None
    return Account(
        id=account.account_id,
        name=account.account_id,
        time_zone=account.time_zone,
        tier=account.tier,
    )
