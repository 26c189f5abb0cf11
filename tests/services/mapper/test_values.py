import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common.errors import ContactRejectedError
from libs.common.reasons import Reject
from libs.connectors.contract import FieldType
from services.mapper.values import CHARACTERS_MAX, converter


def convert(type_: FieldType, value: Any, **how: Any) -> object:
    made = converter(type_, **{"length_max": None, "default_country": None, **how})
    try:
        alone = made.one(value)
    except ContactRejectedError as refusal:
        with pytest.raises(ContactRejectedError, match=re.escape(str(refusal))):
            made.column(["", value])
        raise
    # In a column it comes out as it does alone; where it is refused, the column is.
    assert made.column([None, value, "", value]) == [None, alone, made.one(""), alone]
    return alone


@pytest.mark.parametrize(
    ("type_", "value", "converted"),
    [
        (FieldType.TEXT, "Zoë 🌻", "Zoë 🌻"),
        (FieldType.TEXT, True, "true"),
        (FieldType.TEXT, False, "false"),
        (FieldType.TEXT, 12, "12"),
        (FieldType.TEXT, 1.5, "1.5"),
        (FieldType.CATEGORY, "a", "a"),
        (FieldType.MULTIPLE_CHOICE, "a;b", "a;b"),
        (FieldType.OTHER, "x", "x"),
        (FieldType.NUMBER, "12.50", 12.5),
        (FieldType.NUMBER, " 12 ", 12),
        (FieldType.NUMBER, "1e3", 1000),
        (FieldType.NUMBER, "9007199254740994", 9007199254740994.0),
        (FieldType.NUMBER, 7, 7),
        (FieldType.DATE, "1815-12-10", "1815-12-10"),
        (FieldType.DATE, "2024-01-17T23:30:00-02:00", "2024-01-18"),
        (FieldType.DATETIME, "1705521304281", "2024-01-17"),
        (FieldType.DATE, 1705521304281, "2024-01-17"),
        (FieldType.BOOLEAN, "True", True),
        (FieldType.BOOLEAN, False, False),
        (FieldType.EMAIL, " Ada@Example.com", "Ada@example.com"),
        (FieldType.PHONE, "+49 151 1234567", "+491511234567"),
        (FieldType.PHONE, 491511234567, None),
    ],
)
def test_a_value_takes_the_attributes_type(type_: FieldType, value: Any, converted: object) -> None:
    """Proves SF3: a date is written as YYYY-MM-DD, wherever it goes."""
    if converted is None:
        with pytest.raises(ContactRejectedError):
            convert(type_, value)
        return

    found = convert(type_, value)

    assert found == converted
    assert type(found) is type(converted)


@pytest.mark.parametrize(
    ("type_", "value", "reason"),
    [
        (FieldType.NUMBER, "many", "value_not_accepted"),
        (FieldType.NUMBER, "1_000", "value_not_accepted"),
        (FieldType.NUMBER, "inf", "value_not_accepted"),
        (FieldType.NUMBER, "nan", "value_not_accepted"),
        (FieldType.DATE, "10.12.1815", "date_format"),
        (FieldType.DATETIME, "soon", "date_format"),
        (FieldType.BOOLEAN, "yes", "value_not_accepted"),
        (FieldType.TEXT, "a\0", "malformed"),
        (FieldType.TEXT, "x" * (CHARACTERS_MAX + 1), "value_too_long"),
        (FieldType.EMAIL, "ada", "invalid_email"),
        (FieldType.PHONE, "12", "invalid_phone"),
    ],
)
def test_a_value_that_cannot_be_that_is_refused(type_: FieldType, value: str, reason: str) -> None:
    """Proves SF3: a date in another format goes nowhere, and has its reason."""
    with pytest.raises(ContactRejectedError) as rejected:
        convert(type_, value)

    assert rejected.value.reason == reason


def test_length_is_counted_in_characters() -> None:
    assert convert(FieldType.TEXT, "🌻" * 5, length_max=5) == "🌻" * 5
    with pytest.raises(ContactRejectedError):
        convert(FieldType.TEXT, "x" * 6, length_max=5)


@given(st.sampled_from(FieldType), st.one_of(st.booleans(), st.integers(), st.floats(), st.text()))
def test_a_value_is_converted_or_refused(type_: FieldType, value: Any) -> None:
    try:
        outcome = convert(type_, value, default_country="FR")
    except ContactRejectedError as rejected:
        outcome = Reject(rejected.reason)

    # Only what is nothing comes back as None.
    assert isinstance(outcome, str | int | float | bool) or (
        outcome is None and isinstance(value, str) and not value.strip()
    )


@pytest.mark.parametrize("type_", FieldType)
@pytest.mark.parametrize("value", [None, "", " ", "\u2003\n"])
def test_nothing_is_nothing_whatever_the_type(type_: FieldType, value: str | None) -> None:
    assert convert(type_, value) is None


USUAL_AND_NOT: dict[FieldType, list[Any]] = {
    FieldType.EMAIL: ["ada@example.com", " Ada@Example.COM ", "a@b.example\n", "grüße@example.com"],
    FieldType.PHONE: ["+491511234567", "+49 151 1234567", "+491511234567\n", "0049151123456"],
    FieldType.DATE: ["2024-02-28", "2024-02-29", "2024-12-31", "2024-01-17T23:30:00-02:00"],
    FieldType.TEXT: ["Ada", "a\nb", "\u2028", " Ada ", "Zoë 🌻", 12, True, 0, False],
}


@given(st.data())
def test_a_column_becomes_what_each_of_its_values_becomes(data: st.DataObject) -> None:
    type_ = data.draw(st.sampled_from(list(USUAL_AND_NOT)))
    values = data.draw(st.lists(st.sampled_from([None, "", "  ", *USUAL_AND_NOT[type_]])))
    made = converter(type_, length_max=None, default_country=None)

    assert list(made.column(values)) == [made.one(value) for value in values]


@pytest.mark.parametrize(
    ("type_", "values"),
    [
        (FieldType.EMAIL, ["ada@example.com\nbob@example.com"]),
        (FieldType.EMAIL, ["ada@example.com", "ada@example.com\x00"]),
        (FieldType.PHONE, ["+491511234567\n+491511234567", None]),
        (FieldType.PHONE, ["+491511234567", 491511234567]),
        (FieldType.DATE, ["2024-01-01\n2024-01-01"]),
        (FieldType.DATE, ["2024-02-28", "2023-02-29"]),
        (FieldType.DATE, ["0000-01-01"]),
        (FieldType.TEXT, ["Ada", "A\x00da"]),
        (FieldType.TEXT, [None, "x" * (CHARACTERS_MAX + 1)]),
    ],
)
def test_a_column_is_refused_for_one_of_its_values(type_: FieldType, values: list[Any]) -> None:
    made = converter(type_, length_max=None, default_country=None)

    with pytest.raises(ContactRejectedError):
        made.column(values)
