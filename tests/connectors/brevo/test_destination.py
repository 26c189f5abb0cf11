"""Brevo as a destination: the conformance suite, and what only Brevo does."""

import asyncio
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from libs.common.errors import (
    MisconfiguredError,
    RateLimitedError,
    RequestRefusedError,
    UnavailableError,
    UnknownOutcomeError,
)
from libs.common.events import Identity, Operation
from libs.common.reasons import Reject
from libs.connectors.account import StaticToken
from libs.connectors.brevo import destination as module
from libs.connectors.brevo import facts, known, payload
from libs.connectors.brevo.destination import BrevoDestination
from libs.connectors.contract import (
    Awaited,
    FieldType,
    Gate,
    ImportState,
    ImportStatus,
    Missing,
    OpenGate,
    Refused,
    RemoteContact,
    Taken,
    Unknown,
    Write,
    Written,
)
from tests.connectors.conformance import DestinationConformance, awaited_of
from tests.connectors.served import RecordingGate, Served

KEY = "xkeysib-sandbox"
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


def destination_of(provider: Served, gate: Gate | None = None, token: str = "") -> BrevoDestination:
    tokens = StaticToken(token or KEY)
    return BrevoDestination(provider.http, gate or OpenGate(), tokens, f"{provider.url}/v3")


def write_of(number: int, list_id: str, **changes: Any) -> Write:
    attributes = {"FIRSTNAME": f"Zoë {number}", "SMS": f"+3361200{number:04}"}
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


def keys_of(numbers: Iterable[int]) -> list[str]:
    return list(awaited_of([write_of(number, "2") for number in numbers]))


class Everybody(dict[str, Write]):
    """Rows of an import that has everybody who is on a list."""

    def __init__(self, list_id: str) -> None:
        self._list_id = list_id

    def get(self, key: str, default: object = None) -> Write:
        """Return a row that asks for nothing but the address and the list."""
        return Write(Operation.UPSERT, Identity(email=key), b"{}", self._list_id, join_list=True)


async def contacts_of(provider: Served) -> list[dict[str, Any]]:
    contacts: list[dict[str, Any]] = (await provider.get("state"))["contacts"]
    return contacts


async def finished(destination: BrevoDestination, process_id: str) -> ImportStatus:
    """Ask until an import is over."""
    async with asyncio.timeout(60):
        while True:
            status = await destination.import_status(process_id)
            if status.state is not ImportState.RUNNING:
                return status
            await asyncio.sleep(0.02)


class TestConformance(DestinationConformance):
    def destination(
        self, provider: Served, gate: Gate | None = None, token: str = ""
    ) -> BrevoDestination:
        return destination_of(provider, gate, token)

    def write(self, number: int, list_id: str, **changes: Any) -> Write:
        return write_of(number, list_id, **changes)

    async def block(self, provider: Served, email: str) -> None:
        await provider.post("contacts:block", {"emails": [email]})

    async def contacts(self, provider: Served) -> int:
        return len(await contacts_of(provider))


async def test_a_new_contact_costs_one_call(provider: Served) -> None:
    destination = destination_of(provider)
    list_id = (await destination.make_list("Customers")).id
    await provider.post("calls:reset", {})

    await destination.write([write_of(number, list_id) for number in range(10)])

    assert await provider.calls() == {"POST /v3/contacts": 10}


async def test_null_clears_an_attribute(provider: Served) -> None:
    destination = destination_of(provider)
    list_id = (await destination.make_list("Customers")).id
    first = write_of(1, list_id)
    await destination.write([first])
    cleared = write_of(1, list_id, known_as=first.identity, attributes={"FIRSTNAME": None})

    await destination.write([cleared])

    (remote,) = await destination.read_back([first.identity])
    assert remote is not None
    assert "FIRSTNAME" not in remote.attributes
    assert "SMS" in remote.attributes
    assert destination.matches(remote, cleared)
    assert not destination.matches(remote, first)


async def test_somebody_who_left_the_list_is_not_put_on_it_again(provider: Served) -> None:
    """Proves S3 for a first link: Brevo keeps which lists a person has left."""
    destination = destination_of(provider)
    list_id = (await destination.make_list("Customers")).id
    await provider.post("contacts:upsert", {"contacts": [{"email": "person+1@example.com"}]})
    shown = {"id": 1, "email": "person+1@example.com", "listUnsubscribed": [int(list_id)]}
    await provider.fault(
        {
            "kind": "status",
            "match": {"method": "GET", "path": "/contacts/Person"},
            "status": 200,
            "body": shown,
        }
    )

    report = await destination.write([write_of(1, list_id)])

    await provider.heal()
    assert list(report.outcomes) == [Written()]
    (remote,) = await destination.read_back([Identity(email="person+1@example.com")])
    assert remote is not None
    assert remote.attributes["FIRSTNAME"] == "Zoë 1"
    assert remote.list_ids == frozenset()


