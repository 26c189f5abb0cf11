"""Accounts at providers, as the API needs them: a seam, so that routes know no provider.

Promises: what is opened here asks the shared rate budget before each call (the interactive lane,
with a short patience), and its HTTP connections end with the block.
"""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from libs.connectors.contract import Destination, Facts, Source
from libs.connectors.oauth import Authorization, Granted


@dataclass(frozen=True, slots=True)
class AccountRef:
    """A connection, as much of it as opening the account takes.

    `client_id` and `sealed_client_secret` are those of the workspace's own application at the
    provider; None: the operator's.
    """

    workspace: UUID
    connection: UUID
    provider: str
    account_id: str | None = None
    tier: str | None = None
    time_zone: str = "UTC"
    account_url: str | None = None
    client_id: str | None = None
    sealed_client_secret: str | None = None


class Accounts(Protocol):
    """How the API reaches providers."""

    @property
    def catalogue(self) -> Sequence[Facts]:
        """Return what is known of each provider, in the order they are shown."""

    def source(
        self, account: AccountRef, *, credential: str | None = None
    ) -> AbstractAsyncContextManager[Source]:
        """Open a source account, by its stored credentials or by one that is not stored yet."""

    def destination(
        self, account: AccountRef, *, credential: str | None = None
    ) -> AbstractAsyncContextManager[Destination]:
        """Open a destination account, by its stored credentials or by one not stored yet."""

    def authorize(self, account: AccountRef, redirect_url: str) -> Authorization:
        """Return the address of the provider's login page, and what to keep until it is left."""

    async def exchange(
        self, account: AccountRef, code: str, redirect_url: str, verifier: str | None
    ) -> Granted:
        """Return the tokens for the code of a login; raise NeedsReauthError if it is refused."""


def find_facts(accounts: Accounts, provider: str) -> Facts | None:
    """Return what is known of a provider; None if there is none of that name."""
    return next((facts for facts in accounts.catalogue if facts.provider == provider), None)
