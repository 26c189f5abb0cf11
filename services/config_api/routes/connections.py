"""/v1/connections: accounts at providers, their lists and fields (W2, W3, W6).

Routes that ask the provider hold no transaction meanwhile. Credentials go in and never come out.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response, status
from pydantic import ConfigDict, Field, SecretStr, StringConstraints
from sqlalchemy.ext.asyncio import AsyncSession

from libs.common import ids
from libs.common.errors import MisconfiguredError
from libs.common.ids import Prefix
from libs.common.tokens import CLIENT_SECRET
from libs.connectors import registry
from libs.connectors.contract import ContactList, Destination, Facts, FieldType
from libs.connectors.contract import Field as RemoteField
from services.config_api import connect, pages
from services.config_api.accounts import AccountRef, find_facts
from services.config_api.checklist import plan_needed
from services.config_api.errors import ConnectionInUseError, InvalidError, refuse_field
from services.config_api.models import (
    PRINTABLE,
    VISIBLE_ASCII,
    Asked,
    ConnectionId,
    Name,
    RemoteName,
    Secret,
    Shown,
    found,
)
from services.config_api.pages import PageSize, PageToken
from services.config_api.routing import (
    Caller,
    CallerOf,
    DrawnId,
    Parts,
    PartsOf,
    ProviderRoute,
    Session,
    TransactionalRoute,
    UnitsOfWork,
    demands,
)
from services.config_api.scopes import Scope
from services.config_api.store import audit, workspaces
from services.config_api.store import connections as store
from services.config_api.units import Units

router = APIRouter(tags=["connections"], route_class=TransactionalRoute)
provider_router = APIRouter(tags=["connections"], route_class=ProviderRoute)

READ = [demands(Scope.CONNECTIONS_READ)]
WRITE = [demands(Scope.CONNECTIONS_WRITE)]

Tier = Annotated[
    str | None,
    Field(
        max_length=50,
        description="The account's subscription, one of the provider's `tiers`: its rate limits "
        "are kept to. null: the smallest.",
    ),
]
AccountUrl = Annotated[
    str | None,
    StringConstraints(strip_whitespace=True, max_length=300, pattern=VISIBLE_ASCII),
    Field(
        description="The account's own address, as the provider shows it to its users; only where "
        "the catalogue says `has_account_url`.",
    ),
]
ClientId = Annotated[
    str, StringConstraints(strip_whitespace=True, max_length=300, pattern=VISIBLE_ASCII)
]
ObjectName = Annotated[
    str | None, Query(max_length=100, description="A source object: contacts, leads.")
]


class Connection(Shown):
    """An account at a provider; never its credentials."""

    id: str
    provider: str
    name: str
    state: Literal["pending", "connected", "needs_reauth"]
    reason: str | None = Field(description="Why it needs to be authorised again.")
    account_id: str | None
    account_name: str | None
    account_url: str | None = Field(
        description="The account's own address; null: all accounts of the provider share one."
    )
    time_zone: str
    tier: str | None = Field(
        description="The account's subscription at the provider; null: the smallest is assumed."
    )
    oauth_client_id: str | None = Field(
        description="The workspace's own application at the provider; null: the operator's."
    )
    created_at: datetime
    updated_at: datetime

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": "con_0199d0c1a2b37c4d8e5f60718293a4b5",
                    "provider": "hubspot",
                    "name": "Our HubSpot",
                    "state": "connected",
                    "reason": None,
                    "account_id": "1000001",
                    "account_name": "example.com",
                    "account_url": None,
                    "time_zone": "Europe/Berlin",
                    "tier": "starter",
                    "oauth_client_id": None,
                    "created_at": "2026-11-24T09:00:00Z",
                    "updated_at": "2026-11-24T09:01:00Z",
                }
            ]
        }
    )


class Connections(Shown):
    """A page of connections, oldest first."""

    items: Sequence[Connection]
    next_page_token: pages.NextPageToken


class OAuthClient(Asked):
    """An application that the workspace registered at the provider itself."""

    id: ClientId
    secret: Secret


OwnClient = Annotated[
    OAuthClient | None,
    Field(
        description="The workspace's own application at the provider, registered with the address "
        "that the catalogue shows as `oauth_redirect_url`. What the provider counts by "
        "application is then shared with nobody. null: the operator's.",
    ),
]


class ConnectionWanted(Asked):
    """An account to connect; `api_key` where the provider is connected by one."""

    provider: Annotated[str, Field(max_length=50)]
    name: Name
    api_key: Secret | None = None
    account_url: AccountUrl = None
    tier: Tier = None
    oauth_client: OwnClient = None

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"provider": "hubspot", "name": "Our HubSpot"},
                {
                    "provider": "brevo",
                    "name": "Our Brevo",
                    "api_key": "xkeysib-0123456789abcdef",
                    "tier": "advanced",
                },
                {
                    "provider": "activecampaign",
                    "name": "Our ActiveCampaign",
                    "api_key": "0123456789abcdef",
                    "account_url": "https://example.api-us1.com",
                },
                {
                    "provider": "constant_contact",
                    "name": "Our Constant Contact",
                    "oauth_client": {"id": "a1b2c3d4-0123", "secret": "0123456789abcdef"},
                },
                {"provider": "csv", "name": "Members"},
            ]
        }
    )


class ConnectionChange(Asked):
    """What of a connection can be changed; what is left out stays as it is."""

    name: Name | None = None
    tier: Tier = None
    oauth_client: OwnClient = None

    model_config = ConfigDict(json_schema_extra={"examples": [{"tier": "professional"}]})


class LoginWanted(Asked):
    """A login to start; the browser ends at `return_url`, or at a small page of ours."""

    return_url: Annotated[str, Field(max_length=2000, pattern=VISIBLE_ASCII)] | None = None


class LoginStarted(Shown):
    """Where to send the user's browser."""

    authorize_url: str
    expires_at: datetime


