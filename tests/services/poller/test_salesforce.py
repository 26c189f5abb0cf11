"""The poller over Salesforce's sandbox: real HTTP; contacts and leads, all or a campaign."""

from collections.abc import AsyncIterator

import pytest

from libs.common.events import IntegrationKind, Operation, RunMode
from libs.connectors.account import StaticToken
from libs.connectors.contract import OpenGate
from libs.connectors.salesforce.source import SalesforceSource
from sandbox.salesforce.app import create_app
from sandbox.salesforce.state import State
from sandbox.salesforce.tokens import STANDING_TOKEN
from tests.connectors.served import Served, served
from tests.services.poller.over_sandbox import LIST, Disturbed, attend, fill, long_ago
from tests.services.poller.world import World

FIELDS = (
    {"source": "Email", "destination": "EMAIL", "destination_type": "email"},
    {"source": "MailingCity", "destination": "CITY", "destination_type": "text"},
)


@pytest.fixture
async def provider() -> AsyncIterator[Served]:
    """Salesforce's sandbox, without limits, in pages of 200."""
    async with served(create_app(State())) as one:
        await one.put("settings", {"page_rows_max": 200})
        yield one


class DisturbedSource(Disturbed, SalesforceSource):
    """A source in whose organisation something happens before a page is read."""


def source_of(provider: Served, token: str = STANDING_TOKEN) -> DisturbedSource:
    source = DisturbedSource(provider.http, OpenGate(), StaticToken(token), provider.url)
    source.provider = provider
    return source


async def test_all_contacts_are_read_and_then_only_what_changed(
    world: World, provider: Served
) -> None:
    """Proves S1, W3 and S4: edits, new ones and deletions, with the next poll."""
    _, ids = await fill(provider, 450)
    source = source_of(provider)
    integration = await world.integrate(fields=FIELDS)
    await world.poll(integration, source)
    changed = await provider.post("contacts:change", {"ids": ids[:3]})
    person = {"properties": {"LastName": "New", "Email": "new@example.com"}}
    made = await provider.post("contacts:upsert", {"contacts": [person]})
    await provider.post("contacts:delete", {"ids": ids[10:12]})

    await world.poll(integration, source)
    await provider.post("calls:reset", {})
    await world.poll(integration, source)

    first, second, third = world.journal.ends
    assert world.journal.ids(Operation.UPSERT, run_no=1) == ids
    assert (first.total_before, first.total_after, first.complete) == (450, 450, True)
    wanted = sorted([*changed["ids"], *made["ids"]])
    assert world.journal.ids(Operation.UPSERT, run_no=2) == wanted
    assert world.journal.ids(Operation.DELETE, run_no=2) == ids[10:12]
    assert (second.mode, third.mode) == (RunMode.CHANGES, RunMode.CHANGES)
    assert world.journal.ids(Operation.DELETE, run_no=3) == []
    assert sum((await provider.calls()).values()) == 2  # What changed, and the recycle bin.


async def test_an_emptied_phone_is_told_as_one_that_stays(world: World, provider: Served) -> None:
    """Proves SF6: it is Salesforce's rule, and each of its pages says so."""
    await fill(provider, 3)

    await world.poll(await world.integrate(fields=FIELDS), source_of(provider))

    assert {part.phones_stay for part in world.journal.parts} == {True}


async def test_a_campaign_is_read_by_its_members(world: World, provider: Served) -> None:
    """Proves W3 and S4: whoever joins is read, however long ago they were edited."""
    list_id, ids = await fill(provider, 20)
    old = {"contacts": [{"properties": {"LastName": "Old", "Email": "old@example.com"}}]}
    [joiner] = (await long_ago(provider, "contacts:upsert", old))["ids"]
    source = source_of(provider)
    integration = await world.integrate(list_id=list_id, fields=FIELDS)
    await world.poll(integration, source)
    await provider.post(f"lists/{list_id}:join", {"ids": [joiner]})
    await provider.post(f"lists/{list_id}:leave", {"ids": ids[:1]})
    await provider.post("contacts:delete", {"ids": ids[1:2]})
    await provider.post("contacts:change", {"ids": ids[:3:2]})

    await world.poll(integration, source)

    assert world.journal.ids(Operation.UPSERT, run_no=1) == ids
    assert world.journal.ids(Operation.UPSERT, run_no=2) == sorted([joiner, ids[2]])
    assert world.journal.ids(Operation.LEAVE, run_no=2) == ids[:2]


async def test_a_merge_moves_a_contact_and_deletes_nobody(world: World, provider: Served) -> None:
    """The survivor takes over what was written for the other one, who is not told of as gone."""
    _, ids = await fill(provider, 5)
    source = source_of(provider)
    integration = await world.integrate(fields=FIELDS)
    await world.poll(integration, source)
    await provider.post("contacts:merge", {"primary": ids[1], "other": ids[0]})

    await world.poll(integration, source)

    [change] = world.journal.changes(run_no=2)
    assert (change.id, change.op, change.merged_from) == (ids[1], Operation.UPSERT, ids[:1])
    assert world.journal.ids(Operation.DELETE) == []


