"""Constant Contact as a source: the conformance suite, and what only Constant Contact does."""

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from libs.common.errors import MisconfiguredError, RateLimitedError, UnavailableError
from libs.common.events import Change
from libs.connectors.account import StaticToken
from libs.connectors.constant_contact import facts
from libs.connectors.constant_contact.source import ConstantContactSource
from libs.connectors.contract import Cursor, Gate, OpenGate, Page, Sweep
from sandbox.constant_contact.tokens import STANDING_TOKEN
from tests.connectors.conformance import FOREVER_MS, SourceConformance, members_of, sweep_all
from tests.connectors.served import RecordingGate, Served

PROPERTIES = ("email", "first_name", "last_name", "mobile_phone", "city")
LIST = "Newsletter"


def source_of(provider: Served, gate: Gate | None = None, token: str = "") -> ConstantContactSource:
    tokens = StaticToken(token or STANDING_TOKEN)
    url = f"{provider.url}/v3"
    return ConstantContactSource(provider.http, gate or OpenGate(), tokens, url)


def sweep(
    list_id: str | None = None,
    since_ms: int | None = None,
    *,
    properties: Sequence[str] = PROPERTIES,
) -> Sweep:
    return Sweep("contacts", list_id, properties, since_ms, FOREVER_MS)


async def fill(provider: Served, count: int) -> tuple[str, list[str]]:
    told = await provider.post("contacts:fill", {"count": count, "list": LIST, "invalid_share": 0})
    return told["list_id"], told["ids"]


def values(change: Change) -> dict[str, Any]:
    return msgspec.json.decode(change.properties, type=dict[str, Any])


class TestConformance(SourceConformance):
    properties = PROPERTIES
    page_max = 500
    several_pages = 1_100

    def source(
        self, provider: Served, gate: Gate | None = None, token: str = ""
    ) -> ConstantContactSource:
        return source_of(provider, gate, token)

    async def fill(self, provider: Served, count: int) -> list[str]:
        _, ids = await fill(provider, count)
        return ids

    async def change(self, provider: Served, count: int) -> list[str]:
        # Its times are whole seconds: an edit in the same one could not be told from the last.
        await provider.put("clock", {"advance_s": 2})
        told = await provider.post("contacts:change", {"count": count, "seed": 2})
        return [str(each) for each in told["ids"]]


@pytest.mark.parametrize("inclusive", [True, False])
async def test_a_bound_is_met_whichever_way_the_provider_reads_it(
    provider: Served, *, inclusive: bool
) -> None:
    """Proves S1: the documentation does not say whether bounds are inclusive."""
    await provider.put("settings", {"bounds_are_inclusive": inclusive})
    list_id, ids = await fill(provider, 3)
    at_ms = (await sweep_all(source_of(provider), sweep(list_id)))[0].version_ms

    window = Sweep("contacts", list_id, PROPERTIES, at_ms, at_ms)
    before = Sweep("contacts", list_id, PROPERTIES, at_ms - 5_000, at_ms - 1)

    assert len(await sweep_all(source_of(provider), window)) == len(ids)
    assert await sweep_all(source_of(provider), before) == []


@pytest.mark.parametrize("has_links", [True, False])
async def test_the_last_page_has_empty_links_or_none(provider: Served, *, has_links: bool) -> None:
    await provider.put("settings", {"last_page_has_links": has_links})
    list_id, ids = await fill(provider, 600)

    assert len(await members_of(source_of(provider), "contacts", list_id)) == len(ids)


async def test_of_several_values_the_first_of_each_kind_is_read(provider: Served) -> None:
    """Proves CC3."""
    phones = [
        {"kind": "work", "phone_number": "+1 555 0001"},
        {"kind": "home", "phone_number": "+1 555 0002"},
        {"kind": "work", "phone_number": "+1 555 0003"},
    ]
    addresses = [
        {"kind": "home", "city": "Leeds"},
        {"kind": "work", "street": "1 Main St", "city": "York"},
        {"kind": "work", "city": "Hull"},
    ]
    person = {"email": "ada@example.com", "phone_numbers": phones, "street_addresses": addresses}
    await provider.post("contacts:upsert", {"contacts": [{"properties": person}], "list": LIST})
    names = ("phone", "work_phone", "home_phone", "mobile_phone", "city", "street", "work_city")

    (change,) = await sweep_all(source_of(provider), sweep(properties=names))

    assert values(change) == {
        "phone": "+1 555 0001",
        "work_phone": "+1 555 0001",
        "home_phone": "+1 555 0002",
        "mobile_phone": None,
        "city": "Leeds",
        "street": None,  # Of the first address, which has none; not of the second.
        "work_city": "York",
    }