class ReauthorisationWanted(LoginWanted):
    """A new login, or a new API key, for the account that is connected already."""

    api_key: Secret | None = None


class Reauthorisation(Shown):
    """Either where to send the browser, or, after a new API key, the connection."""

    authorize_url: str | None = None
    expires_at: datetime | None = None
    connection: Connection | None = None


class Tested(Shown):
    """The provider answered: whose account it is."""

    account_id: str
    account_name: str


class RemoteList(Shown):
    """A list, segment, group or campaign at the provider."""

    id: str
    name: str
    size: int | None = Field(description="As the provider counts; null: it does not tell.")


class RemoteLists(Shown):
    """A page of the provider's lists."""

    items: Sequence[RemoteList]
    next_page_token: pages.NextPageToken


class ListWanted(Asked):
    """A list to create at the destination."""

    name: RemoteName

    model_config = ConfigDict(json_schema_extra={"examples": [{"name": "Newsletter from HubSpot"}]})


class RemoteFieldShown(Shown):
    """A field of a source object, or an attribute of a destination."""

    name: str
    label: str
    type: str
    mappable: bool
    not_mappable_reason: str | None = Field(description="A code that says why not (S6, S7).")
    unique: bool = Field(description="Whether it identifies a contact.")
    length_max: int | None


class RemoteFields(Shown):
    """A page of the provider's fields."""

    items: Sequence[RemoteFieldShown]
    next_page_token: pages.NextPageToken


class FieldWanted(Asked):
    """An attribute to create at the destination."""

    name: RemoteName
    type: Literal["text", "number", "date", "boolean"]

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"name": "LIFETIME", "type": "number"}]}
    )


class FieldMade(Shown):
    """The attribute is there."""

    name: str
    type: str


