"""HubSpot as a source: the conformance suite, and what only HubSpot does."""

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from libs.common.errors import MisconfiguredError, NeedsReauthError, UnavailableError
from libs.connectors.account import StaticToken
from libs.connectors.contract import Account, Cursor, Gate, OpenGate, Sweep
from libs.connectors.hubspot import facts
from libs.connectors.hubspot.source import HubSpotSource
from sandbox.clock import Clock
from sandbox.hubspot.app import create_app
from sandbox.hubspot.state import State
from tests.connectors.conformance import FOREVER_MS, SourceConformance, members_of, sweep_all
from tests.connectors.served import RecordingGate, Served, served

TOKEN = "pat-sandbox"
PROPERTIES = ("email", "firstname", "lastname", "phone")


def source_of(provider: Served, gate: Gate | None = None, token: str = "") -> HubSpotSource:
    tokens = StaticToken(token or TOKEN)
    return HubSpotSource(provider.http, gate or OpenGate(), tokens, provider.url)


def sweep(list_id: str | None = None, since_ms: int | None = None) -> Sweep:
    return Sweep("contacts", list_id, PROPERTIES, since_ms, FOREVER_MS)


async def upsert(provider: Served, *contacts: dict[str, Any]) -> list[str]:
    body = {"contacts": [{"properties": each} for each in contacts]}
    return [str(each) for each in (await provider.post("contacts:upsert", body))["ids"]]


async def many_properties(provider: Served, count: int) -> list[str]:
    """Make properties with long names; return these."""
    names = [f"property_with_a_long_name_{number}" for number in range(count)]
    plain = {"groupName": "sandbox", "type": "string", "fieldType": "text"}
    wanted = [{**plain, "name": name, "label": name} for name in names]
    made = await provider.control.post(
        f"{facts.PROPERTIES}/batch/create",
        json={"inputs": wanted},
        headers={"authorization": f"Bearer {TOKEN}"},
    )
    assert made.is_success, made.text
    return names


class TestConformance(SourceConformance):
    properties = PROPERTIES
    page_max = 1_000
    several_pages = 1_050

    def source(self, provider: Served, gate: Gate | None = None, token: str = "") -> HubSpotSource:
        return source_of(provider, gate, token)

    async def fill(self, provider: Served, count: int) -> list[str]:
        told = await provider.post("contacts:fill", {"count": count, "list": self.list_name})
        return [str(each) for each in told["ids"]]

    async def change(self, provider: Served, count: int) -> list[str]:
        told = await provider.post("contacts:change", {"count": count, "seed": 2})
        return [str(each) for each in told["ids"]]


@pytest.mark.parametrize(
    ("tier", "a_day"),
    [
        ("", 250_000),
        ("free", 250_000),
        ("starter", 250_000),
        ("professional", 500_000),
        ("enterprise", 500_000),
    ],
)
def test_limits_are_those_that_hubspot_publishes(tier: str, a_day: int) -> None:
    """Proves HS1: by subscription, the lowest where nobody has said which."""
    found = {each.bucket: each for each in facts.FACTS.limits[tier]}

    assert {each.per_day for each in found.values()} == {a_day}
    assert (found[facts.API].calls, found[facts.API].window_s) == (110, 10.0)
    assert (found[facts.SEARCH].calls, found[facts.SEARCH].window_s) == (5, 1.0)


def test_no_right_to_write_is_asked_for() -> None:
    """Proves HS2 and S2: whatever we might try, HubSpot would refuse it."""
    login = facts.FACTS.oauth

    assert login is not None
    assert [scope for scope in login.scopes if scope.startswith("crm.")] == [
        "crm.objects.contacts.read",
        "crm.lists.read",
    ]


async def test_more_than_10000_contacts_on_one_millisecond_are_all_found() -> None:
    """Proves S1 where HubSpot's search pages no further than 10,000 results.

    Each of the searches is counted as one (HS1).
    """
    stopped = Clock(lambda: 1_790_000_000.123)
    async with served(create_app(State(clock=stopped))) as provider:
        await provider.put("settings", {"index_delay_s": 0})
        told = await provider.post("contacts:fill", {"count": 10_450})
        gate = RecordingGate()

        changes = await sweep_all(source_of(provider, gate), sweep(since_ms=0))
        total = await source_of(provider).count(sweep(since_ms=0))

    assert {change.id for change in changes} == {str(each) for each in told["ids"]}
    assert len(changes) == 10_450
    assert {change.version_ms for change in changes} == {1_790_000_000_123}
    assert total is None
    assert gate.entered.count(facts.SEARCH) == 53  # 200 a page, and a last one that is not full.


