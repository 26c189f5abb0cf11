"""An ActiveCampaign sandbox over real HTTP."""

from collections.abc import AsyncIterator

import httpx
import pytest

from sandbox.activecampaign.app import create_app
from sandbox.activecampaign.state import State
from sandbox.server import serve
from tests.sandbox.activecampaign.served import ActiveCampaign


@pytest.fixture
async def ac() -> AsyncIterator[ActiveCampaign]:
    """Serve a sandbox without limits and without waiting; `limited` has limits."""
    state = State()
    async with (
        serve(create_app(state)) as url,
        httpx.AsyncClient(base_url=url, trust_env=False) as http,
    ):
        served = ActiveCampaign(state, http)
        await served.control("PUT", "limits", {"enabled": False})
        await served.settings(import_delay_s=0)
        yield served


@pytest.fixture
async def limited(ac: ActiveCampaign) -> ActiveCampaign:
    """Return the sandbox with its limits, and with a clock that only moves when it is moved."""
    now_s = ac.state.clock.now_s()
    ac.state.clock._read_s = lambda: now_s
    await ac.control("PUT", "limits", {"enabled": True})
    return ac