@provider_router.post("/v1/connections", status_code=status.HTTP_201_CREATED, dependencies=WRITE)
async def create_connection(
    wanted: ConnectionWanted,
    units: UnitsOfWork,
    caller: CallerOf,
    parts: PartsOf,
    drawn: DrawnId,
    response: Response,
) -> Connection:
    """Make a connection: pending until the login, or, with an API key, checked at the provider.

    One that files are uploaded to is connected at once.
    """
    facts = find_facts(parts.accounts, wanted.provider)
    if facts is None:
        raise refuse_field(
            at="/provider", code="unknown_provider", detail="The catalogue has no such provider."
        )
    _refuse_unknown_tier(facts, wanted.tier)
    client = wanted.oauth_client
    _refuse_client(facts, client)
    await _refuse_other_plans(units, caller, facts)
    account = AccountRef(
        caller.workspace,
        drawn,
        facts.provider,
        tier=wanted.tier,
        account_url=_base_url(facts, wanted.account_url),
    )
    credentials = await _check_credential(parts, facts, account, wanted.api_key)

    async def work(session: AsyncSession) -> store.Connection:
        await store.add(
            session,
            connection=drawn,
            workspace=caller.workspace,
            provider=facts.provider,
            name=wanted.name,
            tier=wanted.tier,
            account_url=account.account_url,
            client_id=client.id if client else None,
            sealed_client_secret=_sealed_secret(parts, account, client),
        )
        await _record(session, caller, "connection.created", drawn, {"provider": facts.provider})
        made = found(await store.find(session, drawn), "connection")
        if credentials is None:
            return made
        return await connect.store_credentials(session, made, credentials, actor=caller.actor)

    shown = shown_connection(await units.run(work))
    response.headers["Location"] = f"/v1/connections/{shown.id}"
    return shown


async def _refuse_other_plans(units: Units, caller: Caller, facts: Facts) -> None:
    """Refuse a provider that the workspace's plan does not have (SF1)."""
    if facts.plan is None:
        return
    row = await units.run(lambda session: workspaces.find(session, caller.workspace))
    flaws = list(plan_needed(facts, found(row, "workspace").plan, "/provider"))
    if flaws:
        raise InvalidError(detail=flaws[0].detail, flaws=flaws)


def _base_url(facts: Facts, given: str | None) -> str | None:
    """Return where an account with an address of its own is called; None for all others."""
    if not facts.has_account_url:
        if given is not None:
            raise refuse_field(
                at="/account_url",
                code="no_account_url",
                detail=f"Nobody needs to say where accounts of {facts.label} are: leave it out.",
            )
        return None
    if given is None:
        raise refuse_field(
            at="/account_url",
            code="account_url_missing",
            detail=f"Each {facts.label} account has an address of its own: send it.",
        )
    try:
        return registry.own_base_url(facts.provider, given)
    except MisconfiguredError:
        # Another's address would get the key, and could be one of our own network.
        raise refuse_field(
            at="/account_url",
            code="address_not_allowed",
            detail=f"This is no address of {facts.label}. One looks like {facts.base_url}.",
        ) from None


async def _check_credential(
    parts: Parts, facts: Facts, account: AccountRef, api_key: SecretStr | None
) -> store.Credentials | None:
    if api_key is not None and (facts.oauth is not None or facts.reads_files):
        how = "without a credential" if facts.reads_files else "by its own login"
        raise refuse_field(
            at="/api_key", code="login_expected", detail=f"{facts.label} is connected {how}."
        )
    if facts.reads_files:
        return await connect.open_account(parts, facts, account)
    if facts.oauth is not None:
        return None
    if api_key is None:
        raise refuse_field(
            at="/api_key",
            code="api_key_missing",
            detail=f"{facts.label} is connected by an API key: send it.",
        )
    return await connect.check_api_key(parts, facts, account, api_key.get_secret_value())


@router.get("/v1/connections", dependencies=READ)
async def list_connections(
    session: Session,
    request: Request,
    response: Response,
    provider: Annotated[str | None, Query(max_length=50, pattern=PRINTABLE)] = None,
    page_size: PageSize = pages.SIZE_DEFAULT,
    page_token: PageToken = None,
) -> Connections:
    """List the connections of the workspace."""
    rows = await store.find_page(
        session, after=pages.decode_id(page_token), provider=provider, size=page_size + 1
    )
    page = pages.cut(rows, page_size, lambda row: row.connection_id.hex)
    pages.link(request, response, page.next_token)
    return Connections(
        items=[shown_connection(row) for row in page.rows], next_page_token=page.next_token
    )


@router.get("/v1/connections/{connection_id}", dependencies=READ)
async def read_connection(connection_id: ConnectionId, session: Session) -> Connection:
    """Read one connection."""
    return shown_connection(found(await store.find(session, connection_id), "connection"))


