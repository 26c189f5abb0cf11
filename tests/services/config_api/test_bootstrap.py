"""The operator's first key."""

from collections.abc import AsyncIterator, Callable

import pytest

from libs.common import database
from libs.common.database import SessionMaker
from services.config_api import keys
from services.config_api.bootstrap import AlreadyBootstrappedError, bootstrap
from services.config_api.store import keys as store


@pytest.fixture
async def api_sessions(role_url: Callable[[str], str]) -> AsyncIterator[SessionMaker]:
    """Return sessions as the API's own role."""
    engine = database.create_engine(role_url("api"), pool_size_max=1, application_name="t")
    yield database.session_maker(engine)
    await engine.dispose()


async def is_live(sessions: SessionMaker, key: str) -> bool:
    presented = keys.parse(key)
    assert presented is not None
    async with sessions.begin() as session:
        found = await store.authenticate(session, presented.key_id)
    assert found is not None
    assert keys.is_right(presented, found.secret_sha256)
    return found.revoked_at is None and found.workspace_id is None


async def test_the_first_one_makes_the_operators_key(api_sessions: SessionMaker) -> None:
    key = await bootstrap(api_sessions, replace=False)

    assert await is_live(api_sessions, key)


async def test_the_second_one_says_what_to_do_and_changes_nothing(
    api_sessions: SessionMaker,
) -> None:
    key = await bootstrap(api_sessions, replace=False)

    with pytest.raises(AlreadyBootstrappedError, match="--replace"):
        await bootstrap(api_sessions, replace=False)

    assert await is_live(api_sessions, key)


async def test_replacing_makes_the_old_key_useless(api_sessions: SessionMaker) -> None:
    old = await bootstrap(api_sessions, replace=False)

    new = await bootstrap(api_sessions, replace=True)

    assert not await is_live(api_sessions, old)
    assert await is_live(api_sessions, new)
