"""/v1/integrations: what is synced, from where to where (W1 to W8).

An integration is a draft on the server: any step can be sent in any order, the checklist says what
is open, `:activate` refuses with everything that is. Changes need If-Match.
"""

import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response, status
from pydantic import BeforeValidator, ConfigDict, Field, JsonValue
from pydantic_core import PydanticCustomError
from sqlalchemy.ext.asyncio import AsyncSession

from libs.common import ids
from libs.common.ids import Prefix
from services.config_api import checklist, configure, etags, listening, pages, progress
from services.config_api.configure import Desk, Wishes
from services.config_api.errors import Flaw, InvalidError
from services.config_api.etags import IfMatch, MaybeMatch
from services.config_api.mapping import Cost, Pair
from services.config_api.models import (
    Asked,
    IdText,
    IntegrationId,
    Name,
    RemoteName,
    Shown,
    Whole,
    YesOrNo,
    body_id,
    found,
    is_storable,
)
from services.config_api.pages import PageSize, PageToken
from services.config_api.progress import Status
from services.config_api.routes.runs import Run, shown_run, words_of
from services.config_api.routing import (
    CallerOf,
    DrawnId,
    PartsOf,
    ProviderRoute,
    Session,
    TransactionalRoute,
    UnitsOfWork,
    demands,
)
from services.config_api.scopes import Scope
from services.config_api.store import audit, workspaces
from services.config_api.store import integrations as store
from services.config_api.store import runs as run_store
from services.config_api.store.integrations import Integration as Row
from services.config_api.store.integrations import MappingVersion

router = APIRouter(tags=["integrations"], route_class=TransactionalRoute)
provider_router = APIRouter(tags=["integrations"], route_class=ProviderRoute)

READ = [demands(Scope.INTEGRATIONS_READ)]
WRITE = [demands(Scope.INTEGRATIONS_WRITE)]

Kind = Literal["mapped", "automatic"]
State = Literal["draft", "active", "paused", "error", "archived"]
DeletionPolicy = Literal["keep", "remove_from_list"]
EmailChangePolicy = Literal["single", "all", "none"]

_EXAMPLE: dict[str, JsonValue] = {
    "id": "int_0199d0c1a2b37c4d8e5f60718293a4b5",
    "name": "HubSpot → Brevo",
    "kind": "mapped",
    "state": "active",
    "status": "active",
    "status_reason": None,
    "status_words": None,
    "status_remedy": None,
    "source": {
        "connection_id": "con_0199d0c1a2b37c4d8e5f60718293a4b5",
        "object": "contacts",
        "list_id": "1",
        "list_name": "Newsletter",
    },
    "opt_in": {
        "accepted": True,
        "at": "2026-11-24T09:00:00Z",
        "by": "First key (key_0199d0c1a2b37c4d8e5f60718293a4b5)",
    },
    "destination": {
        "connection_id": "con_0199d0c1a2b37c4d8e5f60718293a4b6",
        "list_id": "7",
        "list_name": "Newsletter from HubSpot",
    },
    "interval_minutes": 30,
    "deletion_policy": "keep",
    "email_change_policy": "single",
    "two_way": False,
    "way_back_id": None,
    "way_back_of": None,
    "default_country": "DE",
    "mapping_version": 1,
    "criteria": None,
    "fields_asked": None,
    "last_run": None,
    "created_at": "2026-11-24T09:00:00Z",
    "updated_at": "2026-11-24T09:05:00Z",
    "activated_at": "2026-11-24T09:05:00Z",
    "archived_at": None,
}


class SourceShown(Shown):
    """Where contacts are read."""

    connection_id: str | None
    object: str | None
    list_id: str | None
    list_name: str | None


class DestinationShown(Shown):
    """Where contacts are written."""

    connection_id: str | None
    list_id: str | None
    list_name: str | None


class OptIn(Shown):
    """Whether somebody confirmed that the contacts agreed to be written to: who, and when (W4)."""

    accepted: bool
    at: datetime | None
    by: str | None


