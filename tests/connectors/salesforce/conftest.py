from collections.abc import AsyncIterator

import pytest

from sandbox.salesforce.app import create_app
from sandbox.salesforce.state import State
from tests.connectors.served import Served, served


@pytest.fixture
async def provider() -> AsyncIterator[Served]:
    """Salesforce's sandbox: one organisation, empty and without limits."""
    async with served(create_app(State())) as one:
        yield one
