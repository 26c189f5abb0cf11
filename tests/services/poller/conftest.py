from collections.abc import AsyncIterator, Callable

import pytest

from libs.common.database import SessionMaker
from libs.common.postgres import Transactions, create_pool
from tests.services.poller.fakes import FakeSource
from tests.services.poller.world import World


@pytest.fixture
async def world(sessions: SessionMaker, role_url: Callable[[str], str]) -> AsyncIterator[World]:
    """Return an empty workspace with a source connection."""
    pool = create_pool(role_url("poller"), size_max=5, application_name="test")
    world = World(sessions, Transactions(pool))
    await world.set_up()
    yield world
    await pool.close()


@pytest.fixture
def source() -> FakeSource:
    return FakeSource()
