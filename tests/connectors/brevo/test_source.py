"""Brevo as a source: the conformance suite, and what only Brevo does."""

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from libs.common.errors import MisconfiguredError
from libs.common.events import Change
from libs.connectors.account import StaticToken
from libs.connectors.brevo import facts
from libs.connectors.brevo.source import BrevoSource
from libs.connectors.contract import Gate, OpenGate, Sweep
from sandbox.brevo.app import create_app
from sandbox.brevo.state import State
from sandbox.clock import Clock
from tests.connectors.conformance import FOREVER_MS, SourceConformance, sweep_all
from tests.connectors.served import Served, served

KEY = "xkeysib-sandbox"
PROPERTIES = ("EMAIL", "FIRSTNAME", "LASTNAME", "SMS")
LIST = "Your first list"  # Every account has it.


def source_of(provider: Served, gate: Gate | None = None, token: str = "") -> BrevoSource:
    tokens = StaticToken(token or KEY)
    return BrevoSource(provider.http, gate or OpenGate(), tokens, f"{provider.url}/v3")


def sweep(
    list_id: str | None = None,
    since_ms: int | None = None,
    *,
    properties: Sequence[str] = PROPERTIES,
) -> Sweep:
    return Sweep("contacts", list_id, properties, since_ms, FOREVER_MS)


async def fill(provider: Served, count: int) -> list[str]:
    told = await provider.post("contacts:fill", {"count": count, "list": LIST})
    return [str(each) for each in told["ids"]]


def values(change: Change) -> dict[str, Any]:
    return msgspec.json.decode(change.properties, type=dict[str, Any])


class TestConformance(SourceConformance):
    properties = PROPERTIES
    list_name = LIST
    page_max = 1_000
    several_pages = 1_100

    def source(self, provider: Served, gate: Gate | None = None, token: str = "") -> BrevoSource:
        return source_of(provider, gate, token)

    async def fill(self, provider: Served, count: int) -> list[str]:
        return await fill(provider, count)

    async def change(self, provider: Served, count: int) -> list[str]:
        told = await provider.post("contacts:change", {"count": count, "seed": 2})
        return [str(each) for each in told["ids"]]