def _comparable(value: object) -> object:
    """Return what a condition compares with; refuse what JSON or PostgreSQL could not hold."""
    code = words = ""
    if isinstance(value, bool) or not isinstance(value, str | int | float | None):
        code, words = "value_expected", "Compare with a text or a number"
    elif isinstance(value, float) and not math.isfinite(value):
        code, words = "value_expected", "Compare with a number that is finite"
    elif isinstance(value, str) and not is_storable(value):
        code, words = "not_storable", "A text has no NUL and no half of a character"
    if code:
        raise PydanticCustomError(code, words)
    return value


class Condition(Asked):
    """A question about a source field; `value` is left out for `is_set`."""

    field: RemoteName
    operator: Annotated[str, Field(max_length=20)]
    value: Annotated[str | int | float | None, BeforeValidator(_comparable)] = None


class Criteria(Asked):
    """Which contacts match: all conditions, or any (S11)."""

    match: Literal["all", "any"]
    conditions: Annotated[Sequence[Condition], Field(max_length=100)]


class FieldsAsked(Shown):
    """Fields of the source that have no place at the destination yet (AC1)."""

    waiting: Sequence[str] = Field(description="About to be made there.")
    refused: Mapping[str, str] = Field(
        description="Refused by the destination, with its code; `:resume` or a pause and `:resume` "
        "asks for them once more."
    )


class Integration(Shown):
    """A configured sync. `state` is what people set; `status` also says what keeps it from going.

    `stopped_quota` and `degraded` are computed when read, and are no part of the ETag. What the
    workspace's plan does not have any more is `paused`, and its status an error (`plan_needed`).
    """

    id: str
    name: str
    kind: Kind = Field(
        description="`automatic`: its fields are made at the destination and mapped by themselves."
    )
    state: State
    status: Status
    status_reason: str | None = Field(description="The code of why it does not go.")
    status_words: str | None = Field(
        description="What is the matter, in the workspace's language; null: no words for it."
    )
    status_remedy: str | None = Field(description="What to do about it.")
    source: SourceShown
    opt_in: OptIn
    destination: DestinationShown
    interval_minutes: int
    deletion_policy: DeletionPolicy
    email_change_policy: EmailChangePolicy
    two_way: bool = Field(description="Whether edits at the destination are written back (SF3).")
    way_back_id: str | None = Field(
        description="By which integration edits go back: its runs and contacts are read by this id."
    )
    way_back_of: str | None = Field(
        description="Whose way back this is: it follows that one, and is not changed by itself."
    )
    default_country: str | None
    mapping_version: int = Field(description="0: there is no mapping yet.")
    criteria: Criteria | None
    fields_asked: FieldsAsked | None = Field(
        description="What an automatic import has asked for and not got; null: nothing."
    )
    last_run: Run | None
    created_at: datetime
    updated_at: datetime
    activated_at: datetime | None
    archived_at: datetime | None

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})


class Integrations(Shown):
    """A page of integrations, oldest first."""

    items: Sequence[Integration]
    next_page_token: pages.NextPageToken


class IntegrationWanted(Asked):
    """A draft to make; its kind stays what it is."""

    name: Name
    kind: Kind = "mapped"

    model_config = ConfigDict(json_schema_extra={"examples": [{"name": "HubSpot → Brevo"}]})


class SourceChange(Asked):
    """What to read: null takes a choice back, what is left out stays."""

    connection_id: IdText | None = None
    object: RemoteName | None = None
    list_id: RemoteName | None = None


class DestinationChange(Asked):
    """Where to write."""

    connection_id: IdText | None = None
    list_id: RemoteName | None = None


class OptInChange(Asked):
    """The tick of W4."""

    accepted: YesOrNo


class IntegrationChange(Asked):
    """Any steps of the wizard; what is left out stays as it is."""

    name: Name | None = None
    source: SourceChange | None = None
    opt_in: OptInChange | None = None
    destination: DestinationChange | None = None
    interval_minutes: Annotated[Whole, Field(ge=5, le=1440)] | None = None
    deletion_policy: DeletionPolicy | None = None
    email_change_policy: EmailChangePolicy | None = None
    two_way: YesOrNo | None = Field(
        default=None,
        description="Whether what people edit at the destination is written back (SF3).",
    )
    default_country: Annotated[str, Field(pattern=r"^[A-Z]{2}$")] | None = Field(
        default=None, description="Whose national phone numbers these are; ISO 3166-1 alpha-2."
    )
    criteria: Criteria | None = None

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "source": {
                        "connection_id": "con_0199d0c1a2b37c4d8e5f60718293a4b5",
                        "object": "contacts",
                        "list_id": "1",
                    },
                    "opt_in": {"accepted": True},
                    "destination": {
                        "connection_id": "con_0199d0c1a2b37c4d8e5f60718293a4b6",
                        "list_id": "7",
                    },
                    "interval_minutes": 30,
                    "default_country": "DE",
                }
            ]
        }
    )


