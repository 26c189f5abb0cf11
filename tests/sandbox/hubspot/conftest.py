"""A HubSpot sandbox on a real port, served from a thread: official clients block."""

from collections.abc import Iterator

import httpx
import pytest
from anyio.from_thread import start_blocking_portal

from sandbox.hubspot.app import create_app
from sandbox.hubspot.state import State
from sandbox.server import serve
from tests.sandbox.hubspot.served import PRIVATE_TOKEN, Served


@pytest.fixture
def served() -> Iterator[Served]:
    state = State()
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(serve(create_app(state))) as url,
        httpx.Client(
            base_url=url, headers={"authorization": f"Bearer {PRIVATE_TOKEN}"}, timeout=60
        ) as http,
    ):
        sandbox = Served(url, state, http)
        try:
            yield sandbox
        finally:
            sandbox.close()
