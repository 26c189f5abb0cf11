"""/v1/workspaces: the operator's customers. Only the operator's keys get here."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Request, Response, status
from pydantic import ConfigDict, Field
from sqlalchemy.ext.asyncio import AsyncSession

from libs.common import ids
from libs.common.ids import Prefix
from services.config_api import etags, pages, plans
from services.config_api.errors import StaleError, refuse_field
from services.config_api.etags import IfMatch
from services.config_api.models import Asked, Name, Shown, WorkspaceId, found
from services.config_api.pages import PageSize, PageToken
from services.config_api.routes.api_keys import NewApiKey, new_key
from services.config_api.routes.quota import Quota, quota_document
from services.config_api.routes.quota_requests import QuotaLimit
from services.config_api.routes.users import USERS_MAX, Address, Language, address
from services.config_api.routing import (
    CallerOf,
    DrawnId,
    DrawnKey,
    PartsOf,
    Session,
    TransactionalRoute,
    demands,
)
from services.config_api.scopes import WORKSPACE_SCOPES, Scope
from services.config_api.store import audit
from services.config_api.store import keys as key_store
from services.config_api.store import quota as quota_store
from services.config_api.store import workspaces as store

Plan = Literal["standard", "enterprise"]

router = APIRouter(tags=["workspaces"], route_class=TransactionalRoute)


class Recipient(Asked):
    """A person who gets the workspace's mails."""

    email: Address
    language: Language = "en"


class WorkspaceWanted(Asked):
    """A customer to make."""

    name: Name
    plan: Plan = "standard"
    language: Language = "en"
    recipients: Annotated[Sequence[Recipient], Field(max_length=USERS_MAX)] = ()
    quota_limit: QuotaLimit = 100_000

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "name": "Example GmbH",
                    "plan": "standard",
                    "language": "de",
                    "recipients": [{"email": "crm@example.com", "language": "de"}],
                    "quota_limit": 100000,
                }
            ]
        }
    )


class WorkspaceChange(Asked):
    """What to change; what is left out stays as it is."""

    name: Name = ""
    plan: Plan = "standard"
    language: Language = "en"

    model_config = ConfigDict(json_schema_extra={"examples": [{"plan": "enterprise"}]})


class Workspace(Shown):
    """A customer."""

    id: str
    name: str
    plan: Plan
    language: Language
    recipients: Sequence[Recipient] = Field(
        description="Who gets its mails; `/v1/workspaces/{id}/users` changes them."
    )
    quota: Quota
    created_at: datetime


class NewWorkspace(Workspace):
    """A customer just made, with the first key: the only time its secret is shown."""

    api_key: NewApiKey


class Workspaces(Shown):
    """A page of customers, oldest first."""

    items: Sequence[Workspace]
    next_page_token: pages.NextPageToken


class QuotaWanted(Asked):
    """A limit to set."""

    limit: QuotaLimit

    model_config = ConfigDict(json_schema_extra={"examples": [{"limit": 200000}]})


@router.post(
    "/v1/workspaces",
    status_code=status.HTTP_201_CREATED,
    dependencies=[demands(Scope.OPERATOR_WRITE)],
)
async def create_workspace(
    wanted: WorkspaceWanted,
    session: Session,
    caller: CallerOf,
    drawn: DrawnId,
    key: DrawnKey,
    response: Response,
) -> NewWorkspace:
    """Make a customer, with recipients of mails, a limit and a first key that may do everything."""
    recipients = [_checked(at, each) for at, each in enumerate(wanted.recipients)]
    _refuse_duplicates(recipients)
    await store.add(
        session, workspace=drawn, name=wanted.name, plan=wanted.plan, language=wanted.language
    )
    for recipient in recipients:
        await store.add_recipient(
            session,
            user=ids.new(),
            workspace=drawn,
            email=recipient.email,
            language=recipient.language,
        )
    await quota_store.set_limit(session, drawn, wanted.quota_limit)
    made = await key_store.add(
        session, key, workspace=drawn, name="First key", scopes=WORKSPACE_SCOPES
    )
    await audit.record(
        session,
        workspace=drawn,
        actor=caller.actor,
        action="workspace.created",
        subject=ids.show(Prefix.WORKSPACE, drawn),
        details={"plan": wanted.plan, "quota_limit": wanted.quota_limit},
    )
    shown = await _read(session, drawn, response)
    response.headers["Location"] = f"/v1/workspaces/{shown.id}"
    return NewWorkspace(**dict(shown), api_key=new_key(made, key))