class MappedField(Asked):
    """One attribute of the destination, and the source field that fills it."""

    source: RemoteName
    destination: RemoteName


class MappingWanted(Asked):
    """All that is synced: a field that is left out is not (W5)."""

    fields: Annotated[Sequence[MappedField], Field(max_length=200)]

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "fields": [
                        {"source": "email", "destination": "EMAIL"},
                        {"source": "firstname", "destination": "VORNAME"},
                        {"source": "phone", "destination": "SMS"},
                    ]
                }
            ]
        }
    )


class MappedFieldShown(Shown):
    """One mapped field, with the types on both sides."""

    source: str
    source_type: str
    destination: str
    destination_type: str


class CostShown(Shown):
    """What saving means: whether contacts are read anew, and what that may cost at most."""

    full_run: bool
    tasks_at_most: int | None = Field(
        description="What turns out unchanged costs nothing. null: nobody knows yet."
    )


class MappingShown(Shown):
    """One version of a mapping; versions never change."""

    version: int
    fields: Sequence[MappedFieldShown]
    criteria: Criteria | None
    created_at: datetime
    created_by: str


class SavedMapping(MappingShown):
    """The version in force now, and what the change costs."""

    cost: CostShown


class Mappings(Shown):
    """A page of versions, newest first."""

    items: Sequence[MappingShown]
    next_page_token: pages.NextPageToken


class CheckedMapping(Shown):
    """The mapping can be saved; this is what it would cost."""

    cost: CostShown


class ProblemEntry(Shown):
    """What is open, and where in the integration."""

    pointer: str | None = None
    parameter: str | None = None
    code: str
    detail: str
    rule: str | None = None


class StepShown(Shown):
    """One step of the wizard."""

    step: checklist.Step
    state: checklist.StepState
    errors: Sequence[ProblemEntry]


class Checklist(Shown):
    """Whether the integration can be activated, and what is open in which step."""

    ready: bool
    steps: Sequence[StepShown]


class Nothing(Asked):
    """A body without fields."""


@router.post("/v1/integrations", status_code=status.HTTP_201_CREATED, dependencies=WRITE)
async def create_integration(
    wanted: IntegrationWanted,
    session: Session,
    caller: CallerOf,
    drawn: DrawnId,
    response: Response,
) -> Integration:
    """Make a draft, which can be left and resumed at any step (W1)."""
    await store.add(
        session,
        integration=drawn,
        workspace=caller.workspace,
        name=wanted.name,
        kind=wanted.kind,
    )
    await audit.record(
        session,
        workspace=caller.workspace,
        actor=caller.actor,
        action="integration.created",
        subject=ids.show(Prefix.INTEGRATION, drawn),
        details={"name": wanted.name},
    )
    row = found(await store.find(session, drawn), "integration")
    response.headers["Location"] = f"/v1/integrations/{ids.show(Prefix.INTEGRATION, drawn)}"
    return await _shown(session, row, response)


@router.get("/v1/integrations", dependencies=READ)
async def list_integrations(
    session: Session,
    request: Request,
    response: Response,
    state: Annotated[
        State | None, Query(description="Archived ones are only listed if asked for.")
    ] = None,
    page_size: PageSize = pages.SIZE_DEFAULT,
    page_token: PageToken = None,
) -> Integrations:
    """List the integrations with status, last run and counts (W8)."""
    rows = await store.find_page(
        session, after=pages.decode_id(page_token), state=state, size=page_size + 1
    )
    page = pages.cut(rows, page_size, lambda row: row.integration_id.hex)
    pages.link(request, response, page.next_token)
    return Integrations(items=await _shown_all(session, page.rows), next_page_token=page.next_token)


