"""The people that sandboxes are filled with."""

import unicodedata
from collections import Counter
from datetime import date

from email_validator import EmailNotValidError, validate_email

from sandbox.people import ALPHABETS, Invalid, Person, people

COUNT = 5_000


def crowd(count: int = COUNT, *, seed: int = 1, invalid_share: float = 0.0) -> list[Person]:
    return list(people(count, seed=seed, invalid_share=invalid_share))


def accepts(address: str) -> bool:
    try:
        # The domains are RFC 2606's: this validator refuses them unless it is testing.
        validate_email(address, check_deliverability=False, test_environment=True)
    except EmailNotValidError:
        return False
    return True


def test_one_seed_gives_one_crowd() -> None:
    assert crowd(300, seed=7, invalid_share=0.1) == crowd(300, seed=7, invalid_share=0.1)
    assert crowd(300, seed=7) != crowd(300, seed=8)


def test_no_address_and_no_phone_number_occurs_twice() -> None:
    everyone = [*crowd(seed=1, invalid_share=0.1), *crowd(seed=2)]

    addresses = [each.email for each in everyone if each.email]

    assert len(set(addresses)) == len(addresses)
    numbers = [each.phone for each in crowd() if each.phone]
    assert len(set(numbers)) == len(numbers)


def test_names_are_of_many_alphabets() -> None:
    letters = {letter for each in crowd(500) for letter in each.first_name + each.last_name}
    scripts = {unicodedata.name(letter, "").split()[0] for letter in letters if letter.strip()}

    assert {
        "LATIN",
        "CYRILLIC",
        "GREEK",
        "ARABIC",
        "HEBREW",
        "CJK",
        "HIRAGANA",
        "THAI",
        "SUNFLOWER",
    } <= scripts
    assert len({each.country for each in crowd(500)}) == len(ALPHABETS)


def test_so_many_are_invalid_as_asked_and_of_every_kind_alike() -> None:
    everyone = crowd(invalid_share=0.0306)

    kinds = Counter(each.invalid for each in everyone if each.invalid)

    assert kinds == dict.fromkeys(Invalid, 51)


def test_a_valid_person_has_an_address_that_validators_accept() -> None:
    everyone = crowd(500)

    assert all(each.email and accepts(each.email) for each in everyone)
    assert all(date.fromisoformat(each.birthday) for each in everyone)


def test_an_invalid_person_is_unusable_for_the_reason_given() -> None:
    by_kind: dict[Invalid | None, list[Person]] = {}
    for each in crowd(invalid_share=0.2):
        by_kind.setdefault(each.invalid, []).append(each)

    assert {each.email for each in by_kind[Invalid.NO_EMAIL]} == {None}
    malformed = [each.email or "" for each in by_kind[Invalid.MALFORMED_EMAIL]]
    assert malformed
    assert not [address for address in malformed if accepts(address)]
    short = [each.phone or "" for each in by_kind[Invalid.SHORT_PHONE]]
    assert {len(number) for number in short} == {5}
    assert all(each.email and accepts(each.email) for each in by_kind[Invalid.SHORT_PHONE])


def test_most_phones_are_international_some_national_some_absent() -> None:
    phones = [each.phone for each in crowd()]

    international = sum(1 for phone in phones if phone and phone.startswith("+"))
    national = sum(1 for phone in phones if phone and phone.startswith("0"))
    absent = phones.count(None)

    assert 0.82 < international / COUNT < 0.88
    assert 0.03 < national / COUNT < 0.07
    assert 0.08 < absent / COUNT < 0.12
    assert international + national + absent == COUNT