@pytest.mark.parametrize("names", [0, 400])
@pytest.mark.parametrize("since_ms", [None, 1])
@pytest.mark.parametrize("listed", [True, False])
async def test_where_to_go_on_is_told_before_contacts_are_read(
    provider: Served, names: int, since_ms: int | None, *, listed: bool
) -> None:
    told = await provider.post("contacts:fill", {"count": 1_050, "list": "News"})
    many = await many_properties(provider, names)
    list_id = str(told["list_id"]) if listed else None
    wanted = Sweep("contacts", list_id, ["email", *many], since_ms, FOREVER_MS)
    cursors = []
    gate = RecordingGate()
    calls_for_ids = 4 if listed and since_ms is None else 1

    async def onward(following: Cursor | None) -> None:
        cursors.append(following)
        assert len(gate.entered) == calls_for_ids

    page = await source_of(provider, gate).read_page(wanted, None, onward)

    takes_one_call = not (names or since_ms or listed)
    assert cursors == ([] if takes_one_call else [page.cursor])
    assert page.cursor is not None


async def test_a_list_takes_no_call_that_is_not_full(provider: Served) -> None:
    """Proves HS1: 250 ids and 100 contacts are the most that a call brings."""
    told = await provider.post("contacts:fill", {"count": 2_000, "list": "News"})
    gate = RecordingGate()

    changes = await sweep_all(source_of(provider, gate), sweep(str(told["list_id"])))

    assert len(changes) == 2_000
    assert len(gate.entered) == 2_000 // 250 + 2_000 // 100


async def test_a_search_never_outgrows_its_body(provider: Served) -> None:
    """Names of properties are asked for by batch read, so many of them fit."""
    ids = await upsert(provider, {"email": "a@example.com"})
    many = await many_properties(provider, 400)
    wide = Sweep("contacts", None, ["email", *many], 1, FOREVER_MS)

    (change,) = await sweep_all(source_of(provider), wide)

    assert change.id == ids[0]


async def test_a_scan_with_many_properties_stays_below_the_longest_address(
    provider: Served,
) -> None:
    told = await provider.post("contacts:fill", {"count": 130})
    many = await many_properties(provider, 400)
    wide = Sweep("contacts", None, ["email", *many], None, FOREVER_MS)

    changes = await sweep_all(source_of(provider), wide)

    assert {change.id for change in changes} == {str(each) for each in told["ids"]}
    assert (await provider.calls())["POST /crm/objects/2026-09/contacts/batch/read"] == 2


async def test_only_mapped_properties_are_asked_for(provider: Served) -> None:
    await upsert(provider, {"email": "a@example.com", "city": "Paris"})

    (change,) = await sweep_all(source_of(provider), sweep(since_ms=1))

    read = msgspec.json.decode(change.properties, type=dict[str, Any])
    assert read["email"] == "a@example.com"
    assert "city" not in read


async def test_the_version_is_the_time_of_the_last_modification(provider: Served) -> None:
    await upsert(provider, {"email": "a@example.com"})

    (change,) = await sweep_all(source_of(provider), sweep())

    read = msgspec.json.decode(change.properties, type=dict[str, Any])
    seconds, milliseconds = divmod(change.version_ms, 1000)
    moment = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    assert read["lastmodifieddate"] == f"{moment}.{milliseconds:03}Z"


async def test_a_survivor_names_who_was_merged_into_it(provider: Served) -> None:
    first, second = await upsert(provider, {"email": "a@example.com"}, {"email": "b@example.com"})
    merged = await provider.post("contacts:merge", {"primary": first, "other": second})
    survivor = str(merged["id"])
    source = source_of(provider)

    (swept,) = await sweep_all(source, sweep(since_ms=1))
    (by_old_ids,) = await source.read_contacts(sweep(), [first, second])

    assert swept.id == by_old_ids.id == survivor
    assert set(swept.merged_from) == set(by_old_ids.merged_from) == {first, second} - {survivor}