@router.get("/v1/integrations/{integration_id}", dependencies=READ)
async def read_integration(
    integration_id: IntegrationId, session: Session, response: Response
) -> Integration:
    """Read one integration; its ETag goes into If-Match of the next change."""
    row = found(await store.find(session, integration_id), "integration")
    return await _shown(session, row, response)


@provider_router.patch("/v1/integrations/{integration_id}", dependencies=WRITE)
async def change_integration(
    integration_id: IntegrationId,
    change: IntegrationChange,
    if_match: IfMatch,
    units: UnitsOfWork,
    caller: CallerOf,
    parts: PartsOf,
    response: Response,
) -> Integration:
    """Send any steps of the wizard, in any order."""
    desk = Desk(parts, units, caller)
    row = await configure.change(desk, integration_id, if_match, wishes_of(change))
    await listening.listen(desk, row)
    return await units.run(lambda session: _shown(session, row, response))


def wishes_of(change: IntegrationChange) -> Wishes:
    """Return what a PATCH wants; raise InvalidError for a null where there must be a value."""
    sent = change.model_fields_set
    nulls = [name for name in _NEVER_NULL if name in sent and getattr(change, name) is None]
    if nulls:
        raise InvalidError(
            detail="Some fields cannot be null: leave them out to keep them.",
            flaws=[
                Flaw("null_not_allowed", "Send a value, or leave it out.", pointer=f"/{name}")
                for name in nulls
            ],
        )
    columns: dict[str, Any] = {name: getattr(change, name) for name in _PLAIN if name in sent}
    at: dict[str, str] = {name: f"/{name}" for name in columns}
    if "two_way" in sent:
        columns["is_two_way"], at["is_two_way"] = change.two_way, "/two_way"
    for side in (change.source, change.destination):
        if side is None:
            continue
        where = "source" if isinstance(side, SourceChange) else "destination"
        for name in side.model_fields_set:
            column = f"{where}_{name}"
            at[column] = f"/{where}/{name}"
            columns[column] = getattr(side, name)
    for column in ("source_connection_id", "destination_connection_id"):
        if columns.get(column) is not None:
            columns[column] = body_id(Prefix.CONNECTION, columns[column], at[column])
    return Wishes(
        columns=columns,
        at=at,
        accepts_opt_in=change.opt_in.accepted if change.opt_in else None,
        sends_criteria="criteria" in sent,
        criteria=change.criteria.model_dump(exclude_unset=True) if change.criteria else None,
    )


_PLAIN = (
    "name",
    "interval_minutes",
    "deletion_policy",
    "email_change_policy",
    "default_country",
)
_NEVER_NULL = (*_PLAIN[:4], "source", "opt_in", "destination", "two_way")


@router.get("/v1/integrations/{integration_id}/checklist", dependencies=READ)
async def read_checklist(
    integration_id: IntegrationId, session: Session, parts: PartsOf
) -> Checklist:
    """Say for each step whether it is done, missing or invalid, by what is stored.

    `:activate` also asks both providers whether the lists and fields are still there.
    """
    row = found(await store.find(session, integration_id), "integration")
    results = checklist.review(await configure.draft_of(parts, session, row))
    return Checklist(
        ready=checklist.is_ready(results),
        steps=[
            StepShown(
                step=result.step,
                state=result.state,
                errors=[ProblemEntry.model_validate(flaw.shown()) for flaw in result.flaws],
            )
            for result in results
        ],
    )


@provider_router.put("/v1/integrations/{integration_id}/mapping", dependencies=WRITE)
async def save_mapping(
    integration_id: IntegrationId,
    wanted: MappingWanted,
    if_match: IfMatch,
    units: UnitsOfWork,
    caller: CallerOf,
    parts: PartsOf,
    response: Response,
) -> SavedMapping:
    """Save a mapping as a new version, after holding it against both accounts (W5, S6, S7)."""
    desk = Desk(parts, units, caller)
    saved = await configure.save_mapping(desk, integration_id, if_match, _pairs(wanted))
    response.headers["ETag"] = etags.etag(saved.integration.version)
    return SavedMapping(**dict(_shown_mapping(saved.mapping)), cost=_shown_cost(saved.cost))


