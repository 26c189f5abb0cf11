"""ActiveCampaign as a destination: the conformance suite, and what only ActiveCampaign does."""

from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from libs.common.errors import (
    MisconfiguredError,
    NeedsReauthError,
    RateLimitedError,
    RequestRefusedError,
    UnavailableError,
    UnknownOutcomeError,
)
from libs.common.events import Identity, Operation
from libs.common.reasons import Reject
from libs.connectors.account import StaticToken
from libs.connectors.activecampaign import destination as module
from libs.connectors.activecampaign import facts, known, reading
from libs.connectors.activecampaign.destination import ActiveCampaignDestination
from libs.connectors.contract import (
    FieldType,
    Gate,
    ImportState,
    ImportStatus,
    Missing,
    NotMappable,
    NotTried,
    OpenGate,
    Refused,
    RemoteContact,
    Taken,
    Unknown,
    Write,
    Written,
    identity_key,
)
from tests.connectors.conformance import DestinationConformance, awaited_of
from tests.connectors.served import RecordingGate, Served

KEY = "activecampaign-sandbox"
BULK = "POST /api/3/import/bulk_import"
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


def destination_of(
    provider: Served, gate: Gate | None = None, token: str = ""
) -> ActiveCampaignDestination:
    tokens = StaticToken(token or KEY)
    return ActiveCampaignDestination(
        provider.http, gate or OpenGate(), tokens, f"{provider.url}/api/3"
    )


def write_of(number: int, list_id: str, **changes: Any) -> Write:
    attributes = {"FIRSTNAME": f"Zoë {number}", "PHONE": f"+3361200{number:04}"}
    first = Write(
        op=Operation.UPSERT,
        identity=Identity(email=f"Person+{number}@example.com"),
        attributes=msgspec.json.encode(attributes),
        list_id=list_id,
        join_list=True,
    )
    if isinstance(changes.get("attributes"), dict):
        changes["attributes"] = msgspec.json.encode(changes["attributes"])
    return replace(first, **changes)


def known_by(write: Write, **changes: Any) -> Write:
    """Return an update of a contact that is linked."""
    if isinstance(changes.get("attributes"), dict):
        changes["attributes"] = msgspec.json.encode(changes["attributes"])
    return replace(write, known_as=write.identity, join_list=False, **changes)


async def new_list(provider: Served) -> str:
    return (await destination_of(provider).make_list("Customers")).id


async def linked(provider: Served, *numbers: int) -> tuple[str, list[Write]]:
    """Link some contacts to a new list."""
    list_id = await new_list(provider)
    writes = [write_of(number, list_id) for number in numbers]
    report = await destination_of(provider).write(writes)
    assert list(report.outcomes) == [Written()] * len(writes)
    return list_id, writes


async def contacts_of(provider: Served) -> dict[str, dict[str, Any]]:
    return {each["email"]: each for each in (await provider.get("state"))["contacts"]}


async def triggered(provider: Served) -> dict[str, int]:
    counts: dict[str, int] = (await provider.get("state"))["triggered"]
    return counts


class TestConformance(DestinationConformance):
    written_of_five = 0  # Everybody is looked at before one import for all is handed in.
    together = 20
    writing = MappingProxyType({"method": "POST"})

    def destination(
        self, provider: Served, gate: Gate | None = None, token: str = ""
    ) -> ActiveCampaignDestination:
        return destination_of(provider, gate, token)

    def write(self, number: int, list_id: str, **changes: Any) -> Write:
        return write_of(number, list_id, **changes)

    async def block(self, provider: Served, email: str) -> None:
        await provider.post("contacts:block", {"emails": [email]})

    async def contacts(self, provider: Served) -> int:
        return len(await contacts_of(provider))


@pytest.mark.parametrize("place", ["payload", "contact"])
async def test_no_write_sets_anything_off(provider: Served, place: str) -> None:
    """Proves AC3: no automation, autoresponder, webhook or mail to a list's owner.

    Wherever it is that ActiveCampaign looks for the wish to exclude automations.
    """
    await provider.put("settings", {"exclude_automations_in": place})
    destination = destination_of(provider)
    list_id, writes = await linked(provider, 1, 2, 3)
    edited = known_by(writes[1], attributes=b'{"FIRSTNAME":"Ada"}')
    leave = Write(Operation.LEAVE, Identity(), b"", list_id, known_as=writes[2].identity)
    process_id = await destination.start_import([write_of(4, list_id)], None)

    report = await destination.write([edited, leave])

    assert list(report.outcomes) == [Written()] * 2
    assert (await destination.import_status(process_id)).state is ImportState.COMPLETED
    assert len(await contacts_of(provider)) == 4
    assert await triggered(provider) == {}


