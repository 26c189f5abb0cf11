"""ActiveCampaign's forms: what is offered, how values go and come back, what a refusal says."""

from typing import Any

import msgspec
import pytest

from libs.common.errors import (
    MisconfiguredError,
    RateLimitedError,
    RequestRefusedError,
    UnavailableError,
)
from libs.common.events import Identity, Operation
from libs.common.reasons import Reject
from libs.connectors.activecampaign import facts, payload
from libs.connectors.activecampaign.importing import chunks_of, encoded
from libs.connectors.activecampaign.payload import (
    CustomFields,
    FieldRecord,
    ImportInfo,
    ListRef,
    Row,
    RowValue,
)
from libs.connectors.activecampaign.refusals import fault_of, judge
from libs.connectors.contract import FieldType, ImportState, NotMappable, Write
from libs.connectors.http import Answer

FIELDS = CustomFields(
    [
        FieldRecord(id="7", title="Second", type="text", perstag="CITY"),
        FieldRecord(id="3", title="City", type="text", perstag="%CITY%"),
        FieldRecord(id=4, title="Seen", type="datetime", perstag="SEEN"),
        FieldRecord(id=5, title="", type="date", perstag="BORN"),
        FieldRecord(id=6, title="Sex", type="radio", perstag="SEX"),
        FieldRecord(id=8, title="Odd", type=None, perstag="ODD"),
        FieldRecord(id=9, title="No tag", type="text", perstag=None),
        FieldRecord(id=10, title="Clash", type="text", perstag="EMAIL"),
        FieldRecord(id=11, title="Many", type="listbox", perstag="MANY"),
    ]
)


def answer(status: int, body: object = b"", **headers: str) -> Answer:
    content = body if isinstance(body, bytes) else msgspec.json.encode(body)
    return Answer("acme.api-us1.com", status, headers, content, writes=False)


def write_of(attributes: dict[str, Any]) -> Write:
    return Write(
        op=Operation.UPSERT,
        identity=Identity(email="Ada@example.com"),
        attributes=msgspec.json.encode(attributes),
        list_id="2",
        join_list=True,
    )


def test_attributes_are_offered_by_their_tag() -> None:
    """Proves S6 for a destination: choices are shown and not offered."""
    offered = {each.name: (each.label, each.type, each.not_mappable) for each in FIELDS.described()}

    assert offered == {
        "EMAIL": ("Email", FieldType.EMAIL, None),
        "FIRSTNAME": ("First Name", FieldType.TEXT, None),
        "LASTNAME": ("Last Name", FieldType.TEXT, None),
        "PHONE": ("Phone", FieldType.PHONE, None),
        "CITY": ("City", FieldType.TEXT, None),
        "SEEN": ("Seen", FieldType.DATETIME, None),
        "BORN": ("BORN", FieldType.DATE, None),
        "SEX": ("Sex", FieldType.CATEGORY, NotMappable.CATEGORY),
        "ODD": ("Odd", FieldType.OTHER, NotMappable.UNSUPPORTED_TYPE),
        "MANY": ("Many", FieldType.MULTIPLE_CHOICE, NotMappable.MULTIPLE_VALUES),
    }
    assert [each.name for each in FIELDS.described() if each.unique] == ["EMAIL"]
    assert (FIELDS.tag_of("3"), FIELDS.tag_of(7)) == ("CITY", None)


def test_a_row_has_texts_and_the_ids_of_fields() -> None:
    attributes = {
        "FIRSTNAME": "Ada",
        "LASTNAME": None,
        "EMAIL": "somebody@else.example",
        "CITY": 12,
        "SEEN": "2026-01-05",
        "BORN": None,
        "SEX": True,
    }

    new = payload.row_of(write_of(attributes), FIELDS, subscribes=True, is_new=True)
    known = payload.row_of(write_of(attributes), FIELDS, subscribes=False)

    assert new == Row(
        email="Ada@example.com",
        first_name="Ada",
        fields=(
            RowValue(3, "12"),
            RowValue(4, "2026-01-05T00:00:00+00:00"),
            RowValue(6, "true"),
        ),
        subscribe=(ListRef(2),),
        exclude_automations=True,
    )
    assert (known.last_name, known.subscribe) == ("", ())
    assert RowValue(5, "") in known.fields
    odd = payload.row_of(write_of({"SEEN": "yesterday"}), FIELDS, subscribes=False)
    assert odd.fields == (RowValue(4, "yesterday"),)


def test_an_import_says_in_both_places_that_it_is_to_be_silent() -> None:
    """Proves AC3: a row that leaves one out would start automations at one reading of the page."""
    rows = [payload.leaving("a@example.com", "2")]

    body = msgspec.json.decode(encoded(rows, "https://example.org/hook"))

    assert body == {
        "contacts": [
            {
                "email": "a@example.com",
                "unsubscribe": [{"listid": 2}],
                "exclude_automations": True,
            }
        ],
        "exclude_automations": True,
        "callback": {"url": "https://example.org/hook", "requestType": "POST"},
    }
    write = Write(
        op=Operation.UPSERT, identity=Identity(email="a@b.de"), attributes=b"{}", list_id="2"
    )
    assert payload.row_of(write, CustomFields([]), subscribes=True).exclude_automations


