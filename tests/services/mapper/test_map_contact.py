"""The mapping of contacts: pure, so in tables and by property."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common import criteria
from libs.common.events import Change, Effect, Identity, Operation
from libs.common.reasons import Filter, Reject
from libs.connectors.contract import FieldType
from services.mapper.map_contact import (
    ATTRIBUTES_BYTES_MAX,
    FieldMapping,
    MapContacts,
    MappingVersion,
    Outcome,
    compile_mapping,
    content_hash,
)

EMAIL = FieldMapping("email", "EMAIL", FieldType.EMAIL)
SMS = FieldMapping("phone", "SMS", FieldType.PHONE)
NAME = FieldMapping("firstname", "VORNAME", FieldType.TEXT, 20)


def change(properties: Mapping[str, Any] | bytes, **fields: Any) -> Change:
    raw = properties if isinstance(properties, bytes) else msgspec.json.encode(properties)
    return Change(
        **{"id": "1", "op": Operation.UPSERT, "version_ms": 5, **fields},
        properties=msgspec.Raw(raw),
    )


def compiled(
    *fields: FieldMapping,
    asked_for: Sequence[str] | None = None,
    country: str | None = None,
    where: Mapping[str, Any] | None = None,
    phones_stay: bool = False,
) -> MapContacts:
    wanted = fields or (EMAIL, SMS, NAME)
    parsed = criteria.parse(dict(where)) if where else None
    names = [field.source for field in wanted] + list(parsed.fields if parsed else ())
    mapping = MappingVersion(wanted, parsed, country, phones_stay)
    return compile_mapping(mapping, asked_for or names)


def mapped(properties: Mapping[str, Any] | bytes, *fields: FieldMapping, **how: Any) -> Outcome:
    (outcome,) = compiled(*fields, **how)([change(properties)])
    return outcome


def effect(properties: Mapping[str, Any] | bytes, *fields: FieldMapping, **how: Any) -> Effect:
    outcome = mapped(properties, *fields, **how)
    assert isinstance(outcome, Effect)
    return outcome


def attributes(properties: Mapping[str, Any], *fields: FieldMapping, **how: Any) -> Any:
    return msgspec.json.decode(effect(properties, *fields, **how).attributes)


def reason(properties: Mapping[str, Any] | bytes, *fields: FieldMapping, **how: Any) -> str:
    outcome = mapped(properties, *fields, **how)
    assert isinstance(outcome, Reject)
    return outcome.value


def test_an_emptied_phone_is_left_alone_where_phones_stay() -> None:
    """Proves SF6: it is not named, so nothing is cleared; everything else that is empty is."""
    home = FieldMapping("home", "HOME", FieldType.PHONE)
    mapping = (EMAIL, SMS, NAME, home)
    emptied = {"email": "ada@example.com", "phone": None, "home": " ", "firstname": None}
    entered = {**emptied, "phone": "+491511234567"}

    assert attributes(emptied, *mapping, phones_stay=True) == {"VORNAME": None}
    assert attributes(entered, *mapping, phones_stay=True) == {
        "SMS": "+491511234567",
        "VORNAME": None,
    }
    assert attributes(emptied, *mapping) == {"SMS": None, "HOME": None, "VORNAME": None}


@pytest.mark.parametrize("phones_stay", [True, False])
def test_a_phone_that_is_all_that_is_known_may_not_be_empty(*, phones_stay: bool) -> None:
    """Proves S9, whatever phones do elsewhere."""
    assert reason({"phone": None, "firstname": "Ada"}, SMS, NAME, phones_stay=phones_stay) == (
        "no_identity"
    )


def test_a_contact_whose_address_was_removed_is_not_known_by_its_phone() -> None:
    """Proves SF5: no update until it has an address again."""
    assert reason({"email": None, "phone": "+491511234567"}, phones_stay=True) == "no_identity"


def test_a_contact_comes_out_as_identity_and_attributes() -> None:
    """Proves W5."""
    outcome = effect(
        {"email": "Ada@Example.com", "phone": "0151 1234567", "firstname": "Ada", "city": "London"},
        country="DE",
    )

    assert outcome.identity == Identity(email="Ada@example.com", sms="+491511234567")
    assert msgspec.json.decode(outcome.attributes) == {"SMS": "+491511234567", "VORNAME": "Ada"}
    assert outcome.hash == content_hash(
        "Ada@example.com", "+491511234567", bytes(outcome.attributes)
    )
    assert (outcome.id, outcome.op, outcome.version_ms) == ("1", Operation.UPSERT, 5)


def test_the_address_a_contact_is_known_by_is_no_attribute() -> None:
    """Proves S5: it moves by decision only."""
    by_email = attributes({"email": "ada@example.com", "phone": "+491511234567"}, EMAIL, SMS)
    by_number = effect({"phone": "+491511234567", "firstname": "Ada"}, SMS, NAME)

    assert by_email == {"SMS": "+491511234567"}
    assert msgspec.json.decode(by_number.attributes) == {"VORNAME": "Ada"}
    assert by_number.identity == Identity(sms="+491511234567")


@pytest.mark.parametrize("nothing", [None, "", "   "])
def test_null_and_nothing_clear(nothing: str | None) -> None:
    found = attributes({"email": "ada@example.com", "firstname": nothing})

    assert found == {"SMS": None, "VORNAME": None}


def test_absent_clears_what_was_asked_for_and_leaves_alone_what_was_not() -> None:
    properties = {"email": "ada@example.com"}

    assert attributes(properties) == {"SMS": None, "VORNAME": None}
    assert attributes(properties, asked_for=["email", "phone"]) == {"SMS": None}


def test_the_order_of_fields_and_properties_does_not_matter() -> None:
    """Proves Q6: a contact that comes out the same is unchanged under a new mapping too."""
    one = effect({"email": "ada@example.com", "firstname": "Ada", "phone": None}, EMAIL, NAME, SMS)
    other = effect(
        {"phone": None, "firstname": "Ada", "email": "ada@example.com"}, SMS, NAME, EMAIL
    )

    assert one == other


def test_any_difference_changes_the_hash() -> None:
    hashes = {
        effect(properties).hash
        for properties in (
            {"email": "ada@example.com"},
            {"email": "ada@example.org"},
            {"email": "ada@example.com", "firstname": "Ada"},
            {"email": "ada@example.com", "phone": "+491511234567"},
        )
    }

    assert len(hashes) == 4


@pytest.mark.parametrize(
    ("properties", "expected"),
    [
        ({"email": None}, "no_identity"),
        ({"email": None, "phone": "+491511234567"}, "no_identity"),
        ({"email": "ada"}, "invalid_email"),
        ({"email": "ada@example.com", "phone": "123"}, "invalid_phone"),
        ({"email": "ada@example.com", "phone": "0151 1234567"}, "phone_without_country"),
        ({"email": "ada@example.com", "firstname": "x" * 21}, "value_too_long"),
        ({"email": "ada@example.com", "firstname": "a\0b"}, "malformed"),
        ({"email": ["ada@example.com"]}, "malformed"),
        ({"email": {"value": "ada@example.com"}}, "malformed"),
    ],
)
def test_a_contact_that_cannot_be_synced_is_rejected(
    properties: Mapping[str, Any], expected: str
) -> None:
    """Proves S8 and S9."""
    assert reason(properties) == expected


def test_where_only_sms_is_mapped_a_valid_number_is_needed() -> None:
    """Proves S9."""
    assert reason({"phone": None}, SMS) == "no_identity"
    assert reason({"phone": "12"}, SMS) == "invalid_phone"


@pytest.mark.parametrize(
    "raw",
    [
        b'{"email": "ada@example.com", "firstname": "\\ud800"}',
        b'{"email": "ada@example.com", "firstname": "\xff"}',
        b'{"email": "ada@example.com", "extra": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"email": "ada@example.com"',
        b"[]",
        b'"text"',
    ],
    ids=["surrogate", "not UTF-8", "deep", "cut", "array", "text"],
)
def test_hostile_properties_are_one_malformed_contact(raw: bytes) -> None:
    """Fault 55."""
    assert reason(raw) == "malformed"


def test_a_contact_that_was_too_large_to_travel_says_so() -> None:
    assert reason(b"null") == "value_too_long"


def test_a_contact_has_a_largest_size() -> None:
    fields = [FieldMapping(f"f{number}", f"F{number}", FieldType.TEXT) for number in range(3)]
    long = "x" * (ATTRIBUTES_BYTES_MAX // 2 - 10_000)

    assert reason({"email": "a@b.de", "f0": long, "f1": long, "f2": long}, EMAIL, *fields) == (
        "value_too_long"
    )


def test_an_unmapped_field_may_hold_anything() -> None:
    assert attributes({"email": "a@b.de", "firstname": "Ada", "x": [{"y": 1}]}, EMAIL, NAME) == {
        "VORNAME": "Ada"
    }


def test_one_source_field_may_feed_several_attributes() -> None:
    again = FieldMapping("firstname", "NAME", FieldType.TEXT)

    assert attributes({"email": "a@b.de", "firstname": "Ada"}, EMAIL, NAME, again) == {
        "NAME": "Ada",
        "VORNAME": "Ada",
    }


def test_a_contact_that_does_not_match_is_filtered() -> None:
    """Proves S11."""
    where = {
        "match": "all",
        "conditions": [{"field": "city", "operator": "equals", "value": "Bonn"}],
    }

    assert mapped({"email": "broken", "city": "Berlin"}, where=where) is Filter.CRITERIA
    assert effect({"email": "a@b.de", "city": "bonn"}, where=where).identity.email == "a@b.de"


def test_a_field_that_only_criteria_ask_for_is_not_synced() -> None:
    """Proves W5 and S11: it is looked at, and goes nowhere."""
    where = {"match": "all", "conditions": [{"field": "city", "operator": "is_set"}]}
    contact = {"email": "a@b.de", "firstname": "Ada", "city": "Bonn"}

    assert attributes(contact, EMAIL, NAME, where=where) == {"VORNAME": "Ada"}


@pytest.mark.parametrize("operation", [Operation.DELETE, Operation.LEAVE])
def test_deletes_and_leaves_pass_without_a_look_at_anything(operation: Operation) -> None:
    ada = change({"email": "ada@example.com"}, id="2")

    gone, kept = compiled(EMAIL)([change(b"not even JSON", op=operation), ada])

    assert gone == Effect(id="1", op=operation, version_ms=5)
    assert isinstance(kept, Effect)
    assert (kept.id, kept.identity) == ("2", Identity(email="ada@example.com"))


def test_a_survivor_keeps_the_names_of_those_merged_into_him() -> None:
    (outcome,) = compiled(EMAIL)([change({"email": "a@b.de"}, merged_from=["7", "8"])])

    assert isinstance(outcome, Effect)
    assert outcome.merged_from == ("7", "8")


scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=50)
)


@given(
    st.fixed_dictionaries({"email": scalars, "phone": scalars, "firstname": scalars}),
    st.sampled_from(FieldType),
)
def test_every_contact_comes_out_as_something(
    properties: Mapping[str, Any], destination_type: FieldType
) -> None:
    """Fault 55."""
    field = FieldMapping("firstname", "ATTRIBUTE", destination_type)
    outcome = mapped(properties, EMAIL, SMS, field, country="DE")

    if isinstance(outcome, Effect):
        assert outcome == effect(properties, field, SMS, EMAIL, country="DE")
        assert "EMAIL" not in msgspec.json.decode(outcome.attributes)


values = st.sampled_from(
    [
        None,
        "",
        "ada@example.com",
        "Ada@Example.com",
        "ada",
        "+491511234567",
        "12",
        "a\0b",
        "x" * 21,
        7,
    ]
)
contacts = st.one_of(
    st.fixed_dictionaries({"email": values, "phone": values, "firstname": values}),
    st.sampled_from([b"null", b"[]", b"{"]),
)


@given(st.lists(contacts, max_size=8))
def test_who_else_is_on_a_page_does_not_matter(page: Sequence[Mapping[str, Any] | bytes]) -> None:
    where = {"match": "all", "conditions": [{"field": "firstname", "operator": "is_set"}]}

    outcomes = compiled(where=where)([change(properties) for properties in page])

    assert outcomes == [mapped(properties, where=where) for properties in page]


def test_the_first_reason_found_is_the_one_that_is_told() -> None:
    assert reason({"email": "ada", "phone": "12", "firstname": "x" * 21}) == "invalid_email"
    assert reason({"email": None, "phone": "12", "firstname": "x" * 21}) == "invalid_phone"
    assert reason({"email": None, "phone": None, "firstname": "x" * 21}) == "no_identity"


@pytest.mark.parametrize(
    "fields",
    [
        [EMAIL, NAME, FieldMapping("lastname", "VORNAME", FieldType.TEXT)],
        [EMAIL, FieldMapping('first"name', "VORNAME", FieldType.TEXT)],
        [EMAIL, FieldMapping("firstname", "VOR\\NAME", FieldType.TEXT)],
    ],
    ids=["fed twice", "source with a quotation mark", "attribute with a backslash"],
)
def test_a_mapping_that_makes_no_json_is_not_compiled(fields: Sequence[FieldMapping]) -> None:
    with pytest.raises(ValueError, match=r"twice|Renamed"):
        compiled(*fields)
