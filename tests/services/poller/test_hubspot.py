"""The poller over HubSpot's sandbox: real HTTP, real pages, the shared rate budget in between."""

import base64
import os
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from libs.common.clock import SystemClock
from libs.common.errors import NeedsReauthError
from libs.common.events import IntegrationKind, Operation
from libs.common.secrets import KeyRing
from libs.common.tokens import Client
from libs.connectors.account import StaticToken
from libs.connectors.contract import OpenGate, Source
from libs.connectors.hubspot.source import HubSpotSource
from libs.connectors.opening import Opener
from sandbox.clock import Clock
from sandbox.hubspot.app import create_app
from sandbox.hubspot.state import State
from services.poller.sources import Sources, account_of
from tests.connectors.served import Served, served
from tests.services.poller.kills import KilledError, killed_when
from tests.services.poller.over_sandbox import LIST, Disturbed, attend
from tests.services.poller.world import FIELDS, World

KEYS = KeyRing.parse("k1:" + base64.b64encode(os.urandom(32)).decode())
TOKEN = "pat-sandbox"


@pytest.fixture
def lateness() -> list[float]:
    """Return by how many seconds the sandbox's clock is ahead, to be set."""
    return [0.0]


@pytest.fixture
async def hubspot(lateness: list[float]) -> AsyncIterator[Served]:
    """HubSpot's sandbox, empty, without limits and without a late index."""
    clock = Clock(lambda: time.time() + lateness[0])
    async with served(create_app(State(clock=clock))) as one:
        await one.put("settings", {"index_delay_s": 0})
        yield one


@pytest.fixture
async def sources(world: World, hubspot: Served) -> Sources:
    """Return what opens the world's connection, with the sandbox's private-app token."""
    sealed = KEYS.seal(
        "pat-sandbox", workspace=world.workspace, connection=world.connection, field="api_key"
    )
    await world.execute(
        "update config.connections set sealed_api_key = :sealed where connection_id = :connection",
        sealed=sealed,
    )
    return Sources(
        Opener(
            http=hubspot.http,
            transactions=world.as_poller,
            keys=KEYS,
            clock=SystemClock(),
            patience_s=5.0,
            clients={"hubspot": Client("sandbox-client", "sandbox-secret")},
            base_urls={"hubspot": hubspot.url},
            paced=False,
        )
    )


@pytest.fixture
async def source(world: World, sources: Sources) -> Source:
    await world.integrate()
    [assignment] = await world.claim()
    await world.execute("delete from sync.schedules")
    return await sources(assignment)


class DisturbedSource(Disturbed, HubSpotSource):
    """A source in whose portal something happens while its pages are read."""


def disturbed(hubspot: Served, token: str = TOKEN) -> DisturbedSource:
    source = DisturbedSource(hubspot.http, OpenGate(), StaticToken(token), hubspot.url)
    source.provider = hubspot
    return source


async def fill(hubspot: Served, count: int, **how: Any) -> list[str]:
    told = await hubspot.post("contacts:fill", {"count": count, **how})
    return [str(id_) for id_ in told["ids"]]


async def test_a_list_is_read_and_then_only_what_changed(
    world: World, hubspot: Served, source: Source
) -> None:
    """Proves S1 and W3."""
    told = await hubspot.post("contacts:fill", {"count": 450, "list": LIST})
    ids = sorted(str(id_) for id_ in told["ids"])
    await fill(hubspot, 50, seed=2)
    integration = await world.integrate(list_id=str(told["list_id"]))
    await world.poll(integration, source)
    changed = await hubspot.post("contacts:change", {"ids": ids[:3]})
    await hubspot.post(f"lists/{told['list_id']}:leave", {"ids": ids[10:12]})
    await hubspot.post("contacts:delete", {"ids": ids[12:13]})

    await world.poll(integration, source)

    assert world.journal.ids(Operation.UPSERT, run_no=1) == ids
    assert world.journal.ends[0].total_before == 450
    assert set(world.journal.ids(Operation.UPSERT, run_no=2)) >= set(map(str, changed["ids"]))
    assert world.journal.ids(Operation.LEAVE, run_no=2) == ids[10:13]
    assert world.journal.parts[0].properties == ["email", "firstname"]


