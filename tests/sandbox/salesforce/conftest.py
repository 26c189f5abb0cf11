from collections.abc import AsyncIterator

import httpx
import pytest

from sandbox.clock import Clock
from sandbox.salesforce.app import create_app
from sandbox.salesforce.state import State
from tests.sandbox.salesforce.served import AUTHORIZED, HandClock, Served


@pytest.fixture
async def strict() -> AsyncIterator[Served]:
    """Return a sandbox that counts its limits, as it begins."""
    time = HandClock()
    state = State(clock=Clock(time))
    transport = httpx.ASGITransport(create_app(state))
    base = "http://127.0.0.1:1"
    async with httpx.AsyncClient(transport=transport, base_url=base, headers=AUTHORIZED) as http:
        yield Served(state, time, http)


@pytest.fixture
async def served(strict: Served) -> Served:
    """Return a sandbox without limits."""
    await strict.control("PUT", "limits", {"enabled": False})
    return strict
