import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common import phone
from libs.common.errors import ContactRejectedError

E164 = re.compile(r"\+[1-9][0-9]{5,15}")


@pytest.mark.parametrize(
    ("number", "country", "written"),
    [
        ("+4915112345678", None, "+4915112345678"),
        ("+49 151 123-456.78", None, "+4915112345678"),
        ("+49 (0)151 12345678", None, "+4915112345678"),
        ("0049 151 12345678", None, "+4915112345678"),
        ("0151 12345678", "DE", "+4915112345678"),
        ("0151/12345678", "de", "+4915112345678"),
        ("(0)151 12345678", "DE", "+4915112345678"),
        ("0049 151 12345678", "AT", "+4915112345678"),
        ("(415) 555-2671", "US", "+14155552671"),
        ("1 415 555 2671", "US", "+14155552671"),
        ("011 49 151 12345678", "US", "+4915112345678"),
        ("8 912 345-67-89", "RU", "+79123456789"),
        ("812 345-67-89", "RU", "+78123456789"),
        ("02 1234 5678", "IT", "+390212345678"),
        ("06 20 123 4567", "HU", "+36201234567"),
        ("8 0 29 123-45-67", "BY", "+375291234567"),
        ("0011 49 151 12345678", "AU", "+4915112345678"),
        ("090-1234-5678", "JP", "+819012345678"),
        ("01 23 45 67 89", "FR", "+33123456789"),
        ("\u202a+49\u00a0151\u201112345678\u202c", None, "+4915112345678"),
        ("٠١٢٣٤٥٦٧٨٩", "EG", "+20123456789"),
        ("\uff0b\uff14\uff19\uff11\uff15\uff11\uff12\uff13\uff14\uff15", None, "+49151234" + "5"),
    ],
)
def test_a_number_is_written_in_one_way(number: str, country: str | None, written: str) -> None:
    """Proves S8."""
    assert phone.normalise(number, country) == written


@pytest.mark.parametrize(
    ("number", "country"),
    [
        ("", "DE"),
        ("12345", "DE"),
        ("+4123", None),
        ("+41234", None),
        ("+12345678901234567", None),
        ("+0151 12345678", None),
        ("0151 12345678 ext. 9", "DE"),
        ("call me", "DE"),
        ("+49+151123456", None),
        ("0000000", "US"),
        ("1" * 100_000, "DE"),
        ("0049", "DE"),
        ("²³⁴⁵⁶⁷a", "DE"),
    ],
)
def test_what_has_not_6_to_16_digits_is_rejected(number: str, country: str | None) -> None:
    """Proves S8."""
    with pytest.raises(ContactRejectedError) as rejected:
        phone.normalise(number, country)

    assert rejected.value.reason == "invalid_phone"


@pytest.mark.parametrize("country", [None, "", "XX"])
def test_a_national_number_needs_its_country(country: str | None) -> None:
    """Proves S8."""
    with pytest.raises(ContactRejectedError) as rejected:
        phone.normalise("0151 12345678", country)

    assert rejected.value.reason == "phone_without_country"


@given(st.from_regex(E164, fullmatch=True), st.sampled_from([None, *phone.COUNTRIES]))
def test_a_number_in_e164_stays_as_it_is(number: str, country: str | None) -> None:
    assert phone.normalise(number, country) == number


@given(st.text(max_size=80), st.sampled_from([None, *phone.COUNTRIES]))
def test_no_text_is_worse_than_rejected(text: str, country: str | None) -> None:
    try:
        outcome = phone.normalise(text, country)
    except ContactRejectedError as rejected:
        outcome = rejected.reason

    assert outcome in {"invalid_phone", "phone_without_country"} or E164.fullmatch(outcome)


def test_every_country_has_a_calling_code() -> None:
    assert len(phone.COUNTRIES) > 230
    assert all(
        re.fullmatch("[A-Z]{2}", code) and re.fullmatch("[1-9][0-9]{0,2}", country.calling_code)
        for code, country in phone.COUNTRIES.items()
    )