@pytest.mark.parametrize(
    ("wanted", "there", "is_same"),
    [
        (None, None, True),
        (None, "", True),
        ("", None, True),
        (None, "Leeds", False),
        ("Leeds", None, False),
        ("Leeds", " Leeds ", True),
        ("two\nlines", "two\r\nlines", True),
        (12, "12", True),
        (True, "true", True),
        ("1815-12-10", "1815-12-10", True),
        ("1815-12-10", "1815-12-11", False),
        ("2026-01-05", "2026-01-05T00:00:00+00:00", True),
        ("2026-01-05", "2026-01-04T18:00:00-06:00", True),
        ("2026-01-05", "2026-01-05T18:00:00-06:00", False),
        ("2026-01-05", "2026-01-05T00:00:00", False),
    ],
)
def test_a_value_is_compared_in_the_form_it_comes_back_in(
    wanted: object, there: str | None, *, is_same: bool
) -> None:
    assert payload.same(wanted, there) is is_same


@pytest.mark.parametrize(
    ("email", "is_one"),
    [
        ("a@example.com", True),
        ("a+b@mail.example.co", True),
        ("käthe@example.com", True),
        ("@example.com", False),
        ("a@example", False),
        ("a@example.c", False),
        ("a@@example.com", False),
        ("a b@example.com", False),
        ("a(b)@example.com", False),
        ('"a"@example.com', False),
        ("a@example.c1", False),
    ],
)
def test_an_address_is_judged_as_the_importer_does(email: str, *, is_one: bool) -> None:
    """Proves S9 at the destination: one bad address has all rows refused."""
    assert payload.is_address(email) is is_one


@pytest.mark.parametrize(
    ("body", "state", "ids", "failed"),
    [
        ({"status": False}, ImportState.RUNNING, [], set()),
        ({"status": "waiting"}, ImportState.RUNNING, [], set()),
        ({"status": "a new word"}, ImportState.RUNNING, [], set()),
        ({"status": "completed", "success": [5], "failure": ["A@b.example"]},
         ImportState.COMPLETED, ["5"], {"a@b.example"}),
        ({"success": 1, "status": "completed", "contacts": {"total": 2}},
         ImportState.COMPLETED, [], set()),
        ({"status": "interrupted", "failure": None}, ImportState.FAILED, [], set()),
        ({}, ImportState.RUNNING, [], set()),
    ],
)  # fmt: skip
def test_an_imports_state_is_read_in_every_shape_that_was_seen(
    body: dict[str, Any], state: ImportState, ids: list[str], failed: set[str]
) -> None:
    info: ImportInfo = payload.IMPORT_INFO.decode(msgspec.json.encode(body))

    assert (info.state, info.ids, set(info.failed)) == (state, ids, failed)


def test_rows_go_together_as_far_as_an_import_takes_them() -> None:
    small = [Row(email=f"{number}@example.com") for number in range(600)]
    large = [Row(email="a@example.com", first_name="x" * 150_000)] * 3

    assert chunks_of([]) == []
    assert chunks_of(small) == [slice(0, 250), slice(250, 500), slice(500, 600)]
    assert chunks_of(large) == [slice(0, 2), slice(2, 3)]
    assert all(len(encoded(large[chunk])) <= facts.IMPORT_BYTES_MAX for chunk in chunks_of(large))


@pytest.mark.parametrize(
    ("body", "code", "is_limit", "rows"),
    [
        (b"not JSON", "", False, {}),
        ({"errors": "Bulk operation failed."}, "", False, {}),
        ({"message": "Rate limit exceeded."}, "", True, {}),
        ({"errors": [{"title": "No", "code": "duplicate"}]}, "duplicate", False, {}),
        ({"errors": ["odd", {"code": None}]}, "", False, {}),
        ({"errors": [{"code": "a secret 123"}]}, "", False, {}),
        ({"failureReasons": [{"contact": 2, "failureReason": "Email 'x' is not valid"},
                             {"contact": "x"}, "general"]}, "", False, {1: Reject.INVALID_EMAIL}),
        ({"failureReasons": "odd"}, "", False, {}),
    ],
)  # fmt: skip
def test_a_refusal_is_read_in_each_of_its_shapes(
    body: object, code: str, rows: dict[int, str], *, is_limit: bool
) -> None:
    fault = fault_of(answer(400, body).body)

    assert (fault.code, fault.is_limit, dict(fault.refused_rows)) == (code, is_limit, rows)


def test_a_refusal_means_what_the_documentation_says() -> None:
    limited = judge(answer(429), facts.API)
    later = judge(answer(429, **{"retry-after": "7"}), facts.API)
    importing = judge(answer(400, {"message": "Rate limit exceeded."}), facts.IMPORT)

    assert isinstance(limited, RateLimitedError)
    assert isinstance(later, RateLimitedError)
    assert isinstance(importing, RateLimitedError)
    assert (limited.retry_after_s, later.retry_after_s) == (30.0, 7.0)
    assert (importing.bucket, importing.retry_after_s) == (facts.IMPORT, 60.0)
    assert isinstance(judge(answer(404), facts.API), MisconfiguredError)
    assert isinstance(
        judge(answer(422, {"errors": [{"code": "x"}]}), facts.API), RequestRefusedError
    )
    assert isinstance(judge(answer(423), facts.API), UnavailableError)
