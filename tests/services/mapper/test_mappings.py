from uuid import uuid4

import msgspec
import pytest

from libs.common.events import Change, Effect, Operation
from services.mapper.mappings import MappingError, Mappings, Newest, parse
from services.mapper.store import StoredMapping

FIELDS = (
    '[{"source": "phone", "source_type": "text", "destination": "SMS", '
    '"destination_type": "phone"}]'
)
STORED = StoredMapping(FIELDS, None)
INTEGRATION = uuid4()


def test_a_version_is_compiled_once() -> None:
    mappings = Mappings()
    mappings.keep(INTEGRATION, 1, STORED)

    def compiled(country: str | None) -> object:
        return mappings.compiled(INTEGRATION, 1, default_country=country, asked_for=["phone"])

    assert compiled("DE") is compiled("DE")
    assert compiled("DE") is not compiled("AT")


def test_the_default_country_of_today_counts() -> None:
    mappings = Mappings()
    mappings.keep(INTEGRATION, 1, STORED)
    change = Change(
        id="1",
        op=Operation.UPSERT,
        version_ms=1,
        properties=msgspec.Raw(b'{"phone": "0151 1234567"}'),
    )

    for country, number in (("DE", "+491511234567"), ("AT", "+431511234567")):
        map_contacts = mappings.compiled(
            INTEGRATION, 1, default_country=country, asked_for=["phone"]
        )
        (outcome,) = map_contacts([change])
        assert isinstance(outcome, Effect)
        assert outcome.identity.sms == number


def test_only_versions_that_are_not_kept_are_missing() -> None:
    mappings = Mappings()
    mappings.keep(INTEGRATION, 1, STORED)

    assert mappings.missing(INTEGRATION, [1, 2, 2]) == {2}
    assert mappings.missing(uuid4(), [1]) == {1}


@pytest.mark.parametrize(
    "stored",
    [
        StoredMapping("{}", None),
        StoredMapping('[{"source": "x"}]', None),
        StoredMapping(FIELDS.replace('"phone"}', '"colour"}'), None),
        StoredMapping(FIELDS, "[]"),
        StoredMapping(FIELDS, "no JSON"),
    ],
)
def test_a_damaged_version_is_an_error_of_its_own(stored: StoredMapping) -> None:
    with pytest.raises(MappingError):
        parse(stored, None)


def test_a_version_that_is_nowhere_is_an_error() -> None:
    with pytest.raises(MappingError):
        Mappings().compiled(INTEGRATION, 1, default_country=None, asked_for=[])


def test_a_version_that_can_not_be_compiled_is_damaged() -> None:
    mappings = Mappings()
    mappings.keep(INTEGRATION, 1, StoredMapping(FIELDS.replace("SMS", 'S\\"MS'), None))

    with pytest.raises(MappingError):
        mappings.compiled(INTEGRATION, 1, default_country=None, asked_for=["phone"])


def test_json_null_means_no_criteria() -> None:
    assert parse(StoredMapping(FIELDS, "null"), None).criteria is None


def test_what_is_kept_is_bounded() -> None:
    newest: Newest[int, str] = Newest(2)

    for key in (1, 2, 3):
        newest.get(key, lambda: "kept")

    assert (1 in newest, 2 in newest, 3 in newest) == (False, True, True)
