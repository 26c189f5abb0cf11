"""Salesforce as a source: the conformance suite, and what only Salesforce does."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from libs.common.errors import MisconfiguredError, RateLimitedError, UnavailableError
from libs.common.events import Change
from libs.connectors.account import StaticToken
from libs.connectors.contract import Cursor, Gate, OpenGate, Page, Sweep
from libs.connectors.salesforce import facts
from libs.connectors.salesforce.source import SalesforceSource
from sandbox.clock import Clock
from sandbox.salesforce.app import create_app
from sandbox.salesforce.state import State
from sandbox.salesforce.tokens import STANDING_TOKEN
from tests.connectors.conformance import FOREVER_MS, SourceConformance, members_of, sweep_all
from tests.connectors.served import RecordingGate, Served, served
from tests.connectors.talking import answering, response, speaking

PROPERTIES = ("Email", "FirstName", "LastName", "Phone", "Points__c")
LIST = "Newsletter"
START_S = 1_790_000_000.0
OBJECTS = {"contacts": "Contact", "leads": "Lead"}


def source_of(provider: Served, gate: Gate | None = None, token: str = "") -> SalesforceSource:
    tokens = StaticToken(token or STANDING_TOKEN)
    return SalesforceSource(provider.http, gate or OpenGate(), tokens, provider.url)


def sweep(
    list_id: str | None = None,
    since_ms: int | None = None,
    *,
    object_name: str = "contacts",
    properties: Sequence[str] = PROPERTIES,
) -> Sweep:
    return Sweep(object_name, list_id, properties, since_ms, FOREVER_MS)


async def fill(
    provider: Served, count: int, *, object_name: str = "contacts", seed: int = 1
) -> tuple[str, list[str]]:
    """Put people into the organisation and into the campaign; return its id and theirs."""
    wish = {"count": count, "list": LIST, "invalid_share": 0, "seed": seed}
    told = await provider.post("contacts:fill", {**wish, "object": OBJECTS[object_name]})
    return told["list_id"], told["ids"]


async def pages_of(source: SalesforceSource, wanted: Sweep) -> list[Page]:
    pages: list[Page] = []
    cursor: Cursor | None = None
    while True:
        pages.append(await source.read_page(wanted, cursor))
        cursor = pages[-1].cursor
        if cursor is None:
            return pages


async def later(provider: Served, seconds: int = 2) -> None:
    """Let time pass: times are whole seconds, and edits of one second look alike."""
    await provider.put("clock", {"advance_s": seconds})


async def last_ms(source: SalesforceSource, object_name: str = "contacts") -> int:
    """Return the newest time of all records."""
    changes = await sweep_all(source, sweep(object_name=object_name))
    return max(each.version_ms for each in changes)


def values(change: Change) -> dict[str, Any]:
    return msgspec.json.decode(change.properties, type=dict[str, Any])


class TestContacts(SourceConformance):
    properties = PROPERTIES
    page_max = facts.PAGE_MAX
    several_pages = 2_100

    def source(
        self, provider: Served, gate: Gate | None = None, token: str = ""
    ) -> SalesforceSource:
        return source_of(provider, gate, token)

    async def fill(self, provider: Served, count: int) -> list[str]:
        _, ids = await fill(provider, count, object_name=self.object)
        return ids

    async def change(self, provider: Served, count: int) -> list[str]:
        await later(provider)
        wish = {"count": count, "seed": 2, "object": OBJECTS[self.object]}
        told = await provider.post("contacts:change", wish)
        return [str(each) for each in told["ids"]]


class TestLeads(TestContacts):
    object = "leads"


@pytest.fixture
async def standing() -> AsyncIterator[Served]:
    """Serve an organisation in which everything happens in one second."""
    async with served(create_app(State(clock=Clock(lambda: START_S)))) as one:
        yield one


@pytest.mark.no_cover  # Thousands of turns; its lines are others' to cover.
async def test_any_number_of_records_may_have_one_second(standing: Served) -> None:
    """Proves S1; fault 18: pages within one second go by id."""
    _, ids = await fill(standing, 10_100)
    at_ms = int(START_S * 1000)

    pages = await pages_of(source_of(standing), sweep(since_ms=at_ms))

    read = [each.id for page in pages for each in page.changes]
    assert sorted(read) == sorted(ids)
    assert len(pages) == 6
    assert {each.version_ms for page in pages for each in page.changes} == {at_ms}


@pytest.mark.parametrize("object_name", ["contacts", "leads"])
@pytest.mark.parametrize("since_ms", [None, 1])
async def test_records_that_are_edited_between_pages_are_read_nevertheless(
    provider: Served, object_name: str, since_ms: int | None
) -> None:
    """Proves S1; fault 20: an edit moves its record on, and nobody else past us."""
    _, ids = await fill(provider, 2_500, object_name=object_name)
    wanted = sweep(since_ms=since_ms, object_name=object_name)
    source = source_of(provider)
    first = await source.read_page(wanted, None)
    await later(provider)
    wish = {"object": OBJECTS[object_name], "ids": [ids[3], ids[1_999], ids[2_400]]}
    await provider.post("contacts:change", wish)

    second = await source.read_page(wanted, first.cursor)

    read = {each.id for page in (first, second) for each in page.changes}
    assert read == set(ids)
    assert second.cursor is None


async def test_a_page_that_holds_less_than_was_asked_for_is_not_the_last(
    provider: Served,
) -> None:
    """Large rows give smaller pages: where an answer ends does not say that all ends there."""
    await provider.put("settings", {"page_rows_max": 200})
    list_id, ids = await fill(provider, 450)
    source = source_of(provider)

    for wanted in (sweep(), sweep(since_ms=1), sweep(list_id), sweep(list_id, since_ms=1)):
        pages = await pages_of(source, wanted)
        assert [len(page.changes) for page in pages] == [200, 200, 50]
        assert {each.id for page in pages for each in page.changes} == set(ids)
    assert sorted(await members_of(source, "contacts", list_id)) == sorted(ids)


async def test_a_sweep_of_changes_says_who_was_deleted(provider: Served) -> None:
    """Proves S4: from the recycle bin, with the last page; who came back is not gone."""
    _, ids = await fill(provider, 5)
    source = source_of(provider)
    before_ms = await last_ms(source)
    await later(provider)
    await provider.post("contacts:delete", {"ids": ids[:3]})
    await provider.post("contacts:undelete", {"ids": ids[:1]})

    page = await source.read_page(sweep(since_ms=before_ms + 1), None)
    earlier = replace(sweep(since_ms=before_ms + 1), until_ms=before_ms + 1)

    assert sorted(page.gone) == sorted(ids[1:3])
    assert [each.id for each in page.changes] == ids[:1]
    assert (await source.read_page(earlier, None)).gone == []
    assert (await source.read_page(sweep(), None)).gone == ()


async def test_only_the_last_page_says_who_is_gone(provider: Served) -> None:
    """Whoever is told of as gone and is on a later page would be taken off for nothing."""
    await provider.put("settings", {"page_rows_max": 200})
    _, ids = await fill(provider, 450)
    await provider.post("contacts:delete", {"ids": ids[:50]})

    pages = await pages_of(source_of(provider), sweep(since_ms=1))

    assert len(pages) == 2
    assert sorted(pages[-1].gone) == sorted(ids[:50])
    assert not any(page.gone for page in pages[:-1])


async def test_a_converted_lead_is_no_lead_any_more(provider: Served) -> None:
    """Proves W3: it goes on as a contact, which another integration may read."""
    list_id, ids = await fill(provider, 4, object_name="leads")
    source = source_of(provider)
    leads = sweep(object_name="leads")
    before_ms = await last_ms(source, "leads")
    await later(provider)

    await provider.post("leads:convert", {"ids": ids[:1]})

    page = await source.read_page(replace(leads, since_ms=before_ms + 1), None)
    assert (list(page.changes), page.gone) == ([], ids[:1])
    assert [each.id for each in await sweep_all(source, leads)] == ids[1:]
    assert await source.count(leads) == 3
    assert await members_of(source, "leads", None) == ids[1:]
    assert await members_of(source, "leads", list_id) == ids[1:]
    assert (await source.find_list("leads", list_id)).size == 3
    assert await source.read_contacts(leads, ids[:1]) == []


@pytest.mark.parametrize("since_ms", [None, 1])
@pytest.mark.parametrize("object_name", ["contacts", "leads"])
async def test_a_survivor_names_whom_it_took_in(
    provider: Served, object_name: str, since_ms: int | None
) -> None:
    """A merge of a merge too: both ids lead to the last one."""
    _, ids = await fill(provider, 5, object_name=object_name)
    merge = {"object": OBJECTS[object_name]}
    await provider.post("contacts:merge", {**merge, "primary": ids[1], "other": ids[0]})
    await provider.post("contacts:merge", {**merge, "primary": ids[2], "other": ids[1]})

    page = await source_of(provider).read_page(
        sweep(since_ms=since_ms, object_name=object_name), None
    )

    merged = {each.id: each.merged_from for each in page.changes}
    assert merged == {ids[2]: ids[:2], ids[3]: [], ids[4]: []}
    assert list(page.gone) == []


async def test_who_was_merged_into_somebody_deleted_is_gone(provider: Served) -> None:
    _, ids = await fill(provider, 3)
    await provider.post("contacts:merge", {"primary": ids[1], "other": ids[0]})
    await provider.post("contacts:delete", {"ids": [ids[1]]})

    page = await source_of(provider).read_page(sweep(since_ms=1), None)

    assert sorted(page.gone) == sorted(ids[:2])


async def test_a_merged_id_leads_to_its_survivor(provider: Served) -> None:
    _, ids = await fill(provider, 5)
    await provider.post("contacts:merge", {"primary": ids[1], "other": ids[0]})
    await provider.post("contacts:merge", {"primary": ids[2], "other": ids[1]})
    await provider.post("contacts:delete", {"ids": [ids[4]]})
    source = source_of(provider)

    by_old = await source.read_contacts(sweep(), [ids[0], ids[3], ids[4]])
    by_all = await source.read_contacts(sweep(), ids)

    assert {each.id: each.merged_from for each in by_old} == {ids[2]: ids[:1], ids[3]: []}
    assert {each.id: each.merged_from for each in by_all} == {ids[2]: ids[:2], ids[3]: []}


async def test_a_survivor_that_is_met_by_its_id_tells_who_was_merged_into_it(
    provider: Served,
) -> None:
    """A look at who is there meets it before any window of changes does."""
    _, ids = await fill(provider, 4)
    await provider.post("contacts:merge", {"primary": ids[1], "other": ids[0]})
    await provider.post("contacts:merge", {"primary": ids[2], "other": ids[1]})

    [found, other] = await source_of(provider).read_contacts(sweep(), ids[2:])

    assert (found.id, found.merged_from) == (ids[2], ids[:2])
    assert other.merged_from == []


async def test_who_joins_or_leaves_shows_in_the_campaign(provider: Served) -> None:
    """Proves W3: size and time tell, also where one leaves and another joins."""
    list_id, ids = await fill(provider, 4)
    source = source_of(provider)
    before = await source.find_list("contacts", list_id)
    await later(provider)
    await provider.post(f"lists/{list_id}:leave", {"ids": ids[:1]})
    left = await source.find_list("contacts", list_id)
    await provider.post(f"lists/{list_id}:join", {"ids": ids[:1]})
    back = await source.find_list("contacts", list_id)

    assert (before.size, left.size, back.size) == (4, 3, 4)
    assert before.changed_at_ms is not None
    assert back.changed_at_ms is not None
    assert back.changed_at_ms > before.changed_at_ms


@pytest.mark.parametrize("object_name", ["contacts", "leads"])
async def test_only_the_campaign_that_was_chosen_is_read(
    provider: Served, object_name: str
) -> None:
    """Proves W3: neither another campaign's members nor those of none."""
    _, ids = await fill(provider, 6, object_name=object_name)
    other = (await provider.post("lists", {"name": "Other"}))["list_id"]
    wish = {"object": OBJECTS[object_name], "ids": ids[:2]}
    await provider.post(f"lists/{other}:join", wish)
    source = source_of(provider)
    everything = sweep(other, object_name=object_name)

    for wanted in (everything, replace(everything, since_ms=1)):
        assert [each.id for each in await sweep_all(source, wanted)] == ids[:2]
    assert await source.count(everything) == 2
    assert await members_of(source, object_name, other) == ids[:2]
    found = await source.find_list(object_name, other)
    assert (found.name, found.size) == ("Other", 2)