async def test_a_block_that_brevo_drops_on_a_move_is_set_again(provider: Served) -> None:
    """Proves S3: Brevo takes the block from a contact whose address changes."""
    destination = destination_of(provider)
    list_id = (await destination.make_list("Customers")).id
    first = write_of(1, list_id)
    await destination.write([first])
    await provider.post("contacts:block", {"emails": [first.identity.email]})
    moved = write_of(
        1, list_id, known_as=first.identity, identity=Identity(email="new@example.com")
    )

    await destination.write([moved])

    state = await provider.get("state")
    assert state["blocklist"] == ["new@example.com"]
    assert state["resubscribed"] == []


async def test_a_move_to_an_address_that_is_taken_moves_nothing(provider: Served) -> None:
    """Proves S5: never two, never over another contact."""
    destination = destination_of(provider)
    list_id = (await destination.make_list("Customers")).id
    first, second = write_of(1, list_id), write_of(2, list_id)
    await destination.write([first, second])

    report = await destination.write(
        [replace(first, known_as=first.identity, identity=second.identity)]
    )

    assert list(report.outcomes) == [Taken()]
    remote = await destination.read_back([first.identity, second.identity])
    assert [each is not None for each in remote] == [True, True]


async def test_a_move_of_a_contact_that_is_gone_is_missing(provider: Served) -> None:
    gone = Identity(email="gone@example.com")

    report = await destination_of(provider).write([write_of(1, "2", known_as=gone)])

    assert list(report.outcomes) == [Missing()]


async def test_a_phone_that_belongs_to_another_contact_is_left_out(provider: Served) -> None:
    destination = destination_of(provider)
    list_id = (await destination.make_list("Customers")).id
    family = {"FIRSTNAME": "Ada", "SMS": "+33612345678"}
    one, two = (write_of(number, list_id, attributes=family) for number in (1, 2))

    linked = await destination.write([one])
    linked_too = await destination.write([two])
    updated = await destination.write([replace(two, known_as=two.identity, join_list=False)])

    warned = [Written("phone_left_out")]
    assert list(linked.outcomes) == [Written()]
    assert list(linked_too.outcomes) == list(updated.outcomes) == warned
    (remote,) = await destination.read_back([two.identity])
    assert remote is not None
    assert remote.attributes == {"FIRSTNAME": "Ada"}


async def test_a_contact_may_have_a_phone_alone(provider: Served) -> None:
    destination = destination_of(provider)
    list_id = (await destination.make_list("Customers")).id
    first = write_of(
        1, list_id, identity=Identity(sms="+33612345678"), attributes={"FIRSTNAME": "Ada"}
    )
    moved = replace(first, known_as=first.identity, identity=Identity(sms="+33699999999"))
    named = replace(moved, known_as=moved.identity, identity=Identity(email="ada@example.com"))

    reports = [await destination.write([write]) for write in (first, first, moved, named)]

    assert [list(report.outcomes) for report in reports] == [[Written()]] * 4
    (contact,) = await contacts_of(provider)
    assert (contact["email"], contact["attributes"]["SMS"]) == ("ada@example.com", "33699999999")
    (remote,) = await destination.read_back([Identity(sms="+33 6 99 99 99 99")])
    assert remote is not None
    assert destination.matches(remote, moved)


async def test_a_contact_matches_only_what_was_wanted(provider: Served) -> None:
    destination = destination_of(provider)
    write = write_of(1, "2")
    ada = RemoteContact(write.identity, {"FIRSTNAME": "Zoë 1", "SMS": "33612000001"})
    there = replace(ada, list_ids=frozenset({"2"}))
    phone = replace(write, identity=Identity(sms="33699999999"))
    leave = replace(write, op=Operation.LEAVE)

    assert destination.matches(there, write)
    assert destination.matches(replace(ada, left_list_ids=frozenset({"2"})), write)
    assert destination.matches(ada, replace(write, join_list=False))
    assert destination.matches(ada, leave)
    assert not destination.matches(ada, write)
    assert not destination.matches(there, leave)
    assert not destination.matches(there, phone)
    assert not destination.matches(there, replace(write, identity=Identity(email="b@example.com")))