@router.get("/v1/workspaces", dependencies=[demands(Scope.OPERATOR_READ)])
async def list_workspaces(
    session: Session,
    request: Request,
    response: Response,
    page_size: PageSize = pages.SIZE_DEFAULT,
    page_token: PageToken = None,
) -> Workspaces:
    """List all customers."""
    rows = await store.find_page(session, after=pages.decode_id(page_token), size=page_size + 1)
    page = pages.cut(rows, page_size, lambda row: row.workspace_id.hex)
    pages.link(request, response, page.next_token)
    return Workspaces(
        items=[await _shown(session, row) for row in page.rows], next_page_token=page.next_token
    )


@router.get("/v1/workspaces/{workspace_id}", dependencies=[demands(Scope.OPERATOR_READ)])
async def read_workspace(
    workspace_id: WorkspaceId, session: Session, response: Response
) -> Workspace:
    """Read one customer."""
    return await _read(session, workspace_id, response)


@router.patch("/v1/workspaces/{workspace_id}", dependencies=[demands(Scope.OPERATOR_WRITE)])
async def change_workspace(
    workspace_id: WorkspaceId,
    change: WorkspaceChange,
    if_match: IfMatch,
    session: Session,
    caller: CallerOf,
    parts: PartsOf,
    response: Response,
) -> Workspace:
    """Give a customer another name, plan (SF1) or language.

    With a plan that has not all of its providers, integrations from or to the others stop at once:
    their status is an error (`plan_needed`), and its people get a mail. With the plan back, a
    person resumes them.
    """
    row = found(await store.find(session, workspace_id), "workspace")
    etags.check(if_match, row.version)
    said = {name: getattr(change, name) for name in change.model_fields_set}
    wanted = {"name": row.name, "plan": row.plan, "language": row.language} | said
    if not await store.change(session, workspace_id, **wanted, version=row.version):
        raise StaleError(detail="Somebody else changed it at the same moment.")
    await audit.record(
        session,
        workspace=workspace_id,
        actor=caller.actor,
        action="workspace.changed",
        subject=ids.show(Prefix.WORKSPACE, workspace_id),
        details=said,
    )
    if "plan" in said:
        await plans.hold_to(parts, session, caller, workspace_id, wanted["plan"])
    return await _read(session, workspace_id, response)


@router.put("/v1/workspaces/{workspace_id}/quota", dependencies=[demands(Scope.OPERATOR_WRITE)])
async def set_quota(
    workspace_id: WorkspaceId, wanted: QuotaWanted, session: Session, caller: CallerOf
) -> Quota:
    """Set a customer's limit from now on, this month included; the next write obeys it (Q4).

    A limit that was granted for this month only ends with it.
    """
    found(await store.find(session, workspace_id), "workspace")
    await quota_store.set_limit(session, workspace_id, wanted.limit)
    await audit.record(
        session,
        workspace=workspace_id,
        actor=caller.actor,
        action="quota.limit_set",
        subject=ids.show(Prefix.WORKSPACE, workspace_id),
        details={"limit": wanted.limit},
    )
    return quota_document(await quota_store.find(session, workspace_id))


def _checked(at: int, recipient: Recipient) -> Recipient:
    email = address(recipient.email, at=f"/recipients/{at}/email")
    return Recipient(email=email, language=recipient.language)


def _refuse_duplicates(recipients: Sequence[Recipient]) -> None:
    """Refuse an address that stands twice: nobody can tell which language is meant."""
    seen: set[str] = set()
    for at, recipient in enumerate(recipients):
        if recipient.email.casefold() in seen:
            raise refuse_field(
                at=f"/recipients/{at}/email",
                code="duplicate_recipient",
                detail="This address is a recipient already.",
            )
        seen.add(recipient.email.casefold())


async def _read(session: AsyncSession, workspace: UUID, response: Response) -> Workspace:
    row = found(await store.find(session, workspace), "workspace")
    response.headers["ETag"] = etags.etag(row.version)
    return await _shown(session, row)


async def _shown(session: AsyncSession, row: store.Workspace) -> Workspace:
    recipients = await store.find_recipients(session, row.workspace_id)
    return Workspace.model_validate(
        {
            "id": ids.show(Prefix.WORKSPACE, row.workspace_id),
            "name": row.name,
            "plan": row.plan,
            "language": row.language,
            "recipients": [{"email": each.email, "language": each.language} for each in recipients],
            "quota": quota_document(await quota_store.find(session, row.workspace_id)),
            "created_at": row.created_at,
        }
    )
