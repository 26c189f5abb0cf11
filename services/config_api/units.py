"""Units of work: one transaction each, as one workspace or as the operator.

Promises: no statement of a request runs without row-level security knowing whose it is (X3); a
transaction that lost its connection or its race is run again as a whole, a few times only, because
a person is waiting (libs.common.postgres.transact).
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from libs.common.database import SessionMaker, become_operator, enter_workspace
from libs.common.postgres import transact

# About 0.3 s of waiting; a client repeats with its Idempotency-Key after that.
ATTEMPTS_MAX = 3

# Whose the operator's own rows are where a row must have a workspace.
OPERATOR = UUID(int=0)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Units:
    """Runs work in transactions of one workspace; None is the operator, who sees all."""

    sessions: SessionMaker
    workspace: UUID | None

    async def run(self, work: Callable[[AsyncSession], Awaitable[T]]) -> T:
        """Run `work` in one transaction; it may be run again, so it calls only the database."""

        async def entered(session: AsyncSession) -> T:
            if self.workspace is None:
                await become_operator(session)
            else:
                await enter_workspace(session, self.workspace)
            return await work(session)

        return await transact(self.sessions, entered, attempts_max=ATTEMPTS_MAX)

    @property
    def owner(self) -> UUID:
        """Return whose rows these units write: the workspace's, or the operator's own."""
        return self.workspace or OPERATOR
