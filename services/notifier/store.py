"""The notifier's SQL: whom to tell, which notices are due, and what became of them.

Every statement of this service is in this file. Functions take the session of the caller's
transaction, or the transaction, and never commit it.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from libs.common.postgres import Transaction


@dataclass(frozen=True, slots=True)
class Recipient:
    """Who wants a kind of mail, in which language; `user` is None for the operator."""

    email: str
    language: str
    user: UUID | None = None


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


@dataclass(frozen=True, slots=True)
class QuotaFacts:
    """What the ledger adds to its event: since when, and what is reserved (`facts_to_mail`)."""

    near_at: datetime | None
    used_up_at: datetime | None
    held: int
    standing_limit: int


async def recipients(session: AsyncSession, *, workspace: UUID, kind: str) -> Sequence[Recipient]:
    """Return which users of a workspace want this kind of mail."""
    rows = await session.execute(
        text(
            "select user_id, email, language from config.users "
            "where workspace_id = :workspace and not :kind = any (muted) order by email"
        ),
        {"workspace": workspace, "kind": kind},
    )
    return [Recipient(row.email, row.language, row.user_id) for row in rows]


async def workspace_name(session: AsyncSession, workspace: UUID) -> str:
    """Return what people call the workspace; empty if it is gone."""
    name = await session.scalar(
        text("select name from config.workspaces where workspace_id = :workspace"),
        {"workspace": workspace},
    )
    return name or ""


async def integration_name(session: AsyncSession, integration: UUID) -> str:
    """Return what people call an integration; empty if it is gone."""
    name = await session.scalar(
        text("select name from config.integrations where integration_id = :integration"),
        {"integration": integration},
    )
    return name or ""


async def active_integrations(
    session: AsyncSession, workspace: UUID, *, limit: int
) -> tuple[Sequence[str], int]:
    """Return the first `limit` names of a workspace's active integrations, and how many it has."""
    rows = await session.execute(
        text(
            "select name, count(*) over () as total from config.integrations "
            "where workspace_id = :workspace and state = 'active' order by name limit :limit"
        ),
        {"workspace": workspace, "limit": limit},
    )
    found = rows.all()
    return [row.name for row in found], found[0].total if found else 0


async def now(session: AsyncSession) -> datetime:
    """Return the moment by the ledger's clock."""
    moment = await session.scalar(text("select ledger.now()"))
    assert isinstance(moment, datetime)
    return moment


async def quota_facts(
    session: AsyncSession, *, workspace: UUID, period: date, revision: int
) -> QuotaFacts:
    """Return what the ledger knows of a limit beside its event."""
    rows = await session.execute(
        text("select * from ledger.facts_to_mail(:workspace, :period, :revision)"),
        {"workspace": workspace, "period": period, "revision": revision},
    )
    return QuotaFacts(*rows.one())


async def add_notice(
    session: AsyncSession,
    *,
    notice_id: UUID,
    cause: UUID,
    workspace: UUID,
    kind: str,
    recipient: Recipient,
    payload: Mapping[str, Any],
) -> None:
    """Store that a person is to be told; the same cause again changes nothing."""
    await session.execute(
        text(
            "insert into notices.notices (notice_id, cause, user_id, audience, workspace_id, "
            "kind, language, recipient, payload) values "
            "(:id, :cause, :user, :audience, :workspace, :kind, :language, :recipient, "
            "cast(:payload as jsonb)) on conflict do nothing"
        ),
        {
            "id": notice_id,
            "cause": cause,
            "user": recipient.user,
            "audience": "operator" if recipient.user is None else "workspace",
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


async def renew(
    session: AsyncSession, *, notice_id: UUID, token: UUID, claim_s: float
) -> str | None:
    """Keep a notice for `claim_s` from now, and return the address that its reader has now.

    None if it is not ours any more.
    """
    renewed = await session.execute(
        text(
            "update notices.notices n "
            "set lease_until = clock_timestamp() + make_interval(secs => :claim_s), "
            "recipient = coalesce((select u.email from config.users u "
            "  where u.user_id = n.user_id and u.workspace_id = n.workspace_id), n.recipient) "
            "where n.notice_id = :id and n.lease_token = :token and n.state = 'pending' "
            "returning n.recipient"
        ),
        {"id": notice_id, "token": token, "claim_s": claim_s},
    )
    row = renewed.one_or_none()
    return None if row is None else str(row.recipient)


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


async def reader_is_gone(session: AsyncSession, notice_id: UUID) -> str | None:
    """Return why a notice's reader is to be left alone; None if he is not.

    The operator, and a notice of a version that did not note its reader, are always told.
    """
    reason = await session.scalar(
        text(
            "select case when u.user_id is null then 'reader_removed' "
            "when n.kind = any (u.muted) then 'reader_muted' end "
            "from notices.notices n left join config.users u "
            "  on u.user_id = n.user_id and u.workspace_id = n.workspace_id "
            "where n.notice_id = :id and n.user_id is not null"
        ),
        {"id": notice_id},
    )
    return None if reason is None else str(reason)


async def outdated(
    session: AsyncSession, *, workspace: UUID, period: date, revision: int, threshold: int
) -> str | None:
    """Return why a threshold is not worth a mail any more; None if it is (`ledger.outdated`)."""
    reason = await session.scalar(
        text("select ledger.outdated(:workspace, :period, :revision, :threshold)"),
        {
            "workspace": workspace,
            "period": period,
            "revision": revision,
            "threshold": threshold,
        },
    )
    return None if reason is None else str(reason)


async def is_request_closed(session: AsyncSession, request: UUID) -> bool:
    """Return whether a request for a higher limit is decided or taken back."""
    closed = await session.scalar(
        text("select config.is_request_closed(:request)"), {"request": request}
    )
    return bool(closed)


async def finish(
    session: AsyncSession,
    *,
    notice_id: UUID,
    token: UUID,
    state: str,
    reason: str | None,
    answer: str | None = None,
) -> None:
    """Store what became of a notice, if it is still ours."""
    await session.execute(
        text(
            "update notices.notices set state = :state, reason = :reason, answer = :answer, "
            "lease_until = null, "
            "sent_at = case when :state = 'sent' then clock_timestamp() end "
            "where notice_id = :id and lease_token = :token and state = 'pending'"
        ),
        {"id": notice_id, "token": token, "state": state, "reason": reason, "answer": answer},
    )


async def postpone(
    session: AsyncSession,
    *,
    notice_id: UUID,
    token: UUID,
    wait_s: float,
    reason: str,
    answer: str | None = None,
) -> None:
    """Try a notice again later, if it is still ours."""
    await session.execute(
        text(
            "update notices.notices set lease_until = null, reason = :reason, answer = :answer, "
            "next_at = clock_timestamp() + make_interval(secs => :wait_s) "
            "where notice_id = :id and lease_token = :token and state = 'pending'"
        ),
        {
            "id": notice_id,
            "token": token,
            "wait_s": wait_s,
            "reason": reason,
            "answer": answer,
        },
    )


async def oldest_pending_s(session: Transaction) -> Mapping[str, float]:
    """Return for each kind how long its oldest notice has been due; below 0: it is not yet."""
    rows = await session.connection.fetch(
        "select kind, extract(epoch from clock_timestamp() - min(next_at))::float8 as waits_s "
        "from notices.notices where state = 'pending' group by kind"
    )
    return {row["kind"]: row["waits_s"] for row in rows}