@router.patch("/v1/connections/{connection_id}", dependencies=WRITE)
async def change_connection(
    connection_id: ConnectionId,
    change: ConnectionChange,
    session: Session,
    caller: CallerOf,
    parts: PartsOf,
) -> Connection:
    """Give a connection another name, or say which subscription its account has (HS1).

    Or by which application it is called. The same one with another secret goes on; with another
    one the connection must be authorised again, because what was granted is the other one's.
    """
    connection = found(await store.find(session, connection_id), "connection")
    if "name" in change.model_fields_set:
        if change.name is None:
            raise refuse_field(
                at="/name", code="null_not_allowed", detail="Send a name, or leave it out."
            )
        await store.rename(session, connection_id, change.name)
        await _record(session, caller, "connection.renamed", connection_id, {"name": change.name})
    if "tier" in change.model_fields_set:
        _refuse_unknown_tier(_facts(parts, connection), change.tier)
        await store.set_tier(session, connection_id, change.tier)
        await _record(session, caller, "connection.tier_set", connection_id, {"tier": change.tier})
    if "oauth_client" in change.model_fields_set:
        client = change.oauth_client
        _refuse_client(_facts(parts, connection), client)
        client_id = client.id if client else None
        secret = _sealed_secret(parts, connection.account, client)
        await store.set_client(session, connection_id, client_id, secret)
        details: dict[str, object] = {"oauth_client_id": client_id}
        await _record(session, caller, "connection.client_set", connection_id, details)
    return shown_connection(found(await store.find(session, connection_id), "connection"))


def _refuse_client(facts: Facts, client: OAuthClient | None) -> None:
    if client is not None and facts.oauth is None:
        raise refuse_field(
            at="/oauth_client",
            code="no_login",
            detail=f"{facts.label} is not connected by a login, so no application is asked for.",
        )


def _sealed_secret(parts: Parts, account: AccountRef, client: OAuthClient | None) -> str | None:
    if client is None:
        return None
    return connect.seal(parts, account, client.secret.get_secret_value(), CLIENT_SECRET)


def _refuse_unknown_tier(facts: Facts, tier: str | None) -> None:
    if tier is not None and tier not in facts.tiers:
        raise refuse_field(
            at="/tier",
            code="unknown_tier",
            detail=f"{facts.label} has no such subscription; there are: {', '.join(facts.tiers)}.",
            rule="S10",
        )


@router.delete(
    "/v1/connections/{connection_id}",
    status_code=status.HTTP_204_NO_CONTENT,
    dependencies=WRITE,
)
async def delete_connection(
    connection_id: ConnectionId, session: Session, caller: CallerOf
) -> None:
    """Forget an account and its credentials; refused while an integration uses it."""
    found(await store.find(session, connection_id), "connection")
    await store.lock(session, connection_id)
    uses = await store.find_uses(session, connection_id)
    if uses:
        raise ConnectionInUseError(
            detail=f"{len(uses)} integrations use this connection.",
            integrations=[ids.show(Prefix.INTEGRATION, use) for use in uses],
        )
    await store.remove(session, connection_id)
    await _record(session, caller, "connection.removed", connection_id, {})


@router.post("/v1/connections/{connection_id}:authorize", dependencies=WRITE)
async def authorize(
    connection_id: ConnectionId,
    session: Session,
    parts: PartsOf,
    wanted: LoginWanted = LoginWanted(),  # noqa: B008  # frozen: nothing of it can change
) -> LoginStarted:
    """Start a login at the provider: send the user's browser to the address in the answer."""
    connection = found(await store.find(session, connection_id), "connection")
    page = await connect.start_login(parts, session, connection, wanted.return_url)
    return LoginStarted(authorize_url=page.authorize_url, expires_at=page.expires_at)


