from collections.abc import AsyncIterator

import pytest

from libs.connectors.activecampaign import facts
from sandbox.activecampaign.app import create_app
from sandbox.activecampaign.state import State
from tests.connectors.served import Served, served


@pytest.fixture
async def provider(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Served]:
    """ActiveCampaign's sandbox, empty, without limits, and with an importer that is quick."""
    monkeypatch.setattr(facts, "IMPORT_LOOK_FIRST_S", 0.01)
    async with served(create_app(State())) as one:
        await one.put("settings", {"import_delay_s": 0})
        yield one