async def test_an_address_moves_with_no_more_than_the_call_for_it(provider: Served) -> None:
    """Proves S5, and what is left of AC3: only the address goes by a call that is not silent."""
    list_id, [write] = await linked(provider, 1)
    moved = known_by(
        write, identity=Identity(email="new@example.com"), attributes={"FIRSTNAME": "Ada"}
    )
    await provider.post("calls:reset", {})

    report = await destination_of(provider).write([moved])

    assert list(report.outcomes) == [Written()]
    [contact] = (await contacts_of(provider)).values()
    assert (contact["email"], contact["attributes"]["FIRSTNAME"]) == ("new@example.com", "Ada")
    assert contact["listIds"] == [int(list_id)]
    writes = (await provider.get("writes"))["writes"]
    puts = [each["attributes"] for each in writes if each["endpoint"].startswith("PUT")]
    assert puts == [{"email": "new@example.com"}]
    assert await triggered(provider) == {"automation": 1, "webhook": 1}


async def test_a_hundred_writes_are_one_import(provider: Served) -> None:
    list_id = await new_list(provider)
    await provider.post("calls:reset", {})

    await destination_of(provider).write([write_of(number, list_id) for number in range(100)])

    calls = await provider.calls()
    assert calls[BULK] == 1
    assert calls["GET /api/3/contacts"] == 101
    assert len(await contacts_of(provider)) == 100