@provider_router.post("/v1/connections/{connection_id}:reauthorize", dependencies=WRITE)
async def reauthorize(
    connection_id: ConnectionId,
    units: UnitsOfWork,
    caller: CallerOf,
    parts: PartsOf,
    wanted: ReauthorisationWanted = ReauthorisationWanted(),  # noqa: B008  # frozen, as above
) -> Reauthorisation:
    """Log in again, or send a new API key; another account than before is refused."""
    connection = await _find(units, connection_id)
    facts = find_facts(parts.accounts, connection.provider)
    assert facts is not None
    credentials = await _check_credential(parts, facts, connection.account, wanted.api_key)
    if credentials is None:
        page = await units.run(
            lambda session: connect.start_login(parts, session, connection, wanted.return_url)
        )
        return Reauthorisation(authorize_url=page.authorize_url, expires_at=page.expires_at)
    checked = credentials
    connected = await units.run(
        lambda session: connect.store_credentials(session, connection, checked, actor=caller.actor)
    )
    return Reauthorisation(connection=shown_connection(connected))


@provider_router.post("/v1/connections/{connection_id}:test", dependencies=WRITE)
async def test_connection(
    connection_id: ConnectionId, units: UnitsOfWork, parts: PartsOf
) -> Tested:
    """Ask the provider whose account this is: shows that the credentials work."""
    connection = await _find(units, connection_id)
    if _facts(parts, connection).is_source:
        account = await connect.ask_source(parts, units, connection, lambda side: side.check())
    else:
        account = await connect.ask_destination(parts, units, connection, lambda side: side.check())
    await units.run(
        lambda session: store.count_check(session, connection_id, failed=False, reason=None)
    )
    return Tested(account_id=account.id, account_name=account.name)


@provider_router.get("/v1/connections/{connection_id}/lists", dependencies=READ)
async def list_lists(
    connection_id: ConnectionId,
    units: UnitsOfWork,
    parts: PartsOf,
    request: Request,
    response: Response,
    object: ObjectName = None,  # noqa: A002  # the parameter's name in the address
    page_size: PageSize = pages.SIZE_DEFAULT,
    page_token: PageToken = None,
) -> RemoteLists:
    """List the lists of the account: of a source object, or of the destination."""
    connection = await _find(units, connection_id)
    facts = _facts(parts, connection)
    if facts.is_source and (object is not None or not facts.is_destination):
        name = source_object(facts, object)
        lists = await connect.ask_source(
            parts, units, connection, lambda side: side.find_lists(name)
        )
    else:
        lists = await connect.ask_destination(
            parts, units, connection, lambda side: side.find_lists()
        )
    living = [each for each in lists if not each.is_deleted]
    page = pages.slice_of(living, page_size, page_token)
    pages.link(request, response, page.next_token)
    return RemoteLists(
        items=[_shown_list(each) for each in page.rows], next_page_token=page.next_token
    )


@provider_router.post(
    "/v1/connections/{connection_id}/lists",
    status_code=status.HTTP_201_CREATED,
    dependencies=WRITE,
)
async def create_list(
    connection_id: ConnectionId,
    wanted: ListWanted,
    units: UnitsOfWork,
    caller: CallerOf,
    parts: PartsOf,
    response: Response,
) -> RemoteList:
    """Create a list at the destination, in place (W6)."""
    connection = await _find_destination(parts, units, connection_id)
    made = await connect.ask_destination(
        parts, units, connection, lambda side: side.make_list(wanted.name), is_write=True
    )
    await units.run(
        lambda session: _record(
            session, caller, "list.created", connection_id, {"list_id": made.id}
        )
    )
    response.headers["Location"] = (
        f"/v1/connections/{ids.show(Prefix.CONNECTION, connection_id)}/lists"
    )
    return _shown_list(made)


@provider_router.get("/v1/connections/{connection_id}/fields", dependencies=READ)
async def list_fields(
    connection_id: ConnectionId,
    units: UnitsOfWork,
    parts: PartsOf,
    request: Request,
    response: Response,
    object: ObjectName = None,  # noqa: A002  # the parameter's name in the address
    all: Annotated[  # noqa: A002  # the parameter's name in the address
        bool, Query(description="Also fields that cannot be mapped, with the reason.")
    ] = False,
    page_size: PageSize = pages.SIZE_DEFAULT,
    page_token: PageToken = None,
) -> RemoteFields:
    """List the fields that can be mapped: of a source object, or the destination's attributes."""
    connection = await _find(units, connection_id)
    facts = _facts(parts, connection)
    if facts.is_source and (object is not None or not facts.is_destination):
        name = source_object(facts, object)
        fields = await connect.ask_source(
            parts, units, connection, lambda side: side.describe_fields(name)
        )
    else:
        fields = await connect.ask_destination(
            parts, units, connection, lambda side: side.describe_attributes()
        )
    offered = [each for each in fields if all or each.not_mappable is None]
    page = pages.slice_of(offered, page_size, page_token)
    pages.link(request, response, page.next_token)
    return RemoteFields(
        items=[_shown_field(each) for each in page.rows], next_page_token=page.next_token
    )


