"""config.idempotency_keys: what a request with a key was answered."""

from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession


@dataclass(frozen=True, slots=True)
class Row:
    """A key that was used before; `status` None: its request is under way."""

    request_sha256: bytes
    status: int | None
    headers: dict[str, str] | None
    sealed_body: str | None


async def claim(
    session: AsyncSession, *, owner: UUID, key: str, request_sha256: bytes, abandoned_s: int
) -> Row | None:
    """Take a key: None if it is ours now, else who has it. Keys older than a day are forgotten."""
    await session.execute(
        text(
            "delete from config.idempotency_keys where workspace_id = :owner"
            " and created_at < clock_timestamp() - interval '24 hours'"
        ),
        {"owner": owner},
    )
    claimed = await session.scalar(
        text(
            "insert into config.idempotency_keys as k (workspace_id, key, request_sha256)"
            " values (:owner, :key, :sha) on conflict (workspace_id, key) do update"
            " set created_at = clock_timestamp()"
            " where k.status is null and k.request_sha256 = excluded.request_sha256"
            " and k.created_at < clock_timestamp() - make_interval(secs => :abandoned)"
            " returning true"
        ),
        {"owner": owner, "key": key, "sha": request_sha256, "abandoned": abandoned_s},
    )
    if claimed:
        return None
    found = await session.execute(
        text(
            "select request_sha256, status, headers, sealed_body from config.idempotency_keys"
            " where workspace_id = :owner and key = :key"
        ),
        {"owner": owner, "key": key},
    )
    return Row(*found.one())


async def keep(
    session: AsyncSession, *, owner: UUID, key: str, status: int, headers: str, sealed_body: str
) -> None:
    """Store the answer of a key's request."""
    await session.execute(
        text(
            "update config.idempotency_keys set status = :status,"
            " headers = cast(:headers as jsonb), sealed_body = :body"
            " where workspace_id = :owner and key = :key"
        ),
        {"owner": owner, "key": key, "status": status, "headers": headers, "body": sealed_body},
    )


async def release(session: AsyncSession, *, owner: UUID, key: str) -> None:
    """Forget a key whose request did nothing."""
    await session.execute(
        text(
            "delete from config.idempotency_keys"
            " where workspace_id = :owner and key = :key and status is null"
        ),
        {"owner": owner, "key": key},
    )