async def test_a_deleted_list_is_missing(provider: Served) -> None:
    await provider.post("contacts:fill", {"count": 3, "list": "News"})
    source = source_of(provider)
    (found,) = await source.find_lists("contacts")
    path = f"/crm/lists/2026-09/{found.id}"
    headers = {"authorization": f"Bearer {TOKEN}"}
    assert (await provider.control.delete(path, headers=headers)).status_code == 204

    with pytest.raises(MisconfiguredError, match="list_missing"):
        await source.find_list("contacts", found.id)

    assert list(await source.find_lists("contacts")) == []


async def test_a_list_tells_when_somebody_joined_or_left(provider: Served) -> None:
    told = await provider.post("contacts:fill", {"count": 3, "list": "News"})
    source = source_of(provider)
    before = await source.find_list("contacts", str(told["list_id"]))

    await provider.post(f"lists/{told['list_id']}:leave", {"ids": told["ids"][:1]})

    after = await source.find_list("contacts", str(told["list_id"]))
    assert before.changed_at_ms is not None
    assert after.changed_at_ms is not None
    assert (after.size, after.changed_at_ms >= before.changed_at_ms) == (2, True)
    assert await members_of(source, "contacts", after.id) == [str(each) for each in told["ids"][1:]]


async def test_every_list_is_found_page_after_page(provider: Served) -> None:
    for number in range(facts.LISTS_MAX + 1):
        await provider.post("contacts:fill", {"count": 0, "list": f"List {number}"})

    found = await source_of(provider).find_lists("contacts")

    assert len({each.id for each in found}) == facts.LISTS_MAX + 1
    assert (await provider.calls())["POST /crm/lists/2026-09/search"] == 2


async def test_lists_that_never_end_are_read_to_the_last_that_hubspot_shows(
    provider: Served,
) -> None:
    body = {"lists": [{"listId": "1", "name": "News"}], "hasMore": True, "offset": 10_000}
    await provider.fault({"kind": "status", "status": 200, "body": body})
    source = source_of(provider)

    assert [each.name for each in await source.find_lists("contacts")] == ["News"]
    with pytest.raises(MisconfiguredError, match="list_missing"):
        await source.find_list("contacts", "2")


async def test_everyone_is_counted(provider: Served) -> None:
    await provider.post("contacts:fill", {"count": 7})

    assert await source_of(provider).count(sweep()) == 7
    assert await source_of(provider).count(sweep(since_ms=1)) == 7


async def test_the_account_names_its_time_zone(provider: Served) -> None:
    """Proves HS1 in part: a daily limit ends at midnight there."""
    account = await source_of(provider).check()

    assert (account.id, account.time_zone) == ("1000001", "US/Eastern")


async def test_a_daily_limit_lasts_until_midnight_of_the_account(provider: Served) -> None:
    body = {"status": "error", "message": "You have reached your daily limit.",
            "errorType": "RATE_LIMIT", "policyName": "DAILY"}  # fmt: skip
    headers = {"date": "Wed, 15 Jul 2026 02:00:00 GMT"}
    await provider.fault({"kind": "status", "status": 429, "body": body, "headers": headers})
    gate = RecordingGate()
    account = Account("1", "one", time_zone="US/Eastern")
    source = HubSpotSource(provider.http, gate, StaticToken(TOKEN), provider.url, account)

    with pytest.raises(Exception, match="rate limited"):
        await source.describe_fields("contacts")

    assert gate.refusals == [(facts.API, 2 * 3600.0)]  # 22:00 in New York's summer.


async def test_an_expired_token_needs_a_new_one(provider: Served) -> None:
    body = {"status": "error", "message": "expired", "category": "EXPIRED_AUTHENTICATION"}
    await provider.fault({"kind": "status", "status": 401, "body": body})

    with pytest.raises(NeedsReauthError):
        await source_of(provider).check()


async def test_a_401_without_hubspots_own_words_disconnects_nobody(provider: Served) -> None:
    await provider.fault({"kind": "status", "status": 401, "body": {"error_code": 530}})

    with pytest.raises(UnavailableError):
        await source_of(provider).check()


async def test_a_missing_scope_is_told(provider: Served) -> None:
    body = {"status": "error", "message": "no", "category": "MISSING_SCOPES"}
    await provider.fault({"kind": "status", "status": 403, "body": body})

    with pytest.raises(MisconfiguredError, match="scope_missing"):
        await source_of(provider).find_lists("contacts")
