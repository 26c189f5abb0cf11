from typing import Any

import msgspec
import pytest

from libs.common.events import Identity, Operation
from libs.connectors.brevo import payload
from libs.connectors.brevo.refusals import duplicates, judge, reject_reason
from libs.connectors.contract import FieldType, ImportState, NotMappable, Write
from libs.connectors.http import Answer

ADA = Identity(email="ada@example.com")


def decoded(raw: msgspec.Raw) -> dict[str, Any]:
    return msgspec.json.decode(raw, type=dict[str, Any])


def test_attributes_are_spliced_as_they_are() -> None:
    encoded = b'{"FIRSTNAME": "Ada",   "POINTS":12.0}'

    assert bytes(payload.attributes_for(encoded, ADA)) == encoded
    assert bytes(payload.attributes_for(b"", ADA)) == b"{}"


@pytest.mark.parametrize(
    "note",
    [
        "Ada",
        "null",
        ":null",
        'a":":null',
        ",null",
        ':null,"',
        'a":null',
        '"',
        "\\",
        '\\":null,"FIRSTNAME":null',
        "nullable",
        "",
    ],
)
def test_null_becomes_the_empty_text_that_clears(note: str) -> None:
    encoded = msgspec.json.encode({"FIRSTNAME": None, "NOTE": note, "SMS": None})

    assert decoded(payload.attributes_for(encoded, ADA)) == {
        "FIRSTNAME": "",
        "NOTE": note,
        "SMS": "",
    }
    assert decoded(payload.attributes_for(b'{"FIRSTNAME": null}', ADA)) == {"FIRSTNAME": ""}


def test_the_address_stands_beside_the_attributes_unless_it_moves() -> None:
    encoded = msgspec.json.encode({"EMAIL": "old@example.com", "FIRSTNAME": "Ada"})

    stays = decoded(payload.attributes_for(encoded, ADA))
    moves = decoded(payload.attributes_for(encoded, ADA, new_email="new@example.com"))

    assert stays == {"FIRSTNAME": "Ada"}
    assert moves == {"EMAIL": "new@example.com", "FIRSTNAME": "Ada"}


def test_a_contact_with_a_phone_alone_is_always_named_by_it() -> None:
    phone = Identity(sms="+33612345678")

    assert decoded(payload.attributes_for(b"{}", phone)) == {"SMS": "+33612345678"}


def written(email: str, attributes: bytes) -> Write:
    return Write(Operation.UPSERT, Identity(email=email), attributes, "7", join_list=True)


SENT: list[dict[str, Any]] = [
    {"FIRSTNAME": "Ada", "SMS": "+33612345678", "POINTS": 12, "BORN": "2026-01-02"},
    {"FIRSTNAME": None, "SMS": None, "POINTS": 1.5, "BORN": None},
    {"FIRSTNAME": 'say "SMS":"+1"', "SMS": "+1", "POINTS": None, "BORN": "x\\"},
    {"FIRSTNAME": "null", "SMS": "+1 2", "POINTS": 0, "BORN": ',null,"":null'},
    {"BORN": "2026-01-02", "POINTS": 12, "FIRSTNAME": "Ada"},
    {"FIRSTNAME": "Ada", "TAGS": ["a", None, "null"], "EMAIL": "ada@example.com"},
    {"FIRST\tNAME": "Ada"},
    {"FIRSTNAME": '":null'},
    {"FIRSTNAME": ":null", "MORE": [":null", "null"]},
    {":null": None, "A:": None},
    {"": None, "A": ""},
    {"EMAIL": "ada@example.com"},
    {},
]


ENCODED = [*map(msgspec.json.encode, SENT), b"", b'{"A": null}', b'{"A":[null,null]}']


@pytest.mark.parametrize("first", ENCODED)
def test_an_imports_rows_have_what_each_would_have_alone(first: bytes) -> None:
    for second in ENCODED:
        writes = [written("ada@example.com", first), written("bob@example.com", second)]

        rows = msgspec.json.decode(payload.import_rows(writes))

        assert rows == [
            {
                "email": write.identity.email,
                "attributes": decoded(payload.attributes_for(write.attributes, write.identity)),
            }
            for write in writes
        ]


