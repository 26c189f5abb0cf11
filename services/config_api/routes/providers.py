"""/v1/providers: the catalogue of what can be connected (W1, AC4)."""

from collections.abc import Sequence
from typing import Literal

from fastapi import APIRouter
from pydantic import Field

from libs.connectors.automatic import WARN_ABOVE
from libs.connectors.contract import Facts
from services.config_api.models import Shown
from services.config_api.routing import PartsOf, Session, TransactionalRoute, demands
from services.config_api.scopes import Scope
from services.config_api.store import integrations

router = APIRouter(tags=["providers"], route_class=TransactionalRoute)


class SourceObject(Shown):
    """A kind of record that can be synced."""

    name: str
    label: str
    needs_list: bool = Field(description="Whether a list must be chosen.")


class Limit(Shown):
    """One of the provider's own limits."""

    tier: str = Field(description="The account's subscription; empty: where it is not known.")
    bucket: str
    calls: int
    window_s: float
    scope: str
    per_day: int | None


class Warning(Shown):  # noqa: A001  # the resource's own word; Python's is not used here
    """Something that is allowed and probably not wanted."""

    code: str
    detail: str


class Provider(Shown):
    """What can be connected, and how."""

    id: str
    label: str
    is_source: bool
    is_destination: bool
    authentication: Literal["oauth", "api_key", "none"] = Field(
        description="`none`: there is nothing to log in to, files are uploaded (`/v1/imports`)."
    )
    has_account_url: bool = Field(
        description="Whether each account has an address of its own: a connection then needs "
        "`account_url`."
    )
    oauth_redirect_url: str | None = Field(
        description="The address that an application of one's own must be registered with "
        "(`oauth_client` of a connection); null: the provider has no login."
    )
    plan: str | None = Field(
        description="Only workspaces on this plan may use it; null: all of them (SF1)."
    )
    objects: Sequence[SourceObject]
    tiers: Sequence[str] = Field(
        description="Its subscriptions: what `tier` of a connection may be (S10, HS1)."
    )
    limits: Sequence[Limit]
    integrations: int = Field(description="How many integrations of this workspace use it.")
    takes_automatic_imports: bool = Field(
        description="Whether integrations of the kind `automatic` may write to it (AC1)."
    )
    automatic_imports: int = Field(
        description="How many automatic imports of this workspace read it (AC4)."
    )
    warnings: Sequence[Warning]


class Providers(Shown):
    """The whole catalogue."""

    items: Sequence[Provider]


@router.get("/v1/providers", dependencies=[demands(Scope.PROVIDERS_READ)])
async def list_providers(session: Session, parts: PartsOf) -> Providers:
    """List what can be connected."""
    counts = await integrations.count_by_provider(session)
    automatic = await integrations.count_automatic(session)
    return Providers(
        items=[
            _shown(
                facts,
                counts.get(facts.provider, 0),
                automatic.get(facts.provider, 0),
                parts.addresses.callback_url,
            )
            for facts in parts.accounts.catalogue
        ]
    )


def _warnings(facts: Facts, automatic: int) -> Sequence[Warning]:
    """Return what a person should know before making one more of them (AC4)."""
    if automatic <= WARN_ABOVE:
        return []
    detail = (
        f"{facts.label} has {automatic} automatic imports. They share one budget of contacts for "
        "each external account, so more of them make none of them faster."
    )
    return [Warning(code="many_automatic_imports", detail=detail)]


def _shown(facts: Facts, count: int, automatic: int, redirect_url: str) -> Provider:
    return Provider(
        id=facts.provider,
        label=facts.label,
        is_source=facts.is_source,
        is_destination=facts.is_destination,
        authentication=_authentication(facts),
        has_account_url=facts.has_account_url,
        oauth_redirect_url=redirect_url if facts.oauth is not None else None,
        plan=facts.plan,
        objects=[
            SourceObject(name=each.name, label=each.label, needs_list=each.needs_list)
            for each in facts.objects
        ],
        tiers=facts.tiers,
        limits=[
            Limit(
                tier=tier,
                bucket=limit.bucket,
                calls=limit.calls,
                window_s=limit.window_s,
                scope=limit.scope,
                per_day=limit.per_day,
            )
            for tier, limits in facts.limits.items()
            for limit in limits
        ],
        integrations=count,
        takes_automatic_imports=facts.takes_automatic_imports,
        automatic_imports=automatic,
        warnings=_warnings(facts, automatic),
    )


def _authentication(facts: Facts) -> Literal["oauth", "api_key", "none"]:
    if facts.reads_files:
        return "none"
    return "oauth" if facts.oauth else "api_key"
