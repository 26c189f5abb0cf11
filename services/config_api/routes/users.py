"""/v1/users: who gets a workspace's mails, in which language, and which kinds (Q2, Q3, Q4).

A workspace manages its own users; the operator does so for any workspace under
`/v1/workspaces/{id}/users`. Every kind is on until it is switched off. Changes need If-Match. A
user who is deleted gets no further mail, not even one that was decided and has not left yet; what
was mailed before stays in `/v1/notices`.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from email_validator import EmailNotValidError, validate_email
from fastapi import APIRouter, Request, Response, status
from pydantic import ConfigDict, Field
from sqlalchemy.ext.asyncio import AsyncSession

from libs.common import ids
from libs.common.ids import Prefix
from libs.common.mails import READERS_KINDS
from services.config_api import etags, pages
from services.config_api.errors import ConflictError, refuse_field
from services.config_api.etags import IfMatch, MaybeMatch
from services.config_api.models import Asked, Shown, UserId, WorkspaceId, YesOrNo, found
from services.config_api.pages import PageSize, PageToken
from services.config_api.routing import (
    Caller,
    CallerOf,
    DrawnId,
    Session,
    TransactionalRoute,
    demands,
)
from services.config_api.scopes import Scope
from services.config_api.store import audit
from services.config_api.store import users as store
from services.config_api.store import workspaces as workspace_store
from services.config_api.store.users import User as Row

USERS_MAX = 50  # Of a workspace: more is a distribution list, which is one address.

Language = Literal["en", "de"]
Address = Annotated[str, Field(max_length=254)]

router = APIRouter(tags=["users"], route_class=TransactionalRoute)
operator_router = APIRouter(tags=["workspaces"], route_class=TransactionalRoute)

READ = [demands(Scope.USERS_READ)]
WRITE = [demands(Scope.USERS_WRITE)]
OPERATOR_READ = [demands(Scope.OPERATOR_READ)]
OPERATOR_WRITE = [demands(Scope.OPERATOR_WRITE)]


class MailsWanted(Asked):
    """Which kinds of mail a person wants; one that is left out stays as it is."""

    quota_80: YesOrNo = True
    quota_100: YesOrNo = True
    quota_granted: YesOrNo = True
    quota_declined: YesOrNo = True
    integration_error: YesOrNo = True
    integration_needs_reauth: YesOrNo = True
    integration_needs_confirmation: YesOrNo = True


class Mails(Shown):
    """Which kinds of mail a person gets."""

    quota_80: bool
    quota_100: bool
    quota_granted: bool
    quota_declined: bool
    integration_error: bool
    integration_needs_reauth: bool
    integration_needs_confirmation: bool


class UserWanted(Asked):
    """A person to mail."""

    email: Address
    language: Language = "en"
    mails: MailsWanted = MailsWanted()

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"email": "crm@example.com", "language": "de", "mails": {"quota_80": False}}
            ]
        }
    )


class UserChange(Asked):
    """What to change; what is left out stays as it is."""

    email: Address = ""
    language: Language = "en"
    mails: MailsWanted = MailsWanted()

    model_config = ConfigDict(json_schema_extra={"examples": [{"mails": {"quota_80": False}}]})


class User(Shown):
    """A person who gets the workspace's mails."""

    id: str
    email: str
    language: Language
    mails: Mails
    created_at: datetime

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": "usr_0199d0c1a2b37c4d8e5f60718293a4b5",
                    "email": "crm@example.com",
                    "language": "de",
                    "mails": {**dict.fromkeys(READERS_KINDS, True), "quota_80": False},
                    "created_at": "2026-11-24T09:00:00Z",
                }
            ]
        }
    )


class Users(Shown):
    """A page of users, oldest first."""

    items: Sequence[User]
    next_page_token: pages.NextPageToken


@router.get("/v1/users", dependencies=READ)
async def list_users(
    session: Session,
    caller: CallerOf,
    request: Request,
    response: Response,
    page_size: PageSize = pages.SIZE_DEFAULT,
    page_token: PageToken = None,
) -> Users:
    """List who gets the workspace's mails."""
    return await _page(session, caller.workspace, request, response, page_size, page_token)