@provider_router.post("/v1/integrations/{integration_id}/mapping:check", dependencies=READ)
async def check_mapping(
    integration_id: IntegrationId,
    wanted: MappingWanted,
    units: UnitsOfWork,
    caller: CallerOf,
    parts: PartsOf,
) -> CheckedMapping:
    """Say what saving a mapping would cost, and save nothing."""
    desk = Desk(parts, units, caller)
    draft = await configure.load_draft(desk, integration_id)
    configure.refuse_automatic(draft.integration)
    checked = await configure.check_mapping(desk, draft, _pairs(wanted))
    cost = await units.run(lambda session: configure.cost_of(session, draft, checked))
    return CheckedMapping(cost=_shown_cost(cost))


@router.get("/v1/integrations/{integration_id}/mapping", dependencies=READ)
async def read_mapping(
    integration_id: IntegrationId, session: Session, response: Response
) -> MappingShown:
    """Read the version in force; 404 before the first."""
    row = found(await store.find(session, integration_id), "integration")
    version = await store.find_mapping(session, integration_id, row.mapping_version)
    response.headers["ETag"] = etags.etag(row.version)
    return _shown_mapping(found(version, "mapping"))


@router.get("/v1/integrations/{integration_id}/mapping/versions", dependencies=READ)
async def list_mapping_versions(
    integration_id: IntegrationId,
    session: Session,
    request: Request,
    response: Response,
    page_size: PageSize = pages.SIZE_DEFAULT,
    page_token: PageToken = None,
) -> Mappings:
    """List all versions of the mapping."""
    found(await store.find(session, integration_id), "integration")
    rows = await store.find_mappings(
        session, integration_id, before=pages.decode_number(page_token), size=page_size + 1
    )
    page = pages.cut(rows, page_size, lambda row: row.version)
    pages.link(request, response, page.next_token)
    return Mappings(
        items=[_shown_mapping(row) for row in page.rows], next_page_token=page.next_token
    )


@provider_router.post("/v1/integrations/{integration_id}:activate", dependencies=WRITE)
async def activate(
    integration_id: IntegrationId,
    if_match: IfMatch,
    units: UnitsOfWork,
    caller: CallerOf,
    parts: PartsOf,
    response: Response,
    _body: Nothing | None = None,
) -> Integration:
    """Start syncing (W7); refused with one problem that lists everything that is open."""
    desk = Desk(parts, units, caller)
    row = await configure.activate(desk, integration_id, if_match)
    await listening.listen(desk, row)
    return await units.run(lambda session: _shown(session, row, response))


@provider_router.post("/v1/integrations/{integration_id}:resume", dependencies=WRITE)
async def resume(
    integration_id: IntegrationId,
    units: UnitsOfWork,
    caller: CallerOf,
    parts: PartsOf,
    response: Response,
    if_match: MaybeMatch = None,
    _body: Nothing | None = None,
) -> Integration:
    """Go on after a pause or an error; refused like an activation."""
    desk = Desk(parts, units, caller)
    row = await configure.resume(desk, integration_id, if_match)
    await listening.listen(desk, row)
    return await units.run(lambda session: _shown(session, row, response))


@router.post("/v1/integrations/{integration_id}:pause", dependencies=WRITE)
async def pause(
    integration_id: IntegrationId,
    session: Session,
    units: UnitsOfWork,
    caller: CallerOf,
    parts: PartsOf,
    response: Response,
    if_match: MaybeMatch = None,
    _body: Nothing | None = None,
) -> Integration:
    """Stop syncing for the time being; nothing is lost."""
    row = found(await store.find(session, integration_id), "integration")
    if if_match is not None:
        etags.check(if_match, row.version)
    paused = await configure.pause(Desk(parts, units, caller), session, row)
    return await _shown(session, paused, response)


@provider_router.delete(
    "/v1/integrations/{integration_id}",
    status_code=status.HTTP_204_NO_CONTENT,
    dependencies=WRITE,
)
async def delete_integration(
    integration_id: IntegrationId,
    units: UnitsOfWork,
    caller: CallerOf,
    parts: PartsOf,
    if_match: MaybeMatch = None,
) -> None:
    """Delete an integration; it is archived, so its runs can still be read."""
    desk = Desk(parts, units, caller)

    async def work(session: AsyncSession) -> Row:
        row = found(await store.find(session, integration_id), "integration")
        if if_match is not None:
            etags.check(if_match, row.version)
        await configure.archive(desk, session, row)
        return row

    await listening.listen(desk, await units.run(work))