SHOWN: list[dict[str, Any]] = [
    *SENT,
    {"FIRSTNAME": "Ada", "SMS": "33612345678", "POINTS": 12.0, "BORN": "2026-01-02", "MORE": 1},
    {"FIRSTNAME": "Ada", "SMS": "33612345678", "POINTS": "12", "BORN": "02-01-2026"},
    {"FIRSTNAME": "Ada", "SMS": "3361234567", "POINTS": 12, "BORN": "2026-01-02"},
    {"FIRSTNAME": "", "POINTS": 1.5},
    {"FIRSTNAME": "+1"},
]


@pytest.mark.parametrize("first", range(len(SENT)))
def test_a_glance_at_all_says_what_a_look_at_each_says(first: int) -> None:
    order = [SENT[first], *SENT]
    pairs = [(sent, shown) for sent in order for shown in SHOWN]
    rows = {
        f"{place}@example.com": written(f"{place}@example.com", msgspec.json.encode(sent))
        for place, (sent, _) in enumerate(pairs)
    }
    shown = [
        payload.Sighting(
            place,
            f"{place}@Example.com",
            list_ids=(7, 8) if place % 5 else (8,),
            attributes=msgspec.Raw(msgspec.json.encode(there)),
        )
        for place, (_, there) in enumerate(pairs)
    ]

    (arrived,) = payload.arrived(payload.by_address(shown), [rows])

    assert arrived == [
        f"{place}@example.com"
        for place, (sent, there) in enumerate(pairs)
        if place % 5 and payload.holds(there, msgspec.json.encode(sent))
    ]


def test_who_is_as_sent_but_not_on_the_list_is_still_awaited() -> None:
    rows = {f"{place}@example.com": written("", b'{"A":"b"}') for place in range(2)}
    shown = [
        payload.Sighting(place, key, list_ids=(7 + place,), attributes=msgspec.Raw(b'{"A":"b"}'))
        for place, key in enumerate(rows)
    ]

    assert payload.arrived(payload.by_address(shown), [rows]) == [["0@example.com"]]


def test_a_line_break_in_what_was_sent_misleads_nobody() -> None:
    sent = [b'{"POINTS":\n1}', b'{"POINTS":2}', b'{"POINTS":3}']
    rows = {f"{place}@example.com": written("", each) for place, each in enumerate(sent)}
    shown = [
        payload.Sighting(
            place, key, list_ids=(7,), attributes=msgspec.Raw(b'{"POINTS":%d}' % there)
        )
        for place, (key, there) in enumerate(zip(rows, (1, 2, 2), strict=True))
    ]

    assert payload.arrived(payload.by_address(shown), [rows]) == [
        ["0@example.com", "1@example.com"]
    ]


@pytest.mark.parametrize(
    ("name", "wanted", "there"),
    [
        ("FIRSTNAME", None, None),
        ("FIRSTNAME", "", None),
        ("COUNTRIES", None, []),
        ("FIRSTNAME", "Zoë", "Zoë"),
        ("FIRSTNAME", " Zoë ", "Zoë"),
        ("SMS", "+33 6 12-34", "3361234"),
        ("SMS", "00336123456", 336123456),
        ("WHATSAPP", "+336123456", "336123456"),
        ("EMAIL", "Ada@Example.com", "ada@example.com"),
        ("POINTS", 12.0, 12),
        ("POINTS", "12", 12),
        ("BORN", "2026-07-15", "2026-07-15T00:00:00.000Z"),
        ("BORN", "2026-07-15", "15-07-2026"),
        ("BORN", "2026-07-15", "07/15/2026"),
        ("VIP", True, True),
        ("COUNTRIES", ["FR", "DE"], ["DE", "FR"]),
    ],
)
def test_a_value_in_brevos_form_is_the_same(name: str, wanted: Any, there: Any) -> None:
    assert payload.same(name, wanted, there)


@pytest.mark.parametrize(
    ("name", "wanted", "there"),
    [
        ("FIRSTNAME", "Zoë", "Zoe"),
        ("FIRSTNAME", "Zoë", None),
        ("FIRSTNAME", None, "Zoë"),
        ("FIRSTNAME", "zoë", "Zoë"),
        ("SMS", "+3361234", "3361235"),
        ("POINTS", 12.5, 12),
        ("BORN", "2026-07-15", "2026-07-16"),
        ("BORN", "2026-07-15", "16-07-2026"),
        ("BORN", "2026-07-15", "in July"),
        ("VIP", False, True),
        ("VIP", True, "yes"),
        ("COUNTRIES", ["FR"], ["FR", "DE"]),
    ],
)
def test_another_value_is_not_the_same(name: str, wanted: Any, there: Any) -> None:
    assert not payload.same(name, wanted, there)


