from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common.errors import UnavailableError
from libs.connectors.account import StaticToken
from libs.connectors.contract import FieldType, NotMappable, OpenGate, Sweep
from libs.connectors.hubspot import payload
from libs.connectors.hubspot.source import HubSpotSource
from tests.connectors.served import Served


def definition(**changes: Any) -> payload.Property:
    plain = {"name": "city", "label": "City", "type": "string", "fieldType": "text"}
    return msgspec.convert({**plain, **changes}, payload.Property)


def record(properties: dict[str, Any], **changes: Any) -> payload.Record:
    plain = {"id": "7", "properties": properties, "updatedAt": "2026-07-15T02:00:00.123Z"}
    return msgspec.json.decode(msgspec.json.encode({**plain, **changes}), type=payload.Record)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"hidden": True}, NotMappable.HIDDEN),
        ({"calculated": True}, NotMappable.CALCULATED),
        ({"fieldType": "calculation_equation"}, NotMappable.CALCULATED),
        ({"fieldType": "calculation_score"}, NotMappable.CALCULATED),
        ({"calculationFormula": "a + b"}, NotMappable.CALCULATED),
        ({"name": "hs_email_domain"}, NotMappable.CALCULATED),
        ({"name": "hubspotscore", "type": "number"}, NotMappable.CALCULATED),
        ({"name": "registered_at", "type": "datetime"}, NotMappable.CALCULATED),
        ({"modificationMetadata": {"readOnlyValue": True}}, NotMappable.READ_ONLY),
        ({"type": "bool", "fieldType": "booleancheckbox"}, NotMappable.BOOLEAN),
        ({"type": "enumeration", "fieldType": "booleancheckbox"}, NotMappable.BOOLEAN),
        ({"type": "enumeration", "fieldType": "select"}, NotMappable.CATEGORY),
        ({"type": "enumeration", "fieldType": "checkbox"}, NotMappable.MULTIPLE_VALUES),
        ({"name": "hs_additional_emails"}, NotMappable.MULTIPLE_VALUES),
        ({"type": "json"}, NotMappable.UNSUPPORTED_TYPE),
        ({"type": "object_coordinates"}, NotMappable.UNSUPPORTED_TYPE),
        ({}, None),
        ({"type": "number", "modificationMetadata": {"readOnlyValue": False}}, None),
        ({"type": "date", "fieldType": "date"}, None),
    ],
)
def test_a_property_is_offered_if_it_can_be_mapped(
    changes: dict[str, Any], why: NotMappable | None
) -> None:
    """Proves S6, S7."""
    assert payload.field_of(definition(**changes)).not_mappable is why


@pytest.mark.parametrize(
    ("changes", "type_"),
    [
        ({"name": "email"}, FieldType.EMAIL),
        ({"fieldType": "phonenumber"}, FieldType.PHONE),
        ({"type": "phone_number"}, FieldType.PHONE),
        ({"type": "datetime"}, FieldType.DATETIME),
        ({"type": "number"}, FieldType.NUMBER),
        ({"type": "string"}, FieldType.TEXT),
    ],
)
def test_a_property_has_one_of_our_types(changes: dict[str, Any], type_: FieldType) -> None:
    assert payload.field_of(definition(**changes)).type is type_


def test_a_unique_property_identifies_a_contact() -> None:
    assert payload.field_of(definition(hasUniqueValue=True)).unique
    assert payload.field_of(definition(name="email")).unique
    assert not payload.field_of(definition()).unique
    assert payload.field_of(definition()).length_max == 65_536
    assert payload.field_of(definition(type="number")).length_max is None


def test_a_change_has_the_time_of_its_last_modification() -> None:
    known = record({"lastmodifieddate": "2026-07-15T02:00:00.999Z", "email": "a@example.com"})
    unknown = record({"email": "a@example.com"})

    assert payload.change_of(known).version_ms % 1000 == 999
    assert payload.change_of(unknown).version_ms % 1000 == 123
    with pytest.raises(msgspec.ValidationError):
        payload.change_of(record({}, updatedAt=None))


@given(
    st.datetimes(
        min_value=datetime(1900, 1, 1),  # noqa: DTZ001  # the zone is drawn by itself
        max_value=datetime(2200, 1, 1),  # noqa: DTZ001  # as above
        timezones=st.integers(-14, 14).map(lambda hours: timezone(timedelta(hours=hours))),
    )
)
def test_a_version_is_whole_milliseconds_whatever_the_zone(modified: datetime) -> None:
    record = payload.Record(id="1", updated_at=modified)

    since = modified - datetime(1970, 1, 1, tzinfo=UTC)
    assert payload.change_of(record).version_ms == since // timedelta(milliseconds=1)


