"""The accountant's SQL. Its tables are the ledger's own, written by functions only.

Functions take the session of the caller's transaction, or the transaction, and never commit it.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession

from libs.common.errors import LeaseLostError
from libs.common.postgres import Transaction

# A look at a month of a million postings takes some seconds; the role's own 15 s are for what
# others wait for.
LOOK_WITHIN = "120s"
TOOK_TOO_LONG = "57014"  # query_canceled
TERM_IS_OVER = "55000"  # object_not_in_prerequisite_state, raised by ledger.keep_reconciliation.


# Who is the accountant: asked every second, so past SQLAlchemy, for a third of the CPU time


async def claim_accounts(session: Transaction, *, owner: UUID, ttl: timedelta) -> int | None:
    """Become the accountant for `ttl`, or stay it; return the term's number, None if another is."""
    token: int | None = await session.connection.fetchval(
        "select ledger.claim_accounts($1, $2)", owner, ttl
    )
    return token


async def let_accounts_go(session: Transaction, *, owner: UUID) -> None:
    """Let another be the accountant at once; harmless if another is."""
    await session.connection.execute("select ledger.let_accounts_go($1)", owner)


# Months come and go


async def make_partitions(session: AsyncSession, *, months: int) -> int:
    """Make the postings' partitions of this month and the next `months`; return how many."""
    made = await session.scalar(text("select ledger.make_partitions(:months)"), {"months": months})
    return int(made or 0)


async def months_ahead(session: AsyncSession) -> int:
    """Return for how many months after the present one a partition is there."""
    count = await session.scalar(
        text(
            "select count(*) from generate_series(1, 12) n where to_regclass(format("
            "'ledger.postings_%s', to_char(ledger.current_period() + make_interval(months => n), "
            "'YYYY_MM'))) is not null"
        )
    )
    return int(count or 0)


async def drop_partitions(session: AsyncSession, *, months_kept: int) -> int:
    """Drop the postings of months that are longer ago; return of how many months.

    Raises a database error (55P03) if somebody reads or writes them for longer than a second.
    """
    dropped = await session.scalar(
        text("select ledger.drop_partitions(:kept)"), {"kept": months_kept}
    )
    return int(dropped or 0)


async def forget(session: AsyncSession, *, rows: int) -> int:
    """Delete some holds and looks that nobody needs any more; return how many rows went."""
    forgotten = await session.scalar(text("select ledger.forget(:rows)"), {"rows": rows})
    return int(forgotten or 0)


async def forget_imports(session: AsyncSession, *, days: int) -> int:
    """Take the text of one uploaded file away that is needed no longer; return 0 if none is."""
    forgotten = await session.scalar(text("select config.forget_imports(:days)"), {"days": days})
    return int(forgotten or 0)


# What the metrics tell


@dataclass(frozen=True, slots=True)
class Standing:
    """The ledger at a glance; `used` counts this month's workspaces, a number for each share."""

    units_open: int
    used: Sequence[int]
    drifts: Mapping[str, int]


async def standing(session: AsyncSession, shares: Sequence[float]) -> Standing:
    """Return what is open, how many workspaces use at most each share, and drifts by check."""
    units = await session.scalar(text("select coalesce(sum(held), 0) from ledger.periods"))
    used = await session.execute(
        text(
            "select s.share, count(p.workspace_id) as workspaces"
            " from unnest(cast(:shares as float8[])) s (share) left join ledger.periods p"
            " on p.period = ledger.current_period()"
            " and p.posted <= s.share * greatest(p.quota_limit, 1)"
            " group by s.share order by s.share"
        ),
        {"shares": list(shares)},
    )
    drifts = await session.execute(
        text("select check_name, sum(abs(drift)) as drift from ledger.drifts group by check_name")
    )
    return Standing(
        int(units or 0),
        [row.workspaces for row in used],
        {row.check_name: int(row.drift) for row in drifts},
    )


# Reconciliation


@dataclass(frozen=True, slots=True)
class Month:
    """A workspace's month."""

    workspace: UUID
    period: date


