"""From a stored connection to a source or destination that can be called.

One `Opener` serves a process: it joins the process's HTTP connections, the shared rate budget and
the stored credentials, so that services ask for a connection and never learn a provider's name.
Opening makes no call. What is opened may be kept: its credentials are read when they are needed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from uuid import UUID
from weakref import WeakValueDictionary

from libs.common.clock import Clock
from libs.common.postgres import Transactions
from libs.common.rates import APPLICATION, RateGate
from libs.common.secrets import KeyRing, Sealed
from libs.common.settings import ClientSettings, ProviderSettings
from libs.common.tokens import Client, StoredTokens
from libs.common.uploads import UploadedFiles
from libs.connectors import registry
from libs.connectors.account import StaticToken
from libs.connectors.contract import (
    Account,
    Destination,
    Files,
    Gate,
    Limit,
    OpenGate,
    Source,
    TokenSupply,
)
from libs.connectors.http import HttpClient
from libs.connectors.oauth import RefreshingTokens, TokenEndpoint, placed

# Whose limits they are: provider, account, subscription, where its day begins, who shares it, and
# by which application of the workspace's own, if any.
GateKey = tuple[str, str, str | None, str, str, str | None]


def clients_of(settings: ProviderSettings) -> Mapping[str, Client]:
    """Return our application at each provider that logs in by OAuth.

    By the provider's own pair of settings: `<PROVIDER>_CLIENT_ID`, `<PROVIDER>_CLIENT_SECRET`.
    """
    found = {}
    for name, provider in registry.PROVIDERS.items():
        if provider.facts.oauth is not None:
            ours = settings.provider_clients.get(name, ClientSettings())
            found[name] = Client(ours.id, ours.secret.reveal())
    return found


@dataclass(frozen=True, slots=True)
class StoredConnection:
    """A connection as much as opening it takes; `account` None: it was never checked.

    `account_url` is the account's own address, where accounts of its provider have one. `sealed`
    are its credentials if they were read with the rest; else they are looked for. `client_id` is
    the workspace's own application, by whose limits it is called; None: the operator's.
    """

    workspace: UUID
    connection: UUID
    provider: str
    account: Account | None = None
    account_url: str | None = None
    sealed: Sealed | None = None
    client_id: str | None = None


@dataclass(frozen=True, slots=True)
class Opener:
    """Opens connections; `clients` are our applications by provider, `base_urls` the sandbox's.

    `patience_s` is the longest a call waits for its slot, `lane` which share of the limits it
    takes (`libs.common.rates`). `paced` False leaves the budget out: for measurements only.
    """

    http: HttpClient
    transactions: Transactions
    keys: KeyRing
    clock: Clock
    patience_s: float
    lane: str = ""
    clients: Mapping[str, Client] = field(default_factory=dict)
    base_urls: Mapping[str, str] = field(default_factory=dict)
    paced: bool = True
    as_api: bool = False
    # Kept for as long as somebody has them.
    _gates: WeakValueDictionary[GateKey, RateGate] = field(
        default_factory=WeakValueDictionary, init=False, repr=False, compare=False
    )

    async def source(
        self,
        stored: StoredConnection,
        *,
        credential: str | None = None,
        gate: Gate | None = None,
    ) -> Source:
        """Return a source, by stored credentials or by one that is not stored yet.

        `gate` stands before the calls instead of ours. Raises NeedsReauthError if there are no
        usable credentials, LookupError for a provider that is no source.
        """
        over_files = registry.file_source(stored.provider)
        if over_files is not None:
            return over_files(self.files(stored))
        make = registry.reader(stored.provider)
        tokens = await self.tokens(stored, credential)
        return make(
            self.http,
            gate or self.gate(stored),
            tokens,
            self._base_url(stored),
            stored.account,
        )

    async def destination(
        self,
        stored: StoredConnection,
        *,
        credential: str | None = None,
        gate: Gate | None = None,
    ) -> Destination:
        """Return a destination in the same way."""
        make = registry.writer(stored.provider)
        tokens = await self.tokens(stored, credential)
        return make(
            self.http,
            gate or self.gate(stored),
            tokens,
            self._base_url(stored),
            stored.account,
        )

    def files(self, stored: StoredConnection) -> Files:
        """Return the files that were uploaded to a connection."""
        return UploadedFiles(
            self.transactions, stored.workspace, stored.connection, as_api=self.as_api
        )

    async def tokens(self, stored: StoredConnection, credential: str | None) -> TokenSupply:
        """Return where the calls' credentials come from."""
        if credential is not None:
            return StaticToken(credential)
        kept = StoredTokens(self.transactions, self.keys, stored.workspace, as_api=self.as_api)
        found = await kept.credential(stored.connection, stored.sealed)
        if isinstance(found, str):
            return StaticToken(found)
        return RefreshingTokens(self.endpoint(stored.provider), kept, stored.connection, found)

    def endpoint(self, provider: str) -> TokenEndpoint:
        """Return a provider's token endpoint; raise LookupError if it has none."""
        facts = registry.PROVIDERS[provider].facts
        if facts.oauth is None:
            message = f"{provider} does not log in by OAuth"
            raise LookupError(message)
        return TokenEndpoint(
            http=self.http,
            clock=self.clock,
            provider=provider,
            facts=placed(facts.oauth, self.base_urls.get(provider)),
            hosts=facts.hosts,
            client=self.clients[provider],
        )

    def gate(self, stored: StoredConnection) -> Gate:
        """Return the shared rate budget of the account behind a connection.

        Limits of the account are shared by every connection to it, of any workspace; and so is the
        gate itself among a worker's tasks: a slot that one of them leaves is another's. Where they
        are our application's, each workspace has gates of its own, which know whose part they use.
        """
        if not self.paced:
            return OpenGate()
        account = stored.account
        # Before the first check the account is unknown: its calls are counted by connection.
        owner = account.id if account is not None else str(stored.connection)
        key = (
            stored.provider,
            owner,
            account.tier if account is not None else None,
            account.time_zone if account is not None else "UTC",
            str(stored.workspace) if self._is_shared(stored.provider) else "",
            stored.client_id,
        )
        # Whoever waits before a page is kept waiting by nobody else's turn.
        gate = None if self.lane else self._gates.get(key)
        if gate is None:
            gate = self._gates[key] = self._new_gate(*key)
        return gate

    def _new_gate(
        self,
        provider: str,
        owner: str,
        tier: str | None,
        time_zone: str,
        party: str,
        client_id: str | None,
    ) -> RateGate:
        application = f"{provider}:application"
        return RateGate(
            self.transactions,
            self._limits(provider, tier),
            {
                "account": f"{provider}:{owner}",
                # `limits.divide_day` looks for those who share one by the same name.
                "application": f"{application}:{client_id}" if client_id else application,
            },
            self.clock,
            patience_s=self.patience_s,
            time_zone=time_zone,
            lane=self.lane,
            party=party,
        )

    def _is_shared(self, provider: str) -> bool:
        """Return whether our application has a limit that all workspaces share."""
        return any(limit.scope == APPLICATION for limit in self._limits(provider, None))

    def _limits(self, provider: str, tier: str | None) -> Sequence[Limit]:
        by_tier = registry.PROVIDERS[provider].facts.limits
        return by_tier.get(tier or "", by_tier[""])

    def _base_url(self, stored: StoredConnection) -> str:
        return registry.base_url(stored.provider, self.base_urls, stored.account_url)
