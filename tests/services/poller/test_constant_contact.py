"""The poller over Constant Contact's sandbox: real HTTP, pages by offset, one list."""

from collections.abc import AsyncIterator

import pytest

from libs.common.events import IntegrationKind, Operation, RunMode
from libs.connectors.account import StaticToken
from libs.connectors.constant_contact.source import ConstantContactSource
from libs.connectors.contract import OpenGate
from sandbox.constant_contact.app import create_app
from sandbox.constant_contact.state import State
from sandbox.constant_contact.tokens import STANDING_TOKEN
from tests.connectors.served import Served, served
from tests.services.poller.over_sandbox import LIST, Disturbed, Filled, attend, fill
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


def source_of(
    provider: Served, leaving: list[str] | None = None, token: str = STANDING_TOKEN
) -> DisturbedSource:
    source = DisturbedSource(provider.http, OpenGate(), StaticToken(token), f"{provider.url}/v3")
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
    """Fault 20. Proves S1 and S4: rows moved up under a full read; nobody is taken for a leaver."""
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


async def with_hobbies(provider: Served, count: int) -> tuple[Filled, str]:
    """Return people with a value in the custom field "Hobby", and what that is called."""
    fields = await source_of(provider).describe_fields("contacts")
    [name] = [each.name for each in fields if each.label == "Hobby"]
    hobby = {"custom_field_id": name.partition(":")[2] or name, "value": "Chess"}
    people = [
        {"properties": {"email": f"p{number}@example.com", "custom_fields": [hobby]}}
        for number in range(count)
    ]
    told = await provider.post("contacts:upsert", {"list": LIST, "contacts": people})
    return Filled(told["list_id"], told["ids"]), name


@pytest.mark.parametrize("page", [0, 2])
@pytest.mark.parametrize("reason", ["source_field_missing", "source_list_missing"])
async def test_what_is_gone_stops_the_integration_with_a_reason(
    world: World, provider: Served, page: int, reason: str
) -> None:
    """Proves X1. Fault 46: before a run and within one; nobody leaves, nothing is emptied.

    A contact names those custom fields only that it has a value of.
    """
    filled, name = await with_hobbies(provider, 1_100)
    hobby = {"source": name, "destination": "HOBBY", "destination_type": "text"}
    integration = await world.integrate(list_id=filled.list_id, fields=(*FIELDS, hobby))
    source = source_of(provider)
    path = f"lists/{LIST}:delete" if "list" in reason else "fields:delete"
    body: dict[str, object] = {} if "list" in reason else {"label": "Hobby"}
    source.before = (page, path, body)
    if page == 0:
        await attend(world, integration, source)
        assert await world.told() == []
        await provider.post("contacts:change", {"ids": filled.ids[:5]})
        await provider.post(path, body)

    await attend(world, integration, source)
    if page and "list" in reason:
        # A listing goes on as it began; the next run looks for the list before it reads.
        assert await world.told() == []
        await attend(world, integration, source)

    [trouble] = await world.told()
    assert (trouble.kind, trouble.reason) == (IntegrationKind.ERROR, reason)
    assert world.journal.ids(Operation.LEAVE) == []
    assert all(b"Chess" in bytes(each.properties) for each in world.journal.changes())


@pytest.mark.parametrize("page", [1, 3])
async def test_a_grant_that_is_taken_back_needs_a_person_after_three_tries(
    world: World, provider: Served, page: int
) -> None:
    """Proves PROTOCOL 5. Fault 45: at each step; with a new grant the run is read to its end."""
    filled = await fill(provider, 1_100)
    token = (await provider.post("tokens", {}))["access_token"]
    integration = await world.integrate(list_id=filled.list_id, fields=FIELDS)
    source = source_of(provider, token=token)
    source.before = (page, "app:uninstall", {})
    for _ in range(3):
        await attend(world, integration, source)
    [told] = await world.told()
    await world.execute("update config.connections set state = 'connected'")

    await attend(world, integration, source_of(provider))

    assert told.kind is IntegrationKind.NEEDS_REAUTH
    assert world.journal.ends[-1].complete
    assert set(world.journal.ids(Operation.UPSERT)) == set(filled.ids)
    assert world.journal.ids(Operation.LEAVE) == []


async def test_more_than_10000_contacts_on_one_second_are_all_read_and_then_the_newest(
    world: World, provider: Served
) -> None:
    """Fault 18. Proves S1 and CC4: the first import reads everybody, a bulk change the cap."""
    filled = await fill(provider, 10_050)
    source = source_of(provider)
    integration = await world.integrate(list_id=filled.list_id, fields=FIELDS)
    await attend(world, integration, source)
    await provider.post("contacts:change", {"ids": filled.ids})

    await attend(world, integration, source)

    first, second = world.journal.ends
    assert (first.read, first.left_out) == (10_050, 0)
    assert (second.read, second.left_out) == (10_000, 50)
    assert world.journal.ids(Operation.LEAVE) == []
