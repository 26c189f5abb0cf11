"""The poller over Google's sandbox: real HTTP, sync tokens, all contacts or one group."""

from collections.abc import AsyncIterator

import pytest

from libs.common.events import IntegrationKind, Operation, RunMode
from libs.connectors.account import StaticToken
from libs.connectors.contract import OpenGate
from libs.connectors.google_contacts.source import GoogleContactsSource
from sandbox.google_contacts.app import create_app
from sandbox.google_contacts.state import State
from sandbox.google_contacts.tokens import STANDING_TOKEN
from tests.connectors.served import Served, served
from tests.services.poller.over_sandbox import LIST, Disturbed, attend, attend_due, fill
from tests.services.poller.world import World

FIELDS = (
    {"source": "email", "destination": "EMAIL", "destination_type": "email"},
    {"source": "city", "destination": "CITY", "destination_type": "text"},
)


@pytest.fixture
async def provider() -> AsyncIterator[Served]:
    """Google's sandbox, without limits."""
    async with served(create_app(State())) as one:
        yield one


class DisturbedSource(Disturbed, GoogleContactsSource):
    """A source in whose account something happens after the first page of a run was read."""


def source_of(provider: Served, token: str = STANDING_TOKEN) -> DisturbedSource:
    source = DisturbedSource(provider.http, OpenGate(), StaticToken(token), provider.url)
    source.provider = provider
    return source


async def test_a_group_is_read_and_then_only_what_changed(world: World, provider: Served) -> None:
    """Proves S1, W3 and S4: joiners, edits, leavers and deletions, by one listing."""
    list_id, ids = await fill(provider, 20)
    source = source_of(provider)
    integration = await world.integrate(list_id=list_id, fields=FIELDS)
    await world.poll(integration, source)
    changed = await provider.post("contacts:change", {"ids": ids[:3]})
    person = {"contacts": [{"properties": {"email": "new@example.com"}}], "list": LIST}
    joined = await provider.post("contacts:upsert", person)
    await provider.post(f"lists/{LIST}:leave", {"ids": ids[10:11]})
    stranger = {"contacts": [{"properties": {"email": "stranger@example.com"}}]}
    await provider.post("contacts:upsert", stranger)

    await world.poll(integration, source)
    await provider.post("contacts:delete", {"ids": ids[12:13]})
    await world.poll(integration, source)

    first, second, third = world.journal.ends
    assert world.journal.ids(Operation.UPSERT, run_no=1) == ids
    assert (first.total_before, first.total_after, first.complete) == (20, 20, True)
    wanted = sorted([*changed["ids"], *joined["ids"]])
    assert world.journal.ids(Operation.UPSERT, run_no=2) == wanted
    assert world.journal.ids(Operation.LEAVE, run_no=2) == ids[10:11]
    assert world.journal.ids(Operation.LEAVE, run_no=3) == ids[12:13]
    assert (second.mode, third.mode) == (RunMode.CHANGES, RunMode.CHANGES)


async def test_everyone_is_read_and_who_is_deleted_is_told_of(
    world: World, provider: Served
) -> None:
    """Proves S1, W3 and S4: without a group, and an idle poll is one call."""
    _, ids = await fill(provider, 10)
    source = source_of(provider)
    integration = await world.integrate(fields=FIELDS)
    await world.poll(integration, source)
    await provider.post("contacts:delete", {"ids": ids[:1]})
    await world.poll(integration, source)
    await provider.post("calls:reset", {})

    await world.poll(integration, source)

    assert world.journal.ids(Operation.DELETE) == ids[:1]
    assert await provider.calls() == {"GET /v1/people/me/connections": 1}


async def test_a_contact_with_a_new_name_is_followed(world: World, provider: Served) -> None:
    """A link to a profile gives another resource name: nobody is deleted for it."""
    _, ids = await fill(provider, 3)
    source = source_of(provider)
    integration = await world.integrate(fields=FIELDS)
    await world.poll(integration, source)
    [renamed] = (await provider.post("contacts:rename", {"ids": ids[:1]}))["ids"]

    await world.poll(integration, source)

    [change] = world.journal.changes(run_no=2)
    assert (change.id, change.op, list(change.merged_from)) == (
        renamed,
        Operation.UPSERT,
        ids[:1],
    )


