"""config.audit_log: who changed what, and when. Rows are only ever added."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from libs.common import ids


@dataclass(frozen=True, slots=True)
class AuditEvent:
    """One change; `details` holds no secret and no contact."""

    event_id: UUID
    at: datetime
    actor: str
    action: str
    subject: str
    details: dict[str, Any]


async def record(
    session: AsyncSession,
    *,
    workspace: UUID,
    actor: str,
    action: str,
    subject: str,
    details: Mapping[str, object] | None = None,
) -> None:
    """Add an event, in the transaction of the change it tells of."""
    await session.execute(
        text(
            "insert into config.audit_log (event_id, workspace_id, actor, action, subject, details)"
            " values (:event, :workspace, :actor, :action, :subject, cast(:details as jsonb))"
        ),
        {
            "event": ids.new(),
            "workspace": workspace,
            "actor": actor,
            "action": action,
            "subject": subject,
            "details": json.dumps(details or {}),
        },
    )


async def find_page(
    session: AsyncSession, *, before: UUID | None, subject: str | None, size: int
) -> list[AuditEvent]:
    """Return events of the workspace, newest first."""
    found = await session.execute(
        text(
            "select event_id, at, actor, action, subject, details from config.audit_log"
            " where (cast(:before as uuid) is null or event_id < :before)"
            " and (cast(:subject as text) is null or subject = :subject)"
            " order by event_id desc limit :size"
        ),
        {"before": before, "subject": subject, "size": size},
    )
    return [AuditEvent(*row) for row in found]