async def test_a_window_is_read_in_the_order_of_time(provider: Served) -> None:
    """What many changed at once is found by its index, not sorted anew for each page."""
    _, ids = await fill(provider, 6)
    before_ms = await last_ms(source_of(provider))
    for changed in (ids[4], ids[1], ids[3]):
        await later(provider)
        await provider.post("contacts:change", {"ids": [changed]})

    changes = await sweep_all(source_of(provider), sweep(since_ms=before_ms + 1))

    assert [each.id for each in changes] == [ids[4], ids[1], ids[3]]


async def test_a_campaign_may_be_empty(provider: Served) -> None:
    list_id = (await provider.post("lists", {"name": "Nobody"}))["list_id"]
    source = source_of(provider)

    assert (await source.find_list("contacts", list_id)).size == 0
    assert await sweep_all(source, sweep(list_id)) == []
    assert await source.count(sweep(list_id)) == 0


async def test_a_campaign_has_contacts_and_leads(provider: Served) -> None:
    """Proves W3: each integration reads its own kind."""
    list_id, contacts = await fill(provider, 2)
    _, leads = await fill(provider, 3, object_name="leads", seed=2)
    source = source_of(provider)

    sizes = [(await source.find_lists(name))[0].size for name in ("contacts", "leads")]

    assert sizes == [2, 3]
    assert sorted(await members_of(source, "contacts", list_id)) == sorted(contacts)
    assert sorted(await members_of(source, "leads", list_id)) == sorted(leads)
    assert await source.count(sweep(list_id, object_name="leads")) == 3


