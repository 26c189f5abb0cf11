"""config.workspaces and config.users: who the customers are, and who gets their mails."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession


@dataclass(frozen=True, slots=True)
class Workspace:
    """A customer."""

    workspace_id: UUID
    name: str
    plan: str
    language: str
    version: int
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Recipient:
    """A person who gets the workspace's mails."""

    user_id: UUID
    email: str
    language: str


_SELECT = "select workspace_id, name, plan, language, version, created_at from config.workspaces"


async def add(
    session: AsyncSession, *, workspace: UUID, name: str, plan: str, language: str
) -> None:
    """Store a workspace; storing it again changes nothing."""
    await session.execute(
        text(
            "insert into config.workspaces (workspace_id, name, plan, language)"
            " values (:workspace, :name, :plan, :language) on conflict do nothing"
        ),
        {"workspace": workspace, "name": name, "plan": plan, "language": language},
    )


async def add_recipient(
    session: AsyncSession, *, user: UUID, workspace: UUID, email: str, language: str
) -> None:
    """Store a recipient; an address that is there already stays as it is."""
    await session.execute(
        text(
            "insert into config.users (user_id, workspace_id, email, language)"
            " values (:user, :workspace, :email, :language) on conflict do nothing"
        ),
        {"user": user, "workspace": workspace, "email": email, "language": language},
    )


async def find(session: AsyncSession, workspace: UUID) -> Workspace | None:
    """Return a workspace; None if there is none that may be seen."""
    found = await session.execute(
        text(f"{_SELECT} where workspace_id = :workspace"),
        {"workspace": workspace},
    )
    row = found.one_or_none()
    return Workspace(*row) if row else None


async def hold_plan(session: AsyncSession, workspace: UUID) -> str:
    """Return a workspace's plan, which nobody changes until this transaction ends."""
    found = await session.execute(
        text("select plan from config.workspaces where workspace_id = :workspace for share"),
        {"workspace": workspace},
    )
    return str(found.scalar_one())


async def change(
    session: AsyncSession, workspace: UUID, *, name: str, plan: str, language: str, version: int
) -> bool:
    """Store a workspace's next version; False if it is no more at `version`."""
    changed = await session.execute(
        text(
            "update config.workspaces set name = :name, plan = :plan, language = :language,"
            " version = version + 1 where workspace_id = :workspace and version = :version"
            " returning version"
        ),
        {
            "workspace": workspace,
            "name": name,
            "plan": plan,
            "language": language,
            "version": version,
        },
    )
    return changed.one_or_none() is not None


async def find_page(session: AsyncSession, *, after: UUID | None, size: int) -> list[Workspace]:
    """Return workspaces, oldest first."""
    found = await session.execute(
        text(
            f"{_SELECT}"
            " where (cast(:after as uuid) is null or workspace_id > :after)"
            " order by workspace_id limit :size"
        ),
        {"after": after, "size": size},
    )
    return [Workspace(*row) for row in found]


async def find_recipients(session: AsyncSession, workspace: UUID) -> list[Recipient]:
    """Return who gets a workspace's mails."""
    found = await session.execute(
        text(
            "select user_id, email, language from config.users"
            " where workspace_id = :workspace order by user_id"
        ),
        {"workspace": workspace},
    )
    return [Recipient(*row) for row in found]