async def test_more_rows_than_one_import_takes_are_several(
    provider: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(facts, "IMPORT_ROWS_MAX", 4)
    monkeypatch.setattr(facts, "IMPORT_BYTES_MAX", 800)
    list_id = await new_list(provider)
    note = {"FIRSTNAME": "x" * 300}
    writes = [write_of(number, list_id) for number in range(5)]
    writes += [write_of(number, list_id, attributes=note) for number in range(5, 8)]

    report = await destination_of(provider).write(writes)

    assert list(report.outcomes) == [Written()] * 8
    assert (await provider.calls())[BULK] == 4


async def test_what_holds_already_is_not_written(provider: Served) -> None:
    """Promise 4: what an unknown try did is seen, and not done again."""
    _, writes = await linked(provider, 1, 2)
    await provider.post("calls:reset", {})

    report = await destination_of(provider).write(writes)

    assert list(report.outcomes) == [Written()] * 2
    assert BULK not in await provider.calls()


async def test_null_clears_an_attribute(provider: Served) -> None:
    destination = destination_of(provider)
    await destination.make_attribute("City", FieldType.TEXT)
    list_id = await new_list(provider)
    first = write_of(1, list_id, attributes={"FIRSTNAME": "Ada", "CITY": "Leeds"})
    await destination.write([first])
    cleared = known_by(first, attributes=b'{"FIRSTNAME":null,"CITY":null}')

    report = await destination.write([cleared])

    assert list(report.outcomes) == [Written()]
    (remote,) = await destination.read_back([first.identity])
    assert remote is not None
    assert remote.attributes == {}
    assert destination.matches(remote, cleared)
    assert not destination.matches(remote, first)


@pytest.mark.parametrize("where", ["this list", "everywhere"])
async def test_somebody_who_left_is_not_put_back(provider: Served, where: str) -> None:
    """Proves S3, AC3 for a first link: ActiveCampaign itself would subscribe them again."""
    list_id = await new_list(provider)
    told = await provider.post(
        "contacts:upsert", {"contacts": [{"email": "person+1@example.com"}], "list": "Others"}
    )
    if where == "this list":
        await provider.post(f"lists/{list_id}:join", {"ids": told["ids"]})
        await provider.post(f"lists/{list_id}:leave", {"ids": told["ids"]})
    else:
        await provider.post("lists/Others:leave", {"ids": told["ids"]})
    destination = destination_of(provider)

    report = await destination.write([write_of(1, list_id)])

    assert list(report.outcomes) == [Written()]
    contact = (await contacts_of(provider))["person+1@example.com"]
    assert contact["attributes"]["FIRSTNAME"] == "Zoë 1"
    assert int(list_id) not in contact["listIds"]
    assert (await provider.get("state"))["resubscribed"] == []
    (remote,) = await destination.read_back([Identity(email="person+1@example.com")])
    assert remote is not None
    assert destination.matches(remote, write_of(1, list_id))


async def test_who_comes_back_after_our_own_removal_stays_off(provider: Served) -> None:
    """Proves S3: nobody can tell our removal from the person's own, so consent wins."""
    list_id, [write] = await linked(provider, 1)
    destination = destination_of(provider)
    leave = Write(Operation.LEAVE, Identity(), b"", list_id, known_as=write.identity)
    await destination.write([leave])

    report = await destination.write([replace(write, known_as=write.identity)])

    assert list(report.outcomes) == [Written()]
    [contact] = (await contacts_of(provider)).values()
    assert contact["statuses"] == {list_id: 2}


async def test_who_leaves_between_the_look_and_the_import_is_written_off_the_list(
    provider: Served,
) -> None:
    """Fault 20. Proves S3: the importer refuses the row, and the values follow without the list."""
    list_id = await new_list(provider)
    told = await provider.post("contacts:upsert", {"contacts": [{"email": "person+1@example.com"}]})
    await provider.post(f"lists/{list_id}:join", {"ids": told["ids"]})
    await provider.post(f"lists/{list_id}:leave", {"ids": told["ids"]})
    shown = {
        "contacts": [{"id": str(told["ids"][0]), "email": "person+1@example.com"}],
        "contactLists": [],
        "fieldValues": [],
    }
    await provider.fault(
        {
            "kind": "status",
            "match": {"method": "GET", "path": "/contacts$"},
            "status": 200,
            "body": shown,
            "times": 1,
        }
    )

    report = await destination_of(provider).write([write_of(1, list_id)])

    assert list(report.outcomes) == [Written()]
    [contact] = (await contacts_of(provider)).values()
    assert contact["attributes"]["FIRSTNAME"] == "Zoë 1"
    assert contact["statuses"] == {list_id: 2}


async def test_a_full_account_stops_adding_and_goes_on_with_room(
    provider: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Proves AC6: who is there is still updated, and adding begins again by itself."""
    monkeypatch.setattr(facts, "IMPORT_ROWS_MAX", 1)
    list_id, [first] = await linked(provider, 1)
    await provider.put("settings", {"contact_limit": 2})
    destination = destination_of(provider)
    edited = known_by(first, attributes=b'{"FIRSTNAME":"Ada"}')
    new = [write_of(number, list_id) for number in (2, 3)]

    full = await destination.write([*new, edited])
    await provider.put("settings", {"contact_limit": None})
    roomy = await destination.write(new)

    assert list(full.outcomes) == [Written(), NotTried(), Written()]
    assert isinstance(full.stopped_by, MisconfiguredError)
    assert full.stopped_by.what == "contact_limit"
    assert list(roomy.outcomes) == [Written()] * 2


async def test_an_excluded_address_is_refused_alone(provider: Served) -> None:
    """The exclusion list and a full account look alike but for the rows that are queued."""
    list_id, [first] = await linked(provider, 1)
    excluded = ["person+1@example.com", "person+2@example.com"]
    await provider.post("contacts:exclude", {"emails": excluded})
    writes = [known_by(first, attributes=b'{"FIRSTNAME":"Ada"}')]
    writes += [write_of(number, list_id) for number in (2, 3)]

    report = await destination_of(provider).write(writes)

    refused = Refused(Reject.NOT_A_TASK_TARGET)
    assert list(report.outcomes) == [refused, refused, Written()]
    assert report.stopped_by is None


async def test_excluded_addresses_are_told_from_a_full_account(provider: Served) -> None:
    """Proves AC6: where both may be, halves are tried until it is known."""
    list_id = await new_list(provider)
    excluded = ["person+0@example.com", "person+3@example.com"]
    await provider.post("contacts:exclude", {"emails": excluded})
    await provider.put("settings", {"contact_limit": 1})

    report = await destination_of(provider).write(
        [write_of(number, list_id) for number in range(4)]
    )

    assert report.outcomes[0] == report.outcomes[3] == Refused(Reject.NOT_A_TASK_TARGET)
    assert sorted(map(repr, report.outcomes[1:3])) == ["NotTried()", "Written(warning=None)"]
    assert isinstance(report.stopped_by, MisconfiguredError)


async def test_an_address_that_bounced_refuses_the_contact(provider: Served) -> None:
    _, [write] = await linked(provider, 1)
    bounced = {"email": "person+1@example.com", "bounced": True}
    await provider.post("contacts:upsert", {"contacts": [bounced]})

    report = await destination_of(provider).write(
        [known_by(write, attributes=b'{"FIRSTNAME":"Ada"}')]
    )

    assert list(report.outcomes) == [Refused(Reject.NOT_A_TASK_TARGET)]


@pytest.mark.parametrize(
    ("identity", "reason"),
    [
        (Identity(email="not an address"), Reject.INVALID_EMAIL),
        (Identity(email="one@example.c"), Reject.INVALID_EMAIL),
        (Identity(sms="33612345678"), Reject.NO_IDENTITY),
    ],
)
async def test_a_bad_address_refuses_one_contact_and_no_other(
    provider: Served, identity: Identity, reason: Reject
) -> None:
    """Fault 42. Proves S9 at the destination: one bad row would have all others refused."""
    list_id = await new_list(provider)

    report = await destination_of(provider).write(
        [write_of(1, list_id, identity=identity), write_of(2, list_id)]
    )

    assert list(report.outcomes) == [Refused(reason), Written()]


async def test_rows_that_the_importer_names_are_refused_and_the_others_written(
    provider: Served,
) -> None:
    list_id = await new_list(provider)
    reasons = [
        {"contact": 1, "failureReason": "Email 'x' is not valid"},
        {"contact": 2, "failureReason": "Something else"},
        {"contact": 9, "failureReason": "Nobody's"},
    ]
    body = {"success": 0, "message": "Not queued.", "failureReasons": reasons}
    await provider.fault(
        {"kind": "status", "match": {"method": "POST"}, "status": 400, "body": body, "times": 1}
    )

    report = await destination_of(provider).write([write_of(n, list_id) for n in range(3)])

    assert list(report.outcomes) == [
        Refused(Reject.INVALID_EMAIL),
        Refused(Reject.VALUE_NOT_ACCEPTED),
        Written(),
    ]


async def test_an_import_that_is_refused_as_a_whole_stops(provider: Served) -> None:
    list_id = await new_list(provider)
    body = {"success": 0, "message": "No.", "failureReasons": ["Something about all"]}
    await provider.fault(
        {"kind": "status", "match": {"method": "POST"}, "status": 400, "body": body}
    )
    destination = destination_of(provider)

    report = await destination.write([write_of(1, list_id)])
    with pytest.raises(RequestRefusedError) as started:
        await destination.start_import([write_of(1, list_id)], None)

    assert list(report.outcomes) == [NotTried()]
    assert isinstance(report.stopped_by, RequestRefusedError)
    assert (started.value.status, started.value.code) == (400, "import_refused")


async def test_the_importers_own_limit_is_told_to_the_gate(provider: Served) -> None:
    """Proves S10: it is answered 400, and lasts a minute."""
    list_id = await new_list(provider)
    await provider.put("limits", {"enabled": True, "api": {"limit": 99, "window_s": 1}})
    await provider.put("limits", {"import_single": {"limit": 0, "window_s": 60}})
    gate = RecordingGate()

    report = await destination_of(provider, gate).write([write_of(1, list_id)])

    assert list(report.outcomes) == [NotTried()]
    assert isinstance(report.stopped_by, RateLimitedError)
    assert gate.refusals == [(facts.IMPORT_SINGLE, 60.0)]


async def test_a_limit_lasts_as_long_as_the_answer_says(provider: Served) -> None:
    """Proves S10."""
    await provider.fault({"kind": "throttle", "headers": {"Retry-After": "12"}, "times": 1})
    gate = RecordingGate()

    with pytest.raises(RateLimitedError):
        await destination_of(provider, gate).check()

    assert gate.refusals == [(facts.API, 12.0)]


async def test_rows_that_are_left_out_in_silence_are_not_believed(provider: Served) -> None:
    """Faults 42 and 43."""
    list_id = await new_list(provider)
    await provider.put("settings", {"import_silent_failures": 0.5})
    writes = [write_of(number, list_id) for number in range(20)]

    report = await destination_of(provider).write(writes)

    there = await contacts_of(provider)
    expected = [
        Written() if identity_key(write.identity) in there else Unknown() for write in writes
    ]
    assert list(report.outcomes) == expected
    assert 0 < len(there) < 20
    assert isinstance(report.stopped_by, UnknownOutcomeError)


@pytest.mark.parametrize("outcome", ["failed", "interrupted", "a lie"])
async def test_an_import_that_comes_to_nothing_is_unknown(provider: Served, outcome: str) -> None:
    """Fault 43."""
    list_id = await new_list(provider)
    if outcome == "a lie":
        await provider.fault({"kind": "lie", "match": {"method": "POST"}})
    else:
        await provider.put("settings", {"import_outcome": outcome})

    report = await destination_of(provider).write([write_of(1, list_id)])

    assert list(report.outcomes) == [Unknown()]
    assert isinstance(report.stopped_by, UnknownOutcomeError)


async def test_an_import_that_takes_too_long_is_unknown_and_found_later(
    provider: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fault 43: what became of it is asked, and it is not handed in again."""
    monkeypatch.setattr(facts, "IMPORT_WAIT_S", 0.2)
    list_id = await new_list(provider)
    await provider.put("settings", {"import_delay_s": 60})
    destination = destination_of(provider)

    report = await destination.write([write_of(1, list_id)])
    await provider.put("clock", {"advance_s": 60})
    again = await destination.write([write_of(1, list_id)])

    assert list(report.outcomes) == [Unknown()]
    assert list(again.outcomes) == [Written()]
    assert (await provider.calls())[BULK] == 1


async def test_an_edit_that_an_import_did_not_bring_is_unknown(provider: Served) -> None:
    _, [first] = await linked(provider, 1)
    await provider.put("settings", {"import_outcome": "failed"})
    edited = known_by(first, attributes={"FIRSTNAME": "Ada"})

    report = await destination_of(provider).write([edited])

    assert list(report.outcomes) == [Unknown()]


async def test_who_is_not_on_the_list_after_all_is_unknown(provider: Served) -> None:
    """An import that names the contact, and has left the list out."""
    list_id = await new_list(provider)
    look = {"kind": "status", "status": 200, "match": {"method": "GET", "path": "/contacts$"}}
    body = {
        "contacts": [{"id": "1", "email": "person+1@example.com"}],
        "contactLists": [],
        "fieldValues": [],
    }
    await provider.fault(
        {**look, "times": 1, "body": {"contacts": []}}, {**look, "times": 1, "body": body}
    )

    report = await destination_of(provider).write([write_of(1, list_id)])

    assert list(report.outcomes) == [Unknown()]


async def test_a_value_that_is_kept_otherwise_is_written(provider: Served) -> None:
    """What the importer says of a row counts where ActiveCampaign makes something of a value."""
    destination = destination_of(provider)
    await destination.make_attribute("Note", FieldType.TEXT)
    list_id = await new_list(provider)
    write = write_of(1, list_id, attributes={"NOTE": "seen"})
    read: dict[str, Any] = {"kind": "status", "status": 200}
    [field] = (await provider.get("state"))["fields"]
    body = {
        "contacts": [{"id": "1", "email": "person+1@example.com"}],
        "contactLists": [{"contact": "1", "list": list_id, "status": "1"}],
        "fieldValues": [{"contact": "1", "field": field["id"], "value": "SEEN"}],
    }
    look = {"kind": "status", "status": 200, "times": 1, "body": {"contacts": []}}
    match = {"method": "GET", "path": "/contacts$"}
    await provider.fault({**look, "match": match}, {**read, "body": body, "match": match})

    report = await destination.write([write])

    assert list(report.outcomes) == [Written()]


async def test_a_move_to_an_address_that_is_taken_moves_nothing(provider: Served) -> None:
    """Proves S5: never two, never over another contact."""
    _, [first, second] = await linked(provider, 1, 2)
    before = await contacts_of(provider)

    report = await destination_of(provider).write([known_by(first, identity=second.identity)])

    assert list(report.outcomes) == [Taken()]
    assert await contacts_of(provider) == before
    assert "PUT /api/3/contacts/{contact_id}" not in await provider.calls()


@pytest.mark.parametrize(
    ("status", "code", "outcome"),
    [
        (404, "", Missing()),
        (422, "duplicate", Taken()),
        (422, "email_invalid", Refused(Reject.INVALID_EMAIL)),
    ],
)
async def test_a_move_that_is_refused_is_the_contacts(
    provider: Served, status: int, code: str, outcome: object
) -> None:
    """Proves S5: whoever takes the address between the look and the call keeps it."""
    _, [first] = await linked(provider, 1)
    body = {"errors": [{"title": "No", "code": code}]}
    await provider.fault(
        {"kind": "status", "match": {"method": "PUT"}, "status": status, "body": body}
    )
    moved = known_by(first, identity=Identity(email="new@example.com"))

    report = await destination_of(provider).write([moved])

    assert list(report.outcomes) == [outcome]


async def test_a_move_that_is_stopped_half_way_is_unknown(provider: Served) -> None:
    _, [first] = await linked(provider, 1)
    moved = known_by(
        first, identity=Identity(email="new@example.com"), attributes={"FIRSTNAME": "Ada"}
    )
    await provider.fault({"kind": "status", "match": {"path": "import"}, "status": 503})

    report = await destination_of(provider).write([moved])

    assert list(report.outcomes) == [Unknown()]
    assert "new@example.com" in await contacts_of(provider)


async def test_a_move_whose_answer_is_lost_is_unknown(provider: Served) -> None:
    _, [first] = await linked(provider, 1)
    await provider.fault({"kind": "cut_after", "match": {"method": "PUT"}})
    moved = known_by(first, identity=Identity(email="new@example.com"))

    report = await destination_of(provider).write([moved])

    assert list(report.outcomes) == [Unknown()]


async def test_an_address_that_is_gone_at_the_source_stays(provider: Served) -> None:
    _, [first] = await linked(provider, 1)
    without = known_by(
        first, identity=Identity(sms="+33612000001"), attributes={"FIRSTNAME": "Ada"}
    )

    report = await destination_of(provider).write([without])

    assert list(report.outcomes) == [Written()]
    [contact] = (await contacts_of(provider)).values()
    assert (contact["email"], contact["attributes"]["FIRSTNAME"]) == ("person+1@example.com", "Ada")


async def test_leaving_makes_nobody_and_unsubscribes_who_never_joined_from_nothing(
    provider: Served,
) -> None:
    list_id = await new_list(provider)
    await provider.post("contacts:upsert", {"contacts": [{"email": "there@example.com"}]})
    leaves = [
        Write(Operation.LEAVE, Identity(), b"", list_id, known_as=Identity(email=email))
        for email in ("nobody@example.com", "there@example.com")
    ]

    report = await destination_of(provider).write(leaves)

    assert list(report.outcomes) == [Written()] * 2
    assert {each["email"]: each["statuses"] for each in (await contacts_of(provider)).values()} == {
        "there@example.com": {}
    }


async def test_a_page_without_what_belongs_to_its_contacts_is_read_one_by_one(
    provider: Served,
) -> None:
    await provider.put("settings", {"honours_include": False})
    list_id, writes = await linked(provider, 1, 2)
    destination = destination_of(provider)

    page = await destination.read_list(list_id, None, awaited=[awaited_of(writes)])

    assert sorted(page.arrived[0]) == sorted(awaited_of(writes))


async def test_an_attribute_that_is_gone_is_a_missing_attribute(provider: Served) -> None:
    """Fault 46."""
    list_id = await new_list(provider)

    report = await destination_of(provider).write([write_of(1, list_id, attributes={"X": "1"})])

    assert list(report.outcomes) == [NotTried()]
    assert isinstance(report.stopped_by, MisconfiguredError)
    assert report.stopped_by.what == "attribute_missing"


async def test_a_list_that_is_gone_is_told_and_nobody_loses_anything(provider: Served) -> None:
    """Fault 46: by first links; who is to leave it has left, and fields are written as ever."""
    list_id, [one, two] = await linked(provider, 1, 2)
    leave = Write(Operation.LEAVE, Identity(), b"", list_id, known_as=two.identity)
    edited = known_by(one, attributes={"FIRSTNAME": "Ada"})
    gone = await provider.control.delete(f"/api/3/lists/{list_id}", headers={"api-token": KEY})

    link = await destination_of(provider).write([write_of(3, list_id)])
    rest = [await destination_of(provider).write([each]) for each in (leave, edited)]

    assert gone.is_success, gone.text
    assert isinstance(link.stopped_by, MisconfiguredError)
    assert (link.stopped_by.what, list(link.outcomes)) == ("list_missing", [NotTried()])
    assert [list(each.outcomes) for each in rest] == [[Written()]] * 2
    assert len(await contacts_of(provider)) == 2


async def test_custom_fields_are_asked_for_again_after_a_while(
    provider: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    destination = destination_of(provider)
    _, [first] = await linked(provider, 1)
    await provider.post("calls:reset", {})

    await destination.write([first])
    await destination.write([first])
    kept = (await provider.calls())["GET /api/3/fields"]
    monkeypatch.setattr(reading, "FIELDS_KEPT_S", 0.0)
    fresh = destination_of(provider)
    await fresh.write([first])
    await fresh.write([first])

    assert kept == 1
    assert (await provider.calls())["GET /api/3/fields"] > 3


async def test_a_list_that_is_made_mails_nobody(provider: Served) -> None:
    """Proves AC3: else whoever joins it is sent the account's last campaign."""
    made = await destination_of(provider).make_list("Customers")

    lists = (await provider.get("state"))["lists"]
    assert {each["id"]: each["sends_last_broadcast"] for each in lists}[int(made.id)] is False


async def test_an_attribute_is_made_once_and_shown_for_all_lists(provider: Served) -> None:
    """Proves AC1: with a personalisation tag that is made from its name."""
    destination = destination_of(provider)

    await destination.make_attribute("Loyalty tier", FieldType.TEXT)
    await destination.make_attribute("loyalty TIER", FieldType.NUMBER)
    await destination.make_attribute("Since", FieldType.DATE)

    described = {
        each.name: (each.label, each.type) for each in await destination.describe_attributes()
    }
    assert described["LOYALTY_TIER"] == ("Loyalty tier", FieldType.TEXT)
    assert described["SINCE"] == ("Since", FieldType.DATE)
    assert [each["relations"] for each in (await provider.get("state"))["fields"]] == [["1"], ["2"]]
    with pytest.raises(RequestRefusedError):
        await destination.make_attribute("SINCE", FieldType.TEXT)
    with pytest.raises(RequestRefusedError):
        await destination.make_attribute("VIP", FieldType.BOOLEAN)


async def test_an_attribute_that_was_made_half_is_finished(provider: Served) -> None:
    """X2: a field that is related to no list keeps values, and no page shows them."""
    destination = destination_of(provider)
    await provider.fault({"kind": "status", "match": {"path": "fieldRels"}, "status": 503})
    with pytest.raises(UnavailableError):
        await destination.make_attribute("City", FieldType.TEXT)
    await provider.heal()

    await destination.make_attribute("City", FieldType.TEXT)

    [field] = (await provider.get("state"))["fields"]
    assert field["relations"] == ["1"]


async def test_an_attribute_that_somebody_else_makes_meanwhile_is_kept(provider: Served) -> None:
    destination = destination_of(provider)
    await destination.make_attribute("City", FieldType.TEXT)
    empty: dict[str, Any] = {"fields": []}
    await provider.fault(
        {
            "kind": "status",
            "match": {"method": "GET", "path": "/fields"},
            "status": 200,
            "body": empty,
            "times": 1,
        }
    )

    await destination.make_attribute("City", FieldType.TEXT)

    assert len((await provider.get("state"))["fields"]) == 1


async def test_a_tag_that_cannot_be_made_is_refused(provider: Served) -> None:
    body = {"errors": [{"title": "No", "code": "field_invalid"}]}
    await provider.fault(
        {"kind": "status", "match": {"method": "POST"}, "status": 422, "body": body}
    )

    with pytest.raises(RequestRefusedError):
        await destination_of(provider).make_attribute("City", FieldType.TEXT)


async def test_fields_beyond_a_page_are_found(provider: Served) -> None:
    headers = {"api-token": KEY}
    for number in range(101):
        field = {"title": f"Field {number}", "type": "text"}
        await provider.control.post("/api/3/fields", json={"field": field}, headers=headers)
    field = {"title": "Colours", "type": "checkbox"}
    await provider.control.post("/api/3/fields", json={"field": field}, headers=headers)

    described = {each.name: each for each in await destination_of(provider).describe_attributes()}

    assert len(described) == 4 + 102
    assert described["COLOURS"].not_mappable is NotMappable.MULTIPLE_VALUES


async def test_lists_beyond_a_page_are_found(provider: Served) -> None:
    destination = destination_of(provider)
    for number in range(100):
        await destination.make_list(f"List {number}")

    assert len(await destination.find_lists()) == 101


async def test_a_right_that_is_missing_is_no_refused_key(provider: Served) -> None:
    """A 403 comes for the key and for rights alike, here as JSON under the name of plain text."""
    await provider.put("settings", {"may_manage_lists": False})

    with pytest.raises(MisconfiguredError) as caught:
        await destination_of(provider).find_lists()

    assert caught.value.what == "scope_missing"


async def test_a_key_that_was_taken_back_needs_a_person(provider: Served) -> None:
    """Fault 45."""
    await provider.put("settings", {"key_enabled": False})

    with pytest.raises(NeedsReauthError):
        await destination_of(provider).check()


async def test_an_account_is_known_by_its_own_name_whichever_key_it_is(provider: Served) -> None:
    """Proves S10 in part: the 5 calls a second are the account's, over all its users' keys."""
    other = await provider.post("keys", {})

    accounts = [
        await destination_of(provider, token=key).check() for key in (KEY, other["api_key"])
    ]

    assert [account.id for account in accounts] == ["default.api-us1.com"] * 2


async def test_an_account_without_links_is_known_by_its_address(provider: Served) -> None:
    body = {"user": {"email": "a@example.com", "links": {"lists": "https://elsewhere.example/x"}}}
    await provider.fault({"kind": "status", "status": 200, "body": body})

    assert (await destination_of(provider).check()).id == "127.0.0.1"


async def test_a_contact_matches_only_what_was_wanted(provider: Served) -> None:
    destination = destination_of(provider)
    write = write_of(1, "2")
    ada = RemoteContact(write.identity, {"FIRSTNAME": "Zoë 1", "PHONE": "+33612000001"})
    there = replace(ada, list_ids=frozenset({"2"}))
    leave = replace(write, op=Operation.LEAVE)

    assert destination.matches(there, write)
    assert destination.matches(replace(ada, left_list_ids=frozenset({"2"})), write)
    assert destination.matches(replace(ada, is_blocked=True), write)
    assert destination.matches(ada, replace(write, join_list=False))
    assert destination.matches(ada, leave)
    assert not destination.matches(ada, write)
    assert not destination.matches(there, leave)
    assert not destination.matches(there, replace(write, identity=Identity(email="b@example.com")))


async def test_only_a_first_link_by_a_good_address_is_importable(provider: Served) -> None:
    destination = destination_of(provider)
    first = write_of(1, "2")
    others = [
        replace(first, op=Operation.LEAVE),
        replace(first, known_as=first.identity),
        replace(first, join_list=False),
        replace(first, identity=Identity(sms="33612345678")),
        replace(first, identity=Identity(email="one@example.c")),
    ]

    assert destination.importable([first, *others]) == [True, *[False] * len(others)]


async def test_only_contacts_that_the_account_does_not_know_are_imported(
    provider: Served,
) -> None:
    """Proves S3: an import touches nobody who may have left; only what is new is looked at."""
    destination = destination_of(provider)
    await provider.post("contacts:fill", {"count": 150})
    there = [{"email": f"person+{number}@example.com"} for number in range(0, 60, 2)]
    await provider.post("contacts:upsert", {"contacts": there})
    keys = [identity_key(write_of(number, "2").identity) for number in range(60)]
    await provider.post("calls:reset", {})

    first = await destination.screen_import(keys, [{}])
    await provider.post("contacts:upsert", {"contacts": [{"email": "person+1@example.com"}]})
    second = await destination.screen_import(keys)

    assert list(first.may) == [number % 2 == 1 for number in range(60)]
    assert [number for number in range(60) if first.may[number] != second.may[number]] == [1]
    assert await provider.calls() == {"GET /api/3/contacts": 3}


@pytest.mark.parametrize("why", ["a minute", "a large account"])
async def test_who_took_another_address_is_seen(
    provider: Served, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    """Proves S3: what was read once is not believed for long, and of a large account not at all."""
    if why == "a minute":
        monkeypatch.setattr(known, "KEPT_S", 0.0)
    else:
        monkeypatch.setattr(module, "KEPT_MAX", 100)
    destination = destination_of(provider)
    told = await provider.post("contacts:fill", {"count": 150})
    keys = [identity_key(write_of(number, "2").identity) for number in range(60)]
    await destination.screen_import(keys)
    moved = {"id": told["ids"][3], "email": "person+7@example.com"}
    await provider.post("contacts:upsert", {"contacts": [moved]})

    new = (await destination.screen_import(keys)).may

    assert [number for number, is_new in enumerate(new) if not is_new] == [7]


async def test_nothing_is_imported_where_looking_costs_more(provider: Served) -> None:
    destination = destination_of(provider)
    keys = [identity_key(write_of(number, "2").identity) for number in range(60)]
    few = await destination.screen_import(keys[:10])
    await provider.fault(
        {"kind": "status", "status": 200, "body": {"contacts": [], "meta": {"total": "6000"}}}
    )

    in_a_crowd = await destination.screen_import(keys, [{}])

    assert not any(few.may)
    assert not any(in_a_crowd.may)
    assert list(in_a_crowd.arrived) == [[]]


async def test_an_import_writes_what_single_calls_would(provider: Served) -> None:
    destination = destination_of(provider)
    await destination.make_attribute("Birthday", FieldType.DATE)
    list_id = await new_list(provider)
    values = {"LASTNAME": None, "BIRTHDAY": "1815-12-10"}
    writes = [write_of(number, list_id, attributes=values) for number in range(250)]
    await provider.put("settings", {"import_delay_s": 60})
    process_id = await destination.start_import(writes, "https://example.org/hook")
    at_once = await destination.import_status(process_id)
    waiting = await destination.find_imports(LONG_AGO)

    await provider.put("clock", {"advance_s": 60})

    assert at_once == ImportStatus(ImportState.RUNNING)
    assert [each.state for each in waiting] == [ImportState.RUNNING]
    assert await destination.import_status(process_id) == ImportStatus(ImportState.COMPLETED)
    assert await destination.find_imports(LONG_AGO) == []
    awaited = [awaited_of(writes)]
    arrived: set[str] = set()
    cursor = None
    for _ in range(3):
        page = await destination.read_list(
            list_id, cursor, datetime.now(UTC), awaited=awaited, newest_first=True
        )
        arrived |= set(page.arrived[0])
        cursor = page.cursor
    assert cursor is None
    assert arrived == set(awaited[0])


async def test_only_contacts_touched_since_the_day_before_are_read(provider: Served) -> None:
    list_id, writes = await linked(provider, 1)
    destination = destination_of(provider)
    later = datetime.now(UTC) + timedelta(days=3)

    page = await destination.read_list(list_id, None, later, awaited=[awaited_of(writes)])

    assert list(page.arrived) == [[]]


async def test_a_body_that_is_too_large_is_not_sent(
    provider: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    list_id = await new_list(provider)
    monkeypatch.setattr(facts, "IMPORT_BYTES_MAX", 100)

    with pytest.raises(RequestRefusedError) as caught:
        await destination_of(provider).start_import([write_of(1, list_id)], None)

    assert caught.value.status == 413