@pytest.mark.parametrize("since_ms", [None, 1])
async def test_a_campaign_that_is_deleted_while_it_is_read_has_not_lost_its_members(
    provider: Served, since_ms: int | None
) -> None:
    """Fault 46: nobody left; the list is gone, which a person has to mend."""
    await provider.put("settings", {"page_rows_max": 200})
    list_id, _ = await fill(provider, 450)
    source = source_of(provider)
    wanted = sweep(list_id, since_ms)
    first = await source.read_page(wanted, None)
    await provider.post(f"lists/{list_id}:delete", {})

    for reading in (
        source.read_page(wanted, first.cursor),
        source.count(wanted),
        source.find_list("contacts", list_id),
        source.read_members("contacts", list_id, None),
    ):
        with pytest.raises(MisconfiguredError) as caught:
            await reading
        assert caught.value.what == "list_missing"


@pytest.mark.parametrize("how", ["delete", "hide"])
async def test_a_field_that_is_gone_stops_the_reading_with_its_name(
    provider: Served, how: str
) -> None:
    """Fault 46: read on without it, its values would be emptied at the destination."""
    await fill(provider, 1)
    await provider.post(f"fields:{how}", {"name": "Points__c"})

    for wanted in (sweep(), sweep(since_ms=1)):
        with pytest.raises(MisconfiguredError) as caught:
            await source_of(provider).read_page(wanted, None)
        assert caught.value.what == "field_missing"