@pytest.mark.no_cover  # Thousands of turns; its lines are others' to cover.
async def test_more_than_10000_contacts_on_one_millisecond_are_all_read(
    world: World, hubspot: Served, source: Source
) -> None:
    """Fault 18. Proves S1: PROTOCOL 12, a bulk change of the whole account."""
    integration = await world.integrate()
    await world.poll(integration, source)
    ids = await fill(hubspot, 10_050, same_timestamp=True)

    await world.poll(integration, source)

    changes = list(world.journal.changes(run_no=2))
    assert {change.id for change in changes} == set(ids)
    assert len({change.version_ms for change in changes}) == 1
    assert world.journal.ends[1].read == 10_050
    assert await world.members(integration) == set(ids)


async def test_a_late_index_loses_nobody(
    world: World, hubspot: Served, source: Source, lateness: list[float]
) -> None:
    """Fault 19. Proves S1 where HubSpot's search does not show an edit at once."""
    integration = await world.integrate()
    await world.poll(integration, source)
    await hubspot.put("settings", {"index_delay_s": 600})
    ids = await fill(hubspot, 3)
    await world.poll(integration, source)
    assert world.journal.ids() == []
    lateness[0] = 601.0

    await world.poll(integration, source)

    assert world.journal.ids(run_no=3) == sorted(ids)


async def test_merged_members_live_on_in_the_survivor(
    world: World, hubspot: Served, source: Source
) -> None:
    told = await hubspot.post("contacts:fill", {"count": 5, "list": LIST})
    first, second, *_ = (str(id_) for id_ in told["ids"])
    integration = await world.integrate(list_id=str(told["list_id"]))
    await world.poll(integration, source)
    merged = await hubspot.post("contacts:merge", {"primary": first, "other": second})

    await world.poll(integration, source)

    survivors = {
        change.id: set(change.merged_from)
        for change in world.journal.changes(Operation.UPSERT, run_no=2)
        if change.merged_from
    }
    assert survivors == {str(merged["id"]): {first, second}}
    assert world.journal.ids(Operation.LEAVE) == []


async def test_a_killed_import_is_gone_on_with(
    world: World, hubspot: Served, source: Source
) -> None:
    """Proves X2."""
    ids = await fill(hubspot, 5_000)
    integration = await world.integrate()
    dying = await world.claim_one(integration)
    with pytest.raises(KilledError):
        await killed_when(world.run(dying, source), lambda: len(world.journal.ids()) > 3_500)
    await world.lapse(integration)
    await hubspot.post("calls:reset", {})

    [assignment] = await world.claim()
    await world.run(assignment, source).poll()

    assert set(world.journal.ids()) == set(ids)
    assert world.journal.ends[0].read == 5_000
    assert sum((await hubspot.calls()).values()) < 50


async def test_a_list_that_was_deleted_is_reported(
    world: World, hubspot: Served, source: Source
) -> None:
    """Fault 46. Proves X1."""
    told = await hubspot.post("contacts:fill", {"count": 5, "list": LIST})
    integration = await world.integrate(list_id=str(told["list_id"]))
    await world.poll(integration, source)
    await hubspot.post(f"lists/{told['list_id']}:delete", {})
    await world.make_due(integration)
    attendant = world.attendant(source)

    await attendant.claim()
    for task in attendant._running.values():
        await task

    assert [told.reason for told in await world.told()] == ["source_list_missing"]


NOTES = (
    *FIELDS,
    {"source": "notes_on_contact", "destination": "NOTES", "destination_type": "text"},
)


@pytest.mark.parametrize("page", [0, 2])
@pytest.mark.parametrize("reason", ["source_field_missing", "source_list_missing"])
async def test_what_is_gone_at_hubspot_stops_the_integration_with_a_reason(
    world: World, hubspot: Served, page: int, reason: str
) -> None:
    """Proves X1. Fault 46: before a run and within one; nobody leaves, nothing is emptied.

    HubSpot says nothing of a property that is gone, as of one that is empty for everybody.
    """
    told = await hubspot.post("contacts:fill", {"count": 1_050, "list": LIST})
    integration = await world.integrate(list_id=str(told["list_id"]), fields=NOTES)
    source = disturbed(hubspot)
    path = f"lists/{told['list_id']}:delete" if "list" in reason else "fields:delete"
    body: dict[str, object] = {} if "list" in reason else {"name": "notes_on_contact"}
    source.before = (page, path, body)
    if page == 0:
        await attend(world, integration, source)
        assert await world.told() == []
        await hubspot.post("contacts:change", {"count": 5})
        await hubspot.post(path, body)

    await attend(world, integration, source)

    [trouble] = await world.told()
    assert (trouble.kind, trouble.reason) == (IntegrationKind.ERROR, reason)
    assert world.journal.ids(Operation.LEAVE) == []
    assert all(b"notes_on_contact" in bytes(each.properties) for each in world.journal.changes())


