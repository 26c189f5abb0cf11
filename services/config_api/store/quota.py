"""ledger, as the API may read it: a workspace's months, what was used of them, and the limit."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession


@dataclass(frozen=True, slots=True)
class Quota:
    """A workspace's quota in the present month; `used` is what was posted.

    `standing_limit` is what the months to come have; `now` is the ledger's clock.
    """

    period: date
    limit: int
    revision: int
    used: int
    held: int
    standing_limit: int
    now: datetime


@dataclass(frozen=True, slots=True)
class Use:
    """The tasks of one integration that were written on one UTC day."""

    integration_id: UUID
    name: str | None  # None: of an integration that is not there any more.
    day: date
    used: int


@dataclass(frozen=True, slots=True)
class Period:
    """A month that had any use, with when its thresholds were first reached."""

    period: date
    limit: int
    used: int
    held: int
    reached_80_at: datetime | None
    reached_100_at: datetime | None


async def find(session: AsyncSession, workspace: UUID) -> Quota:
    """Return the present month; one without any use yet has the limit that it would get."""
    found = await session.execute(
        text(
            "select m.period, coalesce(p.quota_limit, l.quota_limit, 100000),"
            " coalesce(p.revision, l.revision, 1), coalesce(p.posted, 0), coalesce(p.held, 0),"
            " coalesce(l.quota_limit, 100000), ledger.now()"
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


async def find_use(session: AsyncSession, workspace: UUID, period: date) -> Sequence[Use]:
    """Return a month's tasks by integration and day: counted from its postings, so it adds up."""
    found = await session.execute(
        text(
            "select u.integration_id, i.name, (u.at at time zone 'UTC')::date, u.used from ("
            "  select integration_id, count(*) as used,"
            # By bins of time: half the price of a date for each task.
            "  date_bin('1 day', posted_at, timestamptz '2000-01-01 00:00+00') as at"
            "  from ledger.postings where workspace_id = :workspace and period = :period"
            "  group by integration_id, at) u"
            " left join config.integrations i on i.integration_id = u.integration_id"
            " order by u.at, u.integration_id"
        ),
        {"workspace": workspace, "period": period},
    )
    return [Use(*row) for row in found]


async def is_period(session: AsyncSession, workspace: UUID, period: date) -> bool:
    """Return whether a workspace has such a month: the present one, or one that it began."""
    answer = await session.scalar(
        text(
            "select :period = ledger.current_period() or exists (select from ledger.periods"
            " where workspace_id = :workspace and period = :period)"
        ),
        {"workspace": workspace, "period": period},
    )
    return bool(answer)


async def has_lines(session: AsyncSession, period: date) -> bool:
    """Return whether a month's postings are kept still; its counters are, for ever."""
    answer = await session.scalar(
        text(
            "select to_regclass('ledger.postings_' || to_char(cast(:period as date), 'YYYY_MM'))"
            " is not null"
        ),
        {"period": period},
    )
    return bool(answer)


async def find_periods(
    session: AsyncSession, workspace: UUID, *, before: date | None, size: int
) -> Sequence[Period]:
    """Return a workspace's months, newest first."""
    found = await session.execute(
        text(
            "select p.period, p.quota_limit, p.posted, p.held,"
            " min(d.decided_at) filter (where d.threshold = 80),"
            " min(d.decided_at) filter (where d.threshold = 100)"
            " from ledger.periods p left join ledger.decisions d"
            " on d.workspace_id = p.workspace_id and d.period = p.period"
            " where p.workspace_id = :workspace"
            " and (cast(:before as date) is null or p.period < :before)"
            " group by p.workspace_id, p.period order by p.period desc limit :size"
        ),
        {"workspace": workspace, "before": before, "size": size},
    )
    return [Period(*row) for row in found]
