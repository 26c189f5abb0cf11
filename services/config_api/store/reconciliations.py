"""ledger.reconciliations, as the operator may read it: what the accountant found."""

from dataclasses import dataclass
from datetime import date, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """One look at a workspace's month; `report` as services/quota/reconcile.py documents it."""

    reconciliation_id: UUID
    workspace_id: UUID
    period: date
    looked_at: datetime
    has_drift: bool
    report: dict[str, Any]


async def find_page(
    session: AsyncSession,
    *,
    before: UUID | None,
    workspace: UUID | None,
    has_drift: bool | None,
    size: int,
) -> list[Reconciliation]:
    """Return looks, newest first. Operator's role only."""
    found = await session.execute(
        text(
            "select reconciliation_id, workspace_id, period, looked_at, has_drift, report"
            " from ledger.reconciliations"
            " where (cast(:before as uuid) is null or reconciliation_id < :before)"
            " and (cast(:workspace as uuid) is null or workspace_id = :workspace)"
            " and (cast(:has_drift as boolean) is null or has_drift = :has_drift)"
            " order by reconciliation_id desc limit :size"
        ),
        {"before": before, "workspace": workspace, "has_drift": has_drift, "size": size},
    )
    return [Reconciliation(*row) for row in found]
