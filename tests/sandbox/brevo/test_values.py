"""What Brevo takes as a phone, an address, a date and a number."""

import pytest

from sandbox.brevo import values


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("+33612345678", "33612345678"),
        ("0033612345678", "33612345678"),
        ("33612345678", "33612345678"),
        (33612345678, "33612345678"),
        ("+14155550123", "14155550123"),
        ("+491234", "491234"),
    ],
)
def test_a_phone_is_kept_as_digits_whatever_stood_before_its_country_code(
    sent: str | int, kept: str
) -> None:
    assert values.phone(sent) == kept


@pytest.mark.parametrize(
    "sent", ["0612345678", "+4912", "12345", "+33 6 12", "abc", "", True, "+2101234567", "1" * 17]
)
def test_a_phone_without_country_code_or_of_a_wrong_length_is_none(sent: str | bool) -> None:
    assert values.phone(sent) is None


def test_an_address_is_kept_in_lower_case() -> None:
    assert values.email(" Ada.Lovelace+x@Example.COM ") == "ada.lovelace+x@example.com"


@pytest.mark.parametrize(
    "sent",
    [
        *("", "ada", "ada@", "@example.com", "a@@example.com", "a b@example.com", "a@example.com."),
        *("a..b@example.com", ".a@example.com", "ä@example.com", "a@example"),
        "x" * 65 + "@example.com",
    ],
)
def test_what_is_no_address_is_none(sent: str) -> None:
    assert values.email(sent) is None


def test_a_date_is_taken_in_one_layout_and_must_exist() -> None:
    assert values.day("2024-02-29") == "2024-02-29"
    assert values.day("2023-02-29") is None
    assert values.day("29.02.2024") is None
    assert values.day(20240229) is None


def test_numbers_and_booleans_are_read_from_words_only_in_a_file() -> None:
    assert values.number(12.5) == 12.5
    assert values.number("12.5") is None
    assert values.number("12.5", from_text=True) == 12.5
    assert values.number("12", from_text=True) == 12
    assert values.number("many", from_text=True) is None
    assert values.number(value=True) is None
    assert values.boolean(value=False) is False
    assert values.boolean("yes") is None
    assert values.boolean("Yes", from_text=True) is True
    assert values.boolean("maybe", from_text=True) is None