@router.post("/v1/users", status_code=status.HTTP_201_CREATED, dependencies=WRITE)
async def create_user(
    wanted: UserWanted, session: Session, caller: CallerOf, drawn: DrawnId, response: Response
) -> User:
    """Mail one more person."""
    user = await _create(session, caller, caller.workspace, drawn, wanted)
    response.headers["Location"] = f"/v1/users/{ids.show(Prefix.USER, user.user_id)}"
    return _shown(user, response)


@router.get("/v1/users/{user_id}", dependencies=READ)
async def read_user(
    user_id: UserId, session: Session, caller: CallerOf, response: Response
) -> User:
    """Read one user."""
    return _shown(found(await store.find(session, caller.workspace, user_id), "user"), response)


@router.patch("/v1/users/{user_id}", dependencies=WRITE)
async def change_user(
    user_id: UserId,
    change: UserChange,
    if_match: IfMatch,
    session: Session,
    caller: CallerOf,
    response: Response,
) -> User:
    """Correct an address, choose another language, switch kinds of mail on or off."""
    changed = await _change(session, caller, caller.workspace, user_id, change, if_match)
    return _shown(changed, response)


@router.delete("/v1/users/{user_id}", status_code=status.HTTP_204_NO_CONTENT, dependencies=WRITE)
async def delete_user(
    user_id: UserId, session: Session, caller: CallerOf, if_match: MaybeMatch = None
) -> None:
    """Mail a person no more; what was mailed stays in the list of notices."""
    await _remove(session, caller, caller.workspace, user_id, if_match)


@operator_router.get("/v1/workspaces/{workspace_id}/users", dependencies=OPERATOR_READ)
async def list_workspace_users(
    workspace_id: WorkspaceId,
    session: Session,
    request: Request,
    response: Response,
    page_size: PageSize = pages.SIZE_DEFAULT,
    page_token: PageToken = None,
) -> Users:
    """List who gets a customer's mails."""
    found(await workspace_store.find(session, workspace_id), "workspace")
    return await _page(session, workspace_id, request, response, page_size, page_token)


@operator_router.post(
    "/v1/workspaces/{workspace_id}/users",
    status_code=status.HTTP_201_CREATED,
    dependencies=OPERATOR_WRITE,
)
async def create_workspace_user(
    workspace_id: WorkspaceId,
    wanted: UserWanted,
    session: Session,
    caller: CallerOf,
    drawn: DrawnId,
    response: Response,
) -> User:
    """Mail one more person of a customer."""
    found(await workspace_store.find(session, workspace_id), "workspace")
    user = await _create(session, caller, workspace_id, drawn, wanted)
    shown = ids.show(Prefix.WORKSPACE, workspace_id), ids.show(Prefix.USER, user.user_id)
    response.headers["Location"] = f"/v1/workspaces/{shown[0]}/users/{shown[1]}"
    return _shown(user, response)


@operator_router.get("/v1/workspaces/{workspace_id}/users/{user_id}", dependencies=OPERATOR_READ)
async def read_workspace_user(
    workspace_id: WorkspaceId, user_id: UserId, session: Session, response: Response
) -> User:
    """Read one user of a customer."""
    return _shown(found(await store.find(session, workspace_id, user_id), "user"), response)


@operator_router.patch("/v1/workspaces/{workspace_id}/users/{user_id}", dependencies=OPERATOR_WRITE)
async def change_workspace_user(
    workspace_id: WorkspaceId,
    user_id: UserId,
    change: UserChange,
    if_match: IfMatch,
    session: Session,
    caller: CallerOf,
    response: Response,
) -> User:
    """Change a user of a customer."""
    changed = await _change(session, caller, workspace_id, user_id, change, if_match)
    return _shown(changed, response)


@operator_router.delete(
    "/v1/workspaces/{workspace_id}/users/{user_id}",
    status_code=status.HTTP_204_NO_CONTENT,
    dependencies=OPERATOR_WRITE,
)
async def delete_workspace_user(
    workspace_id: WorkspaceId,
    user_id: UserId,
    session: Session,
    caller: CallerOf,
    if_match: MaybeMatch = None,
) -> None:
    """Mail a person of a customer no more."""
    await _remove(session, caller, workspace_id, user_id, if_match)


