"""A Brevo sandbox over real HTTP."""

from collections.abc import AsyncIterator

import httpx
import pytest

from sandbox.brevo.app import create_app
from sandbox.brevo.state import State
from sandbox.server import serve
from tests.sandbox.brevo.served import Brevo


@pytest.fixture
async def brevo() -> AsyncIterator[Brevo]:
    """Serve a sandbox without limits; `limited` has them."""
    state = State()
    async with (
        serve(create_app(state)) as url,
        httpx.AsyncClient(base_url=url, trust_env=False) as http,
    ):
        served = Brevo(state, http)
        await served.control("PUT", "limits", {"enabled": False})
        yield served
        state.default.close()


@pytest.fixture
async def limited(brevo: Brevo) -> Brevo:
    """Return the sandbox with its limits, and with a clock that only moves when it is moved."""
    now_s = brevo.state.clock.now_s()
    brevo.state.clock._read_s = lambda: now_s
    await brevo.control("PUT", "limits", {"enabled": True})
    return brevo