async def test_a_lead_that_is_converted_leaves_the_leads(world: World, provider: Served) -> None:
    """Proves W3 and S4: by the policy for whoever is gone; as a contact they are another's."""
    _, ids = await fill(provider, 4, object="Lead")
    source = source_of(provider)
    integration = await world.integrate(fields=({**FIELDS[0]},))
    await world.execute("update config.integrations set source_object = 'leads'")
    await world.poll(integration, source)
    await provider.post("leads:convert", {"ids": ids[:1]})

    await world.poll(integration, source)

    assert world.journal.ids(Operation.UPSERT, run_no=1) == ids
    assert world.journal.ids(Operation.DELETE, run_no=2) == ids[:1]
    assert world.journal.ids(Operation.UPSERT, run_no=2) == []


async def test_many_deletions_at_once_wait_for_a_persons_word(
    world: World, provider: Served
) -> None:
    """Proves S4, PROTOCOL 4.4: Salesforce's own word for it does not pass by the guard."""
    _, ids = await fill(provider, 60)
    source = source_of(provider)
    integration = await world.integrate(fields=FIELDS)
    await world.poll(integration, source)
    await provider.post("contacts:delete", {"ids": ids[:30]})

    await world.poll(integration, source)

    assert world.journal.ids(Operation.DELETE) == []
    assert [each.kind for each in await world.told()] == [IntegrationKind.NEEDS_CONFIRMATION]


async def test_what_is_committed_late_is_read_by_the_next_run(
    world: World, provider: Served
) -> None:
    """Proves S1. Fault 19: a time is set when a transaction begins, seen when it is committed."""
    _, ids = await fill(provider, 10)
    source = source_of(provider)
    integration = await world.integrate(fields=FIELDS)
    await world.poll(integration, source)
    await provider.put("settings", {"commit_lag_s": 500})
    await provider.put("clock", {"advance_s": -600})  # Before the run that is to miss it.
    await provider.post("contacts:change", {"ids": ids[:2]})

    await world.poll(integration, source)
    await provider.put("clock", {"advance_s": 600})
    await world.poll(integration, source)

    assert world.journal.ids(run_no=2) == []
    assert world.journal.ids(Operation.UPSERT, run_no=3) == ids[:2]


@pytest.mark.parametrize("page", [2, 3])
async def test_edits_and_deletions_between_pages_lose_nobody(
    world: World, provider: Served, page: int
) -> None:
    """Proves S1 and S4. Fault 20: a full read, and a window of changes, of three pages each."""
    _, ids = await fill(provider, 450)
    source = source_of(provider)
    source.before = (page, "contacts:delete", {"ids": [*ids[:2], ids[201], ids[449]]})
    integration = await world.integrate(fields=FIELDS)
    await world.poll(integration, source)
    await provider.post("contacts:change", {"share": 1})
    source.before = (source.pages + page, "contacts:change", {"ids": [ids[2], ids[300]]})

    await world.poll(integration, source)
    await world.poll(integration, source)

    gone = {*ids[:2], ids[201], ids[449]}
    assert await world.members(integration) == set(ids) - gone
    assert set(world.journal.ids(Operation.UPSERT, run_no=2)) == set(ids) - gone
    assert set(world.journal.ids(Operation.DELETE)) <= gone


@pytest.mark.parametrize(
    ("path", "body", "reason"),
    [
        (f"lists/{LIST}:delete", {}, "source_list_missing"),
        ("fields:delete", {"name": "MailingCity"}, "source_field_missing"),
        ("fields:hide", {"name": "MailingCity"}, "source_field_missing"),
    ],
)
@pytest.mark.parametrize("page", [0, 2])
async def test_what_is_gone_at_salesforce_stops_the_integration_with_a_reason(
    world: World, provider: Served, path: str, body: dict[str, object], reason: str, page: int
) -> None:
    """Proves X1. Fault 46: before a run and within one; nobody leaves, nothing is emptied."""
    list_id, ids = await fill(provider, 450)
    integration = await world.integrate(list_id=list_id, fields=FIELDS)
    source = source_of(provider)
    if page:
        source.before = (page, path, body)
    else:
        await attend(world, integration, source)
        await provider.post(path, body)

    await attend(world, integration, source)

    [told] = await world.told()
    assert (told.kind, told.reason) == (IntegrationKind.ERROR, reason)
    assert world.journal.ids(Operation.LEAVE) == []
    assert set(world.journal.ids(Operation.UPSERT)) <= set(ids)


@pytest.mark.parametrize("page", [1, 3])
async def test_a_grant_that_is_taken_back_needs_a_person_after_three_tries(
    world: World, provider: Served, page: int
) -> None:
    """Proves PROTOCOL 5. Fault 45: at each step; with a new grant the run is read to its end."""
    _, ids = await fill(provider, 450)
    token = (await provider.post("tokens", {}))["access_token"]
    integration = await world.integrate(fields=FIELDS)
    source = source_of(provider, token)
    source.before = (page, "app:uninstall", {})
    for _ in range(3):
        await attend(world, integration, source)
    [told] = await world.told()
    await world.execute("update config.connections set state = 'connected'")

    await attend(world, integration, source_of(provider))

    assert told.kind is IntegrationKind.NEEDS_REAUTH
    assert world.journal.ends[-1].complete
    assert set(world.journal.ids(Operation.UPSERT)) == set(ids)
    assert world.journal.ids(Operation.DELETE) == []