def address(text: str, *, at: str) -> str:
    """Return an e-mail address as it is kept; raise InvalidError if it is none."""
    try:
        return validate_email(text, check_deliverability=False).normalized
    except EmailNotValidError:
        raise refuse_field(
            at=at, code="invalid_email", detail="This is not an e-mail address."
        ) from None


async def _page(
    session: AsyncSession,
    workspace: UUID,
    request: Request,
    response: Response,
    page_size: int,
    page_token: str | None,
) -> Users:
    rows = await store.find_page(
        session, workspace, after=pages.decode_id(page_token), size=page_size + 1
    )
    page = pages.cut(rows, page_size, lambda row: row.user_id.hex)
    pages.link(request, response, page.next_token)
    return Users(items=[_document(row) for row in page.rows], next_page_token=page.next_token)


async def _create(
    session: AsyncSession, caller: Caller, workspace: UUID, drawn: UUID, wanted: UserWanted
) -> Row:
    email = address(wanted.email, at="/email")
    await store.lock(session, workspace)
    if await store.count(session, workspace) >= USERS_MAX:
        raise ConflictError(
            detail=f"A workspace has at most {USERS_MAX} users: delete one, or use the address of"
            " a distribution list."
        )
    await _refuse_taken(session, workspace, drawn, email)
    user = await store.add(
        session,
        user=drawn,
        workspace=workspace,
        email=email,
        language=wanted.language,
        muted=_muted((), wanted.mails),
    )
    await _record(session, caller, "user.created", user, ("language", "mails"))
    return user


async def _change(
    session: AsyncSession,
    caller: Caller,
    workspace: UUID,
    user_id: UUID,
    change: UserChange,
    if_match: str,
) -> Row:
    await store.lock(session, workspace)
    user = found(await store.find(session, workspace, user_id), "user")
    etags.check(if_match, user.version)
    wanted = user
    if "email" in change.model_fields_set:
        wanted = replace(wanted, email=address(change.email, at="/email"))
        await _refuse_taken(session, workspace, user_id, wanted.email)
    if "language" in change.model_fields_set:
        wanted = replace(wanted, language=change.language)
    if "mails" in change.model_fields_set:
        wanted = replace(wanted, muted=_muted(user.muted, change.mails))
    if wanted == user:
        return user
    await store.change(session, wanted)
    await _record(session, caller, "user.changed", wanted, sorted(change.model_fields_set))
    return replace(wanted, version=user.version + 1)


async def _remove(
    session: AsyncSession, caller: Caller, workspace: UUID, user_id: UUID, if_match: str | None
) -> None:
    await store.lock(session, workspace)
    user = found(await store.find(session, workspace, user_id), "user")
    if if_match is not None:
        etags.check(if_match, user.version)
    await store.remove(session, user)
    await _record(session, caller, "user.deleted", user, ())


async def _refuse_taken(session: AsyncSession, workspace: UUID, user: UUID, email: str) -> None:
    if await store.is_taken(session, workspace, email, by_another_than=user):
        raise refuse_field(
            at="/email",
            code="duplicate_recipient",
            detail="This address is a user of the workspace already: change that one.",
        )


def _muted(before: Iterable[str], mails: MailsWanted) -> list[str]:
    """Return the kinds that are off, once what is said of some is done."""
    said = {name: getattr(mails, name) for name in mails.model_fields_set}
    off = {*before, *(name for name, is_on in said.items() if not is_on)}
    return sorted(off - {name for name, is_on in said.items() if is_on})


async def _record(
    session: AsyncSession, caller: Caller, action: str, user: Row, fields: Iterable[str]
) -> None:
    """Write to the audit log which fields were set; the address itself is no business of it."""
    shown = {"language": user.language, "mails": {"off": user.muted}, "email": "set"}
    await audit.record(
        session,
        workspace=user.workspace_id,
        actor=caller.actor,
        action=action,
        subject=ids.show(Prefix.USER, user.user_id),
        details={name: shown[name] for name in fields},
    )


def _shown(user: Row, response: Response) -> User:
    response.headers["ETag"] = etags.etag(user.version)
    return _document(user)


def _document(user: Row) -> User:
    return User.model_validate(
        {
            "id": ids.show(Prefix.USER, user.user_id),
            "email": user.email,
            "language": user.language,
            "mails": {kind: kind not in user.muted for kind in READERS_KINDS},
            "created_at": user.created_at,
        }
    )