@pytest.mark.parametrize("name", ["Email FROM Contact --", "a,b", "'", "", "Account.Name"])
async def test_a_mapping_cannot_say_what_is_asked(provider: Served, name: str) -> None:
    """Only what has a field's form becomes part of a query."""
    await provider.post("calls:reset", {})

    with pytest.raises(MisconfiguredError, match="field_missing"):
        await source_of(provider).read_page(sweep(properties=["Email", name]), None)

    assert await provider.calls() == {}


async def test_what_may_not_be_mapped_has_its_reason(provider: Served) -> None:
    """Proves S6 and S7: formula, roll-up, counted and compound fields among them."""
    fields = await source_of(provider).describe_fields("contacts")

    reasons = {each.name: each.not_mappable for each in fields}
    assert {reasons[each] for each in ("Email", "LastName", "Birthdate", "Points__c")} == {None}
    assert reasons["HasOptedOutOfEmail"] == reasons["Newsletter__c"] == "boolean"
    assert reasons["LeadSource"] == reasons["Segment__c"] == "category"
    assert reasons["Interests__c"] == "multiple_values"
    assert reasons["Greeting__c"] == reasons["Cases_Total__c"] == "calculated"
    assert {reasons[each] for each in ("Id", "Name", "SystemModstamp", "Member_Number__c")} == {
        "read_only"
    }
    assert reasons["AccountId"] == "unsupported_type"