async def test_a_contact_that_comes_back_and_is_gone_is_missing(provider: Served) -> None:
    gone = write_of(1, "2")

    report = await destination_of(provider).write([replace(gone, known_as=gone.identity)])

    assert list(report.outcomes) == [Missing()]


async def test_a_contact_that_vanishes_while_it_moves_is_missing(provider: Served) -> None:
    known_as = Identity(email="old@example.com")
    shown = {"id": 1, "email": "old@example.com"}
    await provider.fault(
        {"kind": "status", "match": {"method": "GET"}, "status": 200, "body": shown}
    )

    report = await destination_of(provider).write([write_of(1, "2", known_as=known_as)])

    assert list(report.outcomes) == [Missing()]


async def test_a_move_that_is_stopped_half_way_is_unknown(provider: Served) -> None:
    destination = destination_of(provider)
    list_id = (await destination.make_list("Customers")).id
    first = write_of(1, list_id)
    await destination.write([first])
    await provider.post("contacts:block", {"emails": [first.identity.email]})
    moved = replace(first, known_as=first.identity, identity=Identity(email="new@example.com"))

    report = await destination_of(provider, RecordingGate(calls_max=2)).write([moved])

    assert list(report.outcomes) == [Unknown()]
    assert list((await destination.write([moved])).outcomes) == [Missing()]


async def test_a_phone_that_is_taken_moves_no_one_known_by_a_phone(provider: Served) -> None:
    destination = destination_of(provider)
    list_id = (await destination.make_list("Customers")).id
    one, two = (
        write_of(number, list_id, identity=Identity(sms=f"+3361234567{number}"), attributes={})
        for number in (1, 2)
    )
    await destination.write([one, two])

    report = await destination.write([replace(one, known_as=one.identity, identity=two.identity)])

    assert list(report.outcomes) == [Taken()]


async def test_an_address_that_is_gone_at_the_source_stays(provider: Served) -> None:
    destination = destination_of(provider)
    list_id = (await destination.make_list("Customers")).id
    first = write_of(1, list_id)
    await destination.write([first])
    without = replace(first, known_as=first.identity, identity=Identity(sms="+33612000001"))

    report = await destination.write([without])

    assert list(report.outcomes) == [Written()]
    (contact,) = await contacts_of(provider)
    assert contact["email"] == "person+1@example.com"


@pytest.mark.parametrize(
    ("identity", "attributes", "reason"),
    [
        (Identity(email="not an address"), {}, Reject.INVALID_EMAIL),
        (Identity(email="a@example.com"), {"SMS": "12"}, Reject.INVALID_PHONE),
    ],
)
async def test_a_bad_value_refuses_one_contact_and_no_other(
    provider: Served, identity: Identity, attributes: dict[str, Any], reason: Reject
) -> None:
    """Fault 42. Proves S8, S9 at the destination."""
    destination = destination_of(provider)
    list_id = (await destination.make_list("Customers")).id
    bad = write_of(1, list_id, identity=identity, attributes=attributes)

    report = await destination.write([bad, write_of(2, list_id)])

    assert list(report.outcomes) == [Refused(reason), Written()]
    assert report.stopped_by is None


async def test_a_bad_value_in_an_update_refuses_the_contact(provider: Served) -> None:
    destination = destination_of(provider)
    list_id = (await destination.make_list("Customers")).id
    first = write_of(1, list_id)
    await destination.write([first])
    bad = replace(first, known_as=first.identity, join_list=False, attributes=b'{"SMS": "12"}')

    report = await destination.write([bad])
    body = {"code": "invalid_parameter", "message": "Something else"}
    await provider.fault(
        {"kind": "status", "match": {"method": "PUT"}, "status": 400, "body": body}
    )
    unclear = await destination.write([replace(bad, attributes=b"{}")])

    assert list(report.outcomes) == [Refused(Reject.INVALID_PHONE)]
    assert list(unclear.outcomes) == [Refused(Reject.VALUE_NOT_ACCEPTED)]


async def test_a_taken_key_that_is_no_phone_refuses_the_contact(provider: Served) -> None:
    destination = destination_of(provider)
    list_id = (await destination.make_list("Customers")).id
    one, two = (write_of(number, list_id, attributes={"EXT_ID": "7"}) for number in (1, 2))
    await destination.write([one])

    linked = await destination.write([two])
    await destination.write([replace(two, attributes=b"{}")])
    updated = await destination.write([replace(two, known_as=two.identity)])

    refused = [Refused(Reject.VALUE_NOT_ACCEPTED)]
    assert list(linked.outcomes) == list(updated.outcomes) == refused