@pytest.fixture
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let pages have 5 rows, so that a few contacts are several pages."""
    monkeypatch.setattr(facts, "CONTACTS_PAGE_MAX", 5)
    monkeypatch.setattr(facts, "LIST_PAGE_MAX", 5)


@pytest.mark.usefixtures("small_pages")
@pytest.mark.parametrize("gone", [[0], [0, 1, 2, 3], [4], list(range(9))])
async def test_nobody_is_passed_over_when_rows_move_up(provider: Served, gone: list[int]) -> None:
    """Fault 20. Proves S1, SF9: a deletion between pages hides nobody; nobody looks deleted."""
    ids = await fill(provider, 23)
    source = source_of(provider)
    first = await source.read_page(sweep(), None)
    second = await source.read_page(sweep(), first.cursor)
    await provider.post("contacts:delete", {"ids": [int(ids[each]) for each in gone]})

    rest = [each.id for each in [*first.changes, *second.changes]]
    cursor = second.cursor
    while cursor is not None:
        page = await source.read_page(sweep(), cursor)
        rest += [each.id for each in page.changes]
        cursor = page.cursor
        assert not page.is_doubtful

    assert rest == ids


@pytest.mark.usefixtures("small_pages")
async def test_members_of_a_list_that_somebody_leaves_are_all_read(provider: Served) -> None:
    ids = await fill(provider, 23)
    (found,) = await source_of(provider).find_lists("contacts")
    source = source_of(provider)
    first = await source.read_members("contacts", found.id, None)
    await provider.post(f"lists/{found.id}:leave", {"ids": [int(each) for each in ids[:4]]})

    members, cursor = list(first.ids), first.cursor
    while cursor is not None:
        page = await source.read_members("contacts", found.id, cursor)
        members += page.ids
        cursor = page.cursor

    assert members == ids


@pytest.mark.usefixtures("small_pages")
async def test_whoever_joins_the_window_moves_nobody_out_of_it(provider: Served) -> None:
    """Fault 20. Proves S1: an edit before our place adds a row there; nobody is read twice."""
    ids = await fill(provider, 12)
    source = source_of(provider)
    before_ms = max(each.version_ms for each in await sweep_all(source, sweep()))
    edited = ids[2:]
    await provider.post("contacts:change", {"ids": [int(each) for each in edited]})
    window = sweep(since_ms=before_ms + 1)
    first = await source.read_page(window, None)

    await provider.post("contacts:change", {"ids": [int(each) for each in ids[:2]], "seed": 2})
    second = await source.read_page(window, first.cursor)
    third = await source.read_page(window, second.cursor)

    read = [each.id for page in (first, second, third) for each in page.changes]
    assert read == edited
    assert third.cursor is None


async def test_more_than_10000_contacts_on_one_millisecond_are_all_read() -> None:
    """Fault 18. Proves S1: pages go by place in an order by id, whatever the times are."""
    stopped = Clock(lambda: 1_790_000_000.123)
    async with served(create_app(State(clock=stopped))) as provider:
        ids = await fill(provider, 10_450)
        source = source_of(provider)

        everyone = await sweep_all(source, sweep())
        changed = await sweep_all(source, sweep(since_ms=1_790_000_000_123))

    assert {each.version_ms for each in everyone} == {1_790_000_000_123}
    assert [each.id for each in everyone] == [each.id for each in changed] == ids


@pytest.mark.usefixtures("small_pages")
async def test_an_attribute_that_is_gone_stops_the_reading(provider: Served) -> None:
    """Fault 46: read on without it, its value would be emptied at Salesforce."""
    await fill(provider, 12)
    source = source_of(provider)
    first = await source.read_page(sweep(), None)

    gone = await provider.control.delete(
        "/v3/contacts/attributes/normal/FIRSTNAME", headers={"api-key": KEY}
    )
    with pytest.raises(MisconfiguredError, match="field_missing"):
        await source.read_page(sweep(), first.cursor)

    assert gone.is_success, gone.text
    assert any(values(each)["FIRSTNAME"] for each in first.changes)


async def test_values_come_as_they_can_be_mapped_back(provider: Served) -> None:
    """Proves SF3: phones with their country, what is unset as null, times in milliseconds."""
    person = {"EMAIL": "ada@example.com", "FIRSTNAME": "Ada \U0001f600", "SMS": "+33612345678"}
    await provider.post("contacts:upsert", {"contacts": [{"attributes": person}]})

    (change,) = await sweep_all(source_of(provider), sweep())

    assert values(change) == {**person, "LASTNAME": None}
    (contact,) = (await provider.get("state"))["contacts"]
    assert contact["modifiedAt"].startswith("20")
    assert change.version_ms % 1_000 == int(contact["modifiedAt"][20:23])


async def test_who_has_a_phone_alone_has_no_address(provider: Served) -> None:
    person = {"SMS": "+33612345678", "FIRSTNAME": "Ada"}
    await provider.post("contacts:upsert", {"contacts": [{"attributes": person}]})

    (change,) = await sweep_all(source_of(provider), sweep())

    assert values(change)["EMAIL"] is None


async def test_consent_is_no_field(provider: Served) -> None:
    """Proves S3: whether somebody unsubscribed cannot be mapped, and is not in what is read."""
    ids = await fill(provider, 1)
    source = source_of(provider)
    (before,) = await sweep_all(source, sweep())
    await provider.post("contacts:block", {"emails": [values(before)["EMAIL"]]})

    (after,) = await sweep_all(source, sweep(since_ms=before.version_ms + 1))
    fields = {each.name: each.not_mappable for each in await source.describe_fields("contacts")}

    assert (after.id, values(after)) == (ids[0], values(before))
    assert not {name for name in fields if "BLACKLIST" in name and fields[name] is None}


async def test_ids_are_read_twenty_a_call(provider: Served) -> None:
    ids = await fill(provider, 45)
    await provider.post("calls:reset", {})

    changes = await source_of(provider).read_contacts(sweep(), [*ids, "none"])

    assert [each.id for each in changes] == ids
    assert await provider.calls() == {"GET /v3/contacts": 3}