async def test_dates_and_choices_are_not_offered(provider: Served) -> None:
    """Proves CC2, CC3, S3, S6 and S7: each field that is not offered says why."""
    fields = await source_of(provider).describe_fields("contacts")

    refused = {each.label: each.not_mappable for each in fields if each.not_mappable}
    offered = {each.label for each in fields if not each.not_mappable}
    assert refused == {
        **dict.fromkeys(("Birthday", "Anniversary"), "unsupported_type"),
        **dict.fromkeys(("Member since", "Last call", "Old date"), "unsupported_type"),
        **dict.fromkeys(("Phone numbers", "Street addresses"), "multiple_values"),
        **dict.fromkeys(("List memberships", "Taggings", "Colours"), "multiple_values"),
        **dict.fromkeys(("Permission to send", "Created at", "Updated at"), "read_only"),
        "Fruit": "category",
        "Is a member": "boolean",
    }
    assert offered >= {"Email", "First name", "Hobby", "Remarks", "Points", "Balance", "Work phone"}


async def test_custom_fields_are_read_by_their_id_on_however_many_pages(provider: Served) -> None:
    """A label may be changed, an id stays."""
    token = {"authorization": f"Bearer {STANDING_TOKEN}"}
    for number in range(90):
        wanted = {"label": f"Field {number}", "type": "string"}
        made = await provider.control.post("/v3/contact_custom_fields", json=wanted, headers=token)
        assert made.status_code == 201
    source = source_of(provider)
    names = {each.label: each.name for each in await source.describe_fields("contacts")}
    field_id = names["Field 89"].removeprefix("custom:")
    custom = [{"custom_field_id": field_id, "value": "yes"}]
    person = {"email": "ada@example.com", "custom_fields": custom}
    await provider.post("contacts:upsert", {"contacts": [{"properties": person}]})

    (change,) = await sweep_all(source, sweep(properties=(names["Field 89"], names["Hobby"])))

    assert values(change) == {names["Field 89"]: "yes", names["Hobby"]: None}


async def test_a_number_for_sms_has_its_countrys_code(provider: Served) -> None:
    channel = {"sms_channel_id": "1", "sms_address": "6175550100", "dial_code": "1"}
    person = {"first_name": "Ada", "sms_channel": channel}
    await provider.post("contacts:upsert", {"contacts": [{"properties": person}]})

    (change,) = await sweep_all(source_of(provider), sweep(properties=("email", "sms")))

    assert values(change) == {"email": None, "sms": "+16175550100"}


async def test_who_unsubscribed_is_read_and_who_was_deleted_is_not(provider: Served) -> None:
    """Proves S3: consent decides nothing here; a deletion is told by absence."""
    _, ids = await fill(provider, 4)
    people = (await provider.get("state"))["contacts"]
    await provider.post("contacts:block", {"emails": [people[0]["email_address"]["address"]]})
    await provider.post("contacts:delete", {"ids": [ids[1]]})

    changes = await sweep_all(source_of(provider), sweep())
    read = await source_of(provider).read_contacts(sweep(), ids)

    assert {each.id for each in changes} == {ids[0], ids[2], ids[3]}
    assert {each.id for each in read} == {ids[0], ids[2], ids[3]}


async def read_through(
    provider: Served, source: ConstantContactSource, wanted: Sweep, *, leaving: Sequence[str]
) -> list[Page]:
    """Read a sweep while contacts leave after its first page."""
    pages = [await source.read_page(wanted, None)]
    if leaving:
        await provider.post(f"lists/{LIST}:leave", {"ids": list(leaving)})
    while pages[-1].cursor is not None:
        pages.append(await source.read_page(wanted, pages[-1].cursor))
    return pages


async def test_a_sweep_whose_rows_moved_says_that_it_is_doubtful(provider: Served) -> None:
    """Fault 20. Proves S4: whom paging by offset passed over was not deleted (decision 0125)."""
    list_id, ids = await fill(provider, 1_100)
    source = source_of(provider)

    undisturbed = await read_through(provider, source, sweep(list_id), leaving=())
    disturbed = await read_through(provider, source, sweep(list_id), leaving=ids[:3])

    met = {each.id for page in disturbed for each in page.changes}
    assert set(ids) - met == set(ids[500:503])  # They are there, and on no page.
    assert any(page.is_doubtful for page in disturbed)
    assert not any(page.is_doubtful for page in undisturbed)


async def test_members_whose_rows_moved_are_doubtful(provider: Served) -> None:
    """Proves S4: nobody is taken off a list for having been passed over."""
    list_id, ids = await fill(provider, 600)
    source = source_of(provider)
    first = await source.read_members("contacts", list_id, None)
    await provider.post(f"lists/{LIST}:leave", {"ids": ids[:1]})

    second = await source.read_members("contacts", list_id, first.cursor)

    assert ids[500] not in {*first.ids, *second.ids}
    assert not first.is_doubtful
    assert second.is_doubtful


