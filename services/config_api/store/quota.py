"""ledger, as the API may read it: a workspace's month."""

from dataclasses import dataclass
from datetime import date
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession


@dataclass(frozen=True, slots=True)
class Quota:
    """A workspace's quota in the present month; `used` is what was posted."""

    period: date
    limit: int
    revision: int
    used: int
    held: int


async def find(session: AsyncSession, workspace: UUID) -> Quota:
    """Return the present month; one without any use yet has the limit that it would get."""
    found = await session.execute(
        text(
            "select m.period, coalesce(p.quota_limit, l.quota_limit, 100000),"
            " coalesce(p.revision, l.revision, 1), coalesce(p.posted, 0), coalesce(p.held, 0)"
            " from (select ledger.current_period() as period) m"
            " left join ledger.periods p on p.workspace_id = :workspace and p.period = m.period"
            " left join ledger.limits l on l.workspace_id = :workspace"
        ),
        {"workspace": workspace},
    )
    return Quota(*found.one())


async def set_limit(session: AsyncSession, workspace: UUID, limit: int) -> None:
    """Set the limit, in force with the next hold. Operator's role only."""
    await session.execute(
        text("select ledger.set_limit(:workspace, :limit)"),
        {"workspace": workspace, "limit": limit},
    )
