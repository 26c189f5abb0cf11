"""The notifier's SQL: whom to tell, which notices are due, and what became of them.

Every statement of this service is in this file. Functions take the session of the caller's
transaction and never commit it.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession


@dataclass(frozen=True, slots=True)
class Recipient:
    """A person of a workspace who wants a kind of mail, in which language."""

    email: str
    language: str


@dataclass(frozen=True, slots=True)
class Notice:
    """One mail to one person: everything it says was stored when it was decided."""

    id: UUID
    workspace: UUID
    kind: str
    language: str
    recipient: str
    payload: Mapping[str, Any]
    created_at: datetime
    attempts: int


async def recipients(session: AsyncSession, *, workspace: UUID, kind: str) -> Sequence[Recipient]:
    """Return who wants this kind of mail."""
    rows = await session.execute(
        text(
            "select email, language from config.users "
            "where workspace_id = :workspace and not :kind = any (muted) order by email"
        ),
        {"workspace": workspace, "kind": kind},
    )
    return [Recipient(row.email, row.language) for row in rows]


async def workspace_name(session: AsyncSession, workspace: UUID) -> str:
    """Return what people call the workspace; empty if it is gone."""
    name = await session.scalar(
        text("select name from config.workspaces where workspace_id = :workspace"),
        {"workspace": workspace},
    )
    return name or ""


async def integration_names(
    session: AsyncSession, *, workspace: UUID, integration: UUID | None = None
) -> Sequence[str]:
    """Return the names of a workspace's active integrations, or of one in any state."""
    names = await session.scalars(
        text(
            "select name from config.integrations where workspace_id = :workspace "
            "and (integration_id = :integration or (cast(:integration as uuid) is null "
            "and state = 'active')) order by name"
        ),
        {"workspace": workspace, "integration": integration},
    )
    return names.all()


async def add_notice(
    session: AsyncSession,
    *,
    notice_id: UUID,
    workspace: UUID,
    kind: str,
    recipient: Recipient,
    payload: Mapping[str, Any],
) -> None:
    """Store that a person is to be told; the same cause again changes nothing."""
    await session.execute(
        text(
            "insert into notices.notices "
            "(notice_id, workspace_id, kind, language, recipient, payload) values "
            "(:id, :workspace, :kind, :language, :recipient, cast(:payload as jsonb)) "
            "on conflict do nothing"
        ),
        {
            "id": notice_id,
            "workspace": workspace,
            "kind": kind,
            "language": recipient.language,
            "recipient": recipient.email,
            "payload": json.dumps(payload),
        },
    )


async def claim_due(
    session: AsyncSession, *, token: UUID, claim_s: float, limit: int
) -> Sequence[Notice]:
    """Take up to `limit` notices that are due; other notifiers leave them alone for `claim_s`."""
    rows = await session.execute(
        text(
            "update notices.notices n set lease_token = :token, attempts = attempts + 1, "
            "lease_until = clock_timestamp() + make_interval(secs => :claim_s) "
            "where n.notice_id in (select d.notice_id from notices.notices d "
            "  where d.state = 'pending' and d.next_at <= clock_timestamp() "
            "  and (d.lease_until is null or d.lease_until < clock_timestamp()) "
            "  order by d.next_at limit :limit for update skip locked) "
            "returning n.notice_id, n.workspace_id, n.kind, n.language, n.recipient, n.payload, "
            "n.created_at, n.attempts"
        ),
        {"token": token, "claim_s": claim_s, "limit": limit},
    )
    return [
        Notice(
            id=row.notice_id,
            workspace=row.workspace_id,
            kind=row.kind,
            language=row.language,
            recipient=row.recipient,
            payload=row.payload,
            created_at=row.created_at,
            attempts=row.attempts,
        )
        for row in rows
    ]


async def renew(session: AsyncSession, *, notice_id: UUID, token: UUID, claim_s: float) -> bool:
    """Keep a notice for `claim_s` from now; False if it is not ours any more."""
    renewed = await session.execute(
        text(
            "update notices.notices "
            "set lease_until = clock_timestamp() + make_interval(secs => :claim_s) "
            "where notice_id = :id and lease_token = :token and state = 'pending' "
            "returning notice_id"
        ),
        {"id": notice_id, "token": token, "claim_s": claim_s},
    )
    return renewed.one_or_none() is not None


async def give_back(session: AsyncSession, *, ids: Sequence[UUID], token: UUID) -> None:
    """Let others have notices that were claimed and not tried."""
    await session.execute(
        text(
            "update notices.notices set lease_until = null, attempts = attempts - 1 "
            "where notice_id = any (:ids) and lease_token = :token and state = 'pending' "
            "and lease_until is not null"
        ),
        {"ids": list(ids), "token": token},
    )


async def is_decided(
    session: AsyncSession, *, workspace: UUID, period: str, revision: int, threshold: int
) -> bool:
    """Return whether the ledger has decided a threshold of a period and limit revision."""
    answer = await session.scalar(
        text("select ledger.is_decided(:workspace, :period, :revision, :threshold)"),
        {
            "workspace": workspace,
            "period": date.fromisoformat(period),
            "revision": revision,
            "threshold": threshold,
        },
    )
    return bool(answer)


async def finish(
    session: AsyncSession, *, notice_id: UUID, token: UUID, state: str, reason: str | None
) -> None:
    """Store what became of a notice, if it is still ours."""
    await session.execute(
        text(
            "update notices.notices set state = :state, reason = :reason, lease_until = null, "
            "sent_at = case when :state = 'sent' then clock_timestamp() end "
            "where notice_id = :id and lease_token = :token and state = 'pending'"
        ),
        {"id": notice_id, "token": token, "state": state, "reason": reason},
    )


async def postpone(
    session: AsyncSession, *, notice_id: UUID, token: UUID, wait_s: float, reason: str
) -> None:
    """Try a notice again later, if it is still ours."""
    await session.execute(
        text(
            "update notices.notices set lease_until = null, reason = :reason, "
            "next_at = clock_timestamp() + make_interval(secs => :wait_s) "
            "where notice_id = :id and lease_token = :token and state = 'pending'"
        ),
        {"id": notice_id, "token": token, "wait_s": wait_s, "reason": reason},
    )


async def oldest_pending_s(session: AsyncSession) -> float:
    """Return how long the oldest due notice waits, in seconds; 0 without one."""
    seconds = await session.scalar(
        text(
            "select coalesce(extract(epoch from clock_timestamp() - min(next_at)), 0) "
            "from notices.notices where state = 'pending'"
        )
    )
    return max(float(seconds or 0), 0.0)