@provider_router.post(
    "/v1/connections/{connection_id}/fields",
    status_code=status.HTTP_201_CREATED,
    dependencies=WRITE,
)
async def create_field(
    connection_id: ConnectionId,
    wanted: FieldWanted,
    units: UnitsOfWork,
    caller: CallerOf,
    parts: PartsOf,
    response: Response,
) -> FieldMade:
    """Create an attribute at the destination, in place; one that is there already is kept.

    The answer has the name that a mapping takes: a provider may make one of its own out of the
    name wanted, in capitals or without blanks.
    """
    connection = await _find_destination(parts, units, connection_id)

    async def make(side: Destination) -> str:
        await side.make_attribute(wanted.name, FieldType(wanted.type))
        alike = [
            each.name
            for each in await side.describe_attributes()
            if wanted.name.casefold() in (each.name.casefold(), each.label.casefold())
        ]
        return next(iter(alike), wanted.name)

    name = await connect.ask_destination(parts, units, connection, make, is_write=True)
    await units.run(
        lambda session: _record(session, caller, "field.created", connection_id, {"field": name})
    )
    response.headers["Location"] = (
        f"/v1/connections/{ids.show(Prefix.CONNECTION, connection_id)}/fields"
    )
    return FieldMade(name=name, type=wanted.type)


async def _find(units: Units, connection_id: UUID) -> store.Connection:
    row = await units.run(lambda session: store.find(session, connection_id))
    return found(row, "connection")


async def _find_destination(parts: Parts, units: Units, connection_id: UUID) -> store.Connection:
    connection = await _find(units, connection_id)
    if not _facts(parts, connection).is_destination:
        raise refuse_field(
            at="", code="no_destination", detail="This connection is no destination."
        )
    return connection


def _facts(parts: Parts, connection: store.Connection) -> Facts:
    facts = find_facts(parts.accounts, connection.provider)
    assert facts is not None
    return facts


def source_object(facts: Facts, name: str | None) -> str:
    """Return the object asked for, or the provider's only one."""
    names = [each.name for each in facts.objects]
    if name is None and names:
        return names[0]
    if name not in names:
        raise refuse_field(
            at="/object", code="unknown_object", detail=f"{facts.label} has no such object."
        )
    return name


async def _record(
    session: AsyncSession,
    caller: CallerOf,
    action: str,
    connection: UUID,
    details: dict[str, object],
) -> None:
    await audit.record(
        session,
        workspace=caller.workspace,
        actor=caller.actor,
        action=action,
        subject=ids.show(Prefix.CONNECTION, connection),
        details=details,
    )


def shown_connection(row: store.Connection) -> Connection:
    """Return a connection as it is shown."""
    return Connection.model_validate(
        {
            "id": ids.show(Prefix.CONNECTION, row.connection_id),
            "provider": row.provider,
            "name": row.name,
            "state": row.state,
            "reason": row.reason,
            "account_id": row.account_id,
            "account_name": row.account_name,
            "account_url": row.account_url,
            "time_zone": row.time_zone,
            "tier": row.tier,
            "oauth_client_id": row.client_id,
            "created_at": row.created_at,
            "updated_at": row.updated_at,
        }
    )


def _shown_list(each: ContactList) -> RemoteList:
    return RemoteList(id=each.id, name=each.name, size=each.size)


def _shown_field(each: RemoteField) -> RemoteFieldShown:
    return RemoteFieldShown(
        name=each.name,
        label=each.label,
        type=each.type.value,
        mappable=each.not_mappable is None,
        not_mappable_reason=each.not_mappable and each.not_mappable.value,
        unique=each.unique,
        length_max=each.length_max,
    )
