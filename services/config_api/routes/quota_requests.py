"""/v1/quota/requests and /v1/quota-requests: asking for a higher limit, and deciding on it (Q4).

A workspace has at most one open request. What is decided, the limit and the event that mails are
made of move in one transaction of the ledger; a granted limit is in force with the next write.
"""

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response, status
from pydantic import ConfigDict, Field, StringConstraints
from sqlalchemy.ext.asyncio import AsyncSession

from libs.common import ids
from libs.common.ids import Prefix
from services.config_api import pages
from services.config_api.errors import (
    ConflictError,
    InvalidError,
    NotFoundError,
    QuotaRequestOpenError,
    refuse_field,
)
from services.config_api.models import (
    Asked,
    QuotaRequestId,
    Shown,
    Whole,
    found,
    parameter_id,
)
from services.config_api.pages import PageSize, PageToken
from services.config_api.routing import (
    CallerOf,
    DrawnId,
    Session,
    TransactionalRoute,
    demands,
)
from services.config_api.scopes import Scope
from services.config_api.store import audit
from services.config_api.store import quota as quota_store
from services.config_api.store import quota_requests as store
from services.config_api.store.quota_requests import Outcome

LIMIT_MAX = 10**12  # Far above any contract, far below what a bigint holds.
WORDS_MAX = 1000  # A paragraph: it is shown in a mail.
# As PRINTABLE, but people write more than one line.
LINES = r"^[^\x00-\x08\x0b\x0c\x0e-\x1f\x7f]*$"

QuotaLimit = Annotated[Whole, Field(ge=0, le=LIMIT_MAX, description="Tasks a month (Q1).")]
Words = Annotated[
    str, StringConstraints(strip_whitespace=True, max_length=WORDS_MAX, pattern=LINES)
]
SomeWords = Annotated[Words, StringConstraints(min_length=1)]

router = APIRouter(tags=["quota"], route_class=TransactionalRoute)


class RequestState(StrEnum):
    """How far a request has come."""

    OPEN = "open"
    GRANTED = "granted"
    DECLINED = "declined"
    WITHDRAWN = "withdrawn"


class QuotaRequestWanted(Asked):
    """A higher limit to ask for, and why."""

    limit: Annotated[Whole, Field(ge=1, le=LIMIT_MAX, description="Wanted tasks a month.")]
    reason: SomeWords

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"limit": 250000, "reason": "We merge with another brand in December."}]
        }
    )


class Grant(Asked):
    """What is granted: the limit that was asked for, if no other is named."""

    limit: QuotaLimit | None = None
    validity: Literal["from_now_on", "this_month"] = "from_now_on"
    words: Words = Field(default="", description="To the people of the workspace.")

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"limit": 200000, "validity": "this_month", "words": "Good luck!"}]
        }
    )


class Refusal(Asked):
    """Why a request is declined, in words to the people of the workspace."""

    words: SomeWords

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"words": "Your contract ends this month: please call us."}]
        }
    )


class Decision(Shown):
    """What became of a request. `limit` and `validity` are of a grant only."""

    at: datetime
    by: str = Field(description="Who decided, as the audit log says.")
    limit: int | None
    validity: Literal["from_now_on", "this_month"] | None
    period: str | None = Field(description="The month of `this_month`, as YYYY-MM.")
    words: str


_EXAMPLE: dict[str, Any] = {
    "id": "req_0199d0c1a2b37c4d8e5f60718293a4b5",
    "state": "granted",
    "limit": 250000,
    "reason": "We merge with another brand in December.",
    "asked_at": "2026-11-24T09:00:00Z",
    "asked_by": "key_0199d0c1a2b37c4d8e5f60718293a4b5",
    "limit_then": 100000,
    "used_then": 84210,
    "decision": {
        "at": "2026-11-24T10:12:00Z",
        "by": "key_0199d0c1a2b37c4d8e5f60718293a4b6",
        "limit": 200000,
        "validity": "this_month",
        "period": "2026-11",
        "words": "Good luck!",
    },
}


class QuotaRequest(Shown):
    """A request for a higher limit."""

    id: str
    state: RequestState
    limit: int = Field(description="The limit that is asked for.")
    reason: str
    asked_at: datetime
    asked_by: str = Field(description="Who asked, as the audit log says.")
    limit_then: int = Field(description="The limit that was in force when it was asked for.")
    used_then: int
    decision: Decision | None

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})


class QuotaRequests(Shown):
    """A page of a workspace's requests, newest first."""

    items: Sequence[QuotaRequest]
    next_page_token: pages.NextPageToken


class CustomersQuotaRequest(QuotaRequest):
    """A request, and whose it is."""

    workspace_id: str
    workspace_name: str

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    **_EXAMPLE,
                    "workspace_id": "ws_0199d0c1a2b37c4d8e5f60718293a4b5",
                    "workspace_name": "Example GmbH",
                }
            ]
        }
    )