def _pairs(wanted: MappingWanted) -> list[Pair]:
    return [Pair(each.source, each.destination) for each in wanted.fields]


def _shown_cost(cost: Cost) -> CostShown:
    return CostShown(full_run=cost.full_run, tasks_at_most=cost.tasks_at_most)


def _shown_mapping(row: MappingVersion) -> MappingShown:
    return MappingShown.model_validate(
        {
            "version": row.version,
            "fields": [
                {name: each[name] for name in MappedFieldShown.model_fields} for each in row.fields
            ],
            "criteria": row.criteria,
            "created_at": row.created_at,
            "created_by": row.created_by,
        }
    )


async def _shown(session: AsyncSession, row: Row, response: Response) -> Integration:
    response.headers["ETag"] = etags.etag(row.version)
    (shown,) = await _shown_all(session, [row])
    return shown


async def _shown_all(session: AsyncSession, rows: Sequence[Row]) -> list[Integration]:
    """Return integrations as they are shown: a query for all of them, not one for each."""
    standings = await store.find_standings(session, rows)
    criteria = await store.find_criteria(session, rows)
    last = await run_store.find_last(session, [row.integration_id for row in rows])
    asked = await store.find_fields_asked(session, rows)
    workspace = await workspaces.find(session, rows[0].workspace_id) if rows else None
    return [
        _document(
            row,
            standings.get(row.integration_id),
            criteria.get(row.integration_id),
            last.get(row.integration_id),
            asked.get(row.integration_id),
            workspace.language if workspace is not None else "en",
        )
        for row in rows
    ]


def _document(
    row: Row,
    standing: store.Standing | None,
    criteria: Mapping[str, Any] | None,
    last: run_store.RunRow | None,
    asked: store.FieldsAsked | None,
    language: str,
) -> Integration:
    shown_status, reason = progress.status(row, standing)
    words = words_of(reason, language)
    return Integration.model_validate(
        {
            "id": ids.show(Prefix.INTEGRATION, row.integration_id),
            "name": row.name,
            "kind": row.kind,
            "state": row.state,
            "status": shown_status,
            "status_reason": reason,
            "status_words": words and words.what,
            "status_remedy": words and words.remedy,
            "source": _source(row),
            "opt_in": {
                "accepted": row.opt_in_at is not None,
                "at": row.opt_in_at,
                "by": row.opt_in_by,
            },
            "destination": _destination(row),
            "interval_minutes": row.interval_minutes,
            "deletion_policy": row.deletion_policy,
            "email_change_policy": row.email_change_policy,
            "two_way": row.is_two_way,
            "way_back_id": _integration_id(row.way_back_id),
            "way_back_of": _integration_id(row.way_back_of),
            "default_country": row.default_country,
            "mapping_version": row.mapping_version,
            "criteria": criteria,
            "fields_asked": None
            if asked is None
            else {"waiting": asked.waiting, "refused": asked.refused},
            "last_run": None if last is None else shown_run(last),
            "created_at": row.created_at,
            "updated_at": row.updated_at,
            "activated_at": row.activated_at,
            "archived_at": row.archived_at,
        }
    )


def _integration_id(id_: UUID | None) -> str | None:
    return None if id_ is None else ids.show(Prefix.INTEGRATION, id_)


def _source(row: Row) -> SourceShown:
    connection = row.source_connection_id
    return SourceShown(
        connection_id=None if connection is None else ids.show(Prefix.CONNECTION, connection),
        object=row.source_object,
        list_id=row.source_list_id,
        list_name=row.source_list_name,
    )


def _destination(row: Row) -> DestinationShown:
    connection = row.destination_connection_id
    return DestinationShown(
        connection_id=None if connection is None else ids.show(Prefix.CONNECTION, connection),
        list_id=row.destination_list_id,
        list_name=row.destination_list_name,
    )
