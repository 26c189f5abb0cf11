"""Files in the database as the API stores them, for whoever reads them."""

from collections.abc import AsyncIterable, AsyncIterator
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from libs.common import ids
from libs.common.csvfile.form import Wishes
from libs.common.database import SessionMaker
from services.config_api.intake import Intake, Target
from services.config_api.store import imports
from services.config_api.store.imports import Import
from services.config_api.units import Units


async def store_file(
    sessions: SessionMaker,
    workspace: UUID,
    connection: UUID,
    content: str | AsyncIterable[bytes],
    *,
    wishes: Wishes | None = None,
    rows_max: int = 1_000_000,
) -> Import:
    """Take a file in, and confirm it."""
    units = Units(sessions, workspace)
    target = Target(ids.new(), workspace, connection)

    async def begin(session: AsyncSession) -> None:
        await imports.add(
            session,
            import_id=target.import_id,
            workspace=workspace,
            connection=connection,
            name="members.csv",
        )

    async def nothing(_session: AsyncSession) -> None:
        return

    await units.run(begin)
    intake = Intake(units, target, wishes or Wishes(), rows_max=rows_max)
    await intake.take(_whole(content) if isinstance(content, str) else content)
    row = await intake.finish(nothing)
    await units.run(lambda session: imports.confirm(session, row.import_id, by="test"))
    return row


async def _whole(content: str) -> AsyncIterator[bytes]:
    yield content.encode()


async def prepare(sessions: SessionMaker, workspace: UUID, connection: UUID) -> None:
    """Make a workspace with a connection for files."""
    parameters = {"workspace": workspace, "connection": connection}
    async with sessions.begin() as session:
        await session.execute(
            text("insert into config.workspaces (workspace_id, name) values (:workspace, 'Ours')"),
            parameters,
        )
        await session.execute(
            text(
                "insert into config.connections (connection_id, workspace_id, provider, name,"
                " state, account_id) values (:connection, :workspace, 'csv', 'Files',"
                " 'connected', '1')"
            ),
            parameters,
        )