@pytest.mark.parametrize(
    ("attribute", "type_", "why"),
    [
        (("CITY", "normal", "text"), FieldType.TEXT, None),
        (("SMS", "normal", "text"), FieldType.PHONE, None),
        (("POINTS", "normal", "float"), FieldType.NUMBER, None),
        (("VIP", "normal", "boolean"), FieldType.BOOLEAN, NotMappable.BOOLEAN),
        (("GENDER", "category", ""), FieldType.CATEGORY, NotMappable.CATEGORY),
        (("X", "normal", "multiple-choice"), FieldType.MULTIPLE_CHOICE,
         NotMappable.MULTIPLE_VALUES),
        (("X", "normal", "user"), FieldType.OTHER, NotMappable.UNSUPPORTED_TYPE),
        (("X", "global", "float"), FieldType.NUMBER, NotMappable.CALCULATED),
        (("X", "calculated", "float"), FieldType.NUMBER, NotMappable.CALCULATED),
        (("X", "transactional", "text"), FieldType.TEXT, NotMappable.READ_ONLY),
    ],
)  # fmt: skip
def test_an_attribute_has_one_of_our_types(
    attribute: tuple[str, str, str], type_: FieldType, why: NotMappable | None
) -> None:
    name, category, kind = attribute

    field = payload.field_of(payload.AttributeRecord(name, category, kind))

    assert (field.type, field.not_mappable) == (type_, why)


def test_a_report_names_the_rows_that_were_left_out() -> None:
    text = '\ufeffFIRSTNAME;EMAIL\nAda;ada@\nBob;\nshort\n"O;C";o.c@\n'

    assert payload.emails_of_report(text) == ["ada@", "o.c@"]
    assert payload.emails_of_report("") == []
    assert payload.emails_of_report("ID\n1\n") == []


@pytest.mark.parametrize(
    ("status", "state"),
    [("queued", ImportState.RUNNING), ("in_process", ImportState.RUNNING),
     ("processing", ImportState.RUNNING), ("completed", ImportState.COMPLETED),
     ("failed", ImportState.FAILED), ("cancelled", ImportState.FAILED),
     ("a new word", ImportState.RUNNING)],
)  # fmt: skip
def test_a_process_stands_in_one_of_three_ways(status: str, state: ImportState) -> None:
    assert payload.state_of(payload.ProcessRecord(id=1, status=status)) is state


@pytest.mark.parametrize(
    ("fault", "kinds"),
    [
        ({"code": "duplicate_parameter", "metadata": {"duplicate_identifiers": ["email", "SMS"]}},
         {"EMAIL", "SMS"}),
        ({"code": "invalid_parameter", "metadata": {"duplicate_identifiers": ["SMS"]}}, {"SMS"}),
        ({"code": "duplicate_parameter", "message": "Contact already exist"}, {"EMAIL"}),
        ({"code": "invalid_parameter", "message": "Contact already exist"}, {"EMAIL"}),
        ({"code": "invalid_parameter", "message": "Invalid phone number"}, None),
        ({"code": "invalid_parameter", "metadata": {}}, None),
    ],
)  # fmt: skip
def test_a_duplicate_is_known_by_its_metadata_first(
    fault: dict[str, Any], kinds: set[str] | None
) -> None:
    assert duplicates(payload.fault_of(msgspec.json.encode(fault))) == kinds


def test_an_error_without_words_is_an_empty_one() -> None:
    assert payload.fault_of(b"\xff") == payload.Fault()
    assert reject_reason(payload.Fault()) is None


@pytest.mark.parametrize(("header", "seconds"), [("7", 7.0), ("0", 1.0), ("x", 60.0), ("", 60.0)])
def test_a_limit_lasts_until_the_window_has_room(header: str, seconds: float) -> None:
    answer = Answer("host", 429, {"x-sib-ratelimit-reset": header}, b"{}", writes=True)

    assert judge(answer, "contacts").retry_after_s == seconds  # type: ignore[attr-defined]  # it is a RateLimitedError
