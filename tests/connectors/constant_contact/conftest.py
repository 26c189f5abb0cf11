from collections.abc import AsyncIterator

import pytest

from sandbox.constant_contact.app import create_app
from sandbox.constant_contact.state import State
from tests.connectors.served import Served, served


@pytest.fixture
async def provider() -> AsyncIterator[Served]:
    """Constant Contact's sandbox, empty, without limits, and strict about parameters."""
    async with served(create_app(State())) as one:
        await one.put("settings", {"strict_parameters": True})
        yield one
