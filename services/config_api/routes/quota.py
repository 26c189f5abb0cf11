"""/v1/quota: how much of the month's tasks is left (Q1, Q3, Q5).

`stopped` is computed from the ledger at the moment of asking, as the writer computes it: it can
never disagree with what is written.
"""

from datetime import UTC, date, datetime, timedelta
from enum import StrEnum

from fastapi import APIRouter
from pydantic import ConfigDict, Field

from services.config_api.models import Shown
from services.config_api.routing import CallerOf, Session, TransactionalRoute, demands
from services.config_api.scopes import Scope
from services.config_api.store import quota as store

router = APIRouter(tags=["quota"], route_class=TransactionalRoute)


class QuotaState(StrEnum):
    """Whether contacts are written now."""

    OPEN = "open"
    STOPPED = "stopped"


class Quota(Shown):
    """A workspace's quota in the present month."""

    period: str = Field(description="The UTC month, as YYYY-MM.")
    limit: int = Field(description="Tasks a month, shared by all integrations.")
    used: int = Field(description="Contacts written this month.")
    held: int = Field(description="Reserved for writes that are under way.")
    left: int = Field(description="What can still be reserved.")
    used_percent: float
    state: QuotaState
    resumes_at: datetime | None = Field(
        description="When stopped: the next month, if the limit is not raised before."
    )

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "period": "2026-11",
                    "limit": 100000,
                    "used": 990,
                    "held": 10,
                    "left": 99000,
                    "used_percent": 0.99,
                    "state": "open",
                    "resumes_at": None,
                }
            ]
        }
    )


@router.get("/v1/quota", dependencies=[demands(Scope.QUOTA_READ)])
async def read_quota(session: Session, caller: CallerOf) -> Quota:
    """Read the quota of the present month."""
    return quota_document(await store.find(session, caller.workspace))


def quota_document(quota: store.Quota) -> Quota:
    """Return a month's quota as it is shown."""
    left = max(quota.limit - quota.used - quota.held, 0)
    return Quota(
        period=f"{quota.period:%Y-%m}",
        limit=quota.limit,
        used=quota.used,
        held=quota.held,
        left=left,
        used_percent=round(100 * quota.used / quota.limit, 2) if quota.limit else 100.0,
        state=QuotaState.OPEN if left else QuotaState.STOPPED,
        resumes_at=None if left else next_month(quota.period),
    )


def next_month(period: date) -> datetime:
    """Return the moment a period ends: the first of the next month, UTC."""
    later = period.replace(day=1) + timedelta(days=31)
    return datetime(later.year, later.month, 1, tzinfo=UTC)
