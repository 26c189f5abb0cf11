"""A running API for each test, and a customer's client for it."""

from collections.abc import AsyncIterator, Callable

import httpx
import pytest

from libs.common.database import SessionMaker
from tests.services.config_api.served import Served, config_api


@pytest.fixture
async def served(role_url: Callable[[str], str], sessions: SessionMaker) -> AsyncIterator[Served]:
    """Return the API on this test's database."""
    async with config_api(role_url("api"), sessions) as running:
        yield running


@pytest.fixture
async def api(served: Served) -> AsyncIterator[httpx.AsyncClient]:
    """Return a client with the first key of a workspace of its own."""
    workspace = await served.make_workspace()
    async with served.caller(workspace["api_key"]["secret"]) as client:
        yield client


@pytest.fixture
async def operator(served: Served) -> AsyncIterator[httpx.AsyncClient]:
    """Return a client with the operator's key."""
    async with served.caller(served.operator_key) as client:
        yield client