async def test_a_sync_token_that_expires_is_followed_by_a_full_read(
    world: World, provider: Served
) -> None:
    """Fault 65. Proves S1 and S4: also what was deleted in the window that nobody tells of."""
    _, ids = await fill(provider, 30)
    source = source_of(provider)
    integration = await world.integrate(fields=FIELDS)
    await attend(world, integration, source)
    changed = (await provider.post("contacts:change", {"ids": ids[:2]}))["ids"]
    await provider.post("contacts:delete", {"ids": ids[5:6]})
    await provider.put("clock", {"advance_s": 8 * 86_400})

    await attend(world, integration, source)
    await attend_due(world, source)
    await attend(world, integration, source)

    assert [end.mode for end in world.journal.ends] == [
        RunMode.FULL,
        RunMode.FULL,
        RunMode.CHANGES,
    ]
    assert set(changed) <= set(world.journal.ids(Operation.UPSERT, run_no=3))
    assert world.journal.ids(Operation.DELETE, run_no=3) == ids[5:6]
    assert await world.told() == []


async def test_a_sync_token_that_expires_mid_way_loses_nothing(
    world: World, provider: Served
) -> None:
    """Fault 65. Proves S1: the second page is refused, and everything is read instead."""
    _, ids = await fill(provider, 1_020)
    source = source_of(provider)
    integration = await world.integrate(fields=FIELDS)
    await attend(world, integration, source)
    await provider.post("contacts:change", {"share": 1})
    source.then = ("sync-tokens:expire", {})

    await attend(world, integration, source)
    await attend_due(world, source)

    last = world.journal.ends[-1]
    assert (last.mode, last.complete, last.run_no) == (RunMode.FULL, True, 3)
    assert world.journal.ids(Operation.UPSERT, run_no=3) == ids
    assert world.journal.ids(Operation.DELETE) == []


@pytest.mark.parametrize("rows_move", [True, False])
async def test_who_moves_while_pages_are_read_is_not_taken_for_gone(
    world: World, provider: Served, *, rows_move: bool
) -> None:
    """Proves S1, S4. Fault 20: deletions between two pages of a full read."""
    await provider.put("settings", {"rows_move": rows_move})
    _, ids = await fill(provider, 1_020)
    source = source_of(provider)
    integration = await world.integrate(fields=FIELDS)
    source.then = ("contacts:delete", {"ids": ids[:5]})

    await world.poll(integration, source)
    await provider.put("settings", {"rows_move": False})
    await world.poll(integration, source)

    assert set(world.journal.ids(Operation.UPSERT)) >= set(ids[5:])
    assert world.journal.ids(Operation.DELETE) == ids[:5]
    assert await world.members(integration) == set(ids[5:])


async def test_a_group_that_is_removed_stops_the_integration_with_a_reason(
    world: World, provider: Served
) -> None:
    """Proves X1. Fault 46: nobody leaves a list because it was deleted."""
    list_id, _ = await fill(provider, 5)
    source = source_of(provider)
    integration = await world.integrate(list_id=list_id, fields=FIELDS)
    await attend(world, integration, source)
    await provider.post(f"lists/{list_id}:delete", {})

    await attend(world, integration, source)

    [told] = await world.told()
    assert (told.kind, told.reason) == (IntegrationKind.ERROR, "source_list_missing")
    assert world.journal.ids(Operation.LEAVE) == []


async def test_a_grant_that_is_taken_back_needs_a_person_after_three_tries(
    world: World, provider: Served
) -> None:
    """Proves PROTOCOL 5. Fault 45: and the run is read once there is a new grant."""
    _, ids = await fill(provider, 3)
    token = (await provider.post("tokens", {}))["access_token"]
    integration = await world.integrate(fields=FIELDS)
    await attend(world, integration, source_of(provider, token))
    await provider.post("contacts:change", {"ids": ids[:1]})
    await provider.post("app:uninstall", {})
    for _ in range(3):
        await attend(world, integration, source_of(provider, token))
    [told] = await world.told()
    await world.execute("update config.connections set state = 'connected'")

    await attend(world, integration, source_of(provider))

    assert told.kind is IntegrationKind.NEEDS_REAUTH
    assert world.journal.ids(run_no=world.journal.ends[-1].run_no) == ids[:1]