async def due_months(session: AsyncSession, *, every: timedelta, limit: int) -> list[Month]:
    """Return months that were last looked at longer ago than `every`, those longest ago first.

    The present month is always due again; one that is over until it was looked at a day after its
    end, and while anything is open in it or a drift stands.
    """
    found = await session.execute(
        text(
            """
            select p.workspace_id, p.period from ledger.periods p
            cross join lateral (
              select max(r.looked_at) as looked_at from ledger.reconciliations r
              where r.workspace_id = p.workspace_id and r.period = p.period) last
            where p.period >= ledger.current_period() - interval '1 year'
              and (last.looked_at is null
                or last.looked_at < clock_timestamp() - cast(:every as interval))
              and to_regclass('ledger.postings_' || to_char(p.period, 'YYYY_MM')) is not null
              and (p.period = ledger.current_period() or p.held <> 0
                or last.looked_at is null
                or last.looked_at < (p.period + interval '1 month 1 day') at time zone 'UTC'
                or exists (select from ledger.drifts d
                  where d.workspace_id = p.workspace_id and d.period = p.period))
            order by last.looked_at nulls first, p.workspace_id, p.period
            limit :limit
            """
        ),
        {"every": every, "limit": limit},
    )
    return [Month(row.workspace_id, row.period) for row in found]


async def months_of(session: AsyncSession, workspace: UUID) -> list[date]:
    """Return the months of a workspace that postings are still kept of, newest first."""
    found = await session.scalars(
        text(
            "select period from ledger.periods where workspace_id = :workspace"
            " and to_regclass('ledger.postings_' || to_char(period, 'YYYY_MM')) is not null"
            " order by period desc"
        ),
        {"workspace": workspace},
    )
    return list(found)


@dataclass(frozen=True, slots=True)
class Compared:
    """One check of a month: what is kept, what was found, how many of the things differ."""

    check: str
    kept: int
    found: int
    odd: int
    examples: Sequence[str]


async def look(session: AsyncSession, month: Month) -> list[Compared]:
    """Hold a month against what it stands on, all in one snapshot.

    Reads every posting of the month and locks nothing. Raises a database error (57014) if that
    takes longer than LOOK_WITHIN.
    """
    await session.execute(text(f"set local statement_timeout = '{LOOK_WITHIN}'"))
    found = await session.execute(
        text("select * from ledger.look(:workspace, :period)"),
        {"workspace": month.workspace, "period": month.period},
    )
    return [Compared(*row) for row in found]


@dataclass(frozen=True, slots=True)
class Aged:
    """Units that are open for longer than most writes take, and since when the oldest is."""

    units: int
    since: datetime | None


async def aged_units(session: AsyncSession, month: Month, *, after: timedelta) -> Aged:
    """Return what has been open in a month for longer than `after`."""
    found = await session.execute(
        text(
            "select coalesce(sum(amount - posted - released), 0)::bigint, min(created_at)"
            " from ledger.holds where workspace_id = :workspace and period = :period"
            " and posted + released < amount"
            " and created_at < clock_timestamp() - cast(:after as interval)"
        ),
        {"workspace": month.workspace, "period": month.period, "after": after},
    )
    return Aged(*found.one())


async def keep_reconciliation(
    session: AsyncSession,
    *,
    token: int,
    look_id: UUID,
    month: Month,
    report: Mapping[str, Any],
    drifts: Sequence[Mapping[str, Any]],
) -> int:
    """Keep what a look found; return of how many drifts it told.

    Raises LeaseLostError if another is the accountant by now.
    """
    try:
        told = await session.scalar(
            text(
                "select ledger.keep_reconciliation(:token, :id, :workspace, :period,"
                " cast(:report as jsonb), cast(:drifts as jsonb))"
            ),
            {
                "token": token,
                "id": look_id,
                "workspace": month.workspace,
                "period": month.period,
                "report": json.dumps(report),
                "drifts": json.dumps(drifts),
            },
        )
    except DBAPIError as error:
        if getattr(error.orig, "sqlstate", None) == TERM_IS_OVER:
            accounts = "the ledger's accounts"
            raise LeaseLostError(accounts) from error
        raise
    return int(told or 0)