async def test_an_object_that_the_person_may_not_see_is_a_missing_right(
    provider: Served,
) -> None:
    await provider.put("settings", {"hidden_objects": ["Lead"]})

    for reading in (
        source_of(provider).read_page(sweep(object_name="leads"), None),
        source_of(provider).describe_fields("leads"),
    ):
        with pytest.raises(MisconfiguredError):
            await reading


@pytest.mark.parametrize("code", ["API_DISABLED_FOR_ORG", "API_CURRENTLY_DISABLED"])
async def test_an_organisation_without_its_api_says_so(provider: Served, code: str) -> None:
    """Proves SF2: at the first look, before anything is stored."""
    await provider.put("settings", {"api_enabled": False, "api_disabled_code": code})

    with pytest.raises(MisconfiguredError) as caught:
        await source_of(provider).check()

    assert caught.value.what == "api_disabled"


@pytest.mark.parametrize(
    ("edition", "tier", "a_day"),
    [("developer", "developer", 15_000), ("enterprise", "enterprise", 100_000)],
)
async def test_an_organisations_edition_is_its_tier(
    provider: Served, edition: str, tier: str, a_day: int
) -> None:
    """Proves S10: by the connected account's tier."""
    opened = await provider.post("accounts", {"name": "Other", "edition": edition})

    account = await source_of(provider, token=opened["access_token"]).check()

    assert (account.id, account.tier, account.name) == (opened["account"], tier, "Salesforce Other")
    (limit,) = facts.FACTS.limits[tier]
    assert limit.per_day == a_day


async def test_who_has_used_up_most_of_a_day_waits_for_the_others(provider: Served) -> None:
    """Proves S10: the organisation's other applications have used it, and the header says so."""
    await provider.put("limits", {"enabled": True, "daily": {"limit": 100, "window_s": 86_400}})
    gate = RecordingGate()
    source = source_of(provider, gate)

    await source.describe_fields("contacts")
    assert gate.refusals == []
    await provider.post("api:use", {"calls": 89})
    await source.describe_fields("contacts")

    assert gate.refusals == [("api", facts.USED_UP_S)]


async def test_an_allocation_that_is_used_up_is_a_limit_for_all(provider: Served) -> None:
    """Proves S10; fault 40: Salesforce says 403 and not until when."""
    await provider.put("limits", {"enabled": True, "daily": {"limit": 5, "window_s": 86_400}})
    await provider.post("api:use", {"calls": 5})
    gate = RecordingGate()

    with pytest.raises(RateLimitedError):
        await source_of(provider, gate).read_page(sweep(), None)

    assert gate.refusals == [("api", facts.USED_UP_S)]


async def test_too_many_long_calls_are_a_short_wait(provider: Served) -> None:
    """Proves S10: the concurrent limit, of which others' calls are part."""
    await provider.put("limits", {"enabled": True})
    await provider.put("settings", {"long_calls": 25})
    gate = RecordingGate()

    with pytest.raises(RateLimitedError):
        await source_of(provider, gate).read_page(sweep(), None)

    assert gate.refusals == [("api", facts.LONG_CALLS_S)]


EMPTY = b'{"totalSize": 5, "done": false, "records": []}'
ODD = b'{"done": false, "records": [{"Id": "003", "Name": "x", "SystemModstamp": "today"}]}'


Read = Callable[[SalesforceSource], Awaitable[object]]
SENSELESS: Sequence[tuple[bytes, Read]] = [
    (EMPTY, lambda source: source.read_page(sweep(), None)),
    (EMPTY, lambda source: source.read_page(sweep(since_ms=1), None)),
    (EMPTY, lambda source: source.read_members("contacts", None, None)),
    (EMPTY, lambda source: source.find_lists("leads")),
    (ODD, lambda source: source.read_page(sweep(), None)),
    (ODD, lambda source: source.read_page(sweep(since_ms=1), None)),
    (ODD, lambda source: source.find_list("contacts", "701000000000001AAA")),
]


@pytest.mark.parametrize(("body", "read"), SENSELESS)
async def test_an_answer_that_makes_no_sense_is_no_end_and_no_bug(body: bytes, read: Read) -> None:
    """Proves X1. Fault 44: whatever Salesforce answers, the reader lives, and reads again later."""
    _, talk = answering(*[response(200, body)] * 5)
    async with speaking(talk) as (http, site, _):
        source = SalesforceSource(http, OpenGate(), StaticToken("t"), site.origin)

        with pytest.raises(UnavailableError):
            await read(source)