@pytest.mark.parametrize("page", [1, 3])
async def test_a_grant_that_is_taken_back_needs_a_person_after_three_tries(
    world: World, hubspot: Served, page: int
) -> None:
    """Proves PROTOCOL 5. Fault 45: at each step; with a new grant the run is read to its end."""
    ids = await fill(hubspot, 450)
    token = (await hubspot.post("tokens", {}))["access_token"]
    integration = await world.integrate()
    source = disturbed(hubspot, token)
    source.before = (page, "app:uninstall", {})
    for _ in range(3):
        await attend(world, integration, source)
    [told] = await world.told()
    await world.execute("update config.connections set state = 'connected'")

    await attend(world, integration, disturbed(hubspot))

    assert told.kind is IntegrationKind.NEEDS_REAUTH
    assert world.journal.ends[-1].complete
    assert set(world.journal.ids(Operation.UPSERT)) == set(ids)
    assert world.journal.ids(Operation.DELETE) == []


async def test_edits_and_deletions_between_pages_lose_nobody(world: World, hubspot: Served) -> None:
    """Proves S1 and S4. Fault 20: a full read, and a window of changes, of several pages each."""
    told = await hubspot.post("contacts:fill", {"count": 650, "list": LIST})
    ids = [str(each) for each in told["ids"]]
    integration = await world.integrate(list_id=str(told["list_id"]))
    source = disturbed(hubspot)
    source.before = (2, "contacts:change", {"ids": ids[:3]})
    await world.poll(integration, source)
    await hubspot.post("contacts:change", {"ids": ids})
    source.pages, source.before = 0, (2, "contacts:delete", {"ids": ids[:1]})

    await world.poll(integration, source)
    await world.poll(integration, source)

    assert set(world.journal.ids(Operation.UPSERT, run_no=1)) == set(ids)
    assert set(ids[1:]) <= set(world.journal.ids(Operation.UPSERT, run_no=2))
    assert world.journal.ids(Operation.LEAVE) == ids[:1]


async def test_a_connection_without_credentials_needs_a_person(
    world: World, sources: Sources
) -> None:
    await world.execute("update config.connections set sealed_api_key = null")
    await world.integrate()
    [assignment] = await world.claim()
    source = await sources(assignment)

    with pytest.raises(NeedsReauthError):
        await source.check()


async def test_limits_are_those_of_the_account(world: World, sources: Sources) -> None:
    """Proves HS1 and S10."""
    await world.execute(
        "update config.connections set tier = 'professional', time_zone = 'Asia/Tokyo'"
    )
    await world.integrate()
    [assignment] = await world.claim()

    account = account_of(assignment)

    assert account is not None
    assert (account.id, account.tier, account.time_zone) == ("1", "professional", "Asia/Tokyo")


async def test_an_account_that_was_never_checked_has_no_limits_of_its_own(world: World) -> None:
    await world.execute("update config.connections set account_id = null")
    await world.integrate()
    [assignment] = await world.claim()

    assert account_of(assignment) is None


async def test_nothing_is_ever_written_to_hubspot(
    world: World, hubspot: Served, source: Source
) -> None:
    """Proves HS2 and S2: whatever happens at a destination, HubSpot is only read."""
    told = await hubspot.post("contacts:fill", {"count": 30, "list": LIST})
    integration = await world.integrate(list_id=str(told["list_id"]))
    before = await hubspot.get("state")

    await world.poll(integration, source)
    await hubspot.post("contacts:change", {"count": 3, "seed": 2})
    changed = await hubspot.get("state")
    await world.poll(integration, source)

    assert (await hubspot.get("calls"))["writes"] == 0
    assert await hubspot.get("state") == changed != before