async def test_an_attribute_that_is_gone_is_a_missing_attribute(provider: Served) -> None:
    """Fault 46."""
    await provider.put("settings", {"unknown_attribute": "reject"})
    destination = destination_of(provider)
    list_id = (await destination.make_list("Customers")).id

    report = await destination.write([write_of(1, list_id, attributes={"PHONE_COLOUR": "red"})])

    assert isinstance(report.stopped_by, MisconfiguredError)
    assert report.stopped_by.what == "attribute_missing"


async def test_a_refusal_without_a_known_reason_is_the_contacts(provider: Served) -> None:
    destination = destination_of(provider)
    list_id = (await destination.make_list("Customers")).id
    body = {"code": "invalid_parameter", "message": "Something else"}
    await provider.fault(
        {"kind": "status", "match": {"method": "POST"}, "status": 400, "body": body, "times": 1}
    )

    report = await destination.write([write_of(1, list_id), write_of(2, list_id)])

    assert Refused(Reject.VALUE_NOT_ACCEPTED) in report.outcomes
    assert Written() in report.outcomes


@pytest.mark.parametrize(
    ("settings", "what"),
    [({"address_authorised": False}, "ip_not_allowed"), ({"contact_limit": 0}, "contact_limit")],
)
async def test_what_a_person_must_mend_is_told(
    provider: Served, settings: dict[str, Any], what: str
) -> None:
    """Proves AC6 for Brevo's contact limit."""
    list_id = (await destination_of(provider).make_list("Customers")).id
    await provider.put("settings", settings)

    report = await destination_of(provider).write([write_of(1, list_id)])

    assert isinstance(report.stopped_by, MisconfiguredError)
    assert report.stopped_by.what == what


@pytest.mark.parametrize(
    ("status", "code", "what"),
    [(403, "permission_denied", "scope_missing"),
     (403, "account_under_validation", "api_disabled"),
     (405, "method_not_allowed", "")],
)  # fmt: skip
async def test_a_call_that_is_refused_as_a_whole_stops(
    provider: Served, status: int, code: str, what: str
) -> None:
    body = {"code": code, "message": "No"}
    await provider.fault({"kind": "status", "status": status, "body": body})

    report = await destination_of(provider).write([write_of(1, "2")])

    if what:
        assert isinstance(report.stopped_by, MisconfiguredError)
        assert report.stopped_by.what == what
    else:
        assert isinstance(report.stopped_by, RequestRefusedError)
        assert (report.stopped_by.status, report.stopped_by.code) == (status, code)


async def test_too_early_is_later(provider: Served) -> None:
    await provider.put("settings", {"too_early_calls": 1})
    destination = destination_of(provider)
    list_id = (await destination.make_list("Customers")).id

    report = await destination.write([write_of(1, list_id)])

    assert isinstance(report.stopped_by, UnavailableError)
    assert report.stopped_by.retry_after_s == 5.0
    assert list((await destination.write([write_of(1, list_id)])).outcomes) == [Written()]


async def test_a_limit_lasts_as_long_as_brevo_says(provider: Served) -> None:
    await provider.fault({"kind": "throttle", "headers": {"x-sib-ratelimit-reset": "1234"}})
    gate = RecordingGate()

    with pytest.raises(RateLimitedError):
        await destination_of(provider, gate).check()

    assert gate.refusals == [(facts.OTHER, 1234.0)]


async def test_the_accounts_own_address_is_not_deleted(provider: Served) -> None:
    owner = Identity(email="owner@default.example.com")
    await provider.post("contacts:upsert", {"contacts": [{"email": owner.email}]})

    report = await destination_of(provider).write(
        [Write(Operation.DELETE, Identity(), b"", "2", known_as=owner)]
    )

    assert list(report.outcomes) == [Refused(Reject.VALUE_NOT_ACCEPTED)]


async def test_leaving_that_is_refused_for_no_reason_is_the_contacts(provider: Served) -> None:
    body = {"code": "invalid_parameter", "message": "Something else"}
    await provider.fault(
        {"kind": "status", "match": {"method": "PUT"}, "status": 400, "body": body}
    )
    leave = Write(Operation.LEAVE, Identity(), b"", "2", known_as=Identity(email="a@example.com"))

    report = await destination_of(provider).write([leave])

    assert list(report.outcomes) == [Refused(Reject.VALUE_NOT_ACCEPTED)]


