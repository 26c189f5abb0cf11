"""Every provider there is: how to make its source or its destination.

The only place outside a provider's folder that names it. Adding a provider is a folder and one
entry here (docs/connectors.md); services ask by the name that a connection has stored.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol

from libs.common.errors import MisconfiguredError
from libs.connectors.activecampaign.destination import ActiveCampaignDestination
from libs.connectors.addresses import check_url
from libs.connectors.brevo import events as brevo_events
from libs.connectors.brevo.destination import BrevoDestination
from libs.connectors.brevo.source import BrevoSource
from libs.connectors.constant_contact.source import ConstantContactSource
from libs.connectors.contract import (
    Account,
    Destination,
    Facts,
    Files,
    Gate,
    Heard,
    Source,
    TokenSupply,
)
from libs.connectors.csv.source import CsvSource
from libs.connectors.google_contacts.source import GoogleContactsSource
from libs.connectors.http import HttpClient
from libs.connectors.hubspot.source import HubSpotSource
from libs.connectors.salesforce.destination import SalesforceDestination
from libs.connectors.salesforce.source import SalesforceSource


class MakeSource(Protocol):
    """What makes a source: cheap, without a call. Raises MisconfiguredError for a bad address."""

    def __call__(
        self,
        http: HttpClient,
        gate: Gate,
        tokens: TokenSupply,
        base_url: str,
        account: Account | None = None,
    ) -> Source:
        """Return a source for one account; `account` is what its last check returned."""


class MakeDestination(Protocol):
    """What makes a destination, in the same manner."""

    def __call__(
        self,
        http: HttpClient,
        gate: Gate,
        tokens: TokenSupply,
        base_url: str,
        account: Account | None = None,
    ) -> Destination:
        """Return a destination for one account; `account` is what its last check returned."""


class MakeFileSource(Protocol):
    """What makes a source that reads uploaded files instead of calling anybody."""

    def __call__(self, files: Files) -> Source:
        """Return a source for the files of one connection."""


@dataclass(frozen=True, slots=True)
class Provider:
    """A provider's facts, and what makes its sides; None: it has not this side.

    A source is made by one of two: over HTTP, or over files (`Facts.reads_files`).
    `edits` and `records` are the sides of a way back, which people do not choose by themselves: a
    destination's account as it is read, a source's account as it is written to. `hear` reads the
    events that an account sends (`Facts.sends_events`); it raises ValueError for what is none.
    """

    facts: Facts
    source: MakeSource | None = None
    destination: MakeDestination | None = None
    file_source: MakeFileSource | None = None
    edits: MakeSource | None = None
    records: MakeDestination | None = None
    hear: Callable[[bytes], Heard] | None = None


PROVIDERS: Mapping[str, Provider] = MappingProxyType(
    {
        "hubspot": Provider(HubSpotSource.facts, source=HubSpotSource),
        "constant_contact": Provider(ConstantContactSource.facts, source=ConstantContactSource),
        "salesforce": Provider(
            SalesforceSource.facts, source=SalesforceSource, records=SalesforceDestination
        ),
        "csv": Provider(CsvSource.facts, file_source=CsvSource),
        "google_contacts": Provider(GoogleContactsSource.facts, source=GoogleContactsSource),
        "brevo": Provider(
            BrevoDestination.facts,
            destination=BrevoDestination,
            edits=BrevoSource,
            hear=brevo_events.hear,
        ),
        "activecampaign": Provider(
            ActiveCampaignDestination.facts, destination=ActiveCampaignDestination
        ),
    }
)


def source(provider: str) -> MakeSource:
    """Return what makes this provider's sources; raise LookupError if it is none."""
    make = PROVIDERS[provider].source if provider in PROVIDERS else None
    if make is None:
        raise NoSuchProviderError(provider, "source")
    return make


def file_source(provider: str) -> MakeFileSource | None:
    """Return what makes this provider's sources over files; None if it is read over HTTP."""
    return PROVIDERS[provider].file_source if provider in PROVIDERS else None


def destination(provider: str) -> MakeDestination:
    """Return what makes this provider's destinations; raise LookupError if it is none."""
    make = PROVIDERS[provider].destination if provider in PROVIDERS else None
    if make is None:
        raise NoSuchProviderError(provider, "destination")
    return make


def reader(provider: str) -> MakeSource:
    """Return what makes whatever is read of a provider, also on a way back."""
    found = PROVIDERS.get(provider)
    edits = found.edits if found is not None else None
    return edits if edits is not None else source(provider)


def writer(provider: str) -> MakeDestination:
    """Return what makes whatever is written to at a provider, also on a way back."""
    found = PROVIDERS.get(provider)
    records = found.records if found is not None else None
    return records if records is not None else destination(provider)


def hearing(provider: str) -> Callable[[bytes], Heard] | None:
    """Return what reads a provider's events; None if it sends none."""
    found = PROVIDERS.get(provider)
    return found.hear if found is not None else None


class NoSuchProviderError(LookupError):
    """A stored name of a provider that this version has not, or not on this side."""

    def __init__(self, provider: str, side: str) -> None:
        known = ", ".join(sorted(PROVIDERS))
        super().__init__(f"{provider} is no {side}; the providers of this version: {known}")


def base_url(provider: str, base_urls: Mapping[str, str], account_url: str | None = None) -> str:
    """Return where a provider's calls go.

    `base_urls` are the sandbox's (`PROVIDER_BASE_URLS`: scheme, host and port), and keep the
    provider's own path; else the account's own address, else the provider's. Raises
    MisconfiguredError(address_not_allowed) for an account that must have an address of its own and
    has none: its credential is nobody else's to see.
    """
    facts = PROVIDERS[provider].facts
    if provider in base_urls:
        return base_urls[provider].rstrip("/") + _path_of(facts)
    if facts.accounts_have_urls and account_url is None:
        raise MisconfiguredError(provider, "address_not_allowed")
    return account_url or facts.base_url


def own_base_url(provider: str, given: str) -> str:
    """Return the base URL of an account out of the address that a person gave.

    With the provider's own path behind it or without, as its pages show it. Raises
    MisconfiguredError(address_not_allowed) for any that is not the provider's.
    """
    facts = PROVIDERS[provider].facts
    site = check_url(given, facts.hosts)
    origin = f"https://{site.host}"
    if site.origin.removeprefix(origin) not in ("", _path_of(facts)):
        raise MisconfiguredError(site.host, "address_not_allowed")
    return origin + _path_of(facts)


def _path_of(facts: Facts) -> str:
    """Return what stands behind the host in every address of a provider."""
    return "/" + facts.base_url.split("/", 3)[3] if facts.base_url.count("/") > 2 else ""
