"""config.users: who gets a workspace's mails, in which language, and which kinds."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession


@dataclass(frozen=True, slots=True)
class User:
    """A person who gets a workspace's mails, all kinds but the `muted`."""

    user_id: UUID
    workspace_id: UUID
    email: str
    language: str
    muted: list[str]
    version: int
    created_at: datetime


_SELECT = (
    "select user_id, workspace_id, email, language, muted, version, created_at from config.users"
)


async def lock(session: AsyncSession, workspace: UUID) -> None:
    """Let nobody else change the workspace's users until this transaction ends."""
    await session.execute(
        text("select from config.workspaces where workspace_id = :workspace for no key update"),
        {"workspace": workspace},
    )


async def count(session: AsyncSession, workspace: UUID) -> int:
    """Return how many users a workspace has."""
    users = await session.scalar(
        text("select count(*) from config.users where workspace_id = :workspace"),
        {"workspace": workspace},
    )
    return int(users or 0)


async def is_taken(
    session: AsyncSession, workspace: UUID, email: str, *, by_another_than: UUID
) -> bool:
    """Return whether another user of the workspace has an address, however it is written."""
    taken = await session.scalar(
        text(
            "select exists (select from config.users where workspace_id = :workspace"
            " and lower(email) = lower(:email) and user_id <> :user)"
        ),
        {"workspace": workspace, "email": email, "user": by_another_than},
    )
    return bool(taken)


async def add(
    session: AsyncSession,
    *,
    user: UUID,
    workspace: UUID,
    email: str,
    language: str,
    muted: list[str],
) -> User:
    """Store a user; storing it again changes nothing."""
    await session.execute(
        text(
            "insert into config.users (user_id, workspace_id, email, language, muted)"
            " values (:user, :workspace, :email, :language, :muted)"
            " on conflict (user_id) do nothing"
        ),
        {
            "user": user,
            "workspace": workspace,
            "email": email,
            "language": language,
            "muted": muted,
        },
    )
    made = await find(session, workspace, user)
    assert made is not None
    return made


async def find(session: AsyncSession, workspace: UUID, user: UUID) -> User | None:
    """Return a user of a workspace; None if there is none that may be seen."""
    found = await session.execute(
        text(f"{_SELECT} where workspace_id = :workspace and user_id = :user"),
        {"workspace": workspace, "user": user},
    )
    row = found.one_or_none()
    return User(*row) if row else None


async def find_page(
    session: AsyncSession, workspace: UUID, *, after: UUID | None, size: int
) -> list[User]:
    """Return users of a workspace, oldest first."""
    found = await session.execute(
        text(
            f"{_SELECT} where workspace_id = :workspace"
            " and (cast(:after as uuid) is null or user_id > :after)"
            " order by user_id limit :size"
        ),
        {"workspace": workspace, "after": after, "size": size},
    )
    return [User(*row) for row in found]


async def change(session: AsyncSession, user: User) -> None:
    """Store a user's address, language and muted kinds as the next version."""
    await session.execute(
        text(
            "update config.users set email = :email, language = :language, muted = :muted,"
            " version = version + 1"
            " where workspace_id = :workspace and user_id = :user"
        ),
        {
            "email": user.email,
            "language": user.language,
            "muted": user.muted,
            "workspace": user.workspace_id,
            "user": user.user_id,
        },
    )


async def remove(session: AsyncSession, user: User) -> None:
    """Forget a user. What was mailed to it stays in `notices.notices`."""
    await session.execute(
        text("delete from config.users where workspace_id = :workspace and user_id = :user"),
        {"workspace": user.workspace_id, "user": user.user_id},
    )
