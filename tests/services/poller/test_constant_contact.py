"""The poller over Constant Contact's sandbox: real HTTP, pages by offset, one list."""

from collections.abc import AsyncIterator

import pytest

from libs.common.events import Operation, RunMode
from libs.connectors.account import StaticToken
from libs.connectors.constant_contact.source import ConstantContactSource
from libs.connectors.contract import OpenGate
from sandbox.constant_contact.app import create_app
from sandbox.constant_contact.state import State
from sandbox.constant_contact.tokens import STANDING_TOKEN
from tests.connectors.served import Served, served
from tests.services.poller.over_sandbox import LIST, Disturbed, fill
from tests.services.poller.world import World

CAP = 300
FIELDS = (
    {
        "source": "email",
        "source_type": "email",
        "destination": "EMAIL",
        "destination_type": "email",
    },
    {"source": "city", "source_type": "text", "destination": "CITY", "destination_type": "text"},
)


@pytest.fixture
async def provider() -> AsyncIterator[Served]:
    """Constant Contact's sandbox, without limits and strict about parameters."""
    async with served(create_app(State())) as one:
        await one.put("settings", {"strict_parameters": True})
        yield one


class DisturbedSource(Disturbed, ConstantContactSource):
    """A source whose list somebody leaves after the first page was read."""


def source_of(provider: Served, leaving: list[str] | None = None) -> DisturbedSource:
    source = DisturbedSource(
        provider.http, OpenGate(), StaticToken(STANDING_TOKEN), f"{provider.url}/v3"
    )
    source.provider = provider
    if leaving:
        source.then = (f"lists/{LIST}:leave", {"ids": leaving})
    return source


async def test_a_list_is_read_and_then_only_what_changed(world: World, provider: Served) -> None:
    """Proves S1, W3 and S4: joiners, edits and leavers of one list."""
    filled = await fill(provider, 600)
    source = source_of(provider)
    integration = await world.integrate(list_id=filled.list_id, fields=FIELDS)
    await world.poll(integration, source, newest_max=CAP)
    changed = await provider.post("contacts:change", {"ids": filled.ids[:3]})
    person = {"contacts": [{"properties": {"email": "new@example.com"}}], "list": LIST}
    joined = await provider.post("contacts:upsert", person)
    await provider.post(f"lists/{LIST}:leave", {"ids": filled.ids[10:12]})
    await provider.post("contacts:delete", {"ids": filled.ids[12:13]})

    await world.poll(integration, source, newest_max=CAP)

    first, second = world.journal.ends
    assert world.journal.ids(Operation.UPSERT, run_no=1) == filled.ids
    assert (first.total_before, first.complete, first.left_out) == (600, True, 0)
    wanted = sorted([*changed["ids"], *joined["ids"]])
    assert world.journal.ids(Operation.UPSERT, run_no=2) == wanted
    assert world.journal.ids(Operation.LEAVE, run_no=2) == filled.ids[10:13]
    assert (second.mode, second.left_out) == (RunMode.CHANGES, 0)
    assert world.journal.parts[0].properties == ["city", "email"]


async def test_of_a_bulk_change_the_newest_are_fetched(world: World, provider: Served) -> None:
    """Proves CC4 over real pages: most on one second, and the run says how many it left out."""
    filled = await fill(provider, 620)
    source = source_of(provider)
    integration = await world.integrate(list_id=filled.list_id, fields=FIELDS)
    await world.poll(integration, source, newest_max=CAP)
    await provider.post("contacts:change", {"ids": filled.ids})
    await provider.put("clock", {"advance_s": 2})
    newest = await provider.post("contacts:change", {"ids": filled.ids[:5]})

    await world.poll(integration, source, newest_max=CAP)

    end = world.journal.ends[1]
    assert (end.read, end.left_out) == (CAP, 320)
    assert set(newest["ids"]) <= set(world.journal.ids(run_no=2)) <= set(filled.ids)


async def test_who_was_passed_over_is_found_by_the_next_run(world: World, provider: Served) -> None:
    """Proves S1 and S4: rows moved up under a full read, and nobody is taken for a leaver."""
    filled = await fill(provider, 600)
    order = [each["contact_id"] for each in (await provider.get("state"))["contacts"]]
    integration = await world.integrate(list_id=filled.list_id, fields=FIELDS)

    await world.poll(integration, source_of(provider, leaving=order[:4]))
    passed_over = set(order) - set(world.journal.ids())
    await world.poll(integration, source_of(provider))

    first = world.journal.ends[0]
    assert passed_over == set(order[500:504])
    assert not first.complete
    assert world.journal.ids(Operation.LEAVE, run_no=1) == []
    assert set(world.journal.ids(Operation.UPSERT, run_no=2)) == passed_over
    assert world.journal.ids(Operation.LEAVE, run_no=2) == sorted(order[:4])