async def test_leaving_a_list_that_is_gone_is_told(provider: Served) -> None:
    """Fault 46."""
    destination = destination_of(provider)
    list_id = (await destination.make_list("Customers")).id
    first = write_of(1, list_id)
    await destination.write([first])
    leave = Write(Operation.LEAVE, Identity(), b"", "98765", known_as=first.identity)

    report = await destination.write([leave])

    assert isinstance(report.stopped_by, MisconfiguredError)
    assert report.stopped_by.what == "list_missing"


async def test_an_attribute_is_made_once(provider: Served) -> None:
    destination = destination_of(provider)

    await destination.make_attribute("points", FieldType.NUMBER)
    await destination.make_attribute("POINTS", FieldType.NUMBER)

    fields = {each.name: each.type for each in await destination.describe_attributes()}
    assert fields["POINTS"] is FieldType.NUMBER
    with pytest.raises(RequestRefusedError):
        await destination.make_attribute("POINTS", FieldType.DATE)
    with pytest.raises(RequestRefusedError):
        await destination.make_attribute("TIER", FieldType.CATEGORY)


async def test_lists_lie_in_one_folder_of_ours(provider: Served) -> None:
    destination = destination_of(provider)
    for number in range(60):
        headers = {"api-key": KEY}
        body = {"name": f"Theirs {number}"}
        path = "/v3/contacts/folders"
        assert (await provider.control.post(path, json=body, headers=headers)).is_success

    for number in range(51):
        await destination.make_list(f"List {number}")

    state = await provider.get("state")
    (ours,) = [each["id"] for each in state["folders"] if each["name"] == facts.FOLDER]
    assert [each["folder_id"] for each in state["lists"]].count(ours) == 51
    assert len(await destination.find_lists()) == 52


async def test_a_long_list_is_read_page_after_page(provider: Served) -> None:
    told = await provider.post("contacts:fill", {"count": 750, "list": "Long"})
    destination = destination_of(provider)
    list_id = str(told["list_id"])

    everybody = [Everybody(list_id)]

    first = await destination.read_list(list_id, None, awaited=everybody)
    second = await destination.read_list(list_id, first.cursor, awaited=everybody)

    assert (len(first.arrived[0]), len(second.arrived[0]), second.cursor) == (500, 250, None)


async def test_only_contacts_touched_since_then_are_read(provider: Served) -> None:
    told = await provider.post("contacts:fill", {"count": 3, "list": "Long"})
    destination = destination_of(provider)
    list_id = str(told["list_id"])
    everybody = [Everybody(list_id)]

    none = await destination.read_list(
        list_id, None, datetime.now(UTC) + timedelta(minutes=5), awaited=everybody
    )
    everyone = await destination.read_list(list_id, None, LONG_AGO, awaited=everybody)

    assert (len(none.arrived[0]), len(everyone.arrived[0])) == (0, 3)


async def test_only_a_first_link_by_address_is_importable(provider: Served) -> None:
    destination = destination_of(provider)
    first = write_of(1, "2")
    others = [
        replace(first, op=Operation.LEAVE),
        replace(first, known_as=first.identity),
        replace(first, join_list=False),
        replace(first, identity=Identity(sms="33612345678")),
        write_of(1, "2", attributes={"VIP": False}),
    ]

    told_of = write_of(1, "2", attributes={"NOTE": "it is :true or :false"})

    assert destination.importable([first, told_of]) == [True, True]
    assert destination.importable([told_of, *others, first]) == [True, *[False] * 5, True]


async def test_only_contacts_that_the_account_does_not_know_are_imported(
    provider: Served,
) -> None:
    """Proves S3: an import touches nobody who may have left."""
    destination = destination_of(provider)
    await provider.post("contacts:fill", {"count": 1500})
    there = [{"email": f"person+{number}@example.com"} for number in range(0, 600, 2)]
    await provider.post("contacts:upsert", {"contacts": there})
    await provider.post("calls:reset", {})

    new = (await destination.screen_import(keys_of(range(600)))).may

    assert list(new) == [number % 2 == 1 for number in range(600)]
    assert await provider.calls() == {"GET /v3/contacts": 2}


async def test_before_the_next_import_only_new_contacts_are_looked_at(provider: Served) -> None:
    destination = destination_of(provider)
    await provider.post("contacts:fill", {"count": 1500})
    keys = keys_of(range(600))
    await destination.screen_import(keys)
    there = [{"email": f"person+{number}@example.com"} for number in range(0, 600, 2)]
    await provider.post("contacts:upsert", {"contacts": there})
    await provider.post("calls:reset", {})

    new = (await destination.screen_import(keys)).may

    assert list(new) == [number % 2 == 1 for number in range(600)]
    assert await provider.calls() == {"GET /v3/contacts": 1}