class CustomersQuotaRequests(Shown):
    """A page of all workspaces' requests: who has waited longest comes first."""

    items: Sequence[CustomersQuotaRequest]
    next_page_token: pages.NextPageToken


@router.post(
    "/v1/quota/requests",
    status_code=status.HTTP_201_CREATED,
    dependencies=[demands(Scope.QUOTA_WRITE)],
)
async def ask_for_more(
    wanted: QuotaRequestWanted,
    session: Session,
    caller: CallerOf,
    drawn: DrawnId,
    response: Response,
) -> QuotaRequest:
    """Ask for a higher limit; the operator is told, and decides."""
    quota = await quota_store.find(session, caller.workspace)
    opened = await store.open_request(
        session, request=drawn, wanted=wanted.limit, reason=wanted.reason, actor=caller.actor
    )
    request = found(await store.find(session, opened), "quota request")
    if opened != drawn:
        raise _already_open(request)
    if wanted.limit <= quota.limit:
        raise _not_above(quota.limit, "ask for more than that")
    await _record(session, request, actor=caller.actor, action="opened")
    shown = shown_request(request)
    response.headers["Location"] = f"/v1/quota/requests/{shown.id}"
    return shown


@router.get("/v1/quota/requests", dependencies=[demands(Scope.QUOTA_READ)])
async def list_requests(
    session: Session,
    caller: CallerOf,
    request: Request,
    response: Response,
    state: RequestState | None = None,
    page_size: PageSize = pages.SIZE_DEFAULT,
    page_token: PageToken = None,
) -> QuotaRequests:
    """List what the workspace has asked for."""
    rows = await store.find_page(
        session,
        caller.workspace,
        before=pages.decode_id(page_token),
        state=state,
        size=page_size + 1,
    )
    page = pages.cut(rows, page_size, lambda row: row.request_id.hex)
    pages.link(request, response, page.next_token)
    return QuotaRequests(
        items=[shown_request(row) for row in page.rows], next_page_token=page.next_token
    )


@router.get("/v1/quota/requests/{request_id}", dependencies=[demands(Scope.QUOTA_READ)])
async def read_request(request_id: QuotaRequestId, session: Session) -> QuotaRequest:
    """Read one request."""
    return shown_request(found(await store.find(session, request_id), "quota request"))


@router.post("/v1/quota/requests/{request_id}:withdraw", dependencies=[demands(Scope.QUOTA_WRITE)])
async def withdraw_request(
    request_id: QuotaRequestId, session: Session, caller: CallerOf, drawn: DrawnId
) -> QuotaRequest:
    """Take back a request that is still open."""
    request = found(await store.find(session, request_id), "quota request")
    outcome = await store.withdraw(session, request=request_id, decision=drawn, actor=caller.actor)
    if outcome is Outcome.NOT_OPEN:
        raise _not_open(found(await store.find(session, request_id), "quota request"))
    if outcome is Outcome.DECIDED:
        await _record(session, request, actor=caller.actor, action="withdrawn")
    return shown_request(found(await store.find(session, request_id), "quota request"))


@router.get("/v1/quota-requests", dependencies=[demands(Scope.OPERATOR_READ)])
async def list_customers_requests(
    session: Session,
    request: Request,
    response: Response,
    state: RequestState | None = None,
    workspace_id: Annotated[str | None, Query(max_length=100)] = None,
    page_size: PageSize = pages.SIZE_DEFAULT,
    page_token: PageToken = None,
) -> CustomersQuotaRequests:
    """List what all workspaces, or one, have asked for; `state=open` is what waits."""
    rows = await store.find_queue(
        session,
        after=pages.decode_id(page_token),
        state=state,
        workspace=parameter_id(Prefix.WORKSPACE, workspace_id, "workspace_id"),
        size=page_size + 1,
    )
    page = pages.cut(rows, page_size, lambda row: row.request_id.hex)
    pages.link(request, response, page.next_token)
    return CustomersQuotaRequests(
        items=[_shown_customers(row) for row in page.rows], next_page_token=page.next_token
    )


@router.get("/v1/quota-requests/{request_id}", dependencies=[demands(Scope.OPERATOR_READ)])
async def read_customers_request(
    request_id: QuotaRequestId, session: Session
) -> CustomersQuotaRequest:
    """Read one workspace's request."""
    return _shown_customers(await _customers(session, request_id))


