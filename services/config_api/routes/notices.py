"""/v1/notices: what was mailed to whom, and what became of it.

A mail that could not be delivered shows here with the mail server's own words; the operator sees
those of all workspaces under `/v1/failed-notices`, and those that went to himself. Nobody learns of
a stopped integration by mail alone: `/v1/quota` and the integrations say it as well.
"""

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import Annotated

from fastapi import APIRouter, Header, Query, Request, Response
from pydantic import ConfigDict, Field

from libs.common import ids
from libs.common.ids import Prefix
from libs.common.mails import MailKind, explain
from services.config_api import pages
from services.config_api.models import PRINTABLE, Shown, found, parameter_id
from services.config_api.pages import PageSize, PageToken
from services.config_api.routes.runs import choose_language
from services.config_api.routing import CallerOf, Session, TransactionalRoute, demands
from services.config_api.scopes import Scope
from services.config_api.store import notices as store
from services.config_api.store import workspaces

router = APIRouter(tags=["notices"], route_class=TransactionalRoute)

OPERATORS_LANGUAGE = "en"


class NoticeState(StrEnum):
    """What became of a mail. `suppressed`: its reason was gone before it could be sent."""

    PENDING = "pending"
    SENT = "sent"
    FAILED = "failed"
    SUPPRESSED = "suppressed"


class Notice(Shown):
    """One mail to one person."""

    id: str
    workspace_id: str
    kind: str = Field(description="As the mail's header X-Contactsync-Kind.")
    recipient: str
    language: str
    state: NoticeState
    attempts: int = Field(description="How often it was tried so far.")
    reason: str | None = Field(
        description="Why it was not sent, or not at the last try: a stable code; `smtp_550` is "
        "the mail server's own."
    )
    words: str | None = Field(description="What that means, in the caller's language.")
    answer: str | None = Field(description="What the mail server said to the last try.")
    created_at: datetime
    next_attempt_at: datetime | None = Field(description="null unless it is pending.")
    sent_at: datetime | None

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": "ntc_0f5d5c2a9d6b5b0c8f1e2d3c4b5a6978",
                    "workspace_id": "ws_0199d0c1a2b37c4d8e5f60718293a4b5",
                    "kind": "quota_100",
                    "recipient": "crm@example.com",
                    "language": "de",
                    "state": "failed",
                    "attempts": 1,
                    "reason": "smtp_550",
                    "words": "The mail server refuses it: check the address; its own words are in "
                    "`answer`.",
                    "answer": "5.1.1 No such user here",
                    "created_at": "2026-11-24T10:31:00Z",
                    "next_attempt_at": None,
                    "sent_at": None,
                }
            ]
        }
    )


class Notices(Shown):
    """A page of mails, newest first."""

    items: Sequence[Notice]
    next_page_token: pages.NextPageToken


@router.get("/v1/notices", dependencies=[demands(Scope.NOTICES_READ)])
async def list_notices(
    session: Session,
    caller: CallerOf,
    request: Request,
    response: Response,
    kind: MailKind | None = None,
    state: NoticeState | None = None,
    recipient: Annotated[
        str | None, Query(max_length=254, pattern=PRINTABLE, description="An e-mail address.")
    ] = None,
    page_size: PageSize = pages.SIZE_DEFAULT,
    page_token: PageToken = None,
    accept_language: Annotated[str | None, Header()] = None,
) -> Notices:
    """List what the users of the workspace were mailed, or will be."""
    workspace = found(await workspaces.find(session, caller.workspace), "workspace")
    rows = await store.find_page(
        session,
        caller.workspace,
        kind=kind,
        state=state,
        recipient=recipient,
        before=pages.decode_moment(page_token),
        size=page_size + 1,
    )
    language = choose_language(accept_language, workspace.language)
    return _page(rows, page_size, language, request, response)


@router.get("/v1/failed-notices", dependencies=[demands(Scope.OPERATOR_READ)])
async def list_failed_notices(
    session: Session,
    request: Request,
    response: Response,
    workspace_id: Annotated[
        str | None, Query(max_length=100, pattern=PRINTABLE, description="Only this customer's.")
    ] = None,
    kind: MailKind | None = None,
    page_size: PageSize = pages.SIZE_DEFAULT,
    page_token: PageToken = None,
    accept_language: Annotated[str | None, Header()] = None,
) -> Notices:
    """List the mails that were given up, of all customers."""
    rows = await store.find_failed(
        session,
        workspace=parameter_id(Prefix.WORKSPACE, workspace_id, "workspace_id"),
        kind=kind,
        before=pages.decode_moment(page_token),
        size=page_size + 1,
    )
    language = choose_language(accept_language, OPERATORS_LANGUAGE)
    return _page(rows, page_size, language, request, response)


def _page(
    rows: Sequence[store.Notice],
    page_size: int,
    language: str,
    request: Request,
    response: Response,
) -> Notices:
    page = pages.cut(rows, page_size, lambda row: pages.moment_key(row.created_at, row.notice_id))
    pages.link(request, response, page.next_token)
    response.headers["Content-Language"] = language
    return Notices(
        items=[_shown(row, language) for row in page.rows], next_page_token=page.next_token
    )


def _shown(row: store.Notice, language: str) -> Notice:
    words = None if row.reason is None else explain(row.reason)
    return Notice(
        id=ids.show(Prefix.NOTICE, row.notice_id),
        workspace_id=ids.show(Prefix.WORKSPACE, row.workspace_id),
        kind=row.kind,
        recipient=row.recipient,
        language=row.language,
        state=NoticeState(row.state),
        attempts=row.attempts,
        reason=row.reason,
        words=words and (words.de if language == "de" else words.en),
        answer=row.answer,
        created_at=row.created_at,
        next_attempt_at=row.next_at if row.state == NoticeState.PENDING else None,
        sent_at=row.sent_at,
    )
