"""Fixtures of the writer's tests."""

from collections.abc import AsyncIterator, Callable

import pytest
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from tests.services.writer.world import World, make_world


@pytest.fixture
async def world(
    sessions: async_sessionmaker[AsyncSession], role_url: Callable[[str], str]
) -> AsyncIterator[World]:
    """Return a workspace with an active integration to a fake destination."""
    made = await make_world(sessions, role_url("writer"))
    yield made
    await made.pool.close()