@router.post("/v1/quota-requests/{request_id}:grant", dependencies=[demands(Scope.OPERATOR_WRITE)])
async def grant_request(
    request_id: QuotaRequestId,
    session: Session,
    caller: CallerOf,
    drawn: DrawnId,
    wanted: Grant = Grant(),  # noqa: B008  # frozen: nothing of it can change
) -> CustomersQuotaRequest:
    """Grant a request: the limit is in force with the next write, from now on or this month."""
    request = await _customers(session, request_id)
    limit = request.wanted if wanted.limit is None else wanted.limit
    outcome = await store.decide(
        session,
        request=request_id,
        decision=drawn,
        actor=caller.actor,
        limit=limit,
        is_for_period=wanted.validity == "this_month",
        words=wanted.words,
    )
    if outcome is Outcome.NOT_ABOVE:
        quota = await quota_store.find(session, request.workspace_id)
        raise _not_above(quota.limit, "grant more than that, or decline the request")
    return await _decided(
        session,
        request,
        outcome,
        actor=caller.actor,
        action="granted",
        details={"limit": limit, "validity": wanted.validity},
    )


@router.post(
    "/v1/quota-requests/{request_id}:decline", dependencies=[demands(Scope.OPERATOR_WRITE)]
)
async def decline_request(
    request_id: QuotaRequestId,
    refusal: Refusal,
    session: Session,
    caller: CallerOf,
    drawn: DrawnId,
) -> CustomersQuotaRequest:
    """Decline a request, with words to the people who asked."""
    request = await _customers(session, request_id)
    outcome = await store.decide(
        session,
        request=request_id,
        decision=drawn,
        actor=caller.actor,
        limit=None,
        is_for_period=False,
        words=refusal.words,
    )
    return await _decided(session, request, outcome, actor=caller.actor, action="declined")


async def _decided(
    session: AsyncSession,
    request: store.QuotaRequest,
    outcome: Outcome,
    *,
    actor: str,
    action: str,
    details: dict[str, object] | None = None,
) -> CustomersQuotaRequest:
    """Return the request as it was decided, recorded; raise ConflictError if it was not open."""
    if outcome is Outcome.NOT_OPEN:
        raise _not_open(await _customers(session, request.request_id))
    if outcome is Outcome.DECIDED:
        await _record(session, request, actor=actor, action=action, details=details)
    return _shown_customers(await _customers(session, request.request_id))


async def _record(
    session: AsyncSession,
    request: store.QuotaRequest,
    *,
    actor: str,
    action: str,
    details: dict[str, object] | None = None,
) -> None:
    await audit.record(
        session,
        workspace=request.workspace_id,
        actor=actor,
        action=f"quota_request.{action}",
        subject=ids.show(Prefix.QUOTA_REQUEST, request.request_id),
        details={"wanted": request.wanted, **(details or {})},
    )


async def _customers(session: AsyncSession, request_id: UUID) -> store.QuotaRequest:
    request = await store.find(session, request_id)
    if request is None:
        raise NotFoundError(detail="There is no such quota request.")
    return request


def _already_open(request: store.QuotaRequest) -> QuotaRequestOpenError:
    shown = ids.show(Prefix.QUOTA_REQUEST, request.request_id)
    return QuotaRequestOpenError(
        detail=f"A request for {request.wanted} tasks a month waits for a decision already.",
        request_id=shown,
        withdraw_url=f"/v1/quota/requests/{shown}:withdraw",
    )


def _not_open(request: store.QuotaRequest) -> ConflictError:
    return ConflictError(
        detail=f"The request is not open any more: it was {request.state}.", state=request.state
    )


def _not_above(limit: int, remedy: str) -> InvalidError:
    return refuse_field(
        at="/limit",
        code="limit_not_above",
        detail=f"{limit} tasks a month are in force: {remedy}.",
        rule="Q4",
    )


def shown_request(row: store.QuotaRequest) -> QuotaRequest:
    """Return a request as its workspace sees it."""
    return QuotaRequest(
        id=ids.show(Prefix.QUOTA_REQUEST, row.request_id),
        state=RequestState(row.state),
        limit=row.wanted,
        reason=row.reason,
        asked_at=row.asked_at,
        asked_by=row.asked_by,
        limit_then=row.asked_limit,
        used_then=row.asked_used,
        decision=_decision(row),
    )


def _shown_customers(row: store.QuotaRequest) -> CustomersQuotaRequest:
    return CustomersQuotaRequest(
        **dict(shown_request(row)),
        workspace_id=ids.show(Prefix.WORKSPACE, row.workspace_id),
        workspace_name=row.workspace_name,
    )


def _decision(row: store.QuotaRequest) -> Decision | None:
    if row.decided_at is None or row.decided_by is None:
        return None
    is_granted = row.granted_limit is not None
    return Decision(
        at=row.decided_at,
        by=row.decided_by,
        limit=row.granted_limit,
        validity=("this_month" if row.granted_period else "from_now_on") if is_granted else None,
        period=f"{row.granted_period:%Y-%m}" if row.granted_period else None,
        words=row.words,
    )
