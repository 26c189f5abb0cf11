"""config.api_keys: who may call, and as what."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from services.config_api.keys import NewKey


@dataclass(frozen=True, slots=True)
class Credential:
    """What authentication needs of a key; `workspace_id` None: the operator's."""

    workspace_id: UUID | None
    name: str
    secret_sha256: bytes
    scopes: list[str]
    expires_at: datetime | None
    revoked_at: datetime | None


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key as people see it: never its secret."""

    key_id: UUID
    name: str
    scopes: list[str]
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None
    revoked_at: datetime | None


_SELECT = (
    "select key_id, name, scopes, created_at, expires_at, last_used_at, revoked_at"
    " from config.api_keys"
)


async def authenticate(session: AsyncSession, key_id: UUID) -> Credential | None:
    """Return what a key is worth, before its workspace is known; None: no such key."""
    found = await session.execute(text("select * from config.authenticate(:key)"), {"key": key_id})
    row = found.one_or_none()
    return Credential(*row) if row else None


async def add(
    session: AsyncSession,
    key: NewKey,
    *,
    workspace: UUID | None,
    name: str,
    scopes: Sequence[str],
    expires_at: datetime | None = None,
) -> ApiKey:
    """Store a new key; storing it again changes nothing."""
    await session.execute(
        text(
            "insert into config.api_keys (key_id, workspace_id, name, secret_sha256, scopes,"
            " expires_at) values (:key, :workspace, :name, :sha, :scopes, :expires)"
            " on conflict do nothing"
        ),
        {
            "key": key.key_id,
            "workspace": workspace,
            "name": name,
            "sha": key.secret_sha256,
            "scopes": list(scopes),
            "expires": expires_at,
        },
    )
    stored = await find(session, key.key_id)
    assert stored is not None
    return stored


async def find(session: AsyncSession, key_id: UUID) -> ApiKey | None:
    """Return a key; None if there is none in this workspace."""
    found = await session.execute(
        text(f"{_SELECT} where key_id = :key"),
        {"key": key_id},
    )
    row = found.one_or_none()
    return ApiKey(*row) if row else None


async def find_all(session: AsyncSession) -> list[ApiKey]:
    """Return the workspace's keys that are not revoked, oldest first; there are few."""
    found = await session.execute(text(f"{_SELECT} where revoked_at is null order by key_id"))
    return [ApiKey(*row) for row in found]


async def count_live(session: AsyncSession) -> int:
    """Return how many keys of the workspace can be used."""
    count = await session.scalar(
        text(
            "select count(*) from config.api_keys where revoked_at is null"
            " and (expires_at is null or expires_at > clock_timestamp())"
        )
    )
    assert isinstance(count, int)
    return count


async def revoke(session: AsyncSession, key_id: UUID) -> bool:
    """Make a key useless from now on; False if there is none or it was revoked before."""
    found = await session.execute(
        text(
            "update config.api_keys set revoked_at = clock_timestamp()"
            " where key_id = :key and revoked_at is null returning key_id"
        ),
        {"key": key_id},
    )
    return found.one_or_none() is not None


async def lock_operator_keys(session: AsyncSession) -> int:
    """Let one bootstrap run at a time; return how many operator's keys can be used."""
    await session.execute(text("select pg_advisory_xact_lock(hashtext('config.bootstrap'))"))
    count = await session.scalar(
        text(
            "select count(*) from config.api_keys where workspace_id is null"
            " and revoked_at is null"
            " and (expires_at is null or expires_at > clock_timestamp())"
        )
    )
    assert isinstance(count, int)
    return count


async def revoke_operator_keys(session: AsyncSession) -> None:
    """Make every operator's key useless from now on."""
    await session.execute(
        text(
            "update config.api_keys set revoked_at = clock_timestamp()"
            " where workspace_id is null and revoked_at is null"
        )
    )