def test_a_survivor_names_the_ids_that_were_merged_into_it() -> None:
    merged = record({"hs_merged_object_ids": "51;1;7; 1551"})

    assert payload.change_of(merged).merged_from == ["51", "1", "1551"]
    assert payload.change_of(merged, ["9", "51"]).merged_from == ["51", "1", "1551", "9"]
    assert payload.change_of(record({"hs_merged_object_ids": None})).merged_from == []
    by_times = record({"hs_calculated_merged_vids": "51:1699999999999;7:1;9:2"})
    assert payload.change_of(by_times).merged_from == ["51", "9"]


TIMES = st.sampled_from([None, "2026-07-15T02:00:00.999Z", "1899-01-01T00:00:00.0019+01:00"])
MERGED = st.sampled_from([None, "", "51;7", "51:1699999999999"])


@given(
    st.lists(st.tuples(TIMES, MERGED, MERGED), max_size=4),
    st.sampled_from([[], ["9"]]),
    st.sampled_from([{}, {"email": 1}, {"lastmodifieddate": 1}]),
)
def test_contacts_become_the_same_changes_together_as_each_by_itself(
    given_: list[tuple[str | None, str | None, str | None]],
    asked_as: list[str],
    odd: dict[str, Any],
) -> None:
    """Proves S1: one odd contact of a page changes nothing about the others."""
    names = ("lastmodifieddate", "hs_merged_object_ids", "hs_calculated_merged_vids")
    records = [record(dict(zip(names, each, strict=True))) for each in given_] + [record(odd)]

    together = payload.changes_of(records, asked_as)

    assert together == [payload.change_of(each, asked_as) for each in records]


def test_contacts_of_which_one_has_no_time_are_refused_together() -> None:
    with pytest.raises(msgspec.ValidationError):
        payload.changes_of([record({}), record({}, updatedAt=None)])


def test_a_list_without_counts_is_a_list() -> None:
    found = payload.list_of(payload.ListRecord(list_id="1", name="News"))

    assert (found.size, found.changed_at_ms, found.is_deleted) == (None, None, False)


def test_an_error_without_words_is_an_empty_one() -> None:
    assert payload.fault_of(b"<html>") == payload.Fault()


async def answered(provider: Served, *results: list[dict[str, Any]]) -> list[Any]:
    """Return what a batch read makes of these answers, one after the other."""
    faults = [
        {"kind": "status", "status": 200, "times": 1, "body": {"results": each}} for each in results
    ]
    await provider.fault(*faults)
    source = HubSpotSource(provider.http, OpenGate(), StaticToken("pat-sandbox"), provider.url)
    sweep = Sweep("contacts", None, ["email"], None, 2**42)
    return list(await source.read_contacts(sweep, ["1", "2", "3"]))


def found(contact_id: str, **properties: str | None) -> dict[str, Any]:
    return {
        "id": contact_id,
        "properties": {"email": None, **properties},
        "updatedAt": "2026-07-15T02:00:00.123Z",
    }


async def test_a_contact_that_came_under_an_unexplained_id_is_asked_for_by_itself(
    provider: Served,
) -> None:
    """HubSpot may leave `hs_merged_object_ids` empty: then only a look at each id tells."""
    changes = await answered(provider, [found("1"), found("9")], [found("9")], [])

    assert {change.id: change.merged_from for change in changes} == {"1": [], "9": ["2"]}


async def test_a_contact_that_was_asked_for_under_two_ids_comes_once(provider: Served) -> None:
    survivor = found("9", hs_merged_object_ids="1;2")

    changes = await answered(provider, [survivor, survivor, found("3")])

    assert {change.id: change.merged_from for change in changes} == {"9": ["1", "2"], "3": []}


async def test_a_contact_without_a_time_is_no_answer(provider: Served) -> None:
    with pytest.raises(UnavailableError):
        await answered(provider, [{"id": "1", "properties": {}}])


@pytest.mark.parametrize(
    "properties", [b"[]", b'"text"', b'{"lastmodifieddate":7}', b'{"hs_merged_object_ids":[]}']
)
def test_a_contact_that_is_no_object_is_a_change_that_the_mapper_rejects(
    properties: bytes,
) -> None:
    """One strange contact must not make its page unreadable: its own time stands beside it."""
    known = record({})
    strange = msgspec.structs.replace(known, properties=msgspec.Raw(properties))

    change = payload.change_of(strange)

    assert change.version_ms == payload.change_of(known).version_ms
    assert bytes(change.properties) == properties
    with pytest.raises(msgspec.ValidationError):
        payload.change_of(msgspec.structs.replace(strange, updated_at=None))


def source_of(provider: Served) -> HubSpotSource:
    return HubSpotSource(provider.http, OpenGate(), StaticToken("t"), provider.url)


@pytest.mark.parametrize("odd", ["7\x1f8", "", "9" * 5_000, "\uff17"])
async def test_an_id_that_is_no_number_starts_no_search(provider: Served, odd: str) -> None:
    ids = [odd, *(str(number) for number in range(1, 200))]
    source = source_of(provider)

    assert source._last(ids) == "199"
    with pytest.raises(UnavailableError):
        source._last([odd])
