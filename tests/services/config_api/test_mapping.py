"""Which mappings make sense, and what they cost."""

from typing import Any

import pytest

from libs.connectors.contract import Field, FieldType, NotMappable
from services.config_api import mapping
from services.config_api.mapping import Pair

SOURCE = [
    Field("email", "E-mail", FieldType.EMAIL, unique=True),
    Field("firstname", "First name", FieldType.TEXT),
    Field("phone", "Phone", FieldType.PHONE),
    Field("born", "Born", FieldType.DATE),
    Field("score", "Score", FieldType.NUMBER, NotMappable.CALCULATED),
    Field("vip", "VIP", FieldType.BOOLEAN, NotMappable.BOOLEAN),
    Field("stage", "Stage", FieldType.CATEGORY, NotMappable.CATEGORY),
    Field("domain", "Domain", FieldType.TEXT, NotMappable.READ_ONLY),
]
DESTINATION = [
    Field("EMAIL", "EMAIL", FieldType.EMAIL, unique=True),
    Field("SMS", "SMS", FieldType.PHONE, unique=True),
    Field("NAME", "NAME", FieldType.TEXT, length_max=200),
    Field("BORN", "BORN", FieldType.DATE),
    Field("OLD", "OLD", FieldType.TEXT, NotMappable.CALCULATED),
]
EMAIL = Pair("email", "EMAIL")


def found(*pairs: Pair) -> list[tuple[str, str | None]]:
    return [(flaw.code, flaw.pointer) for flaw in mapping.check(pairs, SOURCE, DESTINATION)]


@pytest.mark.parametrize("identity", [EMAIL, Pair("phone", "SMS")])
def test_email_or_sms_is_enough(identity: Pair) -> None:
    """Proves W5."""
    assert found(identity, Pair("firstname", "NAME")) == []


def test_a_mapping_without_email_and_sms_is_not_saved() -> None:
    """Proves W5."""
    assert found(Pair("firstname", "NAME")) == [("identity_missing", "/fields")]
    assert found() == [("identity_missing", "/fields")]


@pytest.mark.parametrize(
    ("source", "code", "rule"),
    [
        ("vip", "not_mappable_boolean", "S6"),
        ("stage", "not_mappable_category", "S6"),
        ("score", "not_mappable_calculated", "S7"),
        ("domain", "not_mappable_read_only", "S7"),
    ],
)
def test_what_is_not_offered_cannot_be_mapped(source: str, code: str, rule: str) -> None:
    """Proves S6 and S7."""
    (flaw,) = mapping.check([EMAIL, Pair(source, "NAME")], SOURCE, DESTINATION)

    assert (flaw.code, flaw.pointer, flaw.rule) == (code, "/fields/1/source", rule)


def test_everything_that_is_wrong_is_said_at_once() -> None:
    """Proves X1."""
    assert found(
        EMAIL,
        Pair("nothing", "NOWHERE"),
        Pair("firstname", "BORN"),
        Pair("firstname", "OLD"),
        Pair("firstname", "EMAIL"),
    ) == [
        ("unknown_field", "/fields/1/source"),
        ("unknown_attribute", "/fields/1/destination"),
        ("type_mismatch", "/fields/2/destination"),
        ("not_mappable_calculated", "/fields/3/destination"),
        ("duplicate_attribute", "/fields/4/destination"),
    ]


def test_a_stored_mapping_carries_the_types_and_comes_back_as_pairs() -> None:
    pairs = [EMAIL, Pair("firstname", "NAME")]

    stored = mapping.compose(pairs, SOURCE, DESTINATION)

    assert stored[1] == {
        "source": "firstname",
        "source_type": "text",
        "destination": "NAME",
        "destination_type": "text",
        "length_max": 200,
    }
    assert mapping.pairs_of(stored) == pairs


@pytest.mark.parametrize(
    ("before", "after", "criteria_changed", "full"),
    [
        ([EMAIL], [EMAIL], False, False),
        ([EMAIL, Pair("firstname", "NAME")], [EMAIL], False, False),
        ([EMAIL], [EMAIL, Pair("firstname", "NAME")], False, True),
        ([EMAIL, Pair("firstname", "NAME")], [EMAIL, Pair("email", "NAME")], False, True),
        ([EMAIL], [EMAIL], True, True),
    ],
)
def test_only_what_is_added_or_changed_takes_a_full_run(
    before: list[Pair], after: list[Pair], criteria_changed: bool, full: bool
) -> None:
    assert (
        mapping.needs_full_run(
            mapping.compose(before, SOURCE, DESTINATION),
            mapping.compose(after, SOURCE, DESTINATION),
            criteria_changed=criteria_changed,
        )
        is full
    )


def criteria(*conditions: dict[str, Any], match: str = "all") -> dict[str, Any]:
    return {"match": match, "conditions": list(conditions)}


def test_criteria_on_fields_of_the_source_are_taken() -> None:
    """Proves S11."""
    document = criteria(
        {"field": "stage", "operator": "equals", "value": "customer"},
        {"field": "born", "operator": "before", "value": "2000-01-01"},
        match="any",
    )

    assert mapping.check_criteria(document, SOURCE) == []


@pytest.mark.parametrize(
    ("document", "code", "at"),
    [
        (criteria(), "conditions_expected", "/criteria/conditions"),
        (
            criteria({"field": "nothing", "operator": "is_set"}),
            "unknown_field",
            "/criteria/conditions/0/field",
        ),
        (
            criteria({"field": "phone", "operator": "after", "value": "2020-01-01"}),
            "operator_not_for_type",
            "/criteria/conditions/0/operator",
        ),
        (
            criteria({"field": "born", "operator": "after", "value": "soon"}),
            "moment_expected",
            "/criteria/conditions/0/value",
        ),
    ],
)
def test_criteria_that_decide_nothing_are_refused(
    document: dict[str, Any], code: str, at: str
) -> None:
    """Proves S11."""
    (flaw,) = mapping.check_criteria(document, SOURCE)

    assert (flaw.code, flaw.pointer) == (code, at)
