"""/v1/audit-events: who changed what in a workspace, newest first."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response

from libs.common import ids
from libs.common.ids import Prefix
from services.config_api import pages
from services.config_api.models import PRINTABLE, Shown
from services.config_api.pages import PageSize, PageToken
from services.config_api.routing import Session, TransactionalRoute, demands
from services.config_api.scopes import Scope
from services.config_api.store import audit as store

router = APIRouter(tags=["audit-events"], route_class=TransactionalRoute)


class AuditEvent(Shown):
    """One change: who (`actor` is a key's id), what, to which resource."""

    id: str
    at: datetime
    actor: str
    action: str
    subject: str
    details: dict[str, Any]


class AuditEvents(Shown):
    """A page of changes."""

    items: Sequence[AuditEvent]
    next_page_token: pages.NextPageToken


@router.get("/v1/audit-events", dependencies=[demands(Scope.AUDIT_READ)])
async def list_audit_events(
    session: Session,
    request: Request,
    response: Response,
    subject: Annotated[
        str | None, Query(max_length=100, pattern=PRINTABLE, description="A resource's id.")
    ] = None,
    page_size: PageSize = pages.SIZE_DEFAULT,
    page_token: PageToken = None,
) -> AuditEvents:
    """List what was changed."""
    rows = await store.find_page(
        session, before=pages.decode_id(page_token), subject=subject, size=page_size + 1
    )
    page = pages.cut(rows, page_size, lambda row: row.event_id.hex)
    pages.link(request, response, page.next_token)
    return AuditEvents(
        items=[
            AuditEvent(
                id=ids.show(Prefix.EVENT, row.event_id),
                at=row.at,
                actor=row.actor,
                action=row.action,
                subject=row.subject,
                details=row.details,
            )
            for row in page.rows
        ],
        next_page_token=page.next_token,
    )
