"""What Salesforce's JSON means to us."""

from typing import Any

import msgspec
import pytest

from libs.connectors.contract import FieldType, NotMappable
from libs.connectors.salesforce import payload
from libs.connectors.salesforce.payload import Identified

TYPED = {"name": "Any__c", "label": "Any", "createable": True, "updateable": True}


def raw(**fields: object) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(fields))


def field(**changes: Any) -> payload.Definition:
    return msgspec.convert({**TYPED, "type": "string", **changes}, payload.Definition)


@pytest.mark.parametrize(
    ("stamp", "at_ms"),
    [
        ("2024-09-24T03:26:07.000+0000", 1_727_148_367_000),
        ("2024-09-24T03:26:07.000Z", 1_727_148_367_000),  # As Bulk API 2.0 writes it.
        ("2024-09-24T05:26:07+02:00", 1_727_148_367_000),
        ("2024-09-24T03:26:07", 1_727_148_367_000),
    ],
)
def test_a_time_is_read_in_every_layout_that_was_seen(stamp: str, at_ms: int) -> None:
    change = payload.change_of(raw(Id="003A", SystemModstamp=stamp), {})

    assert change.version_ms == at_ms


@pytest.mark.parametrize("fields", [{"Id": "003A"}, {"Id": "003A", "SystemModstamp": "today"}])
def test_a_record_without_a_time_has_no_version(fields: dict[str, object]) -> None:
    with pytest.raises(msgspec.ValidationError):
        payload.change_of(raw(**fields), {})


def test_a_record_leaves_as_it_came_with_whom_it_took_in() -> None:
    record = raw(
        attributes={"type": "Contact"},
        Id="003A",
        SystemModstamp="2024-09-24T03:26:07.000+0000",
        Score__c=7.5,
    )

    change = payload.change_of(record, {"003A": ["003B", "003C"], "003D": ["003E"]})

    assert bytes(change.properties) == bytes(record)
    assert (change.id, change.merged_from) == ("003A", ["003B", "003C"])


def test_who_was_merged_twice_lives_on_in_the_last() -> None:
    """A merge leaves the ids of earlier ones where they point."""
    gone = [Identified("A", "B"), Identified("B", "C"), Identified("D"), Identified("E", "D")]

    survivors = payload.survivors_of(gone)

    assert survivors == {"A": "C", "B": "C", "D": None, "E": None}
    assert payload.merged_into(survivors) == {"C": ["A", "B"]}


def test_a_ring_of_merges_has_no_survivor() -> None:
    assert payload.survivors_of([Identified("A", "B"), Identified("B", "A")]) == {
        "A": None,
        "B": None,
    }


@pytest.mark.parametrize(
    ("header", "usage"),
    [
        ("api-usage=18/15000", payload.Usage(18, 15_000)),
        ("api-usage=10018/100000; api-bursts=1/750", payload.Usage(10_018, 100_000)),
        (
            "per-app-api-usage=17/250(appName=x); api-usage=5/20",
            payload.Usage(5, 20),
        ),
        ("per-app-api-usage=17/250(appName=x)", None),
        ("", None),
    ],
)
def test_usage_is_read_whatever_stands_beside_it(header: str, usage: payload.Usage | None) -> None:
    """Proves S10: the header has got more figures over the years."""
    assert payload.usage_of(header) == usage


def test_an_allocation_of_nothing_is_used_up() -> None:
    assert payload.Usage(0, 0).share == 1.0


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b'[{"message": "x", "errorCode": "INVALID_FIELD"}, {}]', "INVALID_FIELD"),
        (b'{"errorCode": "NOT_FOUND"}', "NOT_FOUND"),
        (b"[]", ""),
        (b"<html>", ""),
    ],
)
def test_an_error_comes_in_an_array(body: bytes, code: str) -> None:
    assert payload.fault_of(body).error_code == code


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, None),
        ({"type": "boolean"}, NotMappable.BOOLEAN),
        ({"type": "picklist"}, NotMappable.CATEGORY),
        ({"type": "combobox"}, NotMappable.CATEGORY),
        ({"type": "multipicklist"}, NotMappable.MULTIPLE_VALUES),
        ({"type": "reference"}, NotMappable.UNSUPPORTED_TYPE),
        ({"type": "address"}, NotMappable.UNSUPPORTED_TYPE),
        ({"type": "encryptedstring"}, NotMappable.UNSUPPORTED_TYPE),
        ({"type": "hologram"}, NotMappable.UNSUPPORTED_TYPE),
        ({"calculated": True}, NotMappable.CALCULATED),
        ({"autoNumber": True}, NotMappable.READ_ONLY),
        ({"createable": False}, NotMappable.READ_ONLY),
        ({"updateable": False}, NotMappable.READ_ONLY),
        ({"deprecatedAndHidden": True}, NotMappable.HIDDEN),
    ],
)
def test_each_flag_says_by_itself_why_a_field_is_not_offered(
    changes: dict[str, Any], reason: NotMappable | None
) -> None:
    """Proves S6 and S7: formula fields say `calculated`, with or without a formula."""
    assert payload.field_of(field(**changes)).not_mappable is reason


@pytest.mark.parametrize(
    ("type_", "ours"),
    [
        ("string", FieldType.TEXT),
        ("textarea", FieldType.TEXT),
        ("email", FieldType.EMAIL),
        ("phone", FieldType.PHONE),
        ("percent", FieldType.NUMBER),
        ("date", FieldType.DATE),
        ("datetime", FieldType.DATETIME),
    ],
)
def test_types_have_our_words(type_: str, ours: FieldType) -> None:
    made = payload.field_of(field(type=type_, length=40))

    assert made.type is ours
    assert made.length_max == (40 if ours in {"text", "email", "phone"} else None)


def test_an_edition_is_a_tier() -> None:
    assert payload.tier_of(payload.Organization("00D", "A", "Enterprise Edition")) == "enterprise"
    assert payload.tier_of(payload.Organization("00D")) is None


def test_a_campaigns_size_is_of_the_kind_that_is_read() -> None:
    campaign = payload.Campaign("701", "Newsletter", number_of_contacts=3.0, number_of_leads=None)

    assert payload.list_of(campaign, "contacts").size == 3
    assert payload.list_of(campaign, "leads").size is None
