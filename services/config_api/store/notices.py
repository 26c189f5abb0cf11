"""notices.notices, as the API may read it: what was mailed to whom, and what became of it."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession


@dataclass(frozen=True, slots=True)
class Notice:
    """One mail to one person."""

    notice_id: UUID
    workspace_id: UUID
    kind: str
    recipient: str
    language: str
    state: str
    attempts: int
    reason: str | None
    answer: str | None
    created_at: datetime
    next_at: datetime
    sent_at: datetime | None


_SELECT = (
    "select notice_id, workspace_id, kind, recipient, language, state, attempts, reason, answer,"
    " created_at, next_at, sent_at from notices.notices"
)
_BEFORE = (
    " and (cast(:at as timestamptz) is null or (created_at, notice_id) < (:at, :id))"
    " order by created_at desc, notice_id desc limit :size"
)


async def find_page(
    session: AsyncSession,
    workspace: UUID,
    *,
    kind: str | None,
    state: str | None,
    recipient: str | None,
    before: tuple[datetime, UUID] | None,
    size: int,
) -> list[Notice]:
    """Return what a workspace's users were mailed, newest first."""
    at, notice = before or (None, None)
    found = await session.execute(
        text(
            f"{_SELECT} where workspace_id = :workspace and audience = 'workspace'"
            " and (cast(:kind as text) is null or kind = :kind)"
            " and (cast(:state as text) is null or state = :state)"
            " and (cast(:recipient as text) is null or lower(recipient) = lower(:recipient))"
            f"{_BEFORE}"
        ),
        {
            "workspace": workspace,
            "kind": kind,
            "state": state,
            "recipient": recipient,
            "at": at,
            "id": notice,
            "size": size,
        },
    )
    return [Notice(*row) for row in found]


async def find_failed(
    session: AsyncSession,
    *,
    workspace: UUID | None,
    kind: str | None,
    before: tuple[datetime, UUID] | None,
    size: int,
) -> list[Notice]:
    """Return the mails that were given up, of all workspaces or one, newest first."""
    at, notice = before or (None, None)
    found = await session.execute(
        text(
            f"{_SELECT} where state = 'failed'"
            " and (cast(:workspace as uuid) is null or workspace_id = :workspace)"
            " and (cast(:kind as text) is null or kind = :kind)"
            f"{_BEFORE}"
        ),
        {"workspace": workspace, "kind": kind, "at": at, "id": notice, "size": size},
    )
    return [Notice(*row) for row in found]
