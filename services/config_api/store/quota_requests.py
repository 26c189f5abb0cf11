"""config.quota_requests: who asked for a higher limit, and what was decided.

Rows are written by the ledger's functions only, which move request, limit and event together.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession


class Outcome(StrEnum):
    """What a decision came to; but for `decided`, nothing was done."""

    DECIDED = "decided"
    REPEATED = "repeated"  # This very decision had been taken before.
    NOT_OPEN = "not_open"
    NOT_ABOVE = "not_above"  # A grant must be above the limit in force.


@dataclass(frozen=True, slots=True)
class QuotaRequest:
    """A request; what was decided is None while it is open.

    `granted_period`: the month that it was granted for; None: from then on.
    """

    request_id: UUID
    workspace_id: UUID
    workspace_name: str
    wanted: int
    reason: str
    state: str
    asked_by: str
    asked_at: datetime
    asked_limit: int
    asked_used: int
    decided_by: str | None
    decided_at: datetime | None
    granted_limit: int | None
    granted_period: date | None
    words: str


# In the order of the fields of `QuotaRequest`.
_SELECT = (
    "select r.request_id, r.workspace_id, w.name, r.wanted, r.reason, r.state, r.asked_by,"
    " r.asked_at, r.asked_limit, r.asked_used, r.decided_by, r.decided_at, r.granted_limit,"
    " r.granted_period, r.words"
    " from config.quota_requests r join config.workspaces w on w.workspace_id = r.workspace_id"
)


async def open_request(
    session: AsyncSession, *, request: UUID, wanted: int, reason: str, actor: str
) -> UUID:
    """Open a request of the transaction's workspace; return the one that is open now.

    Another id than `request`: that one was open already, and nothing was done.
    """
    opened = await session.scalar(
        text("select ledger.open_request(:request, :wanted, :reason, :actor)"),
        {"request": request, "wanted": wanted, "reason": reason, "actor": actor},
    )
    assert isinstance(opened, UUID)
    return opened


async def withdraw(session: AsyncSession, *, request: UUID, decision: UUID, actor: str) -> Outcome:
    """Take back an open request of the transaction's workspace."""
    answer = await session.scalar(
        text("select ledger.withdraw_request(:request, :decision, :actor)"),
        {"request": request, "decision": decision, "actor": actor},
    )
    return Outcome(answer)


async def decide(
    session: AsyncSession,
    *,
    request: UUID,
    decision: UUID,
    actor: str,
    limit: int | None,
    is_for_period: bool,
    words: str,
) -> Outcome:
    """Grant a request with a limit, in force with the next hold; None declines it.

    Operator's role only. `decision` is drawn once for each decision, so that a transaction that is
    run again knows its own.
    """
    answer = await session.scalar(
        text(
            "select ledger.decide_request(:request, :decision, :actor, cast(:limit as bigint),"
            " :is_for_period, :words)"
        ),
        {
            "request": request,
            "decision": decision,
            "actor": actor,
            "limit": limit,
            "is_for_period": is_for_period,
            "words": words,
        },
    )
    return Outcome(answer)


async def find(session: AsyncSession, request: UUID) -> QuotaRequest | None:
    """Return a request; None if there is none that may be seen."""
    found = await session.execute(
        text(f"{_SELECT} where r.request_id = :request"), {"request": request}
    )
    row = found.one_or_none()
    return QuotaRequest(*row) if row else None


async def find_open(session: AsyncSession, workspace: UUID) -> QuotaRequest | None:
    """Return the one request of a workspace that waits for a decision."""
    found = await session.execute(
        text(f"{_SELECT} where r.workspace_id = :workspace and r.state = 'open'"),
        {"workspace": workspace},
    )
    row = found.one_or_none()
    return QuotaRequest(*row) if row else None


async def find_page(
    session: AsyncSession, workspace: UUID, *, before: UUID | None, state: str | None, size: int
) -> Sequence[QuotaRequest]:
    """Return a workspace's requests, newest first."""
    found = await session.execute(
        text(
            f"{_SELECT} where r.workspace_id = :workspace"
            " and (cast(:before as uuid) is null or r.request_id < :before)"
            " and (cast(:state as text) is null or r.state = :state)"
            " order by r.request_id desc limit :size"
        ),
        {"workspace": workspace, "before": before, "state": state, "size": size},
    )
    return [QuotaRequest(*row) for row in found]


async def find_queue(
    session: AsyncSession,
    *,
    after: UUID | None,
    state: str | None,
    workspace: UUID | None,
    size: int,
) -> Sequence[QuotaRequest]:
    """Return requests of all workspaces, or of one, oldest first. Operator's role only."""
    found = await session.execute(
        text(
            f"{_SELECT} where (cast(:after as uuid) is null or r.request_id > :after)"
            " and (cast(:state as text) is null or r.state = :state)"
            " and (cast(:workspace as uuid) is null or r.workspace_id = :workspace)"
            " order by r.request_id limit :size"
        ),
        {"after": after, "state": state, "workspace": workspace, "size": size},
    )
    return [QuotaRequest(*row) for row in found]
