"""The ledger as the accountant's role sees it, with the owner looking on."""

from collections.abc import AsyncIterator, Callable

import pytest

from libs.common import database
from libs.common.database import SessionMaker


@pytest.fixture
async def quota(role_url: Callable[[str], str]) -> AsyncIterator[SessionMaker]:
    engine = database.create_engine(role_url("quota"), pool_size_max=3, application_name="test")
    yield database.session_maker(engine)
    await engine.dispose()
