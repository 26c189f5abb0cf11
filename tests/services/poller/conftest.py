from collections.abc import AsyncIterator, Callable

import pytest

from libs.common.database import SessionMaker, create_engine, session_maker
from tests.services.poller.fakes import FakeSource
from tests.services.poller.world import World


@pytest.fixture
async def world(sessions: SessionMaker, role_url: Callable[[str], str]) -> AsyncIterator[World]:
    """Return an empty workspace with a source connection."""
    engine = create_engine(role_url("poller"), pool_size_max=5, application_name="test")
    world = World(sessions, session_maker(engine))
    await world.set_up()
    yield world
    await engine.dispose()


@pytest.fixture
def source() -> FakeSource:
    return FakeSource()