async def test_who_moved_up_because_another_was_deleted_is_seen(provider: Served) -> None:
    """A contact that comes to stand before the last one known would hide, and be imported (S3)."""
    destination = destination_of(provider)
    told = await provider.post("contacts:fill", {"count": 1500})
    keys = keys_of(range(600))
    await destination.screen_import(keys)
    await provider.post("contacts:upsert", {"contacts": [{"email": "person+7@example.com"}]})
    await provider.post("contacts:delete", {"ids": told["ids"][:2]})

    new = (await destination.screen_import(keys)).may

    assert [number for number, is_new in enumerate(new) if not is_new] == [7]


async def test_who_took_another_address_is_seen_after_a_minute(
    provider: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Proves S3: what was read once is not believed for long."""
    monkeypatch.setattr(known, "KEPT_S", 0.0)
    destination = destination_of(provider)
    told = await provider.post("contacts:fill", {"count": 1500})
    keys = keys_of(range(600))
    await destination.screen_import(keys)
    moved = {"id": told["ids"][3], "email": "person+7@example.com"}
    await provider.post("contacts:upsert", {"contacts": [moved]})

    new = (await destination.screen_import(keys)).may

    assert [number for number, is_new in enumerate(new) if not is_new] == [7]


async def test_no_more_than_a_page_of_an_account_is_held(
    provider: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first look is at all there is: a large account must not fill the memory."""
    destination = destination_of(provider)
    told = await provider.post("contacts:fill", {"count": 2500, "list": "Customers"})
    held: list[int] = []
    arrived = payload.arrived

    def look(shown: Mapping[str, payload.Sighting], awaited: Awaited) -> list[list[str]]:
        held.append(len(shown))
        return arrived(shown, awaited)

    monkeypatch.setattr(payload, "arrived", look)
    everybody = [Everybody(str(told["list_id"]))]

    screening = await destination.screen_import(keys_of(range(600)), everybody)
    page = await destination.read_list(str(told["list_id"]), None, awaited=everybody, hoped=2500)

    assert held == [1000, 999, 501, 500, 500, 500, 500]
    assert len(set(screening.arrived[0])) == 2500
    assert len(set(page.arrived[0])) == 2000


async def test_a_list_can_be_read_from_its_newest_contact(provider: Served) -> None:
    destination = destination_of(provider)
    told = await provider.post("contacts:fill", {"count": 3, "list": "Customers"})

    list_id = str(told["list_id"])
    everybody = [Everybody(list_id)]

    page = await destination.read_list(list_id, None, awaited=everybody, newest_first=True)

    oldest = await destination.read_list(list_id, None, awaited=everybody)
    assert len(page.arrived[0]) == 3
    assert list(page.arrived[0]) == list(reversed(oldest.arrived[0]))


async def test_nothing_is_imported_where_looking_costs_more(provider: Served) -> None:
    destination = destination_of(provider)
    body = {"contacts": [], "count": 600_000}
    await provider.fault({"kind": "status", "status": 200, "body": body})

    few = (await destination.screen_import(keys_of([1]))).may
    in_a_crowd = (await destination.screen_import(keys_of(range(600)))).may

    assert list(few) == [False]
    assert not any(in_a_crowd)


async def test_an_import_writes_what_single_calls_would(provider: Served) -> None:
    destination = destination_of(provider)
    list_id = (await destination.make_list("Customers")).id
    writes = [
        write_of(number, list_id, attributes={"FIRSTNAME": f"Zoë {number}", "LASTNAME": None})
        for number in range(600)
    ]
    rows = awaited_of(writes)
    assert all((await destination.screen_import(list(rows))).may)

    status = await finished(destination, await destination.start_import(writes, None))

    assert status == ImportStatus(ImportState.COMPLETED)
    page = await destination.read_list(list_id, None, LONG_AGO, awaited=[rows])
    more = await destination.read_list(list_id, page.cursor, LONG_AGO, awaited=[rows])
    assert {*page.arrived[0], *more.arrived[0]} == rows.keys()


async def test_an_import_leaves_contacts_that_are_there_as_they_are(provider: Served) -> None:
    """A late import undoes no newer write."""
    destination = destination_of(provider)
    list_id = (await destination.make_list("Customers")).id
    newer = write_of(1, list_id, attributes={"FIRSTNAME": "Newer"})
    await destination.write([newer])

    older = write_of(1, list_id, attributes={"FIRSTNAME": "Older"})
    await finished(destination, await destination.start_import([older], None))

    (remote,) = await destination.read_back([newer.identity])
    assert remote is not None
    assert destination.matches(remote, newer)
    assert not destination.matches(remote, older)


async def test_rows_that_brevo_calls_invalid_are_named(provider: Served) -> None:
    """Faults 42 and 43: what of an import failed is known row by row."""
    destination = destination_of(provider)
    list_id = (await destination.make_list("Customers")).id
    bad = write_of(1, list_id, identity=Identity(email="Not;An Address"))
    taken = write_of(3, list_id, attributes={"SMS": "+33612000002"})

    process_id = await destination.start_import([bad, write_of(2, list_id), taken], None)
    status = await finished(destination, process_id)

    assert status.refused == {"not;an address": Reject.INVALID_EMAIL}
    (left_out,) = await destination.read_back([taken.identity])
    assert left_out is None


async def test_an_import_that_fails_says_so(provider: Served) -> None:
    """Fault 43."""
    await provider.put("settings", {"import_outcome": "failed"})
    destination = destination_of(provider)
    list_id = (await destination.make_list("Customers")).id

    process_id = await destination.start_import([write_of(1, list_id)], None)

    assert (await finished(destination, process_id)).state is ImportState.FAILED


async def test_an_import_whose_answer_was_lost_is_found(provider: Served) -> None:
    """Fault 43: it is adopted, and not sent again."""
    destination = destination_of(provider)
    list_id = (await destination.make_list("Customers")).id
    await provider.fault({"kind": "cut_after", "match": {"path": "/import"}, "times": 1})

    with pytest.raises(UnknownOutcomeError):
        await destination.start_import([write_of(1, list_id)], "http://127.0.0.1:9/told")

    (found,) = await destination.find_imports(LONG_AGO)
    assert (await finished(destination, found.process_id)).state is ImportState.COMPLETED


async def test_an_import_into_a_list_that_is_gone_is_told(provider: Served) -> None:
    with pytest.raises(MisconfiguredError, match="list_missing"):
        await destination_of(provider).start_import([write_of(1, "98765")], None)


async def test_an_import_that_brevo_refuses_is_refused(provider: Served) -> None:
    destination = destination_of(provider)
    list_id = (await destination.make_list("Customers")).id
    body = {"code": "invalid_parameter", "message": "no"}
    await provider.fault(
        {"kind": "status", "match": {"path": "/import"}, "status": 400, "body": body}
    )

    with pytest.raises(RequestRefusedError, match="invalid_parameter"):
        await destination.start_import([write_of(1, list_id)], None)


async def test_an_import_is_no_larger_than_brevo_wants(
    provider: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(facts, "IMPORT_BYTES_MAX", 100)

    with pytest.raises(RequestRefusedError, match="import_too_large"):
        await destination_of(provider).start_import([write_of(1, "2"), write_of(2, "2")], None)


@pytest.mark.parametrize(
    "url", ["https://files.example.com/report.csv", "http://169.254.169.254/latest/meta-data"]
)
async def test_a_report_is_not_fetched_from_just_anywhere(provider: Served, url: str) -> None:
    body = {"id": 1, "name": "IMPORTUSER", "status": "completed",
            "info": {"import": {"invalid_emails": url}}}  # fmt: skip
    await provider.fault({"kind": "status", "status": 200, "body": body})

    status = await destination_of(provider).import_status("1")

    assert status == ImportStatus(ImportState.COMPLETED)


async def test_a_report_that_is_gone_tells_nothing(provider: Served) -> None:
    body = {"id": 1, "name": "IMPORTUSER", "status": "completed",
            "info": {"import": {"invalid_emails": f"{provider.url}/files/1/none.csv"}}}  # fmt: skip
    await provider.fault(
        {"kind": "status", "match": {"path": "/processes"}, "status": 200, "body": body}
    )

    status = await destination_of(provider).import_status("1")

    assert status == ImportStatus(ImportState.COMPLETED)


async def test_a_block_that_is_lost_in_a_move_is_set_once_more(provider: Served) -> None:
    """Proves S3 even if Brevo forgets the block that came with the new address."""
    destination = destination_of(provider)
    list_id = (await destination.make_list("Customers")).id
    first = write_of(1, list_id)
    await destination.write([first])
    await provider.post("contacts:block", {"emails": [first.identity.email]})
    moved = write_of(
        1, list_id, known_as=first.identity, identity=Identity(email="new@example.com")
    )
    unblocked = {"id": 1, "email": "new@example.com", "emailBlacklisted": False}
    await provider.fault(
        {
            "kind": "status",
            "match": {"method": "GET", "path": "/contacts/new"},
            "status": 200,
            "body": unblocked,
        }
    )
    await provider.post("calls:reset", {})

    report = await destination.write([moved])

    assert list(report.outcomes) == [Written()]
    assert (await provider.calls())["PUT /v3/contacts/{identifier}"] == 2


async def test_a_blocked_contact_that_vanishes_in_a_move_is_unknown(provider: Served) -> None:
    destination = destination_of(provider)
    list_id = (await destination.make_list("Customers")).id
    first = write_of(1, list_id)
    await destination.write([first])
    await provider.post("contacts:block", {"emails": [first.identity.email]})
    await provider.fault({"kind": "lie", "match": {"method": "PUT"}})

    report = await destination.write(
        [write_of(1, list_id, known_as=first.identity, identity=Identity(email="new@example.com"))]
    )

    assert isinstance(report.stopped_by, UnknownOutcomeError)


@pytest.mark.parametrize(
    ("status", "body"),
    [(200, {}), (201, {"ok": True}), (201, []), (200, {"code": "invalid_parameter"})],
)
async def test_a_created_contact_without_an_id_is_not_believed(
    provider: Served, status: int, body: object
) -> None:
    """Fault 44: a success that says nothing of Brevo's is none, and the write is repeated."""
    destination = destination_of(provider)
    list_id = (await destination.make_list("Customers")).id
    fault = {"kind": "lie", "match": {"method": "POST"}, "status": status, "body": body}
    await provider.fault(fault)

    report = await destination.write([write_of(1, list_id)])

    assert list(report.outcomes) == [Unknown()]
    assert isinstance(report.stopped_by, UnknownOutcomeError)


@pytest.mark.parametrize("body", [{"code": "document_not_found"}, "text", []])
@pytest.mark.parametrize("op", [Operation.UPSERT, Operation.LEAVE, Operation.DELETE])
async def test_a_success_with_an_error_in_it_is_not_believed(
    provider: Served, op: Operation, body: object
) -> None:
    destination = destination_of(provider)
    list_id = (await destination.make_list("Customers")).id
    first = write_of(1, list_id)
    await destination.write([first])
    method = "DELETE" if op is Operation.DELETE else "PUT"
    await provider.fault({"kind": "lie", "match": {"method": method}, "status": 200, "body": body})

    report = await destination.write([write_of(1, list_id, known_as=first.identity, op=op)])

    assert list(report.outcomes) == [Unknown()]


def test_an_import_pays_where_it_saves_calls() -> None:
    """docs/decisions: when import, when single."""
    assert not module._import_pays(wanted=99, in_account=0)
    assert module._import_pays(wanted=500, in_account=100_000)
    assert not module._import_pays(wanted=100, in_account=100_000)


async def test_contacts_are_read_by_their_ids_twenty_a_call(provider: Served) -> None:
    """Proves SF3: what stands on the other side is looked at before it is written to."""
    told = await provider.post("contacts:fill", {"count": 45})
    ids = [str(each) for each in told["ids"]]
    await provider.post("calls:reset", {})

    remotes = await destination_of(provider).read_records([ids[3], "999999", *ids], [])

    assert [each and each.id for each in remotes] == [ids[3], None, *ids]
    assert await provider.calls() == {"GET /v3/contacts": 3}
    assert all(each is None or each.modified_ms > 1_500_000_000_000 for each in remotes)


async def test_a_contact_is_found_by_its_id_when_its_address_was_changed(
    provider: Served,
) -> None:
    """Proves S5, SF3: a change of address at Brevo makes no second contact of anybody."""
    destination = destination_of(provider)
    list_id = (await destination.make_list("Customers")).id
    first = write_of(1, list_id)
    await destination.write([first])
    (remote,) = await destination.read_back([first.identity])
    assert remote is not None
    moved = {"id": int(remote.id), "email": "elsewhere@example.com"}
    await provider.post("contacts:upsert", {"contacts": [moved]})
    update = replace(
        first,
        known_as=first.identity,
        join_list=False,
        record=remote.id,
        attributes=msgspec.json.encode({"FIRSTNAME": "Zoë the second"}),
    )

    report = await destination.write([update, replace(update, record="999999")])

    assert list(report.outcomes) == [Written(), Missing()]
    (contact,) = await contacts_of(provider)
    assert (contact["email"], contact["attributes"]["FIRSTNAME"]) == (
        "elsewhere@example.com",
        "Zoë the second",
    )