@pytest.mark.parametrize(("count", "calls"), [(2, 2), (3, 3), (1_000, 3)])
async def test_contacts_by_id_take_no_more_calls_than_they_must(
    provider: Served, count: int, calls: int
) -> None:
    """Proves CC5's budget is spared: 1,000 joiners are three pages, not 1,000 calls."""
    list_id, ids = await fill(provider, 1_100)
    gate = RecordingGate()

    changes = await source_of(provider, gate).read_contacts(sweep(list_id), ids[-count:])

    assert [each.id for each in changes] == ids[-count:]
    assert len(gate.entered) == calls


async def test_who_left_the_list_is_still_read_by_id(provider: Served) -> None:
    list_id, ids = await fill(provider, 5)
    await provider.post(f"lists/{LIST}:leave", {"ids": ids[:1]})

    changes = await source_of(provider).read_contacts(sweep(list_id), ids)

    assert {each.id for each in changes} == set(ids)


async def test_a_deleted_list_is_a_missing_one(provider: Served) -> None:
    list_id, _ = await fill(provider, 1)
    await provider.post(f"lists/{LIST}:delete", {})
    source = source_of(provider)

    for call in (
        source.find_list("contacts", list_id),
        source.read_members("contacts", "0" * 36, None),
    ):
        with pytest.raises(MisconfiguredError) as caught:
            await call
        assert caught.value.what == "list_missing"


async def test_every_list_is_found_with_its_size(provider: Served) -> None:
    list_id, _ = await fill(provider, 3)
    for number in range(600):
        await provider.post("lists", {"name": f"List {number}"})

    lists = await source_of(provider).find_lists("contacts")

    assert len(lists) == 601
    assert {each.size for each in lists if each.id == list_id} == {3}


@pytest.mark.parametrize(
    ("body", "seconds"),
    [
        ({"error_key": "throttled", "error_message": "Too Many Requests"}, 1.0),
        ({"error_key": "quota_exceeded", "error_message": "Limit Exceeded"}, None),
    ],
)
async def test_a_second_and_a_day_are_told_apart_by_their_key(
    provider: Served, body: dict[str, str], seconds: float | None
) -> None:
    """Proves CC5: a spent day waits until 00:00 UTC, a full second for a second."""
    await provider.fault({"kind": "status", "status": 429, "body": body})
    gate = RecordingGate()

    with pytest.raises(RateLimitedError):
        await source_of(provider, gate).check()

    [(bucket, told_s)] = gate.refusals
    now = await provider.put("clock", {"advance_s": 0})
    _, _, time = now["now"].partition("T")
    hours, minutes, rest = time.split("+")[0].split(":")
    left_s = 86_400 - (int(hours) * 3_600 + int(minutes) * 60 + float(rest))
    assert bucket == facts.API
    assert told_s == pytest.approx(seconds or left_s, abs=5)


async def test_the_day_of_the_limits_begins_at_midnight_utc(provider: Served) -> None:
    """Proves CC5: whatever zone the account is in; the sandbox's is in US/Eastern."""
    account = await source_of(provider).check()

    assert account.time_zone == "UTC"
    [limit] = source_of(provider).facts.limits[""]
    assert (limit.calls, limit.window_s, limit.per_day) == (4, 1.0, 10_000)
    assert limit.scope == "application"


def test_ten_thousand_of_a_bulk_change_are_fetched() -> None:
    """Proves CC4, where the operator has not lifted it."""
    assert facts.FACTS.bulk_fetch_cap == 10_000


async def test_one_odd_contact_does_not_spoil_its_page(provider: Served) -> None:
    """A contact with a number for a name is one that the mapper rejects; the others are read."""
    await fill(provider, 2)
    odd = {"first_name": 5, "email": "odd@example.com"}
    await provider.post("contacts:upsert", {"contacts": [{"properties": odd}]})

    changes = await sweep_all(source_of(provider), sweep())

    assert [bytes(each.properties) == b"[]" for each in changes] == [False, False, True]


@pytest.mark.parametrize(
    "body",
    [
        {"contacts": [{"contact_id": "1"}]},
        {"contacts": [], "_links": {"next": {"href": "https://elsewhere.example/"}}},
    ],
)
async def test_a_page_that_cannot_be_gone_on_from_is_as_good_as_none(
    provider: Served, body: dict[str, Any]
) -> None:
    await provider.fault({"kind": "status", "status": 200, "body": body})

    with pytest.raises(UnavailableError):
        await source_of(provider).read_page(sweep(), None)


async def test_a_contact_by_id_without_a_time_is_as_good_as_none(provider: Served) -> None:
    await provider.fault({"kind": "status", "status": 200, "body": {"contact_id": "1"}})

    with pytest.raises(UnavailableError):
        await source_of(provider).read_contacts(sweep(), ["1"])


async def test_members_without_ids_are_as_good_as_none(provider: Served) -> None:
    await provider.fault({"kind": "status", "status": 200, "body": {"contacts": [{}]}})

    with pytest.raises(UnavailableError):
        await source_of(provider).read_members("contacts", None, Cursor(""))
