"""What Constant Contact's JSON means to us."""

from datetime import UTC, datetime

import msgspec
import pytest

from libs.connectors.constant_contact import payload


@pytest.mark.parametrize(
    ("text", "at_ms"),
    [
        ("2024-10-30T18:56:35Z", 1_730_314_595_000),
        ("2016-01-23T13:48:44.108Z", 1_453_556_924_108),
        ("2016-03-03T10:53:04-05:00", 1_457_020_384_000),
        ("2024-10-30T18:56:35", 1_730_314_595_000),  # Without a zone: it is UTC elsewhere.
    ],
)
def test_a_moment_is_read_in_every_layout_that_was_seen(text: str, at_ms: int) -> None:
    raw = msgspec.Raw(msgspec.json.encode({"contact_id": "1", "updated_at": text}))

    assert payload.reader(["email"])(raw).version_ms == at_ms


def test_a_moment_is_written_to_the_second() -> None:
    at_ms = int(datetime(2026, 3, 1, 12, 0, 5, 999_000, UTC).timestamp() * 1000)

    assert payload.moment(at_ms) == "2026-03-01T12:00:05Z"


@pytest.mark.parametrize(
    ("body", "key"),
    [
        (b'{"error_key": "throttled"}', "throttled"),
        (b'[{"error_key": "contacts.api.not_found"}, {}]', "contacts.api.not_found"),
        (b"[]", ""),
        (b'[{"message": "Forbidden"}]', ""),
        (b"<html>", ""),
    ],
)
def test_an_error_comes_alone_or_in_an_array(body: bytes, key: str) -> None:
    assert payload.fault_of(body).error_key == key


def test_only_a_links_cursor_is_followed() -> None:
    links = payload.Links(payload.Link("https://elsewhere.example/v3/contacts?cursor=YT0x%3D"))

    assert payload.cursor_of(links) == "YT0x="


def test_a_link_without_a_cursor_is_no_end() -> None:
    with pytest.raises(ValueError, match="without a cursor"):
        payload.cursor_of(payload.Links(payload.Link("/v3/contacts")))


def test_only_the_parts_that_are_mapped_are_asked_for() -> None:
    assert payload.includes(["email", "first_name"]) == []
    assert payload.includes(["city", "work_phone", "custom:1"]) == [
        *("custom_fields", "phone_numbers", "street_addresses")
    ]


def test_a_property_that_is_not_there_any_more_is_nothing() -> None:
    raw = msgspec.Raw(b'{"contact_id": "1", "updated_at": "2024-10-30T18:56:35Z"}')

    assert bytes(payload.reader(["website", "custom:gone"])(raw).properties) == (
        b'{"website":null,"custom:gone":null}'
    )


def test_a_field_of_a_type_that_we_do_not_know_is_not_offered() -> None:
    *_, odd = payload.fields_of([payload.CustomField("1", "Odd", "hologram")])

    assert (odd.type, odd.not_mappable) == ("other", "unsupported_type")
