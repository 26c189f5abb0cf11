from collections.abc import AsyncIterator

import pytest

from sandbox.google_contacts.app import create_app
from sandbox.google_contacts.state import State
from tests.connectors.served import Served, served


@pytest.fixture
async def provider() -> AsyncIterator[Served]:
    """Google's sandbox, empty and without limits."""
    async with served(create_app(State())) as one:
        yield one
